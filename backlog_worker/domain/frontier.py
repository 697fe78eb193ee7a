"""The planner: a pure function that says which jobs of a run are ready, waiting, skipped or done.

The rules for a job that has not begun, in order of evaluation:

1. A failure is *final* if nothing tolerates it and no later job can overcome it any more. Then the run fails: jobs that
   have not begun are *canceled*, except handlers of a failure, jobs with `always()` or `failure()`, and jobs after a
   handler that completed or still may. Running jobs finish.
2. It is *pending* while a job that it depends on, or that its `when` reads, has not ended.
3. Each dependency must be *met*: it completed; or had nothing to do, because its own `when` was false; or failed with
   `continueOnError`; or failed, and the same job also depends on a completed handler of that failure. A dependency
   whose status the `when` reads only needs to have ended. Otherwise the job is *skipped*, and so are those after it.
4. Its `when` must be true; otherwise the job is skipped and had nothing to do. A `when` that cannot be evaluated
   *fails* the job with the reason.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, NamedTuple

from backlog_worker.domain import ends
from backlog_worker.domain.condition import Condition
from backlog_worker.domain.expression import ExpressionError, plain
from backlog_worker.domain.handling import Failures, bridged, failures, handlers, handles
from backlog_worker.domain.masking import cut
from backlog_worker.domain.outcome import (
    OUTSIDE,
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
from backlog_worker.domain.stages import ENDED, Stage, StageStatus, Unbegun, failure, idle, seen, tolerated, wakes

__all__ = ["ENDED", "Stage", "StageStatus", "Unbegun", "failure", "idle", "seen", "tolerated"]
__all__ += ["Plan", "Ruling", "current", "handled", "nothing", "outcome", "plan"]


class Ruling(NamedTuple):
    """The end of a job that never began: its status, the reason, and the kind of reason."""

    status: StageStatus
    why: str
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The jobs of a run at one moment; `decided` are the jobs that end now without having begun, with the reasons.

    `failed` are the final failures; `moot` jobs wait for an answer that a failed run no longer needs.
    """

    done: tuple[str, ...] = ()
    ready: tuple[str, ...] = ()
    rung: tuple[str, ...] = ()
    running: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()
    moot: tuple[str, ...] = ()
    pending: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    decided: Mapping[str, Ruling] = field(default_factory=dict)

    @property
    def active(self) -> int:
        """Return the number of jobs that are running or have a bell."""
        return len(self.running) + len(self.rung)


Values = Callable[[], Mapping[str, Any]]


def nothing() -> Mapping[str, Any]:
    """Return an empty mapping: the values for conditions if there is no entry."""
    return {}


def current(pipeline: Pipeline, stages: Mapping[str, Stage], now: datetime | None = None) -> dict[str, Stage]:
    """Return the stages of the jobs in this pipeline; stages of earlier runs were selected when the run began.

    A stage whose pause is over at *now* is pending again.
    """
    return {job_id: _awake(each, now) for job_id, each in stages.items() if job_id in pipeline.index}


def plan(pipeline: Pipeline, stages: Mapping[str, Stage], values: Values = nothing) -> Plan:
    """Return the plan, in one pass over the graph; the pass is repeated if a decision changes which failures count."""
    decided: dict[str, Ruling] = {}
    while True:
        found = _Pass(pipeline, stages, values, decided)
        if all(found.look(pipeline.job(job_id)) for job_id in pipeline.order):
            return found.plan()


def outcome(pipeline: Pipeline, stages: Mapping[str, Stage], now: Plan) -> Outcome | None:
    """Return how the run ended; None while a job may begin, runs, or has a bell."""
    if now.ready or now.active:
        return None
    held = [stages[job_id] for job_id in now.waiting if job_id in stages]
    if now.failed and not held:
        return _failed(pipeline, stages, now)
    if pauses := [(until, each.job_id) for each in held if (until := wakes(each))]:
        return _paused(stages[min(pauses)[1]])
    if held:
        reason = held[0].reason or {}
        kind = str(reason.get("kind", "review"))
        return Stopped(job_id=held[0].job_id, result=Asked(question=str(reason.get("text", "waits")), kind=kind))
    found = ends.of(pipeline, stages)
    done = [job_id for job_id in pipeline.order if job_id in stages and stages[job_id].status == StageStatus.COMPLETED]
    last = [job_id for job_id in pipeline.last() if job_id in done] or done
    words = ends.nothing(pipeline, stages) if found.idle else found.words()
    return Succeeded(job_id=last[-1] if last else "", words=words, idle=found.idle)


def handled(pipeline: Pipeline, job_id: str, stages: Mapping[str, Stage]) -> bool:
    """Return whether a job that has not begun handles the failure of this one; if so, a failure is final at once."""
    return any(
        (job.id not in stages or stages[job.id].status == StageStatus.PENDING) and handles(pipeline, job, job_id)
        for job in pipeline.jobs
    )


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
        self, pipeline: Pipeline, stages: Mapping[str, Stage], values: Values, decided: dict[str, Ruling]
    ) -> None:
        self.pipeline, self.stages, self.values, self.decided = pipeline, stages, values, decided
        ends = [*(each.status for each in stages.values()), *(each.status for each in decided.values())]
        found = StageStatus.FAILED in ends
        self.failures = failures(pipeline, self.status) if found else Failures()
        self.carries: set[str] = set()  # handlers of standing failures, and the jobs after them
        self.places: dict[str, list[str]] = {}

    def look(self, job: Job) -> bool:
        """Place one job, and decide it if it ends without having begun; return whether the pass is still valid."""
        known = job.id in self.decided
        handler = behind = False
        if self.failures.standing:
            handler = any(handles(self.pipeline, job, each) for each in self.failures.standing)
            behind = not self.carries.isdisjoint(job.after)
        place = self._place(job, spared=handler or behind or (job.when is not None and job.when.asks_all))
        self.places.setdefault(place, []).append(job.id)
        if (handler or behind) and self._carries(job, handler=handler, behind=behind):
            self.carries.add(job.id)
        return known or job.id not in self.decided or not self._changes(self.decided[job.id].status)

    def plan(self) -> Plan:
        """Return the plan."""
        return Plan(
            **{name: tuple(listed) for name, listed in self.places.items()},
            failed=tuple(job.id for job in self.pipeline.jobs if job.id in self.failures.final),
            decided={each: said for each, said in self.decided.items() if self._stage_status(each) != said.status},
        )

    def status(self, job_id: str) -> StageStatus:
        """Return the status of a job, including decisions."""
        return self.decided[job_id].status if job_id in self.decided else self._stage_status(job_id)

    def _place(self, job: Job, *, spared: bool) -> str:
        stage = self.stages.get(job.id)
        status = self.status(job.id)
        stopped = bool(self.failures.final) and not spared
        if status != StageStatus.PENDING:
            return "moot" if stopped and status == StageStatus.WAITING else _PLACES[status]
        if stopped:
            return self._decide(job, StageStatus.CANCELED, f'"{min(self.failures.final)}" failed', Unbegun.FAILURE)
        if any(self.status(each) not in ENDED for each in job.after):
            return "pending"
        if why := self._unmet(job):
            return self._decide(job, StageStatus.SKIPPED, why, Unbegun.DEPENDENCY)
        begun = stage is not None and (stage.rung_at or stage.approval)
        said = "" if job.when is None or begun else self._condition(job, job.when)
        return said or ("rung" if stage and stage.rung_at else "ready")

    def _changes(self, status: StageStatus) -> bool:
        """Return whether the last decision changes which failures count; if none is open, only a failure can."""
        is_open = self.failures.standing - self.failures.final
        return bool(is_open or status == StageStatus.FAILED) and failures(self.pipeline, self.status) != self.failures

    def _carries(self, job: Job, *, handler: bool, behind: bool) -> bool:
        """Return whether the jobs after this one may still run although the run fails."""
        status = self.status(job.id)
        if status == StageStatus.COMPLETED or status not in ENDED or self._tolerated(job.id):
            return handler or behind
        return behind and self._idle(job.id)

    def _condition(self, job: Job, when: Condition) -> str:
        """Evaluate the `when` of a job; return "" if it may begin, otherwise its place in the plan."""
        try:
            if when.holds(self._values(job, when)):
                return ""
        except ExpressionError as error:
            why = f"`when` cannot be evaluated: {error}"
            return self._decide(job, StageStatus.FAILED, why, FailureKind.VALIDATION)
        return self._decide(job, StageStatus.SKIPPED, f"`when` is false: {when.source}", Unbegun.CONDITION)

    def _values(self, job: Job, when: Condition) -> dict[str, Any]:
        before = self.pipeline.ancestors(job.id) if when.asks_upstream else []
        named = self.pipeline.ancestors(job.id) if when.mentions is None else when.mentions
        past = self.failures.overcome
        failed = [each for each in before if self.status(each) == StageStatus.FAILED and each not in past]
        return {
            **self.values(),
            "params": plain(job.params),
            "jobs": {each: self._seen(each) for each in named},
            "upstream.failed": bool(failed),
            "upstream.completed": all(self._well(each) or each in past for each in before),
        }

    def _seen(self, job_id: str) -> Any:  # noqa: ANN401 - what CEL takes
        if job_id in self.decided:
            status, why, _ = self.decided[job_id]
            return plain({"status": str(status), "attempts": 0, "reason": why})
        return plain(seen(self.stages.get(job_id)))

    def _unmet(self, job: Job) -> str:
        """Return which dependency prevents a job from running, and why; dependencies read by its `when` are excused."""
        when = job.when
        for each in job.depends_on:
            excused = when is not None and (when.asks_all or each in when.reads)
            if not (excused or self._well(each) or self._tolerated(each) or self._bridged(job, each)):
                return f'"{each}" is {self.status(each)}'
        return ""

    def _well(self, job_id: str) -> bool:
        return self.status(job_id) == StageStatus.COMPLETED or self._idle(job_id)

    def _idle(self, job_id: str) -> bool:
        if job_id in self.decided:
            return self.decided[job_id].kind == Unbegun.CONDITION
        return idle(self.stages.get(job_id))

    def _tolerated(self, job_id: str) -> bool:
        return self.status(job_id) == StageStatus.FAILED and self.pipeline.job(job_id).continue_on_error

    def _bridged(self, job: Job, failed: str) -> bool:
        return self.status(failed) == StageStatus.FAILED and bridged(self.pipeline, job, failed, self.status)

    def _decide(self, job: Job, status: StageStatus, why: str, kind: str) -> str:
        self.decided[job.id] = Ruling(status, cut(why, 400), str(kind))
        return "done" if status == StageStatus.FAILED else "skipped"

    def _stage_status(self, job_id: str) -> StageStatus:
        stage = self.stages.get(job_id)
        return stage.status if stage else StageStatus.PENDING


def _awake(stage: Stage, now: datetime | None) -> Stage:
    until = wakes(stage)
    over = now is not None and until is not None and until <= now
    return replace(stage, status=StageStatus.PENDING, rung_at=None) if over else stage


def _paused(stage: Stage) -> Outcome:
    reason: Mapping[str, Any] = stage.reason or {}
    text, until = str(reason.get("text", "")), datetime.fromisoformat(str(reason["until"]))
    quota = reason.get("kind") == FailureKind.QUOTA
    result = Throttled(reason=text or "quota", until=until) if quota else Paused(reason=text, until=until)
    return Stopped(job_id=stage.job_id, result=result)


def _failed(pipeline: Pipeline, stages: Mapping[str, Stage], now: Plan) -> Outcome:
    """Return the outcome of a failed run: its first failed job, or an unhandled fault if the other failures allow it.

    With a fault the run can be retried automatically, because the other failures may be overcome once the faults are
    gone. A job's own fault takes precedence over an outage, which another run would only repeat.
    """
    faults = [each for each in now.failed if each in stages and (stages[each].reason or {}).get("fault")]
    lifted = failures(pipeline, lambda each: _lifted(stages.get(each), fault=each in faults)).final if faults else ()

    def _order(job_id: str) -> tuple[bool, float, int]:
        stage = stages.get(job_id)
        outside = stage is not None and (stage.reason or {}).get("kind") in OUTSIDE
        return outside, _ended(stage), pipeline.index[job_id]

    first = min(lifted or faults or now.failed, key=_order)
    if first in now.decided:
        return Stopped(job_id=first, result=Refused(kind=FailureKind.VALIDATION, reason=now.decided[first].why))
    reason = stages[first].reason or {}
    kind = FailureKind(str(reason.get("kind", FailureKind.EXECUTION)))
    rule = str(reason.get("rule", ""))
    text = _said(pipeline, stages, now, first)
    if reason.get("fault"):
        return Stopped(job_id=first, result=Faulted(kind=kind, reason=text, rule=rule))
    role = str(reason.get("role") or "reviewer")
    return Stopped(job_id=first, result=Refused(kind=kind, reason=text, rule=rule, role=role))


def _lifted(stage: Stage | None, *, fault: bool) -> StageStatus:
    """Return the status of a stage in a run that retries faults."""
    if stage is None or fault or stage.status == StageStatus.CANCELED:
        return StageStatus.PENDING
    return stage.status


def _said(pipeline: Pipeline, stages: Mapping[str, Stage], now: Plan, first: str) -> str:
    """Return a text: where the run failed, why, which handlers completed, and the outcome of the other jobs."""
    why = cut(str((stages[first].reason or {}).get("text", "failed")), 250)
    done = handlers(pipeline, now.failed, lambda each: stages[each].status if each in stages else StageStatus.PENDING)
    where = f"failed at {first}"
    said = f"{where}; {ends.listed(done)} completed ({why})" if done else f"{where}: {why}"
    return "; ".join(filter(None, [said, ends.of(pipeline, stages).words(besides=(first, *done))]))


def _ended(stage: Stage | None) -> float:
    return stage.ended_at.timestamp() if stage and stage.ended_at else float("inf")
