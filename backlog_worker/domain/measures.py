"""Measures of a backlog: coverage, latency, escalation and failure.

The store and the history both compute them by the rules below; retired entries still count.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from backlog_worker.domain.entry import ENDS, NOTHING_TO_DO, Change, Declared, Status, after, stands
from backlog_worker.domain.events import Event, upcast
from backlog_worker.domain.outcome import PAUSES

WINDOW = timedelta(days=30)  # waits count for entries first cleared in this period, and for all that still wait


@dataclass(frozen=True, slots=True, kw_only=True)
class Waits:
    """How long entries of one priority waited from the first clearing to the first claim, in seconds.

    Entries that still wait count with their waiting time so far.
    """

    number: int
    still: int
    p50: float
    p90: float
    longest: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Counts from the store or from the history.

    `by_status`, `by_priority` and `bars` count present entries only; everything else includes retired entries.
    A count is None if the source does not have it.
    """

    by_status: Mapping[str, int]
    by_priority: Mapping[str, int]
    bars: Mapping[str, int]
    retired: Mapping[str, int]
    eligible: int
    done_before: int
    covered: int
    nothing_to_do: int
    completed: int
    runs: int
    ended: Mapping[str, int]
    failures: Mapping[str, int]
    escalated_ever: int
    waits: Mapping[str, Waits]
    reviews_open: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """Ratios are between 0 and 1, waits in seconds from the first clearing to the first claim, or so far."""

    total: int
    eligible: int
    not_eligible: int
    done_before: int
    covered: int
    nothing_to_do: int
    completed: int
    coverage: float
    escalation_rate: float
    failure_rate: float
    failures: Mapping[str, int]
    wait_p50: Mapping[str, float]
    wait_p90: Mapping[str, float]
    still_waiting: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A group of entries with the same status, declaration and outcome."""

    status: str
    declared: str
    outcome: str
    number: int


def measured(counts: Counts) -> Measures:
    """Compute measures from counts."""
    total = sum(counts.by_status.values()) + sum(counts.retired.values())
    ended = sum(number for change, number in counts.ended.items() if change in {"retried", "escalated", "failed"})
    failures = {kind: number for kind, number in counts.failures.items() if kind not in PAUSES}
    paused = sum(counts.failures.values()) - sum(failures.values())
    waits = sorted(counts.waits.items())
    return Measures(
        total=total,
        eligible=counts.eligible,
        not_eligible=total - counts.eligible - counts.done_before,
        done_before=counts.done_before,
        covered=counts.covered,
        nothing_to_do=counts.nothing_to_do,
        completed=counts.completed,
        coverage=_ratio(counts.covered, counts.eligible),
        escalation_rate=_ratio(counts.escalated_ever, counts.eligible),
        failure_rate=_ratio(max(0, ended - paused), counts.runs - paused),
        failures=dict(Counter(failures).most_common()),
        wait_p50={priority: each.p50 for priority, each in waits},
        wait_p90={priority: each.p90 for priority, each in waits},
        still_waiting={priority: each.still for priority, each in waits if each.still},
    )


def stood(standings: Iterable[Standing]) -> dict[str, int]:
    """Return totals over groups of entries, including retired ones.

    An entry is covered if it was declared eligible here and completed by doing something. An entry that a person
    completed without a declaration, or that was done before it came here, is not covered.
    """
    found = dict.fromkeys(("eligible", "done_before", "covered", "nothing_to_do", "completed"), 0)
    for each in standings:
        ended = each.status == Status.COMPLETED
        idle = ended and each.outcome == NOTHING_TO_DO
        eligible = each.declared == Declared.ELIGIBLE
        found["eligible"] += eligible * each.number
        found["done_before"] += (each.declared == Declared.DONE_BEFORE) * each.number
        found["nothing_to_do"] += idle * each.number
        found["covered"] += (ended and eligible and not idle) * each.number
        found["completed"] += (ended and not idle) * each.number
    return found


def waited(cleared: datetime | None, claimed: datetime | None, status: str, now: datetime) -> tuple[float, bool] | None:
    """Return how long one entry waited for its first claim, or has waited so far, and whether it still waits.

    None if it was never cleared, left the queue unclaimed, or was cleared and claimed before the window of waits.
    """
    if cleared is None:
        return None
    if claimed is not None:
        return (max(0.0, (claimed - cleared).total_seconds()), False) if cleared >= now - WINDOW else None
    waits = status in {Status.QUEUED, Status.READY, Status.RETRYING}
    return (max(0.0, (now - cleared).total_seconds()), True) if waits else None


def spread(waits: Iterable[tuple[str, tuple[float, bool]]]) -> dict[str, Waits]:
    """Return the waits by priority."""
    found: dict[str, list[tuple[float, bool]]] = {}
    for priority, wait in waits:
        found.setdefault(priority, []).append(wait)
    return {
        priority: Waits(
            number=len(each),
            still=sum(still for _, still in each),
            p50=quantile([seconds for seconds, _ in each], 0.5),
            p90=quantile([seconds for seconds, _ in each], 0.9),
            longest=max(seconds for seconds, _ in each),
        )
        for priority, each in sorted(found.items())
    }


@dataclass(slots=True)
class Life:
    """The state and outcome of an entry at one moment, from its history."""

    values: Mapping[str, Any] = field(default_factory=dict)
    there: bool = False  # filed and not yet retired
    cleared: datetime | None = None
    claimed: datetime | None = None
    escalated: bool = False
    runs: int = 0
    completions: int = 0
    ended: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)

    @property
    def standing(self) -> Standing:
        """Return its group; for a retired entry, the group at its end."""
        said = {name: str(self.values.get(name) or "") for name in ("status", "declared", "outcome")}
        return Standing(**said, number=1)

    @property
    def kept(self) -> dict[str, Any]:
        """Return the counted attributes that are kept when its row is deleted; equal ones are counted together."""
        return {
            "priority": str(self.values.get("priority") or ""),
            "declared": self.standing.declared,
            "outcome": self.standing.outcome,
            "escalated": self.escalated,
            "runs": self.runs,
            "ended": dict(sorted(self.ended.items())),
            "failures": dict(sorted(self.failures.items())),
        }


def life(events: Iterable[Event], moment: datetime) -> Life:
    """Fold a history up to a moment into counted attributes."""
    found = Life()
    values: dict[str, Any] | None = None
    for event in events:
        if event.at > moment:
            break
        data = upcast(event)
        if event.change in ENDS and (values or {}).get("status") == Status.IN_PROGRESS:
            found.ended[event.change] += 1
            if kind := data.get("kind"):
                found.failures[str(kind)] += 1
        values = after(values, event.change, data)
        found.values, found.there = values or found.values, bool(values)
        found.runs += event.change == Change.CLAIMED
        found.completions += event.change == Change.COMPLETED
        found.escalated |= event.change == Change.ESCALATED
        if event.change == Change.CLEARED:
            found.cleared = found.cleared or event.at
        elif event.change == Change.CLAIMED:
            found.claimed = found.claimed or event.at
    return found


@dataclass(slots=True)
class Tally:
    """Running totals at one moment, from histories and from the remains of retired entries."""

    moment: datetime
    statuses: dict[str, str] = field(default_factory=dict)
    priorities: Counter[str] = field(default_factory=Counter)
    bars: Counter[str] = field(default_factory=Counter)
    retired: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    standings: Counter[Standing] = field(default_factory=Counter)
    waits: list[tuple[str, tuple[float, bool]]] = field(default_factory=list)
    escalated: int = 0
    runs: int = 0
    doubled: int = 0
    unknown: int = 0

    def add(self, events: Sequence[Event]) -> None:
        """Count one entry in its state at the moment; an entry filed later is not counted."""
        found = life(events, self.moment)
        if not found.values:
            return
        values, status = found.values, found.standing.status
        if found.there:
            self.statuses[events[0].entry_id] = stands(values)
            self.priorities[str(values.get("priority", ""))] += 1
            self.bars.update(values.get("bars") or () if status == Status.BLOCKED else ())
        else:
            self.retired[status] += 1
        self.doubled += found.completions > 1
        wait = waited(found.cleared, found.claimed, status if found.there else "", self.moment)
        self._more(found.standing, found.kept, 1)
        if wait is not None:
            self.waits.append((str(values.get("priority") or ""), wait))

    def add_left(
        self, status: str, kept: Mapping[str, Any] | None, number: int = 1, *, there_until: datetime | None = None
    ) -> None:
        """Count retired entries by their remains; their state at an earlier moment is unknown."""
        if there_until is not None and there_until > self.moment:
            self.unknown += number
            return
        self.retired[status] += number
        said = {name: str((kept or {}).get(name, "")) for name in ("declared", "outcome")}
        self._more(Standing(status=status, **said, number=1), kept or {}, number)
        self.unknown += 0 if kept else number

    def add_wait(self, priority: str, cleared: datetime, seconds: float) -> None:
        """Count the wait of a retired entry if it was cleared in the window."""
        wait = waited(cleared, cleared + timedelta(seconds=seconds), "", self.moment)
        if wait is not None:
            self.waits.append((priority, (seconds, False)))

    def counts(self) -> Counts:
        """Return the counts; open reviews cannot be counted from events alone."""
        return Counts(
            by_status=dict(sorted(Counter(self.statuses.values()).items())),
            by_priority=dict(self.priorities),
            bars=dict(self.bars),
            retired=dict(self.retired),
            **stood(self.alike()),
            runs=self.runs,
            ended=dict(self.ended),
            failures=dict(self.failures),
            escalated_ever=self.escalated,
            waits=spread(self.waits),
            reviews_open=None,
        )

    def alike(self) -> list[Standing]:
        """Return the counted entries in groups."""
        return [replace(each, number=number) for each, number in self.standings.items()]

    def _more(self, standing: Standing, kept: Mapping[str, Any], number: int) -> None:
        self.standings[standing] += number
        self.escalated += number * bool(kept.get("escalated") and standing.declared == Declared.ELIGIBLE)
        self.runs += number * int(kept.get("runs", 0))
        for name, each in kept.get("ended", {}).items():
            self.ended[name] += number * each
        for name, each in kept.get("failures", {}).items():
            self.failures[name] += number * each


def quantile(values: Sequence[float], share: float) -> float:
    """Return the *share* quantile by nearest rank; 0 if there are no values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
