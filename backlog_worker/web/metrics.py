"""Metrics from the database: independent of process and restart; ids are never labels."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from importlib.metadata import version
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from backlog_worker.domain.errors import BusyError, UnreachableError
from backlog_worker.domain.measures import Measures
from backlog_worker.lifecycle import Kit, journal, watch
from backlog_worker.lifecycle.watch import Report
from backlog_worker.store import AutoStore

# Every exposed metric, with its labels and its help text.
NAMES: Mapping[str, tuple[tuple[str, ...], str]] = {
    "backlog_entries": (("status",), "entries by status"),
    "backlog_entries_by_priority": (("priority",), "entries by priority"),
    "backlog_retired_entries": (("status",), "retired entries, by their last status; the metrics below include them"),
    "backlog_eligible_entries": ((), "entries that were ever declared eligible, even if an error blocks them"),
    "backlog_not_eligible_entries": ((), "entries that were never declared eligible"),
    "backlog_done_before_entries": ((), "entries that were done before they came here"),
    "backlog_covered_entries": ((), "eligible entries that were completed"),
    "backlog_completed_entries": ((), "completed entries, including those that were completed elsewhere"),
    "backlog_nothing_to_do_entries": ((), "entries whose run found nothing to do"),
    "backlog_coverage_ratio": ((), "covered as a share of eligible"),
    "backlog_escalation_ratio": ((), "eligible entries that were ever escalated, as a share of eligible"),
    "backlog_failure_ratio": ((), "runs that failed as a share of all runs"),
    "backlog_entry_wait_seconds": (
        ("priority", "quantile"),
        "time from first cleared to first claimed or until now, if cleared in the last 30 days or still waiting",
    ),
    "backlog_entries_still_waiting": (("priority",), "entries that were cleared but never claimed"),
    "backlog_waiting": (("reason",), "entries that wait, each by its first reason"),
    "backlog_waiting_age_seconds": ((), "age of the count of waiting entries; a long queue is counted once a minute"),
    "backlog_next_entries": ((), "entries that the next tick will dispatch"),
    "backlog_stalled_entries": ((), "entries that have waited without a reason for more than a minute"),
    "backlog_faulty_entries": ((), "entries that wait for a repair"),
    "backlog_overdue_entries": ((), "open entries past their due date"),
    "backlog_dead_letters": ((), "open dead letters"),
    "backlog_reviews_open": ((), "open reviews"),
    "backlog_reviews_overdue": ((), "overdue reviews, including dead letters"),
    "backlog_runs": ((), "started runs"),
    "backlog_runs_ended": (("change",), "ended runs, by the change that ended them"),
    "backlog_failures": (("kind",), "runs that failed, by kind"),
    "backlog_writebacks_due": ((), "write-backs that wait to be sent"),
    "backlog_writebacks_given_up": ((), "write-backs that were given up"),
    "backlog_writebacks_late_seconds": ((), "seconds for which the oldest write-back has been due"),
    "backlog_slots": ((), "slots of living workers"),
    "backlog_workers_silent": ((), "workers that disappeared without shutting down"),
    "backlog_slots_idle": ((), "slots of living workers without a stage"),
    "backlog_last_tick_late_seconds": (
        (),
        "seconds since the lease of the last dispatch tick ended; absent if there was none",
    ),
    "backlog_tick_late_seconds": (
        (),
        "lateness of the dispatcher while there is work; if it never ran, since the first definition came into force",
    ),
    "backlog_sweep_late_seconds": (
        (),
        "lateness of the sweep while there is work; if it never ran, since the first definition came into force",
    ),
    "backlog_jobs_missed": ((), "scheduled jobs that failed, are late, or never ran"),
    "backlog_invariant_violations": ((), "violations that the last verification found"),
    "backlog_alerts": (("rule",), "1 if an alert has fired and is not resolved"),
    "backlog_alert_holds": (
        ("rule",),
        "1 if the condition of a rule holds now, whether or not it was evaluated before",
    ),
    "backlog_store_fallback": ((), "1 while PostgreSQL is unavailable and the journal accepts work"),
    "backlog_journaled_entries": ((), "entries in the journal that are not merged yet"),
    "backlog_policy_info": (("stamp",), "the policy in force"),
    "backlog_build_info": (("version",), "the release"),
}
_COUNTERS = frozenset({"backlog_runs", "backlog_runs_ended", "backlog_failures"})


def text(kit: Kit) -> str:
    """Return every metric in the text format; without those from the database while it is unavailable."""
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
        report = watch.report(self.kit)
        shown = report.shown
        with self.kit.store.read() as unit:
            fired = [row["rule"] for row in unit.open_alerts(self.kit.env).values() if row["fired_at"] is not None]
        counts, measures = report.counts, report.measures
        yield _one("backlog_entries", _by(shown["status_detail"]))
        yield _one("backlog_entries_by_priority", _by(shown["priority_counts"]))
        yield _one("backlog_retired_entries", _by(counts.retired))
        yield _one("backlog_waiting", _by(shown["waiting"]))
        yield _one("backlog_failures", _by(counts.failures))
        yield _one("backlog_runs_ended", _by(counts.ended))
        yield _one("backlog_entry_wait_seconds", _waits(measures))
        yield _one("backlog_entries_still_waiting", _by(measures.still_waiting))
        yield _one("backlog_alerts", {(rule,): 1.0 for rule in fired})
        yield _one("backlog_alert_holds", {(rule,): 1.0 for rule in report.alerts})
        yield _one("backlog_policy_info", {(report.policy,): 1.0})
        if shown["last_tick_seconds"] is not None:
            yield _one("backlog_last_tick_late_seconds", {(): float(shown["last_tick_seconds"])})
        for name, value in {**_measured(report), **_watched(report, shown)}.items():
            yield _one(name, {(): float(value)})


def _measured(report: Report) -> Mapping[str, float]:
    measures = report.measures
    return {
        "backlog_eligible_entries": measures.eligible,
        "backlog_not_eligible_entries": measures.not_eligible,
        "backlog_done_before_entries": measures.done_before,
        "backlog_covered_entries": measures.covered,
        "backlog_completed_entries": measures.completed,
        "backlog_nothing_to_do_entries": measures.nothing_to_do,
        "backlog_coverage_ratio": measures.coverage,
        "backlog_escalation_ratio": measures.escalation_rate,
        "backlog_failure_ratio": measures.failure_rate,
        "backlog_reviews_open": report.counts.reviews_open or 0,
        "backlog_runs": report.counts.runs,
        "backlog_slots": report.slots,
        "backlog_workers_silent": len(report.silent),
    }


def _watched(report: Report, shown: Mapping[str, Any]) -> Mapping[str, float]:
    counted_at = datetime.fromisoformat(shown["waiting_at"])
    return {
        "backlog_overdue_entries": shown["overdue_count"],
        "backlog_dead_letters": shown["dead_letters"],
        "backlog_reviews_overdue": shown["reviews_overdue"],
        "backlog_waiting_age_seconds": max(0.0, (report.at - counted_at).total_seconds()),
        "backlog_next_entries": shown["next"],
        "backlog_stalled_entries": shown["stalled"],
        "backlog_faulty_entries": shown["faults"],
        "backlog_slots_idle": shown["slots_idle"],
        "backlog_writebacks_due": shown["writebacks_due"],
        "backlog_writebacks_given_up": shown["writebacks_given_up"],
        "backlog_writebacks_late_seconds": shown["writebacks_late_seconds"],
        "backlog_tick_late_seconds": shown["tick_late_seconds"],
        "backlog_sweep_late_seconds": shown["sweep_late_seconds"],
        "backlog_jobs_missed": shown["jobs_missed"],
        "backlog_invariant_violations": shown["invariants_broken"],
    }


def _waits(measures: Measures) -> dict[tuple[str, ...], float]:
    halves: dict[tuple[str, ...], float] = {(name, "0.5"): seconds for name, seconds in measures.wait_p50.items()}
    return halves | {(name, "0.9"): seconds for name, seconds in measures.wait_p90.items()}


def _by(values: Mapping[str, int]) -> dict[tuple[str, ...], float]:
    return {(name,): float(value) for name, value in values.items()}


def _one(name: str, values: Mapping[tuple[str, ...], float]) -> Metric:
    labels, words = NAMES[name]
    kind = CounterMetricFamily if name in _COUNTERS else GaugeMetricFamily
    family = kind(name, words, labels=labels)
    for key, value in values.items():
        family.add_metric(list(key), value)
    return family
