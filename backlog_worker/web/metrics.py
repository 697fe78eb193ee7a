"""Metrics from the database: any process and any restart gives the same numbers; never an id as a label."""

from collections.abc import Iterator, Mapping
from importlib.metadata import version

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from backlog_worker.domain.errors import BusyError, UnreachableError
from backlog_worker.lifecycle import Kit, journal, watch
from backlog_worker.lifecycle.dashboard import dashboard
from backlog_worker.store import AutoStore

# Every name that is ever exposed, with its labels and what it says.
NAMES: Mapping[str, tuple[tuple[str, ...], str]] = {
    "backlog_entries": (("status",), "entries by status"),
    "backlog_entries_by_priority": (("priority",), "entries by priority"),
    "backlog_eligible_entries": ((), "entries that were ever cleared"),
    "backlog_coverage_ratio": ((), "completed as a share of eligible"),
    "backlog_escalation_ratio": ((), "eligible entries that were ever escalated"),
    "backlog_overdue_entries": ((), "open entries past their due date"),
    "backlog_dead_letters": ((), "dead letters that nobody answered"),
    "backlog_reviews_open": ((), "questions that wait for a person"),
    "backlog_runs": ((), "runs that were begun"),
    "backlog_failures": (("kind",), "runs that failed, by kind"),
    "backlog_writebacks_due": ((), "write-backs that wait to be sent"),
    "backlog_writebacks_given_up": ((), "write-backs that were given up"),
    "backlog_slots": ((), "slots of living workers"),
    "backlog_workers_silent": ((), "workers that did not say goodbye and are not seen any more"),
    "backlog_last_tick_late_seconds": ((), "seconds since the lease of the last dispatch tick ran out"),
    "backlog_invariant_violations": ((), "what the last verification found"),
    "backlog_alerts": (("rule",), "1 where an alert has fired and is not over"),
    "backlog_store_fallback": ((), "1 while PostgreSQL is away and a journal takes in work"),
    "backlog_journaled_entries": ((), "entries in the journal that are not merged yet"),
    "backlog_policy_info": (("stamp",), "the policy in force"),
    "backlog_build_info": (("version",), "the release"),
}
_COUNTERS = frozenset({"backlog_runs", "backlog_failures"})


def text(kit: Kit) -> str:
    """Return every metric in the text format; what needs the database is left out while it is away."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(kit))
    return generate_latest(registry).decode()


class _Collector:
    def __init__(self, kit: Kit) -> None:
        self.kit = kit

    def collect(self) -> Iterator[Metric]:
        yield _one("backlog_build_info", {(version("backlog-worker"),): 1.0})
        try:
            yield from self._from_database()
            away = False
        except (UnreachableError, BusyError):
            away = True
        store = self.kit.store
        yield _one("backlog_store_fallback", {(): float(away and isinstance(store, AutoStore))})
        yield _one("backlog_journaled_entries", {(): float(journal.held(self.kit) or 0)})

    def _from_database(self) -> Iterator[Metric]:
        report, shown = watch.report(self.kit), dashboard(self.kit, measures=False)
        with self.kit.store.read() as unit:
            fired = [row["rule"] for row in unit.open_alerts(self.kit.env).values() if row["fired_at"] is not None]
        counts, measures = report.counts, report.measures
        yield _one("backlog_entries", _by(shown["status_detail"]))
        yield _one("backlog_entries_by_priority", _by(shown["priority_counts"]))
        yield _one("backlog_failures", _by(counts.failures))
        yield _one("backlog_alerts", {(rule,): 1.0 for rule in fired})
        yield _one("backlog_policy_info", {(report.policy,): 1.0})
        plain: Mapping[str, float] = {
            "backlog_eligible_entries": counts.eligible,
            "backlog_coverage_ratio": measures.coverage,
            "backlog_escalation_ratio": measures.escalation_rate,
            "backlog_overdue_entries": shown["overdue_count"],
            "backlog_dead_letters": shown["dead_letters"],
            "backlog_reviews_open": counts.reviews_open,
            "backlog_runs": counts.runs,
            "backlog_writebacks_due": shown["writebacks_due"],
            "backlog_writebacks_given_up": shown["writebacks_given_up"],
            "backlog_slots": report.slots,
            "backlog_workers_silent": len(report.silent),
            "backlog_last_tick_late_seconds": shown["last_tick_seconds"] or 0.0,
            "backlog_invariant_violations": shown["invariants_broken"],
        }
        for name, value in plain.items():
            yield _one(name, {(): float(value)})


def _by(values: Mapping[str, int]) -> dict[tuple[str, ...], float]:
    return {(name,): float(value) for name, value in values.items()}


def _one(name: str, values: Mapping[tuple[str, ...], float]) -> Metric:
    labels, words = NAMES[name]
    kind = CounterMetricFamily if name in _COUNTERS else GaugeMetricFamily
    family = kind(name, words, labels=labels)
    for key, value in values.items():
        family.add_metric(list(key), value)
    return family
