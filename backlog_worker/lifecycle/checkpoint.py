"""The checkpoint of a take: the row of its stage, and the event that records how the take ended."""

from datetime import datetime
from typing import Any

from backlog_worker.domain import throttle
from backlog_worker.domain.entry import Note
from backlog_worker.domain.events import digest
from backlog_worker.domain.frontier import StageStatus, handled
from backlog_worker.domain.masking import cut
from backlog_worker.domain.outcome import Asked, Done, FailureKind, Faulted, Refused, Throttled
from backlog_worker.lifecycle import given
from backlog_worker.lifecycle.held import Ended
from backlog_worker.store import Unit


def row(unit: Unit, ended: Ended) -> dict[str, Any]:
    """Return the row of a stage whose take ended; names with `__` form the fence."""
    taken, result, tried = ended.taken, ended.result, ended.tried.at(unit.now())
    status, reason = _status_after(unit, ended)
    output = result.output if isinstance(result, Done) else None
    return {
        "entry_id__": taken.entry.id,
        "pipeline_hash__": taken.pipeline.hash,
        "job_id__": taken.job.id,
        "run_id__": taken.run["id"],
        "takes__": taken.take,
        "status": status.value,
        "leased_until": None,
        "attempts": tried.attempts,
        "used": tried.used,
        "tries": list(tried.failed),
        "wake_at": datetime.fromisoformat(reason["until"]) if reason and "until" in reason else None,
        "approval": given.judged(taken.approval),
        "ended_at": unit.now(),
        "output": output,
        "sha256": digest(output) if isinstance(result, Done) else None,
        "artifacts": list(ended.artifacts),
        "gates": [each.as_data() for each in ended.gates],
        "reason": reason,
        "cost": {**(ended.cost or {}), "cached_from": ended.cached} if ended.cached else ended.cost,
    }


def _status_after(unit: Unit, ended: Ended) -> tuple[StageStatus, dict[str, Any] | None]:
    """Return the status of the stage after a take, and the reason."""
    taken, result = ended.taken, ended.result
    match result:
        case Done():
            return (StageStatus.WAITING if ended.asked else StageStatus.COMPLETED), None
        case Asked():
            return StageStatus.WAITING, {"kind": "review", "text": cut(result.question, 400)}
        case Throttled():
            until, why = throttle.resumes(result, unit.now(), taken.policy.claims.quota_max)
            said = {"kind": FailureKind.QUOTA.value, "text": why, "until": until.isoformat()}
            return StageStatus.WAITING, said
        case Faulted() if ended.pause is not None:
            until, most = unit.now() + ended.pause, taken.job.retry.max_attempts
            text = f"attempt {ended.tried.used} of {most} at {taken.job.id} failed: {result.reason}"
            said = {"kind": FailureKind.BACKOFF.value, "text": text, "until": until.isoformat()}
            return StageStatus.WAITING, said
        case _:
            said = {"kind": result.kind.value, "text": result.reason, "rule": result.rule}
            final = taken.job.continue_on_error or handled(taken.pipeline, taken.job.id, taken.stages)
            if isinstance(result, Refused):
                return StageStatus.FAILED, {**said, "role": result.role}
            return StageStatus.FAILED, said if final else {**said, "fault": True}


def note(unit: Unit, ended: Ended) -> None:
    """Write to the entry's history how a take ended."""
    result = ended.result
    data = {
        "job_id": ended.taken.job.id,
        "take": ended.taken.take,
        "result": type(result).__name__.lower(),
        "attempts": ended.tried.attempts,
        "tries": len(ended.tried.failed),
        "gates": {each.id: each.result.value for each in ended.gates},
        "sha256": digest(result.output) if isinstance(result, Done) else None,
        "artifacts": [each["sha256"] for each in ended.artifacts],
    }
    if isinstance(result, Faulted | Refused):
        data |= {"kind": result.kind.value, "reason": cut(result.reason, 400)}
    if ended.pause is not None:
        data["pause_seconds"] = ended.pause.total_seconds()
    if ended.cost:
        data["cost"] = dict(ended.cost)
    if ended.cached:
        data["cached_from"] = ended.cached
    unit.note(ended.taken.entry.id, Note.CHECKPOINTED, data)
