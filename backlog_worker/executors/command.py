"""A command line: context file in, output file out, `{"success", "data", "message"}` as in seed 003."""

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from backlog_worker.domain import returned
from backlog_worker.domain.gates import Checked, Gate, judged
from backlog_worker.domain.masking import cut, masked
from backlog_worker.domain.outcome import Done, FailureKind, Faulted, Refused, Result
from backlog_worker.domain.pipeline import Job
from backlog_worker.executors import Work, answers, exits, isolation, presets, process
from backlog_worker.executors.answers import Answer
from backlog_worker.executors.isolation import Walls
from backlog_worker.executors.process import Child, Ended, Limits
from backlog_worker.executors.workspace import Workspace, with_artifacts

SAID_MAX = 300  # characters of the last output that become the reason of a failure
_PASSED_ON = ("LANG", "LC_ALL", "TZ", "TMPDIR", "HOME")


@dataclass(frozen=True, slots=True)
class CommandExecutor:
    """Runs `run` texts of reviewed files with `sh`, and command lines of agents; entry text reaches them only by
    file.
    """

    project: Path
    workspaces: Path
    hidden: tuple[Path, ...] = ()  # state and secrets, hidden from jobs
    fixed: tuple[Path, ...] = ()  # definitions, read-only for jobs

    def perform(self, job: Job, work: Work) -> Result:
        """Run the setup and the command of *job*, and read its output."""
        return returned.checked(self._performed(job, work), most=job.execution.output_bytes)

    def _performed(self, job: Job, work: Work) -> Result:
        if why := isolation.refusal(job, offline=bool(work.agent and work.agent.offline)):
            return Refused(kind=FailureKind.POLICY, reason=why, role="operator")
        shared = job.execution.isolation == "shared"
        workspace = Workspace.made(self.workspaces, work.run_id, f"{job.id}.{work.take}", shared=shared)
        try:
            workspace.give(work.context(job), work.prompt)
            for step in job.setup:
                ended = self._run(_shell(step.command), job, work, workspace)
                if ended.status or ended.timed_out or ended.killed:
                    return _result(ended, workspace, work.timeout, job, what=f"setup {step.name or step.command}")
            if job.kind == "agent":
                preset = presets.found(work.agent)
                ended = self._run(preset.arguments(work, workspace), job, work, workspace, text=preset.stdin(work))
                result = preset.read(ended, work, lambda: _result(ended, workspace, work.timeout, job))
            else:
                ended = self._run(_shell(job.target), job, work, workspace)
                result = _result(ended, workspace, work.timeout, job)
            return with_artifacts(result, job, work, workspace)
        except (FileNotFoundError, PermissionError) as error:
            text = f"the command cannot be started here: {error}"
            return Refused(kind=FailureKind.POLICY, reason=cut(text, 400), role="operator")
        except OSError as error:
            return Faulted(kind=FailureKind.INFRASTRUCTURE, reason=f"the command cannot be started: {error}")
        finally:
            workspace.remove()

    def check(self, gate: Gate, job: Job, work: Work, value: object) -> Checked:
        """Run the command of a gate with the output in `$BACKLOG_OUTPUT`; status 0 passes, its last line gives the
        reason.
        """
        workspace = Workspace.made(self.workspaces, work.run_id, f"{job.id}.{gate.id}.{work.take}")
        try:
            workspace.give(work.context(job))
            workspace.output.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
            ended = self._run(_shell(gate.run or "false"), job, work, workspace)
        except OSError as error:
            return judged(gate, passed=False, why=f"cannot be started: {error}")
        finally:
            workspace.remove()
        lines = masked(ended.tail).strip().splitlines()
        why = "timed out" if ended.timed_out else (cut(lines[-1], 300) if lines else f"status {ended.status}")
        return judged(gate, passed=ended.status == 0 and not ended.timed_out, why=why)

    def walls(self, job: Job, work: Work, workspace: Workspace) -> Walls:
        """Return what a child of *job* may see; in a workspace of its own the project is read-only."""
        fixed = self.fixed if job.execution.isolation == "project" else (self.project, *self.fixed)
        return Walls(
            hidden=(*self.hidden, self.workspaces),
            fixed=fixed,
            open=(workspace.folder, workspace.place),
            offline=bool(work.agent and work.agent.offline),
        )

    def _run(
        self, arguments: Sequence[str], job: Job, work: Work, workspace: Workspace, *, text: str | None = None
    ) -> Ended:
        own = job.execution.isolation != "project"
        limits = Limits(
            timeout=work.timeout.total_seconds(),
            silence=job.silence.total_seconds() if job.silence else None,
            memory_mb=job.execution.memory_mb,
            cpu_seconds=job.execution.cpu_seconds,
        )
        child = Child(
            arguments=arguments,
            folder=workspace.place if own else self.project,
            env=environment(work, workspace),
            text=text,
            walls=self.walls(job, work, workspace),
            report=work.report,
            stop=work.stop,
        )
        return process.run(child, limits)


def environment(work: Work, workspace: Workspace) -> dict[str, str]:
    """Return the environment of a child: what every program needs and what the job declared, nothing inherited."""
    search = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return {
        **{name: os.environ[name] for name in _PASSED_ON if name in os.environ},
        "PATH": search,
        "BACKLOG_CONTEXT": str(workspace.context),
        "BACKLOG_OUTPUT": str(workspace.output),
        "BACKLOG_PROMPT": str(workspace.prompt),
        "BACKLOG_WORKSPACE": str(workspace.place),
        "BACKLOG_ENTRY_ID": work.entry_id,
        process.RUN_VARIABLE: work.run_id,
        **work.env,
    }


def _last_words(text: str) -> str:
    """Return the last lines that a child printed, whole if they fit."""
    text = text.strip()
    cut = text[-SAID_MAX:]
    return cut if cut == text else cut.partition("\n")[2] or cut


def _shell(text: str) -> list[str]:
    return ["/bin/sh", "-c", text]


def _result(ended: Ended, workspace: Workspace, timeout: timedelta, job: Job, *, what: str = "") -> Result:
    said = _last_words(masked(ended.tail))
    if ended.killed:
        return Faulted(kind=FailureKind.INFRASTRUCTURE, reason="the claim was lost, the command was killed")
    if ended.timed_out:
        clock = f"no output for {job.silence}" if ended.timed_out == "silence" else f"{timeout.total_seconds():g} s"
        text = f"timed out: {clock}" if ended.timed_out == "silence" else f"timed out after {clock}"
        return Faulted(kind=FailureKind.TIMEOUT, reason=f"{text}; last output: {said}" if said else text)
    try:
        value = workspace.returned(job.execution.output_bytes)
        artifacts = workspace.artifacts(job.artifacts)
    except ValueError as error:
        unusable = f"its output is not usable: {error}"
        if ended.status == 0:
            return Faulted(kind=FailureKind.VALIDATION, reason=unusable)
        return exits.failed(ended.status, Answer(wrong=unusable), said)
    answer = answers.read(value)
    if ended.status == 0 and answer.succeeded:
        return Done(output=answer.data, artifacts=artifacts)
    return exits.failed(ended.status, answer, f"{what}: {said}" if what else said)
