"""The numbers that people watch: measures, the fleet, and what is wrong with the installation."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from backlog_worker.domain.measures import Counts, Measures, measured
from backlog_worker.domain.policy import Policy
from backlog_worker.lifecycle import Kit
from backlog_worker.lifecycle.journal import Waiting, waiting
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
    journal: Waiting | None = None  # what a journal holds that is not merged yet


def report(kit: Kit) -> Report:
    """Read the numbers of one environment in one short transaction."""
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
            journal=waiting(kit),
        )


def verify(kit: Kit) -> list[Violation]:
    """Run the invariant queries against the database."""
    with kit.store.read() as unit:
        policy = kit.book.policy(unit)
        limits = {"I11": policy.claims.max_attempts, "I16": policy.admission.max_in_progress}
        return unit.violations(limits=limits)
