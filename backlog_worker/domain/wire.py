"""JSON that every database can store: parsing and validation, with the place of an error."""

import json
import math
from collections import deque
from collections.abc import Mapping
from typing import Any, NoReturn

from backlog_worker.domain.errors import InvalidInputError
from backlog_worker.domain.masking import cut

DEPTH_MAX = 64
DIGITS_MAX = 308  # the limit of a double
_BYTES = range(0xDC80, 0xDD00)  # how `surrogateescape` decodes a byte that is not UTF-8


def parsed(text: str | bytes, what: str) -> Any:  # noqa: ANN401 - free JSON out
    """Parse JSON; raises InvalidInputError for invalid JSON, NaN, lone surrogates, NUL and too deep nesting."""
    try:
        value = json.loads(text, parse_constant=_refused)
    except RecursionError:
        message = f"{what} is nested deeper than {DEPTH_MAX} levels"
        raise InvalidInputError(message) from None
    except ValueError as error:  # invalid JSON, invalid UTF-8, or a number with thousands of digits
        message = f"{what} is not JSON: {cut(str(error), 200)}"
        raise InvalidInputError(message) from None
    check(value, what)
    return value


def check(value: object, what: str) -> None:
    """Raise InvalidInputError for a JSON value that no database can store."""
    if why := fault(value):
        message = f"{what} holds what no database keeps: {why}"
        raise InvalidInputError(message)


def fault(value: object) -> str:
    """Return which part of a JSON value cannot be stored, and why; "" if all of it can be."""
    waiting: deque[tuple[object, str, int]] = deque([(value, "", 0)])
    while waiting:
        each, place, depth = waiting.popleft()
        if depth > DEPTH_MAX:
            return f"{_short(place)}: nested deeper than {DEPTH_MAX} levels"
        if why := _said(each):
            return f"{_short(place)}: {why}" if place else why
        if isinstance(each, Mapping):
            for name, inner in each.items():
                if why := _said(name):
                    return f"{_short(place) or 'a name'}: {why}"
                waiting.append((inner, f"{place}.{name}" if place else str(name), depth + 1))
        elif isinstance(each, list | tuple):
            waiting += [(inner, f"{place}.{at}", depth + 1) for at, inner in enumerate(each)]
    return ""


def fault_in_text(text: str) -> str:
    """Return why no database can store a text, or ""."""
    if "\x00" in text:
        return "a text with the character NUL"
    return "" if text.isascii() else _halved(text)


def _said(value: object) -> str:
    if isinstance(value, str):
        return fault_in_text(value)
    if isinstance(value, float) and not math.isfinite(value):
        return f"{value} is not a finite number"
    if isinstance(value, int) and abs(value) >= 10**DIGITS_MAX:
        return f"a number has more than {DIGITS_MAX} digits"
    return ""


def _halved(text: str) -> str:
    for each in text:
        if "\ud800" <= each <= "\udfff":
            return "a text that is not UTF-8" if ord(each) in _BYTES else "a text with half of a character"
    return ""


def _short(place: str) -> str:
    return place if len(place) <= 80 else f"{place[:40]}...{place[-30:]}"  # noqa: PLR2004 - a line of a terminal


def _refused(word: str) -> NoReturn:
    message = f"{word} is not a JSON number"
    raise ValueError(message)
