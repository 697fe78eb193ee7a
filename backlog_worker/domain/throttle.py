"""What a provider says about when its limit is over, read with distrust: a wrong answer stops nothing for long.

A length is a finite number that is not negative; a date is one that can be read. Anything else is no answer, and
whoever asked waits as long as where nothing was said.
"""

import math
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from backlog_worker.domain.duration import spoken
from backlog_worker.domain.masking import cut
from backlog_worker.domain.outcome import Throttled

DEFAULT = timedelta(minutes=1)
LEAST = timedelta(seconds=1)  # "at once" for ever would be a loop without a pause
_SECONDS_MAX = 10.0**9  # more than thirty years; keeps the arithmetic of times in its range


def length(value: object, *, unit: float = 1.0) -> timedelta | None:
    """Return a length of time in units of so many seconds; None where *value* is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        seconds = float(value) * unit
    except (ValueError, OverflowError):
        return None
    if not math.isfinite(seconds) or seconds < 0 or (isinstance(value, str) and not value.strip().isascii()):
        return None
    return timedelta(seconds=min(seconds, _SECONDS_MAX))


def date(text: str) -> datetime | None:
    """Return the moment that an ISO date means, in UTC where it names no zone; None where it is none."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def retry_after(reason: str, text: str | None, milliseconds: str | None = None) -> Throttled:
    """Return what the header `Retry-After` means: seconds, or a date; *milliseconds* is the finer header beside it."""
    if (wait := length(milliseconds, unit=0.001)) is not None or (wait := length(text)) is not None:
        return Throttled(reason=reason, wait=wait)
    try:
        at = parsedate_to_datetime(text or "")
    except (ValueError, TypeError, OverflowError):
        return Throttled(reason=reason, wait=DEFAULT)
    return Throttled(reason=reason, until=at if at.tzinfo else at.replace(tzinfo=UTC))


def resumes(result: Throttled, now: datetime, most: timedelta) -> tuple[datetime, str]:
    """Return when a throttled job is tried again, at most *most* from now, and the reason, which says if it was capped.

    A moment that has passed is no answer. *now* is the database's.
    """
    until = result.until.replace(tzinfo=result.until.tzinfo or UTC) if result.until else None
    said = until - now if until else result.wait
    wait = DEFAULT if said < timedelta(0) else max(said, LEAST)
    if wait <= most:
        return now + wait, result.reason
    capped = f"it asked for {spoken(wait)}, capped at {spoken(most)} by `claims.quotaMax`"
    return now + most, f"{cut(result.reason, 300)} ({capped})"
