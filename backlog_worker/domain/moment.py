"""A moment that somebody wrote: at least a day from both ends of time, so that it can be shown in every zone."""

from datetime import UTC, datetime

from backlog_worker.domain.errors import InvalidInputError
from backlog_worker.domain.masking import cut

YEARS = (1900, 2999)


def in_utc(value: datetime) -> datetime:
    """Return a moment in UTC, which one without a zone is meant in; raises ValueError for one far from our time."""
    if not YEARS[0] <= value.year <= YEARS[1]:
        message = f"the date lies before the year {YEARS[0]} or after the year {YEARS[1]}"
        raise ValueError(message)
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def parsed(text: str) -> datetime:
    """Read a moment that a person typed, by the clock of this machine where no zone is named.

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
