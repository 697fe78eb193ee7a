"""Scheduled jobs and their deadlines: a job that never ran is late, like one that failed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from backlog_worker.domain.slots import Slots

SKEW = timedelta(minutes=5)  # how far a host's clock may be ahead of the database's
NEVER = datetime.fromtimestamp(0, UTC)
GRACE_MAX = timedelta(hours=2, minutes=15)  # a job may wait for a worker until its message expires


@dataclass(frozen=True, slots=True, kw_only=True)
class Cadence:
    """One job: its name, the action under which it is recorded, and its schedule in UTC."""

    job: str
    action: str
    cron: str

    def due(self, now: datetime) -> datetime:
        """Return the latest slot whose deadline has passed."""
        line = Slots.of(self.cron)
        last = line.last(now) or NEVER
        period = (line.next(now) or now) - last
        return line.last(now - min(period / 2, GRACE_MAX)) or NEVER


def missed(
    cadences: Sequence[Cadence],
    done: Mapping[str, datetime],
    tried: Mapping[str, tuple[str, datetime]],
    born: datetime,
    now: datetime,
) -> dict[str, str]:
    """Return what is wrong, by job: the last attempt failed, or the job was not done since it was due.

    *done* and *tried* are keyed by action: when the job was last done, and how and when its last attempt ended. *born*
    is when the environment was created; nothing was due before that.
    """
    found = {}
    for each in cadences:
        due, last, ended = each.due(now), done.get(each.action), tried.get(each.action)
        if ended is not None and ended[0] == "failed":
            found[each.job] = f"failed at {ended[1]:%Y-%m-%d %H:%MZ}"
        elif due > born and (last is None or last < due - SKEW):
            since = "it never ran" if last is None else f"it was last done at {last:%Y-%m-%d %H:%MZ}"
            found[each.job] = f"was due at {due:%Y-%m-%d %H:%MZ}, and {since}"
    return found
