"""A command line: context file in, output file out, `{"success", "data", "message"}` as in seed 003."""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from backlog_worker.domain.gates import Checked, Gate, judged
from backlog_worker.domain.masking import masked
from backlog_worker.domain.outcome import Done, FailureKind, Faulted, Refused, Result, Throttled
from backlog_worker.domain.pipeline import Job
from backlog_worker.executors import Work, process
from backlog_worker.executors.process import Ended
from backlog_worker.executors.workspace import Workspace

# Statuses of sysexits.h that say more than "failed".
REFUSED = 65  # EX_DATAERR: the input is wrong, trying again will not help
UNAVAILABLE = 69  # EX_UNAVAILABLE: a service it needs does not answer
TEMPORARY = 75  # EX_TEMPFAIL: try again
_PASSED_ON = ("LANG", "LC_ALL", "TZ", "TMPDIR", "HOME")


@dataclass(frozen=True, slots=True)
class CommandExecutor:
    """Runs `run` texts of reviewed files with `sh`; entry text reaches them by file, never by the command line."""

    project: Path
    workspaces: Path

    def perform(self, job: Job, work: Work) -> Result:
        """Run the command of *job* in the project's directory and read what it wrote."""
        workspace = Workspace.made(self.workspaces, work.run_id, job.id, work.take)
        try:
            workspace.give(work.context(job))
            ended = self._run(job.target, job.env, work, workspace)
            return _result(ended, workspace, work.timeout)
        except OSError as error:
            return Faulted(kind=FailureKind.INFRASTRUCTURE, reason=f"the command cannot be started: {error}")
        finally:
            workspace.remove()

    def check(self, gate: Gate, job: Job, work: Work, output: object) -> Checked:
        """Run the command of a gate with the output in `$BACKLOG_OUTPUT`; status 0 passes, its last line says why."""
        workspace = Workspace.made(self.workspaces, work.run_id, f"{job.id}.{gate.id}", work.take)
        try:
            workspace.give(work.context(job))
            workspace.output.write_text(json.dumps(output, ensure_ascii=False), encoding="utf-8")
            ended = self._run(gate.run or "false", job.env, work, workspace)
        except OSError as error:
            return judged(gate, passed=False, why=f"cannot be started: {error}")
        finally:
            workspace.remove()
        lines = masked(ended.tail).strip().splitlines()
        why = "timed out" if ended.timed_out else (lines[-1][:300] if lines else f"status {ended.status}")
        return judged(gate, passed=ended.status == 0 and not ended.timed_out, why=why)

    def _run(self, text: str, env: Mapping[str, str], work: Work, workspace: Workspace) -> Ended:
        search = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
        variables = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        variables |= {
            "PATH": search,
            "BACKLOG_CONTEXT": str(workspace.context),
            "BACKLOG_OUTPUT": str(workspace.output),
            "BACKLOG_WORKSPACE": str(workspace.folder),
            "BACKLOG_ENTRY_ID": work.entry_id,
            process.RUN_VARIABLE: work.run_id,
            **env,
        }
        seconds = work.timeout.total_seconds()
        return process.run(["/bin/sh", "-c", text], folder=self.project, env=variables, timeout=seconds, stop=work.stop)


def _result(ended: Ended, workspace: Workspace, timeout: timedelta) -> Result:
    said = masked(ended.tail).strip()[-400:]
    if ended.killed:
        return Faulted(kind=FailureKind.INFRASTRUCTURE, reason="the claim was lost, the command was killed")
    if ended.timed_out:
        text = f"timed out after {timeout.total_seconds():g} s"
        return Faulted(kind=FailureKind.TIMEOUT, reason=f"{text}; it last said: {said}" if said else text)
    try:
        value = workspace.returned()
    except ValueError as error:
        return Faulted(kind=FailureKind.VALIDATION, reason=f"its output is not usable: {error}")
    if ended.status == 0 and not (isinstance(value, dict) and value.get("success") is False):
        wrapped = isinstance(value, dict) and set(value) <= {"success", "data", "message"} and "data" in value
        return Done(output=value["data"] if wrapped else value)
    return _failed(ended.status, value, said)


def _failed(status: int, value: Any, said: str) -> Result:  # noqa: ANN401 - free JSON of a child
    told = value if isinstance(value, dict) else {}
    reason = masked(str(told.get("message") or said or "it said nothing"))[:400]
    wait = told.get("retryAfterMs")
    if isinstance(wait, int) and not isinstance(wait, bool) and wait >= 0:
        return Throttled(reason=reason, wait=timedelta(milliseconds=min(wait, 7 * 86_400_000)))
    if status == REFUSED:
        return Refused(kind=FailureKind.VALIDATION, reason=reason)
    kind = FailureKind.INFRASTRUCTURE if status in {UNAVAILABLE, TEMPORARY} else FailureKind.EXECUTION
    return Faulted(kind=kind, reason=f"status {status}: {reason}" if status else reason)
