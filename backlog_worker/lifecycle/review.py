"""Ask a person, and apply the answer once, to what that person saw."""

from collections.abc import Sequence

from backlog_worker.domain.bell import Bell
from backlog_worker.domain.entry import Change, Entry, Note
from backlog_worker.domain.errors import ConflictError, NotFoundError
from backlog_worker.domain.outcome import Verdict
from backlog_worker.domain.review import Decided, Review, ReviewKind, meaning
from backlog_worker.lifecycle import Kit, answer, claim, operate, settle
from backlog_worker.store import Unit
from backlog_worker.telemetry import emit


def open_dead_letter(kit: Kit, entry_id: str) -> Review | None:
    """Tell of a dead letter, once, and end: it never waits for the person. None where that is done already."""
    with kit.store.begin(actor="review") as unit:
        review = unit.assign(entry_id)
    if review is not None:
        emit("review_opened", review=review.id, entry=entry_id, owner=review.owner, role=review.role, due=review.due_at)
    return review


def decide(kit: Kit, review_id: str, decided: Decided, *, seq: int | None = None) -> tuple[Entry, list[Bell]]:
    """Apply a person's answer, once; *seq* is the entry as it was shown, where the person looked at it before.

    Raises NotFoundError, UsageError, and ConflictError with who answered, or what changed since.
    """
    with kit.store.begin(actor=decided.actor) as unit:
        review = unit.review(review_id)
        if review is None:
            message = f"there is no review {review_id}, and no entry of that id waits for one"
            raise NotFoundError(message, hint="backlog-worker review list")
        change = meaning(review.kind, decided)
        entry = unit.hold([review.entry_id])[review.entry_id]
        _fresh(unit, review, entry, seq)
        if not unit.answer(review, decided):
            message = f"review {review.id} was answered meanwhile"
            raise ConflictError(message)
        data = {
            "review_id": review.id,
            "answer": decided.answer.value,
            "reason": decided.reason,
            "job_id": review.job_id,
        }
        unit.note(entry.id, Note.ANSWERED, data)
        bells = _apply(kit, unit, review, decided, change)
        return unit.held[entry.id].entry, bells


def _fresh(unit: Unit, review: Review, entry: Entry, seq: int | None) -> None:
    if review.answer is not None:
        message = f"review {review.id} was answered: {review.answer} by {review.answered_by} ({review.reason})"
        raise ConflictError(message)
    if seq is not None and seq < review.seq:  # what other stages do meanwhile is no change of what was shown
        since = [event for event in unit.history(entry.id) if event.seq > seq]
        words = ", ".join(f"{event.change} by {event.actor}" for event in since[:5]) or "nothing that is left to see"
        message = f"{entry.id} changed since it was shown: {words}"
        raise ConflictError(message, hint=f"backlog-worker review show {review.id}")


def _apply(kit: Kit, unit: Unit, review: Review, decided: Decided, change: Change) -> list[Bell]:
    entry = unit.held[review.entry_id].entry
    words = f"{decided.answer} by {decided.actor}: {decided.reason}"
    if review.kind != ReviewKind.DEAD_LETTER:
        return answer.given(kit, unit, review, decided)
    if change == Change.REQUEUED:
        operate.requeued(kit, unit, entry, words, decided.input)
        return []
    return _ended(kit, unit, entry, Verdict(change=change, reason=words, job_id=review.job_id))


def _ended(kit: Kit, unit: Unit, entry: Entry, verdict: Verdict) -> list[Bell]:
    """End an entry by a person's word, with its record."""
    unit.flush()  # the record counts the answer, which must be in the history first
    policy = kit.book.policy(unit)
    return settle.conclude(kit, unit, [(claim.ending_of(kit, unit, entry, policy), verdict)])


def dead_letters(reviews: Sequence[Review]) -> dict[tuple[str, str, str], int]:
    """Group dead letters by what went wrong: (failure, rule, job) and how many."""
    groups: dict[tuple[str, str, str], int] = {}
    for review in reviews:
        if review.kind == ReviewKind.DEAD_LETTER:
            key = (review.failure, review.rule, review.job_id)
            groups[key] = groups.get(key, 0) + 1
    return groups


def answer_all(
    kit: Kit, reviews: Sequence[Review], decided: Decided
) -> tuple[list[str], list[tuple[str, str]], list[Bell]]:
    """Answer many reviews, each in its own transaction: (done, (refused, why), bells)."""
    done: list[str] = []
    refused: list[tuple[str, str]] = []
    bells: list[Bell] = []
    for review in reviews:
        try:
            _, more = decide(kit, review.id, decided, seq=review.seq)
        except ConflictError as error:
            refused.append((review.entry_id, str(error)))
        else:
            done.append(review.entry_id)
            bells += more
    return done, refused, list(dict.fromkeys(bells))
