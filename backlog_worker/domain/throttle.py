"""When the limit of a provider ends, read defensively: a wrong answer never blocks work for long.

A duration must be a finite number that is not negative, and a date must be valid. Any other answer is treated as if the
provider had given none.
"""

import math
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from backlog_worker.domain.duration import spoken
from backlog_worker.domain.masking import cut
from backlog_worker.domain.outcome import Throttled

DEFAULT = timedelta(minutes=1)
LEAST = timedelta(seconds=1)  # prevents a loop without a pause if the provider always answers "at once"
_SECONDS_MAX = 10.0**9  # more than thirty years; keeps date arithmetic in range


def length(value: object, *, unit: float = 1.0) -> timedelta | None:
    """Return a duration given in multiples of *unit* seconds; None if *value* is invalid."""
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
    """Return the moment of an ISO date, in UTC if it has no zone; None if it is invalid."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def retry_after(reason: str, text: str | None, milliseconds: str | None = None) -> Throttled:
    """Parse the header `Retry-After`: seconds or a date; *milliseconds* is the header with the finer value."""
    if (wait := length(milliseconds, unit=0.001)) is not None or (wait := length(text)) is not None:
        return Throttled(reason=reason, wait=wait)
    try:
        at = parsedate_to_datetime(text or "")
    except (ValueError, TypeError, OverflowError):
        return Throttled(reason=reason, wait=DEFAULT)
    return Throttled(reason=reason, until=at if at.tzinfo else at.replace(tzinfo=UTC))


def resumes(result: Throttled, now: datetime, most: timedelta) -> tuple[datetime, str]:
    """Return when a throttled job is retried, at most *most* from now, and the reason, which mentions a cap.

    A moment in the past is ignored. *now* is the database's.
    """
    until = result.until.replace(tzinfo=result.until.tzinfo or UTC) if result.until else None
    said = until - now if until else result.wait
    wait = DEFAULT if said < timedelta(0) else max(said, LEAST)
    if wait <= most:
        return now + wait, result.reason
    capped = f"it asked for {spoken(wait)}, capped at {spoken(most)} by `claims.quotaMax`"
    return now + most, f"{cut(result.reason, 300)} ({capped})"
