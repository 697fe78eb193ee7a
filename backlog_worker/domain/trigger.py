"""Triggers: whether an event matches a trigger, and which slots of a schedule are due."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from backlog_worker.domain import expression, globs
from backlog_worker.domain.errors import InvalidInputError
from backlog_worker.domain.expression import ExpressionError
from backlog_worker.domain.language import TriggerFile
from backlog_worker.domain.lint import EVENT_NAMES
from backlog_worker.domain.slots import Slots, local

_CRONTAB = re.compile(r"crontab: (\S+ \S+ \S+ \S+ \S+)")
LATE = timedelta(minutes=5)  # a slot that is older when it is first seen was missed
MADE_UP_MAX = 24  # the most slots that `catchUp: all` catches up on
COUNTED_MAX = 1000  # the most missed slots that are counted; older ones are ignored
SILENCE_SECONDS_MAX = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """An external event: its type, its branch and files if it has any, and its payload."""

    type: str
    delivery: str
    payload: Mapping[str, Any]
    branch: str = ""
    action: str = ""
    paths: Sequence[str] = ()


def fits(trigger: TriggerFile, event: Event) -> bool:
    """Return whether an event matches a trigger; an empty filter matches everything.

    One matching file among the changed ones is enough, as on GitHub.
    """
    if trigger.type != event.type:
        return False
    branch = not trigger.branches or (event.branch != "" and globs.chosen(trigger.branches, event.branch))
    action = not trigger.types or event.action in trigger.types
    touched = not trigger.paths or any(globs.chosen(trigger.paths, path) for path in event.paths)
    return branch and action and touched and all(_same(event.payload, *each) for each in trigger.filters.items())


def given(trigger: TriggerFile, event: Event) -> dict[str, Any]:
    """Return the input of the new entry: the trigger's own, and the results of its `transform`.

    Raises InvalidInputError if an expression cannot be evaluated; then nothing is filed.
    """
    if not trigger.transform:
        return {**trigger.input, "event": dict(event.payload)}
    values = {"event": expression.plain(event.payload)}
    found = dict(trigger.input)
    for name, text in trigger.transform.items():
        try:
            found[name] = expression.compiled(text, EVENT_NAMES, "any").scalar(values)
        except ExpressionError as error:
            message = f"transform.{name}: {error}"
            raise InvalidInputError(message) from None
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """The due slots of a schedule: those to run now, and those that were missed, with and without catching up."""

    run: tuple[datetime, ...] = ()
    missed: tuple[datetime, ...] = ()
    skipped: tuple[datetime, ...] = ()

    @property
    def words(self) -> str:
        """Return a text about missed slots and what was done about them; "" if none was missed."""
        if not self.missed:
            return ""
        many = f"at least {COUNTED_MAX}" if len(self.missed) >= COUNTED_MAX else str(len(self.missed))
        made = len(self.missed) - len(self.skipped)
        done = f"{made} made up for, {len(self.skipped)} skipped" if made else "skipped"
        return f"{many} missed, the first at {self.missed[0]:%Y-%m-%d %H:%MZ}: {done}"


def due(slots: Slots, since: datetime, now: datetime, catch_up: str) -> Due:
    """Return the slots after *since* to run now: those on time, and missed ones according to `catchUp`.

    `none`: nothing. `once`: the newest, unless a slot on time does the same work now. `all`: the newest 24.
    """
    found = slots.between(since, now, COUNTED_MAX)
    missed = tuple(each for each in found if each < now - LATE)
    prompt = tuple(found[len(missed) :])
    most = {"none": 0, "once": 0 if prompt else 1, "all": MADE_UP_MAX}[catch_up]
    made = missed[len(missed) - min(most, len(missed)) :]
    return Due(run=(*made, *prompt), missed=missed, skipped=missed[: len(missed) - len(made)])


def cron_in(shown: str) -> str:
    """Return the five fields of a crontab as Celery prints it; "" for any other schedule."""
    match = _CRONTAB.search(shown)
    return match[1] if match else ""


def spoken(slots: Sequence[datetime], of: Slots, *, most: int = 50) -> list[str]:
    """Format the newest *most* slots in their zone."""
    return [local(each, of.where) for each in slots[-most:]]


def step_of(schedule: object) -> float:
    """Return the interval of a schedule in seconds; 0 for a time of day."""
    every = getattr(schedule, "run_every", None)
    return every.total_seconds() if isinstance(every, timedelta) else 0.0


def to_send(slot: datetime, sent: datetime | None, heard: datetime | None, *, now: datetime, step: float) -> bool:
    """Return whether a slot must be sent after the one *sent* last; all times are the database's.

    While no worker *heard* a tick, the pause between ticks doubles, up to a minute: during an outage of the workers
    only a few ticks pile up, and the schedule continues. Setting the clock back does not stop an interval.
    """
    if sent is None or (step and sent > now):
        return True
    if slot <= sent or not step or (heard is not None and heard >= sent):
        return slot > sent
    silence = (sent - heard).total_seconds() if heard is not None else 2 * step
    return (slot - sent).total_seconds() >= min(max(step, silence), SILENCE_SECONDS_MAX)


def _same(payload: Mapping[str, Any], name: str, wanted: Any) -> bool:  # noqa: ANN401 - free JSON
    """Return whether the payload has, at the dotted path *name*, the wanted value or one of several."""
    for start in (payload, payload.get("client_payload"), payload.get("inputs")):
        scope: Any = start
        for part in name.split("."):
            scope = scope.get(part) if isinstance(scope, Mapping) else None
        if scope is not None:
            return scope in wanted if isinstance(wanted, list) else bool(scope == wanted)
    return False
