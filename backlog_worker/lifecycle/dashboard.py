"""The backlog as one JSON value: the shape of the dashboard that people and alert rules read."""

from typing import Any

from backlog_worker.domain.entry import Status
from backlog_worker.domain.measures import measured
from backlog_worker.lifecycle import Kit
from backlog_worker.store import AutoStore, Unit

OVERDUE_SHOWN = 50
SERVICES_SHOWN = 10
MEASURES = ("coverage", "escalation_rate", "failure_rate")
# What the dashboard calls a status; the nine of ours stand in `status_detail`.
_SHOWN: dict[str, tuple[Status, ...]] = {
    "open": (Status.QUEUED, Status.READY, Status.RETRYING),
    "in_progress": (Status.IN_PROGRESS,),
    "blocked": (Status.BLOCKED, Status.ESCALATED, Status.FAILED),
    "done": (Status.COMPLETED,),
    "canceled": (Status.CANCELED,),
}


def dashboard(kit: Kit, *, measures: bool = True) -> dict[str, Any]:
    """Return counts, overdue entries, services, and what alert rules look at beside them, read in one transaction.

    *measures* adds coverage and rates, which read whole tables.
    """
    with kit.store.read() as unit:
        policy = kit.book.policy(unit)
        statuses = unit.statuses(kit.env)
        priorities = unit.priorities(kit.env)
        count, overdue = unit.overdue_entries(kit.env, OVERDUE_SHOWN)
        late = unit.overdue_by_priority(kit.env)
        top = max(policy.labels, key=lambda each: policy.labels[each], default="")
        return {
            "total": sum(statuses.values()),
            "status_counts": {name: sum(statuses.get(each, 0) for each in group) for name, group in _SHOWN.items()},
            "priority_counts": {name: priorities.get(name, 0) for name in (*policy.labels, *priorities)},
            "overdue_count": count,
            "overdue": [{**row, "due_date": row["due_date"].date().isoformat()} for row in overdue],
            "top_services": [
                {"service": name, "count": number} for name, number in unit.services(kit.env, SERVICES_SHOWN)
            ],
            "status_detail": {str(status): statuses.get(status, 0) for status in Status},
            **(_measures(kit, unit) if measures else {}),
            "top_overdue": late.get(top, 0),
            **_health(kit, unit),
            "generated_at": unit.now().isoformat(timespec="seconds"),
        }


def _measures(kit: Kit, unit: Unit) -> dict[str, float]:
    found = measured(unit.counts(kit.env))
    return {name: getattr(found, name) for name in MEASURES}


def _health(kit: Kit, unit: Unit) -> dict[str, Any]:
    late = unit.late_by(f"dispatch:{kit.env}")
    checked = [row for name in ("check", "verify") for row in unit.acts(kit.env, action=f"audit_tool.{name}", most=1)]
    return {
        "dead_letters": unit.dead_letters_open(kit.env),
        "writebacks_due": unit.wishes_due(),
        "writebacks_given_up": unit.wishes_given_up(),
        "definitions_invalid": len(kit.book.findings),
        "invariants_broken": max((int(row["detail"].get("broken", 0)) for row in checked), default=0),
        "jobs_missed": sum(row["result"] == "failed" for row in _last_jobs(kit, unit)),
        "journaled": isinstance(kit.store, AutoStore) and kit.store.journaled(),
        "last_tick_seconds": None if late is None else round(late, 1),
    }


def _last_jobs(kit: Kit, unit: Unit) -> list[dict[str, Any]]:
    """Return the last time of each job that ran by the clock in the last two weeks."""
    found: dict[str, dict[str, Any]] = {}
    for row in unit.acts(kit.env, most=500):
        if row["actor"] == "scheduler":
            found.setdefault(row["action"], row)
    return list(found.values())
