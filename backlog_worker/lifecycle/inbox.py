"""Reviews for programs: the inbox as values, and answering as an action, with its scope and role checked."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from backlog_worker.domain.entry import Entry
from backlog_worker.domain.errors import NotFoundError
from backlog_worker.domain.frontier import Stage
from backlog_worker.domain.review import Answer, Decided, Review, ReviewKind
from backlog_worker.domain.roles import Caller
from backlog_worker.lifecycle import Kit, review
from backlog_worker.store import Unit


class DecideParams(BaseModel):
    """The parameters of an answer: the review, the answer, and the reason."""

    model_config = ConfigDict(extra="forbid")

    id: str = Field(description="the id of a review, or of its entry")
    answer: Answer = Field(description="approve, reject, answer, requeue or discard")
    reason: str = Field(min_length=1, description="why; it is kept in the history")
    value: Any = Field(default=None, description="the value of an answer to a question")
    input: dict[str, Any] | None = Field(default=None, description="requeue with this input")
    seq: int | None = Field(default=None, description="only if the entry is as it was shown with this number")
    unfinished: bool = Field(default=False, description="complete the entry although jobs of it never ran")


def waiting(kit: Kit) -> list[dict[str, Any]]:
    """Return the open reviews by due date; for a dead letter also the jobs that never ran."""
    with kit.store.read() as unit:
        return [_shown(kit, unit, each) for each in unit.reviews(kit.env)]


def wanted(unit: Unit, review_id: str) -> Review:
    """Return one review; raises NotFoundError."""
    found = unit.review(review_id)
    if found is None:
        message = f"there is no review {review_id}"
        raise NotFoundError(message, hint="backlog-worker review list")
    return found


def in_question(kit: Kit, unit: Unit, of: Review, entry: Entry | None) -> tuple[list[Stage], float | None]:
    """Return the stages whose outputs a review is about, and the cost of its entry, None if unknown.

    A gate and a dead letter are about the job itself, an approval about the inputs of the job.
    """
    if entry is None or not entry.pipeline_hash:
        return [], 0.0
    stages = unit.stages({entry.id: entry.pipeline_hash})[entry.id]
    pipeline = kit.book.pinned(unit, entry.pipeline_hash)
    own = stages.get(of.job_id)
    before = pipeline.job(of.job_id).after if pipeline and of.job_id in pipeline.index else ()
    wanted_ids = [of.job_id] if own and (own.output is not None or own.tries) else before
    costs = [each.cost["usd"] for each in stages.values() if each.cost]
    usd = None if None in costs else float(sum(costs))
    return [stages[each] for each in wanted_ids if each in stages], usd


def decide(kit: Kit, caller: Caller, given: DecideParams, dry_run: bool) -> dict[str, Any]:
    """Answer a review in the name of a caller; a dry run checks whether the caller may."""
    decided = Decided(
        actor=caller.name,
        **{name: getattr(given, name) for name in ("answer", "reason", "value", "input", "unfinished")},
    )
    if dry_run:
        return {**review.would(kit, given.id, decided, caller), "dry_run": True}
    entry, bells = review.decide(kit, given.id, decided, seq=given.seq, caller=caller)
    kit.ring(bells)
    return {"id": entry.id, "status": str(entry.status), "reason": entry.reason}


def _shown(kit: Kit, unit: Unit, of: Review) -> dict[str, Any]:
    names = ("id", "kind", "entry_id", "job_id", "question", "role", "owner", "failure", "rule", "seq")
    entry = unit.entry(of.entry_id) if of.kind == ReviewKind.DEAD_LETTER else None
    left = review.never_ran(kit, unit, entry) if entry else []
    return {**{name: getattr(of, name) for name in names}, "due_at": of.due_at.isoformat(), "never_ran": left}
