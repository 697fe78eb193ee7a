"""Coverage, latency, escalation and failure of a backlog: the numbers that tell whether it works."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from backlog_worker.domain.entry import ENDS, Change, Status, after, stands
from backlog_worker.domain.events import Event, upcast
from backlog_worker.domain.outcome import PAUSES


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What the store counts: entries by status, how many were ever cleared, failures by kind, waits by priority."""

    by_status: Mapping[str, int]
    by_priority: Mapping[str, int]
    bars: Mapping[str, int]
    eligible: int
    runs: int
    ended: Mapping[str, int]
    failures: Mapping[str, int]
    escalated_ever: int
    waits: Mapping[str, Sequence[float]]
    reviews_open: int
    doubled: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """Ratios are between 0 and 1, waits in seconds from the first clearing to the first claim."""

    total: int
    eligible: int
    completed: int
    coverage: float
    escalation_rate: float
    failure_rate: float
    failures: Mapping[str, int]
    wait_p50: Mapping[str, float]
    wait_p90: Mapping[str, float]


def measured(counts: Counts) -> Measures:
    """Turn counts into measures."""
    completed = counts.by_status.get(Status.COMPLETED, 0)
    ended = sum(number for change, number in counts.ended.items() if change in {"retried", "escalated", "failed"})
    failures = {kind: number for kind, number in counts.failures.items() if kind not in PAUSES}
    paused = sum(counts.failures.values()) - sum(failures.values())
    return Measures(
        total=sum(counts.by_status.values()),
        eligible=counts.eligible,
        completed=completed,
        coverage=_ratio(completed, counts.eligible),
        escalation_rate=_ratio(counts.escalated_ever, counts.eligible),
        failure_rate=_ratio(ended - paused, counts.runs - paused),
        failures=dict(Counter(failures).most_common()),
        wait_p50={priority: quantile(waits, 0.5) for priority, waits in sorted(counts.waits.items())},
        wait_p90={priority: quantile(waits, 0.9) for priority, waits in sorted(counts.waits.items())},
    )


@dataclass(slots=True)
class Tally:
    """What histories tell of one moment, added up entry by entry."""

    moment: datetime
    statuses: dict[str, str] = field(default_factory=dict)
    priorities: Counter[str] = field(default_factory=Counter)
    bars: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    waits: dict[str, list[float]] = field(default_factory=dict)
    eligible: int = 0
    escalated: int = 0
    runs: int = 0
    doubled: int = 0

    def add(self, events: Sequence[Event]) -> None:
        """Count one entry as it stood; an entry that was not there yet, or had been retired, counts only as ended."""
        values: dict[str, Any] | None = None
        first: dict[str, datetime] = {}
        completed = 0
        for event in events:
            if event.at > self.moment:
                break
            values = after(values, event.change, upcast(event))
            first.setdefault(event.change, event.at)
            completed += event.change == Change.COMPLETED
            self._run(event)
        self.eligible += Change.CLEARED in first
        self.escalated += Change.ESCALATED in first
        self.doubled += completed > 1
        if not values:
            return
        self.statuses[events[0].entry_id] = stands(values)
        self.priorities[str(values.get("priority", ""))] += 1
        self.bars.update(values.get("bars") or () if values["status"] == Status.BLOCKED else ())
        if Change.CLEARED in first and Change.CLAIMED in first:
            seconds = (first[Change.CLAIMED] - first[Change.CLEARED]).total_seconds()
            self.waits.setdefault(str(values.get("priority", "")), []).append(seconds)

    def counts(self) -> Counts:
        """Return what was counted; open reviews are not told of by events alone and stay 0."""
        return Counts(
            by_status=dict(sorted(Counter(self.statuses.values()).items())),
            by_priority=dict(self.priorities),
            bars=dict(self.bars),
            eligible=self.eligible,
            runs=self.runs,
            ended=dict(self.ended),
            failures=dict(self.failures),
            escalated_ever=self.escalated,
            waits=self.waits,
            reviews_open=0,
            doubled=self.doubled,
        )

    def _run(self, event: Event) -> None:
        if event.change == Change.CLAIMED:
            self.runs += 1
        elif event.run_id is not None and event.change in ENDS:
            self.ended[event.change] += 1
            if kind := upcast(event).get("kind"):
                self.failures[str(kind)] += 1


def quantile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that is at least as large as *share* of all (nearest rank); 0 for none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
