"""What starts by itself: whether an event fits a trigger, and which slot of a schedule is due."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any
from zoneinfo import ZoneInfo

from cronsim import CronSim

from backlog_worker.domain import expression
from backlog_worker.domain.errors import InvalidInputError
from backlog_worker.domain.expression import ExpressionError
from backlog_worker.domain.language import TriggerFile
from backlog_worker.domain.lint import EVENT_NAMES

_CRONTAB = re.compile(r"crontab: (\S+ \S+ \S+ \S+ \S+)")
LATE = timedelta(hours=1)  # a slot that was missed for longer is not made up for


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
    """Return whether an event starts a pipeline by this trigger; a filter that names nothing refuses nothing."""
    if trigger.type != event.type:
        return False
    branch = not trigger.branches or any(fnmatchcase(event.branch, each) for each in trigger.branches)
    action = not trigger.types or event.action in trigger.types
    touched = not trigger.paths or any(fnmatchcase(path, each) for path in event.paths for each in trigger.paths)
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


def due(trigger: TriggerFile, since: datetime, now: datetime) -> datetime | None:
    """Return the last slot of a schedule up to *now*, unless it is older than the definition or than an hour."""
    if trigger.type != "schedule" or not trigger.cron:
        return None
    local = now.astimezone(ZoneInfo(trigger.timezone))
    slot: datetime = next(CronSim(trigger.cron, local + timedelta(seconds=1), reverse=True))
    return slot if slot >= max(since, now - LATE) else None


def cron_in(shown: str) -> str:
    """Return the five fields of a crontab as Celery shows it; nothing for another kind of schedule."""
    match = _CRONTAB.search(shown)
    return match[1] if match else ""


def last_slot(cron: str, now: datetime) -> datetime:
    """Return the moment at which a schedule fell due last, up to *now*, in UTC."""
    slot: datetime = next(CronSim(cron, now + timedelta(seconds=1), reverse=True))
    return slot


def next_slot(cron: str, now: datetime) -> datetime:
    """Return the moment at which a schedule falls due next."""
    slot: datetime = next(CronSim(cron, now))
    return slot


def _same(payload: Mapping[str, Any], name: str, wanted: Any) -> bool:  # noqa: ANN401 - free JSON
    """Return whether the payload says at *name* (dots lead inside) what is wanted, or one of what is wanted."""
    for start in (payload, payload.get("client_payload"), payload.get("inputs")):
        scope: Any = start
        for part in name.split("."):
            scope = scope.get(part) if isinstance(scope, Mapping) else None
        if scope is not None:
            return scope in wanted if isinstance(wanted, list) else bool(scope == wanted)
    return False
