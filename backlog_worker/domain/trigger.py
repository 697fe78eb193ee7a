"""What starts by itself: whether an event fits a trigger, and which slot of a schedule is due."""

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
MADE_UP_MAX = 24  # the most that `catchUp: all` does again
COUNTED_MAX = 1000  # of a line that was missed for longer the oldest are not counted
SILENCE_SECONDS_MAX = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened elsewhere: its type, its branch and files where it has some, and what it says."""

    type: str
    delivery: str
    payload: Mapping[str, Any]
    branch: str = ""
    action: str = ""
    paths: Sequence[str] = ()


def fits(trigger: TriggerFile, event: Event) -> bool:
    """Return whether an event starts a pipeline by this trigger; a filter that names nothing refuses nothing.

    Of several files that changed, one that the patterns take in is enough, as it is at GitHub.
    """
    if trigger.type != event.type:
        return False
    branch = not trigger.branches or (event.branch != "" and globs.chosen(trigger.branches, event.branch))
    action = not trigger.types or event.action in trigger.types
    touched = not trigger.paths or any(globs.chosen(trigger.paths, path) for path in event.paths)
    return branch and action and touched and all(_same(event.payload, *each) for each in trigger.filters.items())


def given(trigger: TriggerFile, event: Event) -> dict[str, Any]:
    """Return the input of the entry: the trigger's own, and what its `transform` takes from the event.

    Raises InvalidInputError where an expression cannot be evaluated: nothing is filed half.
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
    """What of a schedule is to be done now: the slots to run, and those that were missed, made up for or not."""

    run: tuple[datetime, ...] = ()
    missed: tuple[datetime, ...] = ()
    skipped: tuple[datetime, ...] = ()

    @property
    def words(self) -> str:
        """Say what was missed, and what became of it; nothing where nothing was missed."""
        if not self.missed:
            return ""
        many = f"at least {COUNTED_MAX}" if len(self.missed) >= COUNTED_MAX else str(len(self.missed))
        made = len(self.missed) - len(self.skipped)
        done = f"{made} made up for, {len(self.skipped)} skipped" if made else "skipped"
        return f"{many} missed, the first at {self.missed[0]:%Y-%m-%d %H:%MZ}: {done}"


def due(slots: Slots, since: datetime, now: datetime, catch_up: str) -> Due:
    """Say which slots later than *since* run now: those on time, and of those that were missed what `catchUp` says.

    `none`: nothing. `once`: the newest, unless a slot on time does the same work now. `all`: the newest 24.
    """
    found = slots.between(since, now, COUNTED_MAX)
    missed = tuple(each for each in found if each < now - LATE)
    prompt = tuple(found[len(missed) :])
    most = {"none": 0, "once": 0 if prompt else 1, "all": MADE_UP_MAX}[catch_up]
    made = missed[len(missed) - min(most, len(missed)) :]
    return Due(run=(*made, *prompt), missed=missed, skipped=missed[: len(missed) - len(made)])


def cron_in(shown: str) -> str:
    """Return the five fields of a crontab as Celery shows it; nothing for another kind of schedule."""
    match = _CRONTAB.search(shown)
    return match[1] if match else ""


def spoken(slots: Sequence[datetime], of: Slots, *, most: int = 50) -> list[str]:
    """Say slots by the clock of their zone, the newest *most* of them."""
    return [local(each, of.where) for each in slots[-most:]]


def step_of(schedule: object) -> float:
    """Return the seconds of a schedule that is an interval; 0 for a time of day."""
    every = getattr(schedule, "run_every", None)
    return every.total_seconds() if isinstance(every, timedelta) else 0.0


def to_send(slot: datetime, sent: datetime | None, heard: datetime | None, *, now: datetime, step: float) -> bool:
    """Return whether a slot is to be sent after the one that was *sent* last, all by the clock of the database.

    A tick that nobody *heard* is followed by the next after twice the silence, at most a minute: an outage of the
    workers piles up a few ticks, and none is lost for good. A clock that was set back stops no interval.
    """
    if sent is None or (step and sent > now):
        return True
    if slot <= sent or not step or (heard is not None and heard >= sent):
        return slot > sent
    silence = (sent - heard).total_seconds() if heard is not None else 2 * step
    return (slot - sent).total_seconds() >= min(max(step, silence), SILENCE_SECONDS_MAX)


def _same(payload: Mapping[str, Any], name: str, wanted: Any) -> bool:  # noqa: ANN401 - free JSON
    """Return whether the payload says at *name* (dots lead inside) what is wanted, or one of what is wanted."""
    for start in (payload, payload.get("client_payload"), payload.get("inputs")):
        scope: Any = start
        for part in name.split("."):
            scope = scope.get(part) if isinstance(scope, Mapping) else None
        if scope is not None:
            return scope in wanted if isinstance(wanted, list) else bool(scope == wanted)
    return False
