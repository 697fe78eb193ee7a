"""Run windows: the days and hours, in a time zone, in which an entry may run."""

from collections.abc import Sequence
from datetime import datetime, time, timedelta
from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def _days(text: str) -> str:
    parts = [part.strip().lower() for part in text.split(",")]
    for part in parts:
        for day in part.split("-"):
            if day not in DAYS or part.count("-") > 1:
                message = f"{text!r} names no days; write mon-fri, or mon,wed,sat"
                raise ValueError(message)
    return ",".join(parts)


def _hours(text: str) -> str:
    start, _, end = text.partition("-")
    try:
        time.fromisoformat(start.strip())
        time.fromisoformat("00:00" if end.strip() == "24:00" else end.strip())
    except ValueError:
        message = f"{text!r} are no hours; write 08:00-20:00"
        raise ValueError(message) from None
    return text


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        message = f"{name!r} is no time zone; write one such as Europe/Berlin, or UTC"
        raise ValueError(message) from None
    return name


class Window(BaseModel):
    """Days and hours in a time zone; hours that end before they begin go on over midnight."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    days: Annotated[str, AfterValidator(_days)] = "mon-sun"
    hours: Annotated[str, AfterValidator(_hours)] = "00:00-24:00"
    timezone: Annotated[str, AfterValidator(_zone)] = Field(default="UTC")

    def __str__(self) -> str:
        return f"{self.days} {self.hours} {self.timezone}"

    def opens(self, now: datetime) -> datetime | None:
        """Return None while the window is open, else the moment at which it opens next."""
        zone = ZoneInfo(self.timezone)
        start, length = self._span()
        local = now.astimezone(zone)
        for offset in range(-1, 9):
            day = local.date() + timedelta(days=offset)
            if day.weekday() not in self._weekdays():
                continue
            begin = datetime.combine(day, start, tzinfo=zone)
            if begin <= local < begin + length:
                return None
            if begin > local:
                return begin.astimezone(now.tzinfo)
        return None

    def _weekdays(self) -> set[int]:
        chosen: set[int] = set()
        for part in self.days.split(","):
            first, _, last = part.partition("-")
            begin, end = DAYS.index(first), DAYS.index(last or first)
            chosen |= {(begin + step) % 7 for step in range((end - begin) % 7 + 1)}
        return chosen

    def _span(self) -> tuple[time, timedelta]:
        first, _, last = (part.strip() for part in self.hours.partition("-"))
        start = time.fromisoformat(first)
        begin = timedelta(hours=start.hour, minutes=start.minute)
        stop = time.fromisoformat("00:00") if last == "24:00" else time.fromisoformat(last)
        end = timedelta(hours=24) if last == "24:00" else timedelta(hours=stop.hour, minutes=stop.minute)
        return start, end - begin if end > begin else end - begin + timedelta(hours=24)


def opens(windows: Sequence[Window], now: datetime) -> datetime | None:
    """Return None where no window is given or one is open, else the first moment at which one opens."""
    moments = [window.opens(now) for window in windows]
    if not moments or None in moments:
        return None
    return min(moment for moment in moments if moment is not None)
