"""Which stages of a run are done, ready or waiting; the seam behind which pipelines may become graphs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from backlog_worker.domain.outcome import FailureKind, Outcome, Refused, Stopped, Succeeded
from backlog_worker.domain.pipeline import Job, Pipeline


class StageStatus(StrEnum):
    """Where a stage stands."""

    PENDING = "pending"
    WAITING = "waiting"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELED = "canceled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One job of one entry at run time, as its row stands."""

    entry_id: str
    pipeline_hash: str
    job_id: str
    status: StageStatus
    run_id: str | None = None
    takes: int = 0
    worker: str | None = None
    attempts: int = 0
    tries: Sequence[Mapping[str, Any]] = ()
    started_at: datetime | None = None
    ended_at: datetime | None = None
    leased_until: datetime | None = None
    rung_at: datetime | None = None
    rings: int = 0
    output: Any = None
    sha256: str | None = None
    artifacts: Sequence[Mapping[str, Any]] = ()
    gates: Sequence[Mapping[str, Any]] = ()
    approval: Mapping[str, Any] | None = None
    reason: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Frontier:
    """The jobs of a run: those that are done, the ones that may go now, and those that wait behind them."""

    done: tuple[str, ...] = ()
    ready: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()
    failed: tuple[str, ...] = field(default=())


def current(stages: Mapping[str, Stage], run_id: str) -> dict[str, Stage]:
    """Return the stages as a run sees them: what an earlier run did not complete is pending again."""
    stale = {
        job_id: replace(stage, status=StageStatus.PENDING)
        for job_id, stage in stages.items()
        if stage.run_id != run_id and stage.status != StageStatus.COMPLETED
    }
    return {**stages, **stale}


def frontier(pipeline: Pipeline, stages: Mapping[str, Stage]) -> Frontier:
    """Say which job comes next: jobs run in the order of the file, and a failed one ends the run.

    With ``continueOnError`` a failed job counts as completed for those behind it.
    """
    done: list[str] = []
    for index, job in enumerate(pipeline.jobs):
        stage = stages.get(job.id)
        if stage and _passed(job, stage):
            done.append(job.id)
            continue
        rest = tuple(each.id for each in pipeline.jobs[index + 1 :])
        if stage and stage.status == StageStatus.FAILED:
            return Frontier(done=tuple(done), failed=(job.id,), waiting=rest)
        return Frontier(done=tuple(done), ready=(job.id,), waiting=rest)
    return Frontier(done=tuple(done))


def outcome(pipeline: Pipeline, stages: Mapping[str, Stage]) -> Outcome | None:
    """Say how the run ended, or None while something is left to do."""
    now = frontier(pipeline, stages)
    if now.failed:
        reason = stages[now.failed[0]].reason or {}
        refused = Refused(
            kind=FailureKind(reason.get("kind", "execution")),
            reason=str(reason.get("text", "failed")),
            rule=str(reason.get("rule", "")),
        )
        return Stopped(job_id=now.failed[0], result=refused)
    return None if now.ready else Succeeded(job_id=pipeline.jobs[-1].id)


def _passed(job: Job, stage: Stage) -> bool:
    completed = stage.status == StageStatus.COMPLETED
    return completed or (job.continue_on_error and stage.status == StageStatus.FAILED)
