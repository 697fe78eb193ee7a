"""Apply a person's answer to a waiting stage: approve, fill or refuse it; then the run continues or the entry ends."""

from typing import Any

from backlog_worker.domain.bell import Bell, Step
from backlog_worker.domain.entry import Change, Entry, Note, Status
from backlog_worker.domain.errors import InvalidInputError
from backlog_worker.domain.frontier import Stage, StageStatus, current, outcome, plan
from backlog_worker.domain.gates import GATE, GateResult, asks
from backlog_worker.domain.masking import cut
from backlog_worker.domain.outcome import Asked, FailureKind, judge
from backlog_worker.domain.pipeline import violation
from backlog_worker.domain.reasons import Bar
from backlog_worker.domain.review import Answer, Decided, Review, ReviewKind
from backlog_worker.lifecycle import Kit, ahead, intake, settle, stage
from backlog_worker.lifecycle.ask import About, ask
from backlog_worker.lifecycle.given import Given, pending
from backlog_worker.lifecycle.held import Start
from backlog_worker.lifecycle.settle import Ending
from backlog_worker.store import Unit


def given(kit: Kit, unit: Unit, review: Review, decided: Decided) -> list[Bell]:
    """Apply a stored answer to the stage that waits for it; the caller holds the entry.

    Raises InvalidInputError if the value of the answer breaks its form.
    """
    entry = unit.held[review.entry_id].entry
    old = unit.stages({entry.id: str(entry.pipeline_hash)})[entry.id].get(review.job_id)
    approval = _approval(unit, review, decided, old)
    values: dict[str, Any] = {"approval": approval}
    if decided.answer == Answer.REJECT:
        values |= _refused(unit, review, decided)
    elif review.kind == ReviewKind.QUESTION:
        values |= _with_value(unit, review, decided, approval)
    else:
        more = _next_gate(review, approval, old)
        values |= {"status": _allowed(review, old, more).value, "reason": None}
        if more is not None:
            values["reason"] = {"kind": "review", "text": cut(more.question, 400)}
            about = About(entry=entry, run_id=review.run_id, policy=kit.book.policy(unit))
            ask(kit, unit, about, review.job_id, more, on_timeout="escalate")
    unit.answered(entry.id, str(entry.pipeline_hash), review.job_id, values)
    if values["status"] == StageStatus.WAITING:
        return []
    return _continue(kit, unit, entry, f"{decided.answer} by {decided.actor}: {decided.reason}")


def rejected(kit: Kit, unit: Unit, review: Review, actor: str, reason: str) -> list[Bell]:
    """Treat a timeout as a rejection: close the review in the name of the clock and refuse its stage."""
    decided = Decided(answer=Answer.REJECT, actor=actor, reason=reason)
    if not unit.answer(review, decided):
        return []
    data = {"review_id": review.id, "answer": decided.answer.value, "reason": reason, "job_id": review.job_id}
    unit.note(review.entry_id, Note.ANSWERED, data)
    return given(kit, unit, review, decided)


def _approval(unit: Unit, review: Review, decided: Decided, old: Stage | None) -> dict[str, Any]:
    before = dict(old.approval or {}) if old else {}
    kinds = [*before.get("kinds", ()), *([review.kind.value] if decided.answer != Answer.REJECT else [])]
    granted, waived = [*before.get("granted", ())], dict(before.get("waived", {}))
    if review.kind == ReviewKind.PERMISSION and decided.answer == Answer.APPROVE:
        granted.append(review.detail)
    if review.detail.startswith(GATE) and decided.answer == Answer.APPROVE and old is not None:
        waived[review.detail.removeprefix(GATE)] = old.sha256  # for this output only
    said = {"by": decided.actor, "at": unit.now().isoformat(), "reason": decided.reason}
    return {**before, **said, "answer": decided.answer.value, "kinds": kinds, "granted": granted, "waived": waived}


def _refused(unit: Unit, review: Review, decided: Decided) -> dict[str, Any]:
    text = f'"{review.job_id}" was refused by {decided.actor}: {decided.reason}'
    reason = {"kind": FailureKind.REJECTED.value, "text": cut(text, 400)}
    return {"status": StageStatus.FAILED.value, "reason": reason, "ended_at": unit.now()}


def _with_value(unit: Unit, review: Review, decided: Decided, approval: dict[str, Any]) -> dict[str, Any]:
    """Return the approval data with the answer as output of its job, which is checked like any other."""
    if why := violation(review.form, decided.value):
        message = f"the answer breaks its form: {why}"
        raise InvalidInputError(message, hint=f"backlog-worker review show {review.id}")
    value = Given(output=decided.value, by=decided.actor, at=unit.now(), why=decided.reason)
    return pending(approval, value)


def _next_gate(review: Review, approval: dict[str, Any], old: Stage | None) -> Asked | None:
    """Return the question of the next gate about the same output: each approval counts for one gate only."""
    if old is None or old.sha256 is None or not review.detail.startswith(GATE):
        return None
    waived = approval["waived"]
    left = [each for each in old.gates if each["result"] == GateResult.ASK and waived.get(each["id"]) != old.sha256]
    return asks(left[0]["id"], left[0].get("message") or left[0]["why"], review.job_id) if left else None


def _allowed(review: Review, old: Stage | None, more: Asked | None) -> StageStatus:
    if more is not None:
        return StageStatus.WAITING
    stored = review.detail.startswith(GATE) and old is not None and old.sha256 is not None
    return StageStatus.COMPLETED if stored else StageStatus.PENDING


def _continue(kit: Kit, unit: Unit, entry: Entry, words: str) -> list[Bell]:
    """Continue a run in progress at once; a parked entry is queued again, or ends if no job is left to run."""
    if entry.status == Status.IN_PROGRESS and entry.run_id:
        start = stage.started(kit, unit, entry.run_id)
        return stage.onward(kit, unit, [start], takes="nothing")[1] if start else []
    if entry.status != Status.BLOCKED:
        return []
    if bells := _end_parked(kit, unit, entry):
        return bells
    intake.clear(kit, unit, [entry], words, lift=[Bar.APPROVAL_REQUIRED])
    return []


def _end_parked(kit: Kit, unit: Unit, entry: Entry) -> list[Bell]:
    """End a parked entry if no job handles the refusal, since a worker would have nothing to do."""
    pipeline = kit.book.pinned(unit, str(entry.pipeline_hash))
    runs = unit.runs(entry.id, most=1)
    if pipeline is None or not runs:
        return []
    known = current(pipeline, unit.stages({entry.id: pipeline.hash})[entry.id])
    policy = kit.book.policy(unit)
    start = Start(entry=entry, run=runs[0], pipeline=pipeline, policy=policy, stages=known, input=None)
    now = plan(pipeline, known, ahead.values(unit, start))
    ended = outcome(pipeline, known, now) if now.failed else None
    if ended is None:
        return []
    verdict = judge(ended, entry, claims=policy.claims, now=unit.now(), jitter=kit.jitter())
    if verdict.change != Change.CANCELED:
        return []
    settle.withdraw(unit, entry.id, "policy", verdict.reason)
    unit.flush()  # the record counts answers, so the answer must be in the history first
    bells = settle.conclude(
        kit, unit, [(Ending(entry=entry, run=runs[0], pipeline=pipeline, stages=known, policy=policy), verdict)]
    )
    return bells or [Bell(step=Step.SEND)]
