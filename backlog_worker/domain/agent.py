"""Agents: Markdown files whose front matter configures the agent and whose text is its instructions."""

from collections.abc import Mapping
from dataclasses import dataclass, field
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
# The permissions that each executor can enforce; openai, template and replay permit none of these actions at all.
_ALL = frozenset({"read", "write", "shell", "network"})
HELD: Mapping[str, frozenset[str]] = {
    "acp": _ALL,
    "openai": _ALL,
    "template": _ALL,
    "replay": _ALL,
    "command": frozenset({"network: deny"}),  # enforced by namespaces; a worker without them refuses the job
    "python": frozenset(),
}


class PermissionsFile(Model):
    """What the agent may do without asking; `ask` puts a question into the inbox."""

    read: Word = "allow"
    write: Word | Literal["workspace"] = "workspace"
    shell: Word = "ask"
    network: Word = "deny"


class LimitsFile(Model):
    """The limits of one attempt of the agent."""

    timeout: Duration | None = None
    usd: float | None = Field(default=None, gt=0)
    output_bytes: int | None = Field(default=None, ge=1, le=16_000_000)


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
    """A validated agent; its hash is part of the hash of every pipeline that uses it."""

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
    output_bytes: int | None
    env: Mapping[str, str]
    prompt: str
    hash: str
    asked: Mapping[str, str] = field(default_factory=dict)  # the restricting permissions that its file declares
    warnings: tuple[Finding, ...] = ()

    @property
    def offline(self) -> bool:
        """Return whether its file says `network: deny`; by default an agent can reach its model."""
        return self.asked.get("network") == "deny"

    def unheld(self, executor: str) -> list[str]:
        """Return the permissions of its file that *executor* cannot enforce, such as ``shell: ask``."""
        held = HELD.get(executor, _ALL)
        return [
            f"{name}: {word}" for name, word in self.asked.items() if name not in held and f"{name}: {word}" not in held
        ]


def load(text: str, *, name: str, file: str = "agent.md") -> Agent:
    """Validate the text of an agent; raises InvalidFileError with every finding."""
    document.storable(text, file=file, group=GROUP)
    head, prompt = _parts(text, file)
    source = document.read(head or "{}", file=file, group=GROUP)
    checked = source.checked(AgentFile)
    command = [checked.command] if isinstance(checked.command, str) else checked.command or []
    tools = checked.tools.split(",") if isinstance(checked.tools, str) else checked.tools
    given = checked.permissions.model_dump(exclude_unset=True)
    made = Agent(
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
        asked={name: word for name, word in given.items() if word != "allow"},
        warnings=tuple(source.lengths(checked)),
    )
    driver = "command" if made.executor == "auto" and made.command else made.executor
    if unheld := made.unheld(driver):
        text = f"the executor {driver} cannot enforce the permission `{unheld[0]}`"
        path = ("permissions", unheld[0].partition(":")[0])
        raise InvalidFileError([source.finding(path, "35", text)])
    return made


def _parts(text: str, file: str) -> tuple[str, str]:
    """Split the front matter from the text; line numbers are kept, so findings point into the file."""
    if not text.startswith("---"):
        return "", text
    head, end, body = text[3:].partition("\n---")
    if not end:
        empty: Any = document.Document(text, file, GROUP, None, {})
        raise InvalidFileError([empty.finding((), "01", "the front matter does not end: a line with --- is missing")])
    return head, body.partition("\n")[2]
