"""Reviews: questions to people, and the meaning of the typed answers."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from backlog_worker.domain.entry import Change
from backlog_worker.domain.errors import UsageError


class ReviewKind(StrEnum):
    """The kind of a review."""

    APPROVAL = "approval"
    QUESTION = "question"
    PERMISSION = "permission"
    BUDGET = "budget"
    DEAD_LETTER = "dead_letter"


class Answer(StrEnum):
    """The possible answers."""

    APPROVE = "approve"
    REJECT = "reject"
    ANSWER = "answer"
    REQUEUE = "requeue"
    DISCARD = "discard"


_YES_OR_NO = {Answer.APPROVE: Change.CLEARED, Answer.REJECT: Change.CANCELED}
ANSWERS: Mapping[ReviewKind, Mapping[Answer, Change]] = {
    ReviewKind.APPROVAL: _YES_OR_NO,
    ReviewKind.PERMISSION: _YES_OR_NO,
    ReviewKind.BUDGET: _YES_OR_NO,
    ReviewKind.QUESTION: {Answer.ANSWER: Change.CLEARED, Answer.REJECT: Change.CANCELED},
    ReviewKind.DEAD_LETTER: {
        Answer.APPROVE: Change.COMPLETED,
        Answer.REJECT: Change.FAILED,
        Answer.REQUEUE: Change.REQUEUED,
        Answer.DISCARD: Change.CANCELED,
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """A question to a person, with everything needed to answer it; `seq` is the version of the entry shown."""

    id: str
    env: str
    kind: ReviewKind
    entry_id: str
    run_id: str | None
    job_id: str
    question: str
    role: str
    owner: str
    failure: str = ""
    rule: str = ""
    recovery: str = ""
    detail: str = ""
    on_timeout: str = "escalate"
    form: Mapping[str, Any] | None = None
    opened_at: datetime
    due_at: datetime
    assigned_at: datetime | None = None
    reminded_at: datetime | None = None
    seq: int = 0
    answer: str | None = None
    answered_by: str | None = None
    answered_at: datetime | None = None
    reason: str | None = None
    value: Any = None

    @property
    def roles(self) -> tuple[str, ...]:
        """Return the roles that may answer; one is enough."""
        return tuple(each.strip() for each in self.role.split(",") if each.strip())


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """A person's decision: answer, name and reason, with the corrected input or the value of an answer, if any.

    *unfinished* confirms that the person knows which jobs never ran and completes the entry nevertheless.
    """

    answer: Answer
    actor: str
    reason: str
    input: Mapping[str, Any] | None = None
    value: Any = None
    unfinished: bool = False


def meaning(kind: ReviewKind, decided: Decided) -> Change:
    """Return the change of the entry for an answer; raises UsageError if it does not fit or has no reason."""
    changes = ANSWERS[kind]
    if decided.answer not in changes:
        message = f"{decided.answer} does not answer a review of kind {kind}; answer with one of: {', '.join(changes)}"
        raise UsageError(message)
    if not decided.reason.strip():
        message = "a decision needs a reason; add --reason TEXT"
        raise UsageError(message)
    if decided.input is not None and decided.answer != Answer.REQUEUE:
        message = f"edited input goes with requeue, not with {decided.answer}"
        raise UsageError(message)
    if decided.answer == Answer.ANSWER and decided.value is None:
        message = "an answer needs a value; add --value JSON"
        raise UsageError(message)
    return changes[decided.answer]
