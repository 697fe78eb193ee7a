"""The backlog as one value: returned by `backlog_tool.dashboard`, served by the API, read by alert rules.

`domain.alert` lists every field, and a rule that reads another one is refused when its policy is loaded.
"""

from typing import Any

from backlog_worker.domain import cadence
from backlog_worker.domain.alert import MEASURES
from backlog_worker.domain.entry import Status
from backlog_worker.domain.measures import measured
from backlog_worker.lifecycle import Kit, standing, waiting
from backlog_worker.lifecycle.waiting import FAULTS, STALLED_SECONDS
from backlog_worker.store import AutoStore, Unit

OVERDUE_SHOWN, SERVICES_SHOWN = 50, 10
# The status groups of the dashboard; our nine statuses are in `status_detail`.
_SHOWN: dict[str, tuple[Status, ...]] = {
    "open": (Status.QUEUED, Status.READY, Status.RETRYING),
    "in_progress": (Status.IN_PROGRESS,),
    "blocked": (Status.BLOCKED, Status.ESCALATED, Status.FAILED),
    "done": (Status.COMPLETED,),
    "canceled": (Status.CANCELED,),
}
_MOVING = (Status.QUEUED, Status.READY, Status.IN_PROGRESS, Status.RETRYING)


def dashboard(kit: Kit, *, measures: bool = True, fresh: bool = False) -> dict[str, Any]:
    """Return counts, overdue entries, services and the fields that alert rules read, all read in one transaction.

    *measures* adds coverage and rates, which read whole tables; *fresh* recounts a long queue and stores the count.
    """
    with kit.store.read() as unit:
        policy = kit.book.policy(unit)
        statuses = unit.statuses(kit.env)
        priorities = unit.priorities(kit.env)
        count, overdue = unit.overdue_entries(kit.env, OVERDUE_SHOWN)
        late = unit.overdue_by_priority(kit.env)
        top = max(policy.labels, key=lambda each: policy.labels[each], default="")
        waits = waiting.counted(kit, unit) if fresh else waiting.census(kit, unit)
        shown = {
            "total": sum(statuses.values()),
            "status_counts": {name: sum(statuses.get(each, 0) for each in group) for name, group in _SHOWN.items()},
            "priority_counts": {name: priorities.get(name, 0) for name in (*policy.labels, *priorities)},
            "overdue_count": count,
            "overdue": [{**row, "due_date": row["due_date"].date().isoformat()} for row in overdue],
            "top_services": [{"service": s, "count": n} for s, n in unit.services(kit.env, SERVICES_SHOWN)],
            "status_detail": {str(status): statuses.get(status, 0) for status in Status},
            **(_measures(kit, unit) if measures else {}),
            "top_overdue": late.get(top, 0),
            **_waiting(kit, unit, waits),
            **_health(kit, unit),
            "generated_at": unit.now().isoformat(timespec="seconds"),
        }
        moving = sum(statuses.get(each, 0) for each in _MOVING)
        shown |= {"moving": moving, **_clock(kit, unit, moving)}
        shown["details"] = {"jobs_missed": _missed(kit, unit), "faults": _faults(waits)}
        shown["jobs_missed"] = len(shown["details"]["jobs_missed"])
    if fresh:
        waiting.keep(kit, waits)
    return shown | {"definitions_invalid": standing.invalid(kit)}


def _measures(kit: Kit, unit: Unit) -> dict[str, float]:
    found = measured(unit.counts(kit.env))
    return {name: getattr(found, name) for name in MEASURES}


def _waiting(kit: Kit, unit: Unit, found: waiting.Census) -> dict[str, Any]:
    """Return why entries wait, and whether any waits without a reason; an earlier count carries its time."""
    slots = unit.slots("stages", kit.seen_within.total_seconds())
    return {
        "waiting": {code: found.reasons.get(code, 0) for code in waiting.CODES},
        "waiting_at": found.at.isoformat(timespec="seconds"),
        "next": found.next,
        "faults": found.faults,
        "stalled": found.stalled + unit.unclaimed(kit.env, STALLED_SECONDS),
        "slots": slots,
        "slots_idle": max(0, slots - unit.stages_running(kit.env)),
    }


def _health(kit: Kit, unit: Unit) -> dict[str, Any]:
    checked = [row for name in ("check", "verify") for row in unit.acts(kit.env, action=f"audit_tool.{name}", most=1)]
    reviews, seconds = unit.reviews_overdue(kit.env)
    return {
        "dead_letters": unit.dead_letters_open(kit.env),
        "reviews_overdue": reviews,
        "reviews_overdue_seconds": round(seconds, 1),
        "writebacks_due": unit.wishes_due(),
        "writebacks_given_up": unit.wishes_given_up(),
        "writebacks_late_seconds": round(unit.wishes_late(), 1),
        "invariants_broken": max((int(row["detail"].get("broken", 0)) for row in checked), default=0),
        "journaled": isinstance(kit.store, AutoStore) and kit.store.journaled(),
    }


def _clock(kit: Kit, unit: Unit, moving: int) -> dict[str, float | None]:
    """Return how late tick and sweep are if there is work for them; one that never ran is late since the beginning."""
    born = (unit.now() - unit.born_at(kit.env)).total_seconds()
    tick, sweep = (unit.late_by(f"{name}:{kit.env}") for name in ("dispatch", "sweep"))
    late = {
        f"{name}_late_seconds": round(max(0.0, born if seconds is None else seconds), 1) if moving else 0.0
        for name, seconds in (("tick", tick), ("sweep", sweep))
    }
    return {"last_tick_seconds": None if tick is None else round(tick, 1), **late}


def _missed(kit: Kit, unit: Unit) -> list[str]:
    """Return the scheduled jobs that failed, are late, or never ran."""
    done, tried = unit.last_successes(kit.env), unit.last_results(kit.env)
    found = cadence.missed(kit.cadences(), done, tried, unit.born_at(kit.env), unit.now())
    return [f"{job} {words}" for job, words in found.items()]


def _faults(found: waiting.Census) -> list[str]:
    return [
        f"{code} {found.reasons[code]}: {found.samples.get(code, '')}" for code in FAULTS if found.reasons.get(code)
    ]
