"""Figures for people: measures, the fleet, and the faults of the installation."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from backlog_worker.domain.measures import Counts, Measures, measured
from backlog_worker.domain.policy import Policy
from backlog_worker.lifecycle import Kit, alerts, journal, standing
from backlog_worker.lifecycle.dashboard import dashboard
from backlog_worker.lifecycle.journal import Waiting
from backlog_worker.store import Unit, Violation

GONE_SECONDS = 3600.0  # a worker silent for longer is gone, and its work was taken over


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
    silent: Mapping[str, float]
    shown: Mapping[str, Any]  # the dashboard that the rules were asked over
    journal: Waiting | None = None  # what a journal holds that is not merged yet


def report(kit: Kit) -> Report:
    """Return the figures of one environment, why its entries wait, and which alert rules hold, notified or not."""
    with kit.store.read() as unit:
        rules = kit.book.policy(unit).alerts
    stands = standing.standing(kit)
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
            findings=stands.words,
            waiting={code: number for code, number in shown["waiting"].items() if number},
            waiting_at=str(shown["waiting_at"]),
            next=int(shown["next"]),
            alerts=alerts.holding(shown, rules),
            silent=silent(unit, within),
            shown=shown,
            journal=journal.waiting(kit),
        )


def silent(unit: Unit, within: float) -> dict[str, float]:
    """Return workers that did not sign off and were not seen within so many seconds, with their silence in seconds."""
    ages = {row["name"]: (unit.now() - row["seen_at"]).total_seconds() for row in unit.workers()}
    return {name: age for name, age in ages.items() if within < age <= GONE_SECONDS}


def healthy(kit: Kit, ending: str) -> tuple[list[str], list[str]]:
    """Return the workers with this name ending that were seen in time, and those that were not."""
    within = kit.seen_within.total_seconds()
    with kit.store.read() as unit:
        quiet = silent(unit, within)
        seen = [row["name"] for row in unit.workers() if (unit.now() - row["seen_at"]).total_seconds() <= within]
    return [name for name in seen if name.endswith(ending)], [name for name in quiet if name.endswith(ending)]


def verify(kit: Kit) -> list[Violation]:
    """Run the invariant queries on the database."""
    with kit.store.read() as unit:
        policy = kit.book.policy(unit)
        limits = {"I11": policy.claims.max_attempts, "I16": policy.admission.max_in_progress}
        return unit.violations(limits=limits)
