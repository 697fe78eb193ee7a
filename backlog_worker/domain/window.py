"""Run windows: the days and hours, in a time zone, in which an entry may run."""

import re
from collections.abc import Sequence
from datetime import datetime, time, timedelta
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from backlog_worker.domain.masking import cut
from backlog_worker.domain.slots import local, moment, zone

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAYS_AHEAD = 22  # three weeks: a weekly window may fall into clock gaps twice in a row
_TIME = re.compile(r"([01]\d|2[0-3]):[0-5]\d")


def _days(text: str) -> str:
    parts = [part.strip().lower() for part in text.split(",")]
    for part in parts:
        for day in part.split("-"):
            if day not in DAYS or part.count("-") > 1:
                message = f"{text!r} does not name days; write mon-fri, or mon,wed,sat"
                raise ValueError(message)
    return ",".join(parts)


def _hours(text: str) -> str:
    start, _, end = (part.strip() for part in text.partition("-"))
    if not _TIME.fullmatch(start) or not (_TIME.fullmatch(end) or end == "24:00"):
        message = f"{text!r} does not name hours; write 08:00-20:00"
        raise ValueError(message)
    return text


def _zone(name: str) -> str:
    return zone(name).key


class Window(BaseModel):
    """Days and hours in a time zone; hours whose end is before their begin continue past midnight."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    days: Annotated[str, AfterValidator(_days)] = "mon-sun"
    hours: Annotated[str, AfterValidator(_hours)] = "00:00-24:00"
    timezone: Annotated[str, AfterValidator(_zone)] = Field(default="UTC")

    def __str__(self) -> str:
        return f"{self.days} {self.hours} {self.timezone}"

    def opens(self, now: datetime) -> datetime | None:
        """Return None while the window is open, otherwise the moment at which it opens next.

        Both ends are wall-clock times. On a clock change the window opens and closes at their first occurrence, or at
        the first moment after the gap; a window that lies completely in a gap does not open that day.
        """
        where = zone(self.timezone)
        start, end, days = *self._ends(), self._weekdays()
        today = now.astimezone(where).date()
        for offset in range(-2, DAYS_AHEAD):
            day = datetime.combine(today + timedelta(days=offset), time())
            if day.weekday() not in days:
                continue
            begin, close = moment(day + start, where), moment(day + end, where)
            if begin <= now < close:
                return None
            if now < begin < close:
                return begin.astimezone(now.tzinfo)
        return None

    def _weekdays(self) -> set[int]:
        chosen: set[int] = set()
        for part in self.days.split(","):
            first, _, last = part.partition("-")
            begin, end = DAYS.index(first), DAYS.index(last or first)
            chosen |= {(begin + step) % 7 for step in range((end - begin) % 7 + 1)}
        return chosen

    def _ends(self) -> tuple[timedelta, timedelta]:
        """Return both ends as durations since midnight; the second is always later, on the next day if necessary."""
        first, _, last = (part.strip() for part in self.hours.partition("-"))
        start, end = (timedelta(hours=int(part[:2]), minutes=int(part[3:])) for part in (first, last))
        return start, end if end > start else end + timedelta(hours=24)


def parsed(value: object) -> object:
    """Parse a window such as `mon-fri 08:00-20:00 Europe/Berlin`; a value that is not a text is returned unchanged.

    Each of the three parts is optional. Raises ValueError.
    """
    if not isinstance(value, str):
        return value
    found: dict[str, str] = {}
    for part in value.split():
        kind = "hours" if part[0].isdigit() else "days" if part[:3].lower() in DAYS and "/" not in part else "timezone"
        if kind in found:
            message = f"{cut(value, 80)!r} is not a window; write mon-fri 08:00-20:00 Europe/Berlin"
            raise ValueError(message)
        found[kind] = part
    if not found:
        message = "an empty text is not a window; write mon-fri 08:00-20:00 Europe/Berlin"
        raise ValueError(message)
    return found


def opens(windows: Sequence[Window], now: datetime) -> datetime | None:
    """Return None if there is no window or one is open, otherwise the first moment at which one opens."""
    found = _soonest(windows, now)
    return found[0] if found else None


def announced(windows: Sequence[Window], now: datetime) -> str:
    """Return when the first of closed windows opens, in its zone with the offset."""
    found = _soonest(windows, now)
    return local(found[0], zone(found[1].timezone)) if found else "now"


def _soonest(windows: Sequence[Window], now: datetime) -> tuple[datetime, Window] | None:
    moments = [(window.opens(now), window) for window in windows]
    closed = [(each, window) for each, window in moments if each is not None]
    return min(closed, key=lambda pair: pair[0]) if closed and len(closed) == len(moments) else None
