"""Moments in text: at least a day from the limits of `datetime`, so that they can be shown in every zone."""

from datetime import UTC, datetime

from backlog_worker.domain.errors import InvalidInputError
from backlog_worker.domain.masking import cut

YEARS = (1900, 2999)


def in_utc(value: datetime) -> datetime:
    """Return a moment in UTC, which is also the default zone; raises ValueError for one outside of YEARS."""
    if not YEARS[0] <= value.year <= YEARS[1]:
        message = f"the date is before the year {YEARS[0]} or after the year {YEARS[1]}"
        raise ValueError(message)
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def parsed(text: str) -> datetime:
    """Parse a moment that a person typed, in the zone of this machine if none is given.

    Raises InvalidInputError.
    """
    try:
        value = datetime.fromisoformat(text)
    except ValueError:
        message = f"{cut(text, 60)!r} is not a date; write 2026-12-24 or 2026-12-24T18:00:00+01:00"
        raise InvalidInputError(message) from None
    try:
        in_utc(value)
    except ValueError as error:
        raise InvalidInputError(str(error)) from None
    return value.astimezone() if value.tzinfo is None else value
