"""The planner: which jobs of a run are ready, waiting, skipped, done. A pure function of the pipeline and its stages.

The rules, in the order in which they are asked, for a job that has not begun:

1. It is *pending* while a job that it depends on has not ended.
2. Once a job failed that nothing tolerates, the run fails: what has not begun is *canceled*, but for jobs whose `when`
   reads that failure (by name, or with `always()` or `failure()`). Running jobs end.
3. Each dependency must be completed, or failed with `continueOnError`; one whose status the `when` reads need only have
   ended. Otherwise the job is *skipped*, and so on down.
4. Its `when` must be true, otherwise it is skipped. A `when` that cannot be evaluated *fails* the job and says why.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from backlog_worker.domain.condition import Condition
from backlog_worker.domain.expression import ExpressionError, plain
from backlog_worker.domain.outcome import (
    OUTSIDE,
    PAUSES,
    Asked,
    FailureKind,
    Faulted,
    Outcome,
    Paused,
    Refused,
    Stopped,
    Succeeded,
    Throttled,
)
from backlog_worker.domain.pipeline import Job, Pipeline


class StageStatus(StrEnum):
    """Where a stage stands."""

    PENDING = "pending"
    WAITING = "waiting"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELED = "canceled"


ENDED = frozenset({StageStatus.COMPLETED, StageStatus.FAILED, StageStatus.SKIPPED, StageStatus.CANCELED})


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The jobs of a run at one moment; `decided` are those that end now without ever beginning, and why."""

    done: tuple[str, ...] = ()
    ready: tuple[str, ...] = ()
    rung: tuple[str, ...] = ()
    running: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()
    pending: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    decided: Mapping[str, tuple[StageStatus, str]] = field(default_factory=dict)

    @property
    def active(self) -> int:
        """Return how many jobs run, or were rung for."""
        return len(self.running) + len(self.rung)


Values = Callable[[], Mapping[str, Any]]


def nothing() -> Mapping[str, Any]:
    """Return no values: what conditions read of the entry when nobody gives it."""
    return {}


def current(
    pipeline: Pipeline, stages: Mapping[str, Stage], run_id: str, now: datetime | None = None
) -> dict[str, Stage]:
    """Return the stages as a run sees them: what an earlier run ended stays, all else is pending again.

    A failure that `continueOnError` tolerates, or that used up the attempts of its job, is an end; a question that is
    still open goes on waiting, and so does a pause that is not over at *now*.
    """
    return {
        job_id: each if each.status == StageStatus.COMPLETED else _now(pipeline, each, run_id, now)
        for job_id, each in stages.items()
        if job_id in pipeline.index
    }


def plan(pipeline: Pipeline, stages: Mapping[str, Stage], values: Values = nothing) -> Plan:
    """Say where every job stands, in one pass over the graph; a second one where a condition failed its job."""
    decided: dict[str, tuple[StageStatus, str]] = {}
    while True:
        found = _Pass(pipeline, stages, values, decided)
        for job_id in pipeline.order:
            found.look(pipeline.job(job_id))
        if found.fatal == found.fatal_before:
            return found.plan()


def outcome(pipeline: Pipeline, stages: Mapping[str, Stage], now: Plan) -> Outcome | None:
    """Say how the run ended, or None while a job may begin, runs, or was rung for."""
    if now.ready or now.active:
        return None
    if now.failed:
        return _failed(pipeline, stages, now)
    held = [stages[job_id] for job_id in now.waiting if job_id in stages]
    if pauses := [(until, each.job_id) for each in held if (until := _wakes(each))]:
        return _paused(stages[min(pauses)[1]])
    if held:
        reason = held[0].reason or {}
        kind = str(reason.get("kind", "review"))
        return Stopped(job_id=held[0].job_id, result=Asked(question=str(reason.get("text", "waits")), kind=kind))
    ends = [job_id for job_id in pipeline.last() if job_id in stages and stages[job_id].status == StageStatus.COMPLETED]
    return Succeeded(job_id=ends[-1] if ends else pipeline.order[-1])


def handled(pipeline: Pipeline, job_id: str, stages: Mapping[str, Stage]) -> bool:
    """Return whether some job that has not begun reads the failure of this one: then a failure is final at once."""
    return any(
        _reads_failure(job, {job_id})
        for job in pipeline.jobs
        if job.when is not None
        and (job.id not in stages or stages[job.id].status == StageStatus.PENDING)
        and pipeline.precedes(job_id, job.id)
    )


def tolerated(job: Job, stage: Stage) -> bool:
    """Return whether a failed stage counts as completed for those that do not read its status."""
    return job.continue_on_error and stage.status == StageStatus.FAILED


def seen(stage: Stage | None) -> dict[str, Any]:
    """Return what conditions and texts see of a job: status, output, attempts, reason."""
    if stage is None:
        return {"status": "pending", "output": None, "attempts": 0, "reason": ""}
    reason = str((stage.reason or {}).get("text", ""))
    output = stage.output
    if output is None and stage.status == StageStatus.FAILED:
        output = failure(stage).get("data")
    return {"status": str(stage.status), "output": output, "attempts": stage.attempts, "reason": reason}


def failure(stage: Stage) -> Mapping[str, Any]:
    """Return the last failed attempt of a stage with what it left; nothing where none failed."""
    return stage.tries[-1] if stage.tries else {}


_PLACES: Mapping[StageStatus, str] = {
    StageStatus.COMPLETED: "done",
    StageStatus.FAILED: "done",
    StageStatus.SKIPPED: "skipped",
    StageStatus.CANCELED: "skipped",
    StageStatus.RUNNING: "running",
    StageStatus.WAITING: "waiting",
}


class _Pass:
    """One pass in topological order; `decided` is kept from pass to pass."""

    def __init__(
        self,
        pipeline: Pipeline,
        stages: Mapping[str, Stage],
        values: Values,
        decided: dict[str, tuple[StageStatus, str]],
    ) -> None:
        self.pipeline, self.stages, self.values, self.decided = pipeline, stages, values, decided
        self.fatal = {job.id for job in pipeline.jobs if self._fatal(job)}
        self.fatal_before = set(self.fatal)
        self.places: dict[str, list[str]] = {}

    def look(self, job: Job) -> None:
        """Find where one job stands, and decide it where it ends without beginning."""
        place = self._place(job)
        self.places.setdefault(place, []).append(job.id)

    def plan(self) -> Plan:
        """Return what was found."""
        return Plan(
            **{name: tuple(listed) for name, listed in self.places.items()},
            failed=tuple(job.id for job in self.pipeline.jobs if job.id in self.fatal),
            decided={each: said for each, said in self.decided.items() if self._stage_status(each) != said[0]},
        )

    def _place(self, job: Job) -> str:
        stage = self.stages.get(job.id)
        status = self._status(job.id)
        if status != StageStatus.PENDING:
            return _PLACES[status]
        if self.fatal and not (job.when is not None and _reads_failure(job, self.fatal)):
            return self._decide(job, StageStatus.CANCELED, f'"{min(self.fatal)}" failed')
        if any(self._status(each) not in ENDED for each in job.depends_on):
            return "pending"
        if why := self._unmet(job):
            return self._decide(job, StageStatus.SKIPPED, why)
        begun = stage is not None and (stage.rung_at or stage.approval)
        said = "" if job.when is None or begun else self._condition(job)
        return said or ("rung" if stage and stage.rung_at else "ready")

    def _condition(self, job: Job) -> str:
        """Ask the `when` of a job: nothing where it may begin, else where it stands now."""
        if job.when is None:
            return ""
        try:
            if job.when.holds(self._values(job, job.when)):
                return ""
        except ExpressionError as error:
            self.fatal |= set() if job.continue_on_error else {job.id}
            return self._decide(job, StageStatus.FAILED, f"`when` cannot be evaluated: {error}")
        return self._decide(job, StageStatus.SKIPPED, f"`when` is false: {job.when.source}")

    def _values(self, job: Job, when: Condition) -> dict[str, Any]:
        before = [self._status(each) for each in self.pipeline.ancestors(job.id)] if when.asks_upstream else []
        named = self.pipeline.ancestors(job.id) if when.mentions is None else when.mentions
        return {
            **self.values(),
            "params": plain(job.params),
            "jobs": {each: self._seen(each) for each in named},
            "upstream.failed": StageStatus.FAILED in before,
            "upstream.completed": all(each == StageStatus.COMPLETED for each in before),
        }

    def _seen(self, job_id: str) -> Any:  # noqa: ANN401 - what CEL takes
        if job_id in self.decided:
            status, why = self.decided[job_id]
            return plain({"status": str(status), "attempts": 0, "reason": why})
        return plain(seen(self.stages.get(job_id)))

    def _unmet(self, job: Job) -> str:
        """Say which dependency keeps a job from running, and why; its `when` excuses those that it reads."""
        when = job.when
        for each in job.depends_on:
            excused = when is not None and (when.asks_all or each in when.reads)
            status = self._status(each)
            if excused or status == StageStatus.COMPLETED:
                continue
            stage = self.stages.get(each)
            if stage is not None and tolerated(self.pipeline.job(each), stage):
                continue
            return f'"{each}" is {status}'
        return ""

    def _decide(self, job: Job, status: StageStatus, why: str) -> str:
        self.decided[job.id] = (status, why[:400])
        return "done" if status == StageStatus.FAILED else "skipped"

    def _status(self, job_id: str) -> StageStatus:
        return self.decided[job_id][0] if job_id in self.decided else self._stage_status(job_id)

    def _stage_status(self, job_id: str) -> StageStatus:
        stage = self.stages.get(job_id)
        return stage.status if stage else StageStatus.PENDING

    def _fatal(self, job: Job) -> bool:
        return self._status(job.id) == StageStatus.FAILED and not job.continue_on_error


def _reads_failure(job: Job, failed: set[str]) -> bool:
    return job.when is not None and (job.when.asks_all or bool(job.when.reads & failed))


def _now(pipeline: Pipeline, stage: Stage, run_id: str, now: datetime | None) -> Stage:
    """Return one stage as the run sees it."""
    if stage.status == StageStatus.WAITING and (until := _wakes(stage)):
        over = now is not None and until <= now
        return replace(stage, status=StageStatus.PENDING, rung_at=None) if over else stage
    if stage.run_id == run_id:
        return stage
    if tolerated(pipeline.job(stage.job_id), stage):
        return stage
    kind = (stage.reason or {}).get("kind")
    if stage.status == StageStatus.FAILED and (kind == FailureKind.REJECTED or stage.used):
        return stage
    if stage.status == StageStatus.WAITING:
        return stage
    return replace(stage, status=StageStatus.PENDING, rung_at=None)


def _wakes(stage: Stage) -> datetime | None:
    """Return when a stage that waits for a moment goes on; None for one that waits for somebody."""
    if (stage.reason or {}).get("kind") not in PAUSES:
        return None
    return stage.wake_at or datetime.fromisoformat(str((stage.reason or {})["until"]))


def _paused(stage: Stage) -> Outcome:
    reason: Mapping[str, Any] = stage.reason or {}
    text, until = str(reason.get("text", "")), datetime.fromisoformat(str(reason["until"]))
    quota = reason.get("kind") == FailureKind.QUOTA
    result = Throttled(reason=text or "quota", until=until) if quota else Paused(reason=text, until=until)
    return Stopped(job_id=stage.job_id, result=result)


def _failed(pipeline: Pipeline, stages: Mapping[str, Stage], now: Plan) -> Outcome:
    """Judge a failed run: by what needs a person, then by a fault of a job's own, then by one from outside.

    So another run is never begun for one job while another one's failure would only be repeated in it.
    """

    def _order(job_id: str) -> tuple[int, float, int]:
        reason = (stages[job_id].reason or {}) if job_id in stages and job_id not in now.decided else {}
        weight = (1 + (reason.get("kind") in OUTSIDE)) if reason.get("fault") else 0
        return weight, _ended(stages.get(job_id)), pipeline.index[job_id]

    first = min(now.failed, key=_order)
    if first in now.decided:
        return Stopped(job_id=first, result=Refused(kind=FailureKind.VALIDATION, reason=now.decided[first][1]))
    reason = stages[first].reason or {}
    kind = FailureKind(str(reason.get("kind", FailureKind.EXECUTION)))
    text, rule = str(reason.get("text", "failed")), str(reason.get("rule", ""))
    if reason.get("fault"):
        return Stopped(job_id=first, result=Faulted(kind=kind, reason=text, rule=rule))
    role = str(reason.get("role") or "reviewer")
    return Stopped(job_id=first, result=Refused(kind=kind, reason=text, rule=rule, role=role))


def _ended(stage: Stage | None) -> float:
    return stage.ended_at.timestamp() if stage and stage.ended_at else float("inf")
