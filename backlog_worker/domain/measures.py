"""Coverage, latency, escalation and failure of a backlog: the numbers that tell whether it works."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from backlog_worker.domain.entry import Status


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
    failed_runs = sum(number for change, number in counts.ended.items() if change in {"retried", "escalated", "failed"})
    return Measures(
        total=sum(counts.by_status.values()),
        eligible=counts.eligible,
        completed=completed,
        coverage=_ratio(completed, counts.eligible),
        escalation_rate=_ratio(counts.escalated_ever, counts.eligible),
        failure_rate=_ratio(failed_runs, counts.runs),
        failures=dict(Counter(counts.failures).most_common()),
        wait_p50={priority: quantile(waits, 0.5) for priority, waits in sorted(counts.waits.items())},
        wait_p90={priority: quantile(waits, 0.9) for priority, waits in sorted(counts.waits.items())},
    )


def quantile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that is at least as large as *share* of all (nearest rank); 0 for none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
