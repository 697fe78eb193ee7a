"""Durations in files: integers are milliseconds, strings are `30s`, `45m`, `2h`, `7d`."""

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, WithJsonSchema

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
MOST_SECONDS = 1e9
DOUBTFUL = 10_000  # a smaller number of milliseconds is probably meant as seconds
_TEXT = re.compile(r"(?<![\d.])(\d+(?:\.\d+)?)(ms|s|m|h|d)")


def parsed(value: object) -> timedelta:
    """Parse a duration; raises ValueError that says how to write one."""
    if isinstance(value, timedelta):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 10**12:
        return timedelta(milliseconds=value)
    match = _TEXT.fullmatch(value) if isinstance(value, str) else None
    if not match or float(match.group(1)) * _UNITS[match.group(2)] > MOST_SECONDS:
        message = f"{value!r} is not a duration; write 30s, 45m, 2h, 7d (or milliseconds), at most 30 years"
        raise ValueError(message)
    return timedelta(seconds=float(match.group(1)) * _UNITS[match.group(2)])


def spoken(length: timedelta) -> str:
    """Format a duration in at most two units, such as `2 h 5 m`."""
    seconds = int(length.total_seconds())
    if seconds < 0:
        return f"-{spoken(-length)}"
    parts = [(seconds // 86400, "d"), (seconds // 3600 % 24, "h"), (seconds // 60 % 60, "m"), (seconds % 60, "s")]
    shown = [f"{number} {unit}" for number, unit in parts if number]
    return " ".join(shown[:2]) or "0 s"


def bare(model: BaseModel, value: Any) -> Iterator[tuple[tuple[str | int, ...], int]]:  # noqa: ANN401 - free YAML
    """Yield (path, number) for each duration in *value*, validated as *model*, that is written as a small number.

    Such numbers are milliseconds, but 30 or 3600 are more likely meant as seconds.
    """
    for name, field in type(model).model_fields.items():
        key = field.alias or name
        if isinstance(value, dict) and key in value:
            yield from ((((key, *path)), number) for path, number in _bare(getattr(model, name), value[key]))


def _bare(found: Any, value: Any) -> Iterator[tuple[tuple[str | int, ...], int]]:  # noqa: ANN401 - free YAML
    if isinstance(found, timedelta):
        if isinstance(value, int) and 0 < value < DOUBTFUL:
            yield (), value
    elif isinstance(found, BaseModel):
        yield from bare(found, value)
    elif isinstance(found, list | tuple) and isinstance(value, list):
        for index, (each, written) in enumerate(zip(found, value, strict=False)):
            yield from (((index, *path), number) for path, number in _bare(each, written))


def _longer(length: timedelta) -> timedelta:
    if not length:
        message = "a duration must be longer than 0; remove the key, or write one such as 30s"
        raise ValueError(message)
    return length


_SCHEMA = {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": r"^\d+(\.\d+)?(ms|s|m|h|d)$"}]}
DurationOrZero = Annotated[timedelta, BeforeValidator(parsed), WithJsonSchema(_SCHEMA)]
Duration = Annotated[timedelta, BeforeValidator(parsed), AfterValidator(_longer), WithJsonSchema(_SCHEMA)]
