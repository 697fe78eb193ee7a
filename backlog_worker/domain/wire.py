"""JSON text to a value that every database keeps; whatever is wrong with it is one error with its words."""

import json
import math
from typing import Any, NoReturn

from backlog_worker.domain.errors import InvalidInputError

DEPTH_MAX = 100
DIGITS_MAX = 300  # what a double holds, and no database more


def parsed(text: str | bytes, what: str) -> Any:  # noqa: ANN401 - free JSON out
    """Read JSON; raises InvalidInputError for what is none, for NaN, half characters, NUL, and nesting without end."""
    try:
        value = json.loads(text, parse_constant=_refused)
    except RecursionError:
        message = f"{what} is nested deeper than {DEPTH_MAX} levels"
        raise InvalidInputError(message) from None
    except ValueError as error:  # no JSON, no UTF-8, a number of thousands of digits
        message = f"{what} is not JSON: {str(error)[:200]}"
        raise InvalidInputError(message) from None
    kept(value, what)
    return value


def kept(value: object, what: str) -> None:
    """Make sure that every database keeps a JSON value; raises InvalidInputError."""
    if fault := unkept(value):
        message = f"{what}: {fault} is what no database keeps"
        raise InvalidInputError(message)


def unkept(value: object) -> str:
    """Say what of a JSON value no database keeps; nothing where all of it is kept."""
    waiting: list[tuple[object, int]] = [(value, 0)]
    while waiting:
        each, depth = waiting.pop()
        if depth > DEPTH_MAX:
            return f"nesting deeper than {DEPTH_MAX} levels"
        if isinstance(each, dict):
            waiting += [(part, depth + 1) for pair in each.items() for part in pair]
        elif isinstance(each, list | tuple):
            waiting += [(part, depth + 1) for part in each]
        elif fault := unkept_text(each) if isinstance(each, str) else _unkept_number(each):
            return fault
    return ""


def unkept_text(text: str) -> str:
    """Say why no database keeps a text; nothing where each does."""
    if "\x00" in text:
        return "a text with the character NUL"
    if text.isascii():
        return ""
    return "a text with half of a character" if any("\ud800" <= each <= "\udfff" for each in text) else ""


def _unkept_number(value: object) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return f"the number {value}"
    if isinstance(value, int) and abs(value) >= 10**DIGITS_MAX:
        return f"a number of more than {DIGITS_MAX} digits"
    return ""


def _refused(word: str) -> NoReturn:
    message = f"{word} is no number of JSON"
    raise ValueError(message)
