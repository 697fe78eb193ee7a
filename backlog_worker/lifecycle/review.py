"""Apply a person's answer to a review once, and only if what the person saw has not changed."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from backlog_worker.domain.bell import Bell
from backlog_worker.domain.entry import Change, Entry, Note
from backlog_worker.domain.errors import ConflictError, NotAllowedError, NotFoundError, RefusedError
from backlog_worker.domain.frontier import Stage, StageStatus, idle
from backlog_worker.domain.outcome import Verdict
from backlog_worker.domain.output import as_json
from backlog_worker.domain.review import Decided, Review, ReviewKind, meaning
from backlog_worker.domain.roles import Caller, everything, must_answer
from backlog_worker.lifecycle import Kit, answer, claim, named, operate, operation, settle
from backlog_worker.store import Unit
from backlog_worker.telemetry import emit

DECIDE = "review.decide"  # the operation under which a refused attempt is recorded
NAMED = 10


def open_dead_letter(kit: Kit, entry_id: str) -> Review | None:
    """Announce a dead letter once and return it; it does not wait for a person. None if it was announced already."""
    with kit.store.begin(actor="review") as unit:
        review = unit.assign(entry_id)
    if review is not None:
        emit("review_opened", review=review.id, entry=entry_id, owner=review.owner, role=review.role, due=review.due_at)
    return review


def decide(
    kit: Kit, review_id: str, decided: Decided, *, seq: int | None = None, caller: Caller | None = None
) -> tuple[Entry, list[Bell]]:
    """Apply a person's answer, once; *seq* is the entry as it was shown, if the person looked at it before.

    Every door answers by this, and only people with the scope and one of the roles of the review may. *caller* is who
    asks over the network; without one it is the person of *decided* at a terminal. Raises NotFoundError, UsageError,
    NotAllowedError (which is recorded), RefusedError if jobs never ran and that was not acknowledged, and ConflictError
    with who answered, or what changed since.
    """
    review_id = named.review_of(kit, review_id)
    decided = replace(decided, value=as_json(decided.value))
    try:
        with kit.store.begin(actor=decided.actor) as unit:
            review = _wanted(unit, review_id)
            allowed(kit, unit, review, caller or everything(decided.actor))
            change = meaning(review.kind, decided)
            entry = unit.hold([review.entry_id])[review.entry_id]
            _fresh(unit, review, entry, seq)
            left = _left(kit, unit, review, decided, change)
            if not unit.answer(review, decided):
                message = f"review {review.id} was answered meanwhile"
                raise ConflictError(message)
            data = {
                "review_id": review.id,
                "answer": decided.answer.value,
                "reason": decided.reason,
                "job_id": review.job_id,
            }
            unit.note(entry.id, Note.ANSWERED, data | ({"never_ran": left} if left else {}))
            bells = _apply(kit, unit, (review, left), decided, change)
            return unit.held[entry.id].entry, bells
    except NotAllowedError as error:
        said = {"answer": decided.answer.value, "error": str(error)}
        operation.denied(kit, DECIDE, actor=decided.actor, subject=review_id, reason=decided.reason, detail=said)
        raise


def allowed(kit: Kit, unit: Unit, review: Review, caller: Caller) -> None:
    """Check that a caller may answer a review; raises NotAllowedError with the role and its holders."""
    must_answer(caller, review.roles, kit.book.policy(unit).people, env=review.env)


def never_ran(kit: Kit, unit: Unit, entry: Entry) -> list[str]:
    """Return the jobs of an entry that never ran, in order; a job whose own `when` was false had nothing to do."""
    pinned = kit.book.pinned(unit, entry.pipeline_hash) if entry.pipeline_hash else None
    pipeline = pinned or kit.book.pipeline(unit, entry.pipeline)
    stages = unit.stages({entry.id: pipeline.hash})[entry.id] if pipeline else {}
    return [each for each in (pipeline.order if pipeline else ()) if _unrun(stages.get(each))]


def _unrun(stage: Stage | None) -> bool:
    if stage is None or stage.status in {StageStatus.PENDING, StageStatus.WAITING, StageStatus.CANCELED}:
        return True
    return stage.status == StageStatus.SKIPPED and not idle(stage)


def _left(kit: Kit, unit: Unit, review: Review, decided: Decided, change: Change) -> list[str]:
    """Return the jobs that an entry would be completed without; raises RefusedError unless that is acknowledged."""
    if review.kind != ReviewKind.DEAD_LETTER or change != Change.COMPLETED:
        return []
    left = never_ran(kit, unit, unit.held[review.entry_id].entry)
    if left and not decided.unfinished:
        message = f"{decided.answer} would complete {review.entry_id} although {_named(left)} never ran"
        hint = "add --even-though-unfinished (`unfinished` over the API) to complete it anyway, or requeue it"
        raise RefusedError(message, hint=hint)
    return left


def would(kit: Kit, review_id: str, decided: Decided, caller: Caller) -> dict[str, Any]:
    """Return what an answer would do, without doing it; raises the same errors as `decide` before it writes."""
    review_id = named.review_of(kit, review_id)
    with kit.store.read() as unit:
        review = _wanted(unit, review_id)
        allowed(kit, unit, review, caller)
        entry = unit.entry(review.entry_id)
        change = meaning(review.kind, decided)
        left = never_ran(kit, unit, entry) if entry and change == Change.COMPLETED else []
    return {"id": review.entry_id, "review": review.id, "change": str(change), "never_ran": left}


def _named(jobs: Sequence[str]) -> str:
    more = f" and {len(jobs) - NAMED} more" if len(jobs) > NAMED else ""
    return ", ".join(jobs[:NAMED]) + more


def _wanted(unit: Unit, review_id: str) -> Review:
    review = unit.review(review_id)
    if review is None:
        message = f"there is no review {review_id}, and no entry with that id waits for one"
        raise NotFoundError(message, hint="backlog-worker review list")
    return review


def _fresh(unit: Unit, review: Review, entry: Entry, seq: int | None) -> None:
    if review.answer is not None:
        message = f"review {review.id} was answered: {review.answer} by {review.answered_by} ({review.reason})"
        raise ConflictError(message)
    if seq is not None and seq < review.seq:  # changes of other stages do not alter what was shown
        since = [event for event in unit.history(entry.id) if event.seq > seq]
        words = (
            ", ".join(f"{event.change} by {event.actor}" for event in since[:5])
            or "events that are no longer available"
        )
        message = f"{entry.id} changed since it was shown: {words}"
        raise ConflictError(message, hint=f"backlog-worker review show {review.id}")


def _apply(kit: Kit, unit: Unit, of: tuple[Review, list[str]], decided: Decided, change: Change) -> list[Bell]:
    review, left = of
    entry = unit.held[review.entry_id].entry
    although = f" although {_named(left)} never ran" if left else ""
    words = f"{decided.answer} by {decided.actor}{although}: {decided.reason}"
    if review.kind != ReviewKind.DEAD_LETTER:
        return answer.given(kit, unit, review, decided)
    if change == Change.REQUEUED:
        operate.requeued(kit, unit, entry, words, decided.input)
        return []
    return _ended(kit, unit, entry, Verdict(change=change, reason=words, job_id=review.job_id))


def _ended(kit: Kit, unit: Unit, entry: Entry, verdict: Verdict) -> list[Bell]:
    """End an entry as a person decided, with its record."""
    unit.flush()  # the record counts answers, so the answer must be in the history first
    policy = kit.book.policy(unit)
    return settle.conclude(kit, unit, [(claim.ending_of(kit, unit, entry, policy), verdict)])


def dead_letters(reviews: Sequence[Review]) -> dict[tuple[str, str, str], int]:
    """Count dead letters by (failure, rule, job)."""
    groups: dict[tuple[str, str, str], int] = {}
    for review in reviews:
        if review.kind == ReviewKind.DEAD_LETTER:
            key = (review.failure, review.rule, review.job_id)
            groups[key] = groups.get(key, 0) + 1
    return groups


def answer_all(
    kit: Kit, reviews: Sequence[Review], decided: Decided, *, caller: Caller | None = None
) -> tuple[list[str], list[tuple[str, str]], list[Bell]]:
    """Answer many reviews, each in its own transaction; returns (done, (refused, why), bells)."""
    done: list[str] = []
    kept: list[tuple[str, str]] = []
    bells: list[Bell] = []
    for review in reviews:
        try:
            _, more = decide(kit, review.id, decided, seq=review.seq, caller=caller)
        except (ConflictError, RefusedError, NotAllowedError) as error:
            kept.append((review.entry_id, str(error)))
        else:
            done.append(review.entry_id)
            bells += more
    return done, kept, list(dict.fromkeys(bells))
