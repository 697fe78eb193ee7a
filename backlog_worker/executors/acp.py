"""An agent over the Agent Client Protocol, version 1: permissions become approvals, plans progress, usage cost.

Protocol: https://agentclientprotocol.com; JSON-RPC over the standard streams of a child process.
"""

import asyncio
import contextlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from acp import PROTOCOL_VERSION, Client, RequestError, connect_to_agent, text_block
from acp.schema import (
    AgentMessageChunk,
    AgentPlanUpdate,
    AllowedOutcome,
    ClientCapabilities,
    DeniedOutcome,
    Implementation,
    PermissionOption,
    RequestPermissionResponse,
    ToolCallStart,
    ToolCallUpdate,
    UsageUpdate,
)

from backlog_worker import modes
from backlog_worker.domain import returned
from backlog_worker.domain.legible import message_of
from backlog_worker.domain.masking import cut, masked
from backlog_worker.domain.outcome import Asked, FailureKind, Faulted, Refused, Result
from backlog_worker.domain.pipeline import Job
from backlog_worker.domain.usage import claimed
from backlog_worker.executors import Work, answers, exits, isolation, presets, process
from backlog_worker.executors.answers import Answer
from backlog_worker.executors.command import CommandExecutor, environment
from backlog_worker.executors.isolation import Walls
from backlog_worker.executors.workspace import Workspace, with_artifacts

# The commands that start well-known agents in protocol mode.
COMMANDS = {
    "claude": ("claude-code-acp",),
    "gemini": ("gemini", "--experimental-acp"),
    "codex": ("codex-acp",),
    "goose": ("goose", "acp"),
    "opencode": ("opencode", "acp"),
}
SAID_MAX = 16_000_000  # characters of an answer
LINE_BYTES_MAX = 16 * 1024 * 1024  # of one message
ENDED_SECONDS = 1.0  # time for a child with a broken pipe to exit
# The permission that each kind of tool call needs; unknown kinds are treated as commands.
NEEDS = {"read": "read", "search": "read", "think": "read", "edit": "write", "delete": "write", "move": "write"} | {
    "fetch": "network"
}


@dataclass(frozen=True, slots=True)
class AcpExecutor:
    """Starts an agent, sends one prompt, and answers its requests."""

    project: Path
    workspaces: Path
    hidden: tuple[Path, ...] = ()
    fixed: tuple[Path, ...] = ()

    def perform(self, job: Job, work: Work) -> Result:
        """Perform *job* by the agent of *work*."""
        if why := isolation.refusal(job):
            return Refused(kind=FailureKind.POLICY, reason=why, role="operator")
        command = _command(work)
        if not command:
            known = ", ".join(COMMANDS)
            reason = f"no agent that speaks the Agent Client Protocol was found; set `command` or `preset` ({known})"
            return Refused(kind=FailureKind.POLICY, reason=reason, role="operator")
        shared = job.execution.isolation == "shared"
        workspace = Workspace.made(self.workspaces, work.run_id, f"{job.id}.{work.take}", shared=shared)
        try:
            workspace.give(work.context(job), work.prompt)
            folder = self.project if job.execution.isolation == "project" else workspace.place
            like = CommandExecutor(self.project, self.workspaces, self.hidden, self.fixed)
            # The protocol enforces its permissions: without a network the agent could not reach its model.
            walls = replace(like.walls(job, work, workspace), offline=False)
            session = _Session(job=job, work=work, workspace=workspace, folder=folder, walls=walls)
            return returned.checked(asyncio.run(session.run(command)), most=job.execution.output_bytes)
        except (FileNotFoundError, PermissionError) as error:
            text = f"the agent cannot be started here: {error}"
            return Refused(kind=FailureKind.POLICY, reason=cut(text, 400), role="operator")
        except OSError as error:
            return Faulted(kind=FailureKind.INFRASTRUCTURE, reason=f"the agent cannot be started: {error}")
        finally:
            workspace.remove()


@dataclass(slots=True)
class _Session:
    """One session with an agent, and its output."""

    job: Job
    work: Work
    workspace: Workspace
    folder: Path
    walls: Walls
    said: list[str] = field(default_factory=list)
    asked: Asked | None = None
    cost: float | None = None
    broke: bool = False
    size: int = 0
    prompted: bool = False
    spent: bool = False
    lines: "_Lines | None" = None
    ending: "asyncio.Event" = field(default_factory=asyncio.Event)

    async def run(self, command: Sequence[str]) -> Result:
        """Start the agent, run the session and end it; no process of its group remains."""
        child = await asyncio.create_subprocess_exec(
            *process.before(self.walls, self.folder),
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            cwd=self.folder,
            env=environment(self.work, self.workspace),
            start_new_session=True,
            umask=modes.of_people(),
            limit=LINE_BYTES_MAX,
        )
        loop, task = asyncio.get_running_loop(), asyncio.ensure_future(self._talk(child))

        def _lost() -> None:
            loop.call_soon_threadsafe(task.cancel)

        self.work.stop.on_gone(_lost)
        try:
            return await asyncio.wait_for(task, self.work.timeout.total_seconds())
        except TimeoutError:
            text = f"timed out after {self.work.timeout.total_seconds():g} s"
            return Faulted(kind=FailureKind.TIMEOUT, reason=text)
        except asyncio.CancelledError:
            return Faulted(kind=FailureKind.INFRASTRUCTURE, reason="the claim was lost, the agent was killed")
        except (
            RequestError,
            ConnectionError,
            ValueError,
            TypeError,
            LookupError,
            AttributeError,
            RuntimeError,
        ) as error:
            return self._overlong() or _failed(error, await _status(child))
        finally:
            self._spend(None)
            await _ended(child)

    async def _talk(self, child: "asyncio.subprocess.Process") -> Result:
        self.lines = _Lines(cast("asyncio.StreamReader", child.stdout))
        connection = connect_to_agent(cast("Client", self), child.stdin, self.lines)
        async with contextlib.aclosing(_Closing(connection)):
            await connection.initialize(
                protocol_version=PROTOCOL_VERSION,
                client_capabilities=ClientCapabilities(),
                client_info=Implementation(name="backlog-worker", version="1"),
            )
            session = await connection.new_session(cwd=str(self.folder), mcp_servers=[])
            self.prompted = True
            prompting = asyncio.ensure_future(
                connection.prompt(session_id=session.session_id, prompt=[text_block(self.work.prompt)])
            )
            # A killed agent breaks its promise to answer; the broken promise is expected and ignored.
            prompting.add_done_callback(lambda done: done.cancelled() or done.exception())
            ending = asyncio.ensure_future(self.ending.wait())
            await asyncio.wait([prompting, ending], return_when=asyncio.FIRST_COMPLETED)
            ending.cancel()
            if not prompting.done():
                await connection.cancel(session_id=session.session_id)
                prompting.cancel()
                with contextlib.suppress(asyncio.CancelledError, RequestError):
                    await prompting
                return self._stopped()
            answer = prompting.result()
            self._spend(answer.usage)
            return self._stopped() if self.asked or self.broke else self._result(str(answer.stop_reason))

    async def request_permission(
        self, tool_call: ToolCallUpdate, options: list[PermissionOption], **_: Any
    ) -> RequestPermissionResponse:
        """Answer by the agent's file; if that says `ask`, the session ends and a person is asked."""
        kind = str(tool_call.kind or "other")
        need = NEEDS.get(kind, "shell")
        title = cut(str(tool_call.title or kind), 200)
        detail = f"{need}: {title}"
        word = self.work.agent.permissions.get(need, "ask") if self.work.agent else "ask"
        if word == "workspace":
            word = "allow" if self._inside(tool_call) else "ask"
        if word == "allow" or detail in self.work.granted:
            return _chosen(options, "allow")
        self.work.report.line(f"[permission] {detail}: {word}")
        if word == "ask":
            question = f'Permission: agent {self.work.agent.name if self.work.agent else ""} wants "{title}" ({need})'
            self.asked = Asked(question=masked(question), kind="permission", detail=detail, role="operator")
            self.ending.set()
            return RequestPermissionResponse(outcome=DeniedOutcome(outcome="cancelled"))
        return _chosen(options, "reject")

    async def session_update(self, update: Any, **_: Any) -> None:  # noqa: ANN401 - one of thirteen
        """Process an update: text goes into the log, the plan into progress, usage into cost."""
        if isinstance(update, AgentMessageChunk):
            text = str(getattr(update.content, "text", ""))
            self.said.append(text)
            self.size += len(text)
            if self.size > SAID_MAX:
                self.ending.set()
            for line in text.splitlines():
                self.work.report.line(line)
        elif isinstance(update, AgentPlanUpdate) and update.entries:
            done = sum(entry.status == "completed" for entry in update.entries)
            self.work.report.progress(100 * done // len(update.entries))
        elif isinstance(update, ToolCallStart):
            self.work.report.line(f"[tool] {update.title}")
        elif isinstance(update, UsageUpdate) and update.cost and update.cost.currency == "USD":
            self.cost = update.cost.amount
            limit = self.work.agent.usd if self.work.agent else None
            if limit is not None and not self.cost <= limit:  # NaN exceeds every limit
                self.broke = True
                self.ending.set()

    def on_connect(self, conn: Any) -> None:  # noqa: ANN401 - the library's own connection
        """Do nothing: we opened the connection."""

    def _inside(self, call: ToolCallUpdate) -> bool:
        """Return whether a tool call names only paths inside the agent's working directory."""
        places = [Path(each.path) for each in call.locations or ()]
        root = self.folder.resolve()
        return bool(places) and all((root / each).resolve().is_relative_to(root) for each in places)

    def _overlong(self) -> Result | None:
        if self.lines is None or not self.lines.overlong:
            return None
        text = f"the agent sent a message of more than {LINE_BYTES_MAX} bytes, and was stopped"
        return Faulted(kind=FailureKind.VALIDATION, reason=text)

    def _stopped(self) -> Result:
        if self.asked is not None:
            return self.asked
        if not self.broke:
            reason = f"the agent wrote more than {SAID_MAX} characters and was stopped"
            return Faulted(kind=FailureKind.VALIDATION, reason=reason)
        limit = self.work.agent.usd if self.work.agent else None
        reason = f"the agent spent {self.cost:.2f} USD; its limit is {limit}"
        return Refused(kind=FailureKind.BUDGET, reason=reason, role="operator")

    def _result(self, stop_reason: str) -> Result:
        if stop_reason == "refusal":
            return Refused(kind=FailureKind.EXECUTION, reason=f"the agent refused: {''.join(self.said)[-300:]}")
        if stop_reason != "end_turn":
            return Faulted(kind=FailureKind.EXECUTION, reason=f"the agent stopped: {stop_reason}")
        try:
            value = self.workspace.returned(self.job.execution.output_bytes)
            artifacts = self.workspace.artifacts(self.job.artifacts)
        except ValueError as error:
            return Faulted(kind=FailureKind.VALIDATION, reason=f"its output is not usable: {error}")
        if value is None:
            text = "".join(self.said)
            try:
                value = presets.json_in(text)
            except ValueError:
                value = {"text": text[-64_000:]}
        return with_artifacts(answers.result(value, artifacts), self.job, self.work, self.workspace)

    def _spend(self, usage: Any) -> None:  # noqa: ANN401 - optional and unstable in the protocol
        """Count the usage of a prompt once; an agent that reports no usage used a model for an unknown sum."""
        if self.spent or not self.prompted:
            return
        self.spent = True
        model = self.work.agent.model if self.work.agent else ""
        counts = {name: getattr(usage, name, None) for name in ("input_tokens", "output_tokens")}
        cached, stored = (getattr(usage, f"cached_{name}_tokens", None) or 0 for name in ("read", "write"))
        if counts["input_tokens"] is not None:
            counts |= {"input_tokens": counts["input_tokens"] + cached + stored}
            counts |= {"cached_tokens": cached, "stored_tokens": stored}
        self.work.report.spend(claimed({"model": "" if model == "default" else model, **counts, "usd": self.cost}))


class _Lines(asyncio.StreamReader):
    """What an agent sends, line by line; one beyond the bound ends it, since the library would collect any length."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        super().__init__()
        self._reader = reader
        self.overlong = False

    async def readuntil(self, separator: Any = b"\n") -> bytes:  # noqa: ANN401 - as the library has it
        """Return the next line; raises IncompleteReadError at the end."""
        try:
            return await self._reader.readuntil(separator)
        except asyncio.LimitOverrunError:
            self.overlong = True
            nothing = b""
            raise asyncio.IncompleteReadError(nothing, None) from None


class _Closing:
    """Closes a connection when `contextlib.aclosing` asks for it."""

    def __init__(self, connection: Any) -> None:  # noqa: ANN401 - the library's own connection
        self._connection = connection

    async def aclose(self) -> None:
        """Close the connection in any state."""
        with contextlib.suppress(Exception):
            await self._connection.close()


def _command(work: Work) -> list[str]:
    agent = work.agent
    if agent is not None and agent.command:
        return list(agent.command)
    names = [agent.preset] if agent is not None and agent.preset else list(COMMANDS)
    found = next((COMMANDS[each] for each in names if each in COMMANDS and shutil.which(COMMANDS[each][0])), ())
    return list(found)


def here() -> bool:
    """Return whether an agent that supports the protocol is on the path."""
    return any(shutil.which(command[0]) for command in COMMANDS.values())


def _chosen(options: Sequence[PermissionOption], word: str) -> RequestPermissionResponse:
    """Return the option that grants or refuses this one call."""
    wanted = sorted(
        (each for each in options if str(each.kind).startswith(word)), key=lambda each: "always" in each.kind
    )
    if not wanted:
        return RequestPermissionResponse(outcome=DeniedOutcome(outcome="cancelled"))
    return RequestPermissionResponse(outcome=AllowedOutcome(outcome="selected", option_id=wanted[0].option_id))


def _failed(error: Exception, status: int | None) -> Result:
    """Return why a session failed: the agent's error or its exit status. Both are faults of the job."""
    text = cut(f"{message_of(error)} {answers.text(getattr(error, 'data', None))}".strip(), 400)
    if presets.limited(text):
        return presets.throttled(text)
    if "auth" in text.lower():
        return Refused(kind=FailureKind.POLICY, reason=f"the agent is not signed in: {text}", role="operator")
    if isinstance(error, ConnectionError) and status:
        return exits.failed(status, Answer(), f"the agent ended: {text}")
    return Faulted(kind=FailureKind.EXECUTION, reason=cut(f"the agent failed: {text}", 400))


async def _status(child: "asyncio.subprocess.Process") -> int | None:
    """Return the exit status of a child, or None if it still runs."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(child.wait(), ENDED_SECONDS)
    return child.returncode


async def _ended(child: "asyncio.subprocess.Process") -> None:
    if child.returncode is None:
        process.ask_to_end(child.pid)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(child.wait(), process.TERM_SECONDS)
    process.end(child.pid, ended=child.returncode is not None)
    await child.wait()
