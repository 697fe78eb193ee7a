"""How a try and a run ended, as values; and what that means for the entry."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, assert_never

from backlog_worker.domain.entry import NOTHING_TO_DO, Change, Entry
from backlog_worker.domain.policy import ClaimsFile
from backlog_worker.domain.reasons import Bar


class FailureKind(StrEnum):
    """Why something did not work; the first three may work next time."""

    EXECUTION = "execution"
    TIMEOUT = "timeout"
    INFRASTRUCTURE = "infrastructure"
    VALIDATION = "validation"
    QUOTA = "quota"
    GATE = "gate"
    POISON = "poison"
    POLICY = "policy"
    BUDGET = "budget"
    REJECTED = "rejected"


CALL = "call"  # the kind of an Asked that waits for another entry, not for a person
TRANSIENT = frozenset({FailureKind.EXECUTION, FailureKind.TIMEOUT, FailureKind.INFRASTRUCTURE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The job is done: its output as JSON, and its lasting products by name."""

    output: Any = None
    artifacts: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A person must answer first; `kind` is that of the review, or `call` where another entry must end first.

    `form` is the JSON Schema of the answer where it is more than yes or no; `detail` tells one question from another.
    """

    question: str
    role: str = "reviewer"
    within: timedelta = timedelta(hours=24)
    kind: str = "approval"
    form: Mapping[str, Any] | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Throttled:
    """A provider's limit is reached; it counts as no fault, and is over at `until` or after `wait`."""

    reason: str
    wait: timedelta = timedelta(0)
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Faulted:
    """It did not work, and may next time."""

    kind: FailureKind
    reason: str
    rule: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """It will not work without a person."""

    kind: FailureKind
    reason: str
    rule: str = ""
    role: str = "reviewer"


Result = Done | Asked | Throttled | Faulted | Refused


@dataclass(frozen=True, slots=True, kw_only=True)
class Succeeded:
    """The run came to its end: where it completed, and what became of its jobs; *idle*: none of them did anything."""

    job_id: str
    words: str = field(default="", compare=False)
    idle: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """The run ended at one stage, with the result that ended it."""

    job_id: str
    result: Asked | Throttled | Faulted | Refused


Outcome = Succeeded | Stopped


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What an outcome means for the entry; the reason is kept on the entry, in its history and its record."""

    change: Change
    reason: str
    kind: FailureKind | None = None
    rule: str = ""
    job_id: str = ""
    role: str = ""
    bars: tuple[str, ...] = ()
    retry_at: datetime | None = None
    faults: int = 0
    expiries: int = 0
    outcome: str = ""


def judge(outcome: Outcome, entry: Entry, *, claims: ClaimsFile, now: datetime, jitter: float) -> Verdict:
    """Decide what an outcome does to its entry."""
    if isinstance(outcome, Succeeded):
        reason = outcome.words or f"completed at {outcome.job_id}"
        ended = NOTHING_TO_DO if outcome.idle else ""
        return Verdict(change=Change.COMPLETED, reason=reason, job_id=outcome.job_id, outcome=ended)
    job_id, result = outcome.job_id, outcome.result
    match result:
        case Asked():
            bars = ((Bar.WAITS_ON_ENTRY if result.kind == CALL else Bar.APPROVAL_REQUIRED).value,)
            return Verdict(change=Change.BLOCKED, reason=result.question, job_id=job_id, role=result.role, bars=bars)
        case Throttled():  # a quota is no fault: it counts for nothing
            retry_at, reason = result.until or now + result.wait, f"quota: {result.reason}"
            kind = FailureKind.QUOTA
            return Verdict(change=Change.RETRIED, reason=reason, kind=kind, job_id=job_id, retry_at=retry_at)
        case Refused():  # trying again will not help
            return _escalated(result, job_id, result.reason, role=result.role)
        case Faulted() if entry.faults + 1 < claims.max_attempts:
            retry_at = now + claims.delay(entry.faults, jitter)
            return Verdict(
                change=Change.RETRIED,
                reason=result.reason,
                kind=result.kind,
                rule=result.rule,
                job_id=job_id,
                retry_at=retry_at,
                faults=1,
            )
        case Faulted():
            return _escalated(result, job_id, f"after {entry.faults + 1} faults: {result.reason}", faults=1)
        case _:
            assert_never(result)


def _escalated(
    result: Refused | Faulted, job_id: str, reason: str, *, role: str = "reviewer", faults: int = 0
) -> Verdict:
    # A person who said no would only be asked the same again: what they refused is canceled.
    refused = result.kind == FailureKind.REJECTED
    return Verdict(
        change=Change.CANCELED if refused else Change.ESCALATED,
        reason=reason,
        kind=result.kind,
        rule=result.rule,
        job_id=job_id,
        role="" if refused else role,
        faults=faults,
    )
