"""Take the due slots of a schedule, once for the whole fleet, and record missed ones and their handling.

The progress of each schedule is a row of its own, moved by compare-and-set in the database's time: so beats on hosts
with different clocks, absent workers and a stopped fleet all agree on what is due.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from backlog_worker.domain import trigger
from backlog_worker.domain.slots import Slots
from backlog_worker.store import Unit
from backlog_worker.telemetry import emit

MISSED = "schedule.missed"
ONCE = "once"


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """One schedule of an environment: the name of its row, its cron line, its `catchUp`, and its start."""

    env: str
    name: str
    slots: Slots
    catch_up: str = ONCE
    since: datetime | None = None
    pipeline: str = ""

    @property
    def line(self) -> str:
        """Return the cron line with its zone."""
        return f"{self.slots.cron} {self.slots.where.key}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """The due slots of a schedule, and the times of the previous look and this one; `new`: it is the first look."""

    due: trigger.Due
    before: datetime
    until: datetime
    new: bool

    @property
    def empty(self) -> bool:
        """Return whether nothing is due."""
        return not (self.new or self.due.run or self.due.missed)


def look(unit: Unit, schedule: Schedule) -> Look:
    """Return the due slots of a schedule without taking them; at the first look none were missed."""
    now = unit.now()
    seen: datetime | None = unit.slot(schedule.name)
    before = max(schedule.since or now, now - trigger.LATE) if seen is None else seen
    due = trigger.due(schedule.slots, before, now, schedule.catch_up)
    newest = max((*due.run, *due.missed), default=now)
    return Look(due=due, before=before, until=newest, new=seen is None)


def take(unit: Unit, schedule: Schedule, new_id: Callable[[str], str]) -> Look | None:
    """Take all due slots of a schedule, and record the missed ones; None if none is due, or another process took
    them.
    """
    found = look(unit, schedule)
    if found.empty or not unit.take_slot(schedule.name, found.until):
        return None
    if found.due.missed:
        _recorded(unit, schedule, found.due, new_id("op"))
    return found


def _recorded(unit: Unit, schedule: Schedule, due: trigger.Due, op_id: str) -> None:
    said = trigger.spoken(due.missed, schedule.slots)
    made = [each for each in due.missed if each in due.run]
    row = {"id": op_id, "env": schedule.env, "actor": unit.actor, "action": MISSED, "subject": schedule.name}
    detail = {"missed": said, "count": len(due.missed), "made_up": trigger.spoken(made, schedule.slots)}
    unit.act({**row, "reason": due.words, "result": "done", "detail": detail})
    emit("slots_missed", schedule=schedule.name, catch_up=schedule.catch_up, slots=said, words=due.words)
