"""A stage: one job of one entry at run time, and what its end means for others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from backlog_worker.domain.outcome import PAUSES
from backlog_worker.domain.pipeline import Job


class StageStatus(StrEnum):
    """The status of a stage."""

    PENDING = "pending"
    WAITING = "waiting"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELED = "canceled"


class Unbegun(StrEnum):
    """Why a job ended without having begun, as the `kind` of its reason."""

    CONDITION = "condition"  # its own `when` was false, or the pipeline it calls had nothing to do
    DEPENDENCY = "dependency"  # an earlier job did not run, or failed
    FAILURE = "failure"  # the run failed elsewhere


ENDED = frozenset({StageStatus.COMPLETED, StageStatus.FAILED, StageStatus.SKIPPED, StageStatus.CANCELED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One job of one entry at run time, as stored in its row.

    `based_on` holds the takes from which it was decided: for each job that was read, the run in which that job ended.
    It is unknown for a stage of an older release.
    """

    entry_id: str
    pipeline_hash: str
    job_id: str
    status: StageStatus
    run_id: str | None = None
    takes: int = 0
    worker: str | None = None
    attempts: int = 0
    used: int = 0
    expiries: int = 0
    tries: Sequence[Mapping[str, Any]] = ()
    started_at: datetime | None = None
    ended_at: datetime | None = None
    leased_until: datetime | None = None
    rung_at: datetime | None = None
    start_by: datetime | None = None
    wake_at: datetime | None = None
    rings: int = 0
    progress: int | None = None
    output: Any = None
    sha256: str | None = None
    artifacts: Sequence[Mapping[str, Any]] = ()
    gates: Sequence[Mapping[str, Any]] = ()
    approval: Mapping[str, Any] | None = None
    reason: Mapping[str, Any] | None = None
    cost: Mapping[str, Any] | None = None
    based_on: Mapping[str, str] | None = None


def idle(stage: Stage | None) -> bool:
    """Return whether a stage had nothing to do: its own `when` ended it."""
    if stage is None or stage.status != StageStatus.SKIPPED:
        return False
    return (stage.reason or {}).get("kind") == Unbegun.CONDITION


def tolerated(job: Job, stage: Stage) -> bool:
    """Return whether a failed stage counts as completed for jobs that do not read its status."""
    return job.continue_on_error and stage.status == StageStatus.FAILED


def seen(stage: Stage | None) -> dict[str, Any]:
    """Return the values of a job for conditions and texts: status, output, attempts, reason."""
    if stage is None:
        return {"status": "pending", "output": None, "attempts": 0, "reason": ""}
    reason = str((stage.reason or {}).get("text", ""))
    output = stage.output
    if output is None and stage.status == StageStatus.FAILED:
        output = failure(stage).get("data")
    return {"status": str(stage.status), "output": output, "attempts": stage.attempts, "reason": reason}


def failure(stage: Stage) -> Mapping[str, Any]:
    """Return the last failed attempt of a stage with its details; empty if none failed."""
    return stage.tries[-1] if stage.tries else {}


def wakes(stage: Stage) -> datetime | None:
    """Return when a stage that waits for a moment continues; None for any other stage."""
    if stage.status != StageStatus.WAITING or (stage.reason or {}).get("kind") not in PAUSES:
        return None
    return stage.wake_at or datetime.fromisoformat(str((stage.reason or {})["until"]))
