"""An agent: a Markdown file whose front matter says how it is driven, and whose text is what it is told."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import Field

from backlog_worker.domain import document
from backlog_worker.domain.document import Model
from backlog_worker.domain.duration import Duration
from backlog_worker.domain.errors import Finding, InvalidFileError
from backlog_worker.domain.events import digest

GROUP = "5"
Word = Literal["allow", "ask", "deny"]


class PermissionsFile(Model):
    """What the agent may do by itself; `ask` is a question in the inbox."""

    read: Word = "allow"
    write: Word | Literal["workspace"] = "workspace"
    shell: Word = "ask"
    network: Word = "deny"


class LimitsFile(Model):
    """The most that one attempt of the agent may take."""

    timeout: Duration | None = None
    usd: float | None = Field(default=None, gt=0)
    output_bytes: int = Field(default=1_000_000, ge=1, le=16_000_000)


class AgentFile(Model):
    """The front matter of `agents/*.md`."""

    name: str = ""
    description: str = ""
    executor: Literal["auto", "acp", "command", "openai", "python", "template", "replay"] = "auto"
    model: str = "default"
    command: list[str] | str | None = None
    preset: str | None = None
    endpoint: str | None = None
    key: str | None = None
    python: Annotated[str, Field(pattern=r"^[\w.]+:[\w.]+$")] | None = None
    template: Literal["specification"] | None = None
    recording: str | None = None
    tools: list[str] | str = []
    permissions: PermissionsFile = PermissionsFile()
    limits: LimitsFile = LimitsFile()
    env: dict[str, str] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """A checked agent; its hash is part of the hash of every pipeline that names it."""

    name: str
    executor: str
    model: str
    command: tuple[str, ...]
    preset: str
    endpoint: str
    key: str
    target: str
    tools: tuple[str, ...]
    permissions: Mapping[str, str]
    timeout: timedelta | None
    usd: float | None
    output_bytes: int
    env: Mapping[str, str]
    prompt: str
    hash: str
    warnings: tuple[Finding, ...] = ()


def load(text: str, *, name: str, file: str = "agent.md") -> Agent:
    """Check the text of an agent; raises InvalidFileError with every finding."""
    document.storable(text, file=file, group=GROUP)
    head, prompt = _parts(text, file)
    source = document.read(head or "{}", file=file, group=GROUP)
    checked = source.checked(AgentFile)
    command = [checked.command] if isinstance(checked.command, str) else checked.command or []
    tools = checked.tools.split(",") if isinstance(checked.tools, str) else checked.tools
    return Agent(
        name=name,
        executor=checked.executor,
        model=checked.model,
        command=tuple(command),
        preset=checked.preset or "",
        endpoint=checked.endpoint or "",
        key=checked.key or "",
        target=checked.python or checked.template or checked.recording or "",
        tools=tuple(each.strip() for each in tools if each.strip()),
        permissions=checked.permissions.model_dump(),
        timeout=checked.limits.timeout,
        usd=checked.limits.usd,
        output_bytes=checked.limits.output_bytes,
        env=checked.env,
        prompt=prompt.strip(),
        hash=digest([name, text]),
        warnings=tuple(source.lengths(checked)),
    )


def _parts(text: str, file: str) -> tuple[str, str]:
    """Split front matter from text; the front matter keeps its lines, so that findings point into the file."""
    if not text.startswith("---"):
        return "", text
    head, end, body = text[3:].partition("\n---")
    if not end:
        empty: Any = document.Document(text, file, GROUP, None, {})
        raise InvalidFileError([empty.finding((), "01", "the front matter does not end: a line with --- is missing")])
    return head, body.partition("\n")[2]
