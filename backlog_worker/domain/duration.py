"""Lengths of time as people write them in files: integers are milliseconds, strings are `30s`, `45m`, `2h`, `7d`."""

import re
from datetime import timedelta
from typing import Annotated

from pydantic import BeforeValidator, WithJsonSchema

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
MOST_SECONDS = 1e9
_TEXT = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")


def parsed(value: object) -> timedelta:
    """Return the length that *value* says; raises ValueError with the way to write it."""
    if isinstance(value, timedelta):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 10**12:
        return timedelta(milliseconds=value)
    match = _TEXT.fullmatch(value) if isinstance(value, str) else None
    if not match or float(match.group(1)) * _UNITS[match.group(2)] > MOST_SECONDS:
        message = f"{value!r} is not a length of time; write 30s, 45m, 2h, 7d (or milliseconds), at most 30 years"
        raise ValueError(message)
    return timedelta(seconds=float(match.group(1)) * _UNITS[match.group(2)])


def spoken(length: timedelta) -> str:
    """Say a length in at most two units, such as `2 h 5 m`."""
    seconds = int(length.total_seconds())
    if seconds < 0:
        return f"-{spoken(-length)}"
    parts = [(seconds // 86400, "d"), (seconds // 3600 % 24, "h"), (seconds // 60 % 60, "m"), (seconds % 60, "s")]
    shown = [f"{number} {unit}" for number, unit in parts if number]
    return " ".join(shown[:2]) or "0 s"


Duration = Annotated[
    timedelta,
    BeforeValidator(parsed),
    WithJsonSchema(
        {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": r"^\d+(\.\d+)?(ms|s|m|h|d)$"}]}
    ),
]
