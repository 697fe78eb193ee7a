"""The slots of a cron line in a time zone, including clock changes.

The hour field distinguishes two kinds of lines:

- An *interval* runs in every hour (`*/5 * * * *`, `0 * * * *`) and follows real time: its minutes are those of the
  zone's standard time, so the distance between slots does not change with the clock.
- *Times of day* name hours (`0 3 * * *`, `0 */6 * * *`). Each is due once a day, in wall-clock time: an ambiguous time
  at its first occurrence, and all times in a gap once, at the first moment after the gap.

Everything returned is UTC.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

FIELDS = 5
HOURS = 24
YEARS_MAX = 50  # a line without a slot in this period is never due
MARGIN = timedelta(hours=25)  # no zone ever skipped more than a day
_MINUTE, _DAY = timedelta(minutes=1), timedelta(days=1)
_START = datetime(2000, 1, 1)  # noqa: DTZ001 - the clock on a wall has no zone


def zone(name: str) -> ZoneInfo:
    """Return a time zone; raises ValueError with the way to write one."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        message = f"{name!r} is not a time zone; write one such as Europe/Berlin, or UTC"
        raise ValueError(message) from None


def moment(wall: datetime, where: ZoneInfo) -> datetime:
    """Return the first moment at which the clocks of a zone show *wall*, or the first after the gap that skips it."""
    first = wall.replace(tzinfo=where, fold=0).astimezone(UTC)
    if first.astimezone(where).replace(tzinfo=None) == wall:
        return first
    low, high = wall.replace(tzinfo=where, fold=1).astimezone(UTC), first
    before = low.astimezone(where).utcoffset()
    while high - low > timedelta(seconds=1):  # the change lies between the two readings
        middle = low + (high - low) // 2
        low, high = (middle, high) if middle.astimezone(where).utcoffset() == before else (low, middle)
    return high.replace(microsecond=0)


def local(at: datetime, where: ZoneInfo) -> str:
    """Format a moment in a zone, with its offset."""
    return at.astimezone(where).isoformat(sep=" ", timespec="minutes")


@dataclass(frozen=True, slots=True)
class Slots:
    """The moments at which one cron line is due in one zone."""

    cron: str
    where: ZoneInfo

    @classmethod
    def of(cls, cron: str, timezone: str = "UTC") -> "Slots":
        """Parse a line of five fields; raises ValueError if it or the zone is invalid, or if it is never due."""
        found = cls(cron, zone(timezone))
        if len(cron.split()) != FIELDS:
            message = (
                f"{cron!r} is not a cron line: it has {len(cron.split())} fields; minute, hour, day, month, weekday"
            )
            raise ValueError(message)
        try:
            next(CronSim(cron, _START))
        except CronSimError as error:
            message = f"{cron!r} is not a cron line: {error}"
            raise ValueError(message) from None
        except StopIteration:
            message = f"{cron!r} is never due"
            raise ValueError(message) from None
        return found

    @property
    def interval(self) -> bool:
        """Return whether the line runs in every hour, and so in real time."""
        return len(CronSim(self.cron, _START).hours) == HOURS

    def after(self, at: datetime) -> Iterator[datetime]:
        """Yield the slots later than *at*, in order."""
        if self.interval:
            return self._stepped(at.astimezone(UTC).replace(second=0, microsecond=0) + _MINUTE, 1)
        start = at.astimezone(self.where).replace(tzinfo=None) - MARGIN
        return (each for each in self._walls(start, back=False) if each > at)

    def until(self, at: datetime) -> Iterator[datetime]:
        """Yield the slots up to and with *at*, the last one first."""
        if self.interval:
            return self._stepped(at.astimezone(UTC).replace(second=0, microsecond=0), -1)
        start = at.astimezone(self.where).replace(tzinfo=None) + MARGIN
        return (each for each in self._walls(start, back=True) if each <= at)

    def next(self, now: datetime) -> datetime | None:
        """Return the next slot after *now*; None if there is none in fifty years."""
        return next(self.after(now), None)

    def last(self, now: datetime) -> datetime | None:
        """Return the last slot up to *now*."""
        return next(self.until(now), None)

    def between(self, after: datetime, until: datetime, most: int) -> list[datetime]:
        """Return the slots later than *after* and up to *until*, the newest *most* of them, in order."""
        found: list[datetime] = []
        for each in islice(self.until(until), most):
            if each <= after:
                break
            found.append(each)
        return found[::-1]

    def _walls(self, start: datetime, *, back: bool) -> Iterator[datetime]:
        """Yield the moments of the times of day; all times in one gap give one moment."""
        before: datetime | None = None
        for wall in CronSim(self.cron, start.replace(microsecond=0), reverse=back):
            found = moment(wall, self.where)
            if found != before:
                yield found
            before = found

    def _stepped(self, at: datetime, step: int) -> Iterator[datetime]:
        """Yield the slots of an interval from a full minute, forwards or backwards; other days are skipped."""
        line = CronSim(self.cron, _START)
        stop = at.year + step * YEARS_MAX
        while (at.year - stop) * step < 0:
            wall = at.astimezone(self.where)
            if wall.month not in line.months or not line.match_day(wall.date()):
                at = self._edge(at, wall.date(), step)
                continue
            shown = (at + self._standard(wall)).minute
            wait = min(step * (each - shown) % 60 for each in line.minutes)
            if not wait:
                yield at
            at += step * (wait or 1) * _MINUTE

    def _edge(self, at: datetime, day: date, step: int) -> datetime:
        """Return the first minute after a day, or the last one before it; always beyond *at*."""
        if step > 0:
            return max(at + _MINUTE, moment(datetime.combine(day + _DAY, time()), self.where))
        return min(at - _MINUTE, moment(datetime.combine(day, time()), self.where) - _MINUTE)

    @staticmethod
    def _standard(wall: datetime) -> timedelta:
        return (wall.utcoffset() or timedelta()) - (wall.dst() or timedelta())
