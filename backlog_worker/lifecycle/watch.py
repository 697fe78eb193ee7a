"""The numbers that people watch: measures, the fleet, and what is wrong with the installation."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from backlog_worker.domain.measures import Counts, Measures, measured
from backlog_worker.domain.policy import Policy
from backlog_worker.lifecycle import Kit, alerts, journal
from backlog_worker.lifecycle.dashboard import dashboard
from backlog_worker.lifecycle.journal import Waiting
from backlog_worker.store import Violation


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The backlog on one screen."""

    at: datetime
    env: str
    policy: str
    counts: Counts
    measures: Measures
    workers: tuple[dict[str, Any], ...]
    slots: int
    writebacks_due: int
    last_tick: float | None
    findings: tuple[str, ...]
    waiting: Mapping[str, int]
    waiting_at: str
    next: int
    alerts: Mapping[str, str]
    journal: Waiting | None = None  # what a journal holds that is not merged yet


def report(kit: Kit) -> Report:
    """Read the numbers of one environment, why its entries wait, and which alert rules hold, told or not."""
    with kit.store.read() as unit:
        rules = kit.book.policy(unit).alerts
    shown = dashboard(kit, measures=alerts.measured(rules))
    with kit.store.read() as unit:
        counts = unit.counts(kit.env)
        policy: Policy = kit.book.policy(unit)
        within = kit.seen_within.total_seconds()
        return Report(
            at=unit.now(),
            env=kit.env,
            policy=policy.stamp,
            counts=counts,
            measures=measured(counts),
            workers=tuple(unit.workers()),
            slots=unit.slots("stages", within),
            writebacks_due=unit.wishes_due(),
            last_tick=unit.late_by(f"dispatch:{kit.env}"),
            findings=tuple(str(error) for error in kit.book.findings.values()),
            waiting={code: number for code, number in shown["waiting"].items() if number},
            waiting_at=str(shown["waiting_at"]),
            next=int(shown["next"]),
            alerts=alerts.holding(shown, rules),
            journal=journal.waiting(kit),
        )


def verify(kit: Kit) -> list[Violation]:
    """Run the invariant queries against the database."""
    with kit.store.read() as unit:
        policy = kit.book.policy(unit)
        limits = {"I11": policy.claims.max_attempts, "I16": policy.admission.max_in_progress}
        return unit.violations(limits=limits)
