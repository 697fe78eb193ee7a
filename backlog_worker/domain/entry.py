"""The entry and its state machine: one table from which guards, diagram and tests are generated."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from backlog_worker.domain.errors import ConflictError
from backlog_worker.domain.events import Event, upcast, worded
from backlog_worker.domain.reasons import Bar


class Status(StrEnum):
    """The status of an entry."""

    BLOCKED = "blocked"
    QUEUED = "queued"
    READY = "ready"
    IN_PROGRESS = "in_progress"
    RETRYING = "retrying"
    ESCALATED = "escalated"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELED = "canceled"


NOTHING_TO_DO = "nothing_to_do"  # the outcome of a run in which no job did anything, and of its entry
FINAL = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELED})
OPEN = tuple(status for status in Status if status not in FINAL)
WAITING = (Status.QUEUED, Status.RETRYING)


class Change(StrEnum):
    """An event that may move an entry to another status."""

    FILED = "filed"
    CLEARED = "cleared"
    BLOCKED = "blocked"
    DISPATCHED = "dispatched"
    CLAIMED = "claimed"
    RETURNED = "returned"
    EXPIRED = "expired"
    RETRIED = "retried"
    COMPLETED = "completed"
    FAILED = "failed"
    ESCALATED = "escalated"
    REQUEUED = "requeued"
    CANCELED = "canceled"
    RETIRED = "retired"


class Note(StrEnum):
    """An event that does not change the status of an entry."""

    EDITED = "edited"
    COMMENTED = "commented"
    TAKEN = "taken"
    ATTEMPTED = "attempted"
    LOST = "lost"
    CHECKPOINTED = "checkpointed"
    DECIDED = "decided"
    ASKED = "asked"
    ANSWERED = "answered"
    RECORDED = "recorded"
    REDACTED = "redacted"
    SENT = "sent"
    WRITTEN = "written"


class Declared(StrEnum):
    """What the rules declared of an entry, permanently; empty if no rule ever admitted it."""

    ELIGIBLE = "eligible"
    DONE_BEFORE = "done_before"


def _all(sources: Iterable[Status], target: Status) -> dict[Status, Status]:
    return dict.fromkeys(sources, target)


_S = Status
TRANSITIONS: Mapping[Change, Mapping[Status, Status]] = {
    Change.FILED: {},  # from nothing to blocked: an entry is born blocked
    Change.CLEARED: {_S.BLOCKED: _S.QUEUED},
    Change.BLOCKED: _all((_S.BLOCKED, _S.QUEUED, _S.READY, _S.RETRYING, _S.IN_PROGRESS), _S.BLOCKED),
    Change.DISPATCHED: _all(WAITING, _S.READY),
    Change.CLAIMED: {_S.READY: _S.IN_PROGRESS},
    Change.RETURNED: {_S.IN_PROGRESS: _S.QUEUED},
    Change.EXPIRED: _all((_S.READY, _S.IN_PROGRESS), _S.QUEUED),
    Change.RETRIED: {_S.IN_PROGRESS: _S.RETRYING},
    Change.COMPLETED: _all((_S.IN_PROGRESS, _S.ESCALATED, _S.BLOCKED, *WAITING), _S.COMPLETED),
    Change.FAILED: _all((_S.IN_PROGRESS, _S.ESCALATED), _S.FAILED),
    Change.ESCALATED: _all((_S.IN_PROGRESS, _S.BLOCKED, _S.QUEUED, _S.READY, _S.RETRYING), _S.ESCALATED),
    Change.REQUEUED: _all((_S.ESCALATED, _S.FAILED, _S.CANCELED), _S.QUEUED),
    Change.CANCELED: _all(OPEN, _S.CANCELED),
    Change.RETIRED: {},  # from a final status to nothing: the row is deleted, the history stays
}

# The changes that end a run.
ENDS = frozenset(
    {
        *(Change.BLOCKED, Change.RETURNED, Change.EXPIRED, Change.RETRIED, Change.COMPLETED, Change.FAILED),
        *(Change.ESCALATED, Change.CANCELED),
    }
)
# Only a person, with a reason, can end a dead letter, leave a final status, or complete an entry that never ran.
PERSONAL = frozenset({Change.REQUEUED, Change.CANCELED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One unit of work in the backlog, as stored in its row; moments are the database's, in UTC."""

    id: str
    env: str
    title: str
    dedupe_key: str
    pipeline: str
    schema_version: int = 1
    url: str = ""
    source: str = ""
    external_ref: str = ""
    service: str = ""
    category: str = ""
    team: str = ""
    owner: str = ""
    labels: Sequence[str] = ()
    priority: str = ""
    signals: Mapping[str, float] = dataclasses.field(default_factory=dict)
    constraints: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    provenance: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    input_sha256: str = ""
    created_at: datetime
    due_date: datetime | None = None
    status: Status = Status.BLOCKED
    bars: Sequence[str] = ()
    seq: int = 0
    reason: str = ""
    run_id: str | None = None
    worker: str | None = None
    claimed_at: datetime | None = None
    leased_until: datetime | None = None
    rung_at: datetime | None = None
    rings: int = 0
    retry_at: datetime | None = None
    wake_at: datetime | None = None
    attempt: int = 0
    faults: int = 0
    outages: int = 0
    expiries: int = 0
    cleared_at: datetime | None = None
    changed_at: datetime | None = None
    pipeline_hash: str | None = None
    rank_group: str = ""
    limit_key: str = ""
    score: float | None = None
    scored_by: str | None = None
    group_key: str | None = None
    reserved_usd: float | None = None
    legal_hold: str = ""
    outcome: str = ""
    declared: str = ""


def _default(field: dataclasses.Field[Any]) -> Any:  # noqa: ANN401 - a value of any column
    made = field.default_factory
    found = field.default if made is dataclasses.MISSING else made()
    return list(found) if isinstance(found, tuple) else found


# Columns that the clock and the bells write without an event; all others follow from the history.
UNFOLDED = frozenset({"seq", "leased_until", "rung_at", "rings", "wake_at", "rank_group", "limit_key", "changed_at"})
MOMENTS = ("created_at", "due_date", "claimed_at", "retry_at", "cleared_at")
FOLDED = tuple(field.name for field in dataclasses.fields(Entry) if field.name not in UNFOLDED)
# The value of a column that a history does not mention.
DEFAULTS: Mapping[str, Any] = {
    field.name: plain for field in dataclasses.fields(Entry) if (plain := _default(field)) is not dataclasses.MISSING
}
# Columns that follow from the changes alone; exports from before these columns existed do not contain them.
DERIVED = frozenset({"declared"})
# Only these statuses have a lease, a worker or a retry time.
UNHELD: Mapping[str, None] = {
    "run_id": None,
    "worker": None,
    "claimed_at": None,
    "leased_until": None,
    "rung_at": None,
    "retry_at": None,
    "group_key": None,
    "reserved_usd": None,
}


def target(change: Change, status: Status) -> Status:
    """Return the status that *change* leads to from *status*; raises ConflictError if the table has no such row."""
    if status not in TRANSITIONS[change]:
        allowed = ", ".join(TRANSITIONS[change]) or "nothing"
        message = f"an entry that is {status} cannot be {change}; only from: {allowed}"
        raise ConflictError(message)
    return TRANSITIONS[change][status]


def standing(entry: Entry) -> str:
    """Return the status of an entry for people: `nothing to do` if it ended that way."""
    return stands({"outcome": entry.outcome, "status": entry.status})


def stands(values: Mapping[str, Any]) -> str:
    """Return the status for people from folded values."""
    return str(values.get("outcome") or "").replace("_", " ") or str(values["status"])


def after(values: Mapping[str, Any] | None, change: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """Fold one event into the values of an entry, and return the values after *change*.

    An event carries the columns that it set under ``set``; the status comes from the table above.
    """
    if change == Change.FILED:
        born = {**data["set"], "status": Status.BLOCKED}
        return {**born, "declared": declared(born.get("declared", ""), change, born.get("bars"))}
    if values is None:
        message = f"the history begins with {change}, not with filed"
        raise ConflictError(message)
    if change == Change.RETIRED:
        if values.get("status") not in FINAL:
            message = (
                f"an entry that is {values.get('status')} cannot be retired; only from: {', '.join(sorted(FINAL))}"
            )
            raise ConflictError(message)
        return {}
    folded = {**values, **data.get("set", {})}
    if change in set(Change):
        folded["status"] = target(Change(change), Status(values["status"]))
        folded["declared"] = declared(folded.get("declared", ""), change, folded.get("bars"))
    return folded


def declared(before: str, change: str, bars: Sequence[str] | None) -> str:
    """Return what is declared of an entry after *change*: eligible once it was cleared or has only other bars.

    A bar set by a person says nothing about the rules.
    """
    judged = set(bars or ()) - {Bar.ON_HOLD} if change in {Change.FILED, Change.BLOCKED} else set()
    if before or (change != Change.CLEARED and (not judged or Bar.NOT_ELIGIBLE in judged)):
        return before
    return Declared.ELIGIBLE.value


def fold(events: Iterable[Event]) -> dict[str, Any]:
    """Fold a history of any event version into the values of its entry; empty for a retired entry."""
    values: dict[str, Any] | None = None
    for event in events:
        values = after(values, event.change, upcast(event))
    return values or {}


def entry_of(values: Mapping[str, Any], **more: Any) -> Entry:
    """Return the entry with the folded *values*; redacted texts are marked."""
    found = {name: worded(each) for name, each in values.items() if name in FOLDED}
    moments = {name: datetime.fromisoformat(str(found[name])) for name in MOMENTS if found.get(name)}
    return Entry(**{**found, **moments, "status": Status(values["status"]), **more})


def differing(events: Sequence[Event], row: Mapping[str, Any]) -> list[str]:
    """Return the columns of *row* that differ from its history; redacted texts must be marked as such.

    Raises ConflictError if the history does not describe an entry.
    """
    values = fold(events)
    try:
        wanted = entry_of(values)
    except (KeyError, TypeError, ValueError) as error:
        message = f"the history does not describe an entry: {error}"
        raise ConflictError(message) from None
    names = [name for name in FOLDED if name in row or name not in DERIVED]
    return [name for name in names if _same(name, getattr(wanted, name)) != _same(name, row.get(name))]


def _same(name: str, value: Any) -> object:  # noqa: ANN401 - one value of any column
    if name in MOMENTS and value is not None:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        return round(moment.timestamp(), 6)
    return list(value) if isinstance(value, tuple) else value
