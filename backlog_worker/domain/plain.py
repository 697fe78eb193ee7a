"""What of a JSON value no database takes: half characters, NUL, numbers that are none, and nesting without end."""

import math
from collections import deque
from collections.abc import Mapping

DEPTH_MAX = 64
DIGITS_MAX = 1000
_BYTES = range(0xDC80, 0xDD00)  # how a byte that is no UTF-8 is read with `surrogateescape`


def fault(value: object) -> str:
    """Say what of a JSON value cannot be stored, and where in it; nothing where all of it can."""
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


def _said(value: object) -> str:
    if isinstance(value, str):
        if "\x00" in value:
            return "a text holds the character NUL"
        return "" if value.isascii() else _halved(value)
    if isinstance(value, float) and not math.isfinite(value):
        return f"{value} is no finite number"
    if isinstance(value, int) and not -(10**DIGITS_MAX) < value < 10**DIGITS_MAX:
        return f"a number has more than {DIGITS_MAX} digits"
    return ""


def _halved(text: str) -> str:
    for each in text:
        if "\ud800" <= each <= "\udfff":
            return "the text is not UTF-8" if ord(each) in _BYTES else "a text holds half of a character"
    return ""


def _short(place: str) -> str:
    return place if len(place) <= 80 else f"{place[:40]}...{place[-30:]}"  # noqa: PLR2004 - a line of a terminal
