"""Outcomes of attempts and runs as values, and the verdict for the entry."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, assert_never

from backlog_worker.domain.entry import NOTHING_TO_DO, Change, Entry
from backlog_worker.domain.policy import ClaimsFile
from backlog_worker.domain.reasons import Bar


class FailureKind(StrEnum):
    """The kind of a failure; `quota` and `backoff` are reasons for a pause, not failures."""

    EXECUTION = "execution"
    TIMEOUT = "timeout"
    INFRASTRUCTURE = "infrastructure"
    VALIDATION = "validation"
    QUOTA = "quota"
    BACKOFF = "backoff"
    GATE = "gate"
    POISON = "poison"
    POLICY = "policy"
    BUDGET = "budget"
    REJECTED = "rejected"


CALL = "call"  # the kind of an Asked that waits for another entry, not for a person
# Outages: the cause lies outside of the job and its run. All other faults are the job's own.
OUTSIDE = frozenset({FailureKind.INFRASTRUCTURE})
# Why a run ends early and goes on automatically later; this does not count as a failed run.
PAUSES = frozenset({FailureKind.QUOTA, FailureKind.BACKOFF})


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The job is done: its output as JSON, and its artifacts by name."""

    output: Any = None
    artifacts: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A person must answer first; `kind` is the kind of the review, or `call` if another entry must end first.

    `form` is the JSON Schema of an answer other than yes or no; `detail` distinguishes questions.
    """

    question: str
    role: str = "reviewer"
    within: timedelta = timedelta(hours=24)
    kind: str = "approval"
    form: Mapping[str, Any] | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Throttled:
    """A provider's limit is reached until `until`, or for `wait`; this is not a fault."""

    reason: str
    wait: timedelta = timedelta(0)
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Faulted:
    """The attempt failed and may work next time; `data` is its output, if any."""

    kind: FailureKind
    reason: str
    rule: str = ""
    data: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The job cannot work without a person; `data` is its output, if any."""

    kind: FailureKind
    reason: str
    rule: str = ""
    role: str = "reviewer"
    data: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Paused:
    """An attempt failed and the next one starts at `until`; meanwhile the run holds no slot and nothing is counted."""

    reason: str
    until: datetime


Result = Done | Asked | Throttled | Faulted | Refused


@dataclass(frozen=True, slots=True, kw_only=True)
class Succeeded:
    """The run completed: its last job, and the outcome of its jobs; *idle* means that no job did anything."""

    job_id: str
    words: str = field(default="", compare=False)
    idle: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """The run ended at one stage, with the result that ended it."""

    job_id: str
    result: Asked | Throttled | Paused | Faulted | Refused


Outcome = Succeeded | Stopped


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The effect of an outcome on the entry; the reason is stored in the entry, its history and its record."""

    change: Change
    reason: str
    kind: FailureKind | None = None
    rule: str = ""
    job_id: str = ""
    role: str = ""
    bars: tuple[str, ...] = ()
    retry_at: datetime | None = None
    faults: int = 0
    outages: int = 0
    expiries: int = 0
    outcome: str = ""


def judge(
    outcome: Outcome, entry: Entry, *, claims: ClaimsFile, retry_runs: int = 0, now: datetime, jitter: float
) -> Verdict:
    """Return the verdict for an outcome.

    A job's own fault is escalated, unless its pipeline allows further runs (*retry_runs*). An outage is retried in new
    runs up to `claims.maxAttempts`.
    """
    if isinstance(outcome, Succeeded):
        reason = outcome.words or f"completed at {outcome.job_id}"
        ended = NOTHING_TO_DO if outcome.idle else ""
        return Verdict(change=Change.COMPLETED, reason=reason, job_id=outcome.job_id, outcome=ended)
    job_id, result = outcome.job_id, outcome.result
    match result:
        case Asked():
            bars = ((Bar.WAITS_ON_ENTRY if result.kind == CALL else Bar.APPROVAL_REQUIRED).value,)
            return Verdict(change=Change.BLOCKED, reason=result.question, job_id=job_id, role=result.role, bars=bars)
        case Throttled() | Paused():  # neither is a fault, so nothing is counted
            return _paused(result, job_id, now)
        case Refused():  # a retry would not help
            return _escalated(result, job_id, result.reason, role=result.role)
        case Faulted() if result.kind in OUTSIDE:
            delay = claims.delay(entry.outages, jitter) if entry.outages + 1 < claims.max_attempts else None
            words = f"after {entry.outages + 1} outages: " if entry.outages else ""
            return replace(_faulted(result, job_id, now, delay, words), outages=1)
        case Faulted():
            delay = claims.delay(entry.faults, jitter) if entry.faults < retry_runs else None
            words = f"after {entry.faults + 1} runs that failed: " if entry.faults else ""
            return replace(_faulted(result, job_id, now, delay, words), faults=1)
        case _:
            assert_never(result)


def _paused(result: Throttled | Paused, job_id: str, now: datetime) -> Verdict:
    if isinstance(result, Paused):
        retry_at, kind, reason = result.until, FailureKind.BACKOFF, result.reason
    else:
        retry_at, kind, reason = result.until or now + result.wait, FailureKind.QUOTA, f"quota: {result.reason}"
    return Verdict(change=Change.RETRIED, reason=reason, kind=kind, job_id=job_id, retry_at=retry_at)


def _faulted(result: Faulted, job_id: str, now: datetime, delay: timedelta | None, words: str) -> Verdict:
    """Retry the run after *delay*; without a delay, escalate."""
    if delay is None:
        return _escalated(result, job_id, words + result.reason)
    return Verdict(
        change=Change.RETRIED,
        reason=result.reason,
        kind=result.kind,
        rule=result.rule,
        job_id=job_id,
        retry_at=now + delay,
    )


def _escalated(result: Refused | Faulted, job_id: str, reason: str, *, role: str = "reviewer") -> Verdict:
    # After a refusal the same question would only be asked again, so the entry is canceled.
    refused = result.kind == FailureKind.REJECTED
    return Verdict(
        change=Change.CANCELED if refused else Change.ESCALATED,
        reason=reason,
        kind=result.kind,
        rule=result.rule,
        job_id=job_id,
        role="" if refused else role,
    )
