"""Validation of outputs: plain JSON that every database stores and returns unchanged.

Outputs come from programs, callables, models, agents, recordings and people. `as_json` validates one and names the
error and its place.
"""

import math
from typing import Any, NoReturn

from backlog_worker.domain.errors import InvalidInputError
from backlog_worker.domain.legible import error_words, kind_of, shown
from backlog_worker.domain.wire import DEPTH_MAX

BYTES_MAX = 1_000_000  # the default limit of an output
NUMBER_MAX = 1.7976931348623157e308  # the largest double
EXACT_MAX = 1e16  # a larger decimal is whole, and databases return it as an integer
STEPS_SHOWN = 8  # of the path to an error


def as_json(value: object, *, most: int = BYTES_MAX) -> Any:  # noqa: ANN401 - free JSON out
    """Return a copy of *value* made of plain JSON; raises InvalidInputError that names the place and the fault.

    Tuples become lists. Subclasses of texts and numbers become plain ones with the same value.
    """
    try:
        return _Taking(most).take(value)
    except (TypeError, AttributeError, RuntimeError, ValueError) as error:  # an object that only looks like JSON
        message = f"it is {kind_of(value)} that cannot be read: {error_words(error)}"
        raise InvalidInputError(message) from None


class _Taking:
    """Copies one value and counts its bytes as compact JSON, so no value costs more than its limit."""

    def __init__(self, most: int) -> None:
        self._most, self._left = most, most + 1
        self._path: list[str | int] = []

    def take(self, value: object) -> Any:  # noqa: ANN401 - free JSON out
        if isinstance(value, str):
            return self._text(str.__str__(value), "")
        self._spend(2)
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int | float):
            return self._whole(int.__int__(value)) if isinstance(value, int) else self._decimal(float.__float__(value))
        if len(self._path) >= DEPTH_MAX:
            self._refuse(f"is nested more than {DEPTH_MAX} levels deep")
        if isinstance(value, dict):
            return {self._key(key): self._inside(key, each) for key, each in dict.items(value)}
        if isinstance(value, list | tuple):
            return [self._inside(at, each) for at, each in enumerate(value)]
        return self._refuse(f"is {kind_of(value)}, which is not JSON")

    def _inside(self, key: str | int, value: object) -> Any:  # noqa: ANN401 - free JSON out
        self._path.append(key)
        taken = self.take(value)
        self._path.pop()
        return taken

    def _refuse(self, words: str, where: str = "") -> NoReturn:
        steps = (f"[{each}]" if isinstance(each, int) else f".{shown(each)}" for each in self._path[:STEPS_SHOWN])
        more = "..." if len(self._path) > STEPS_SHOWN else ""
        message = f"{where}the output{''.join(steps)}{more} {words}"
        raise InvalidInputError(message)

    def _spend(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            message = f"it has more than {self._most} bytes; write an artifact, or raise `execution.outputBytes`"
            raise InvalidInputError(message)

    def _key(self, key: object) -> str:
        if not isinstance(key, str):
            self._refuse(f"has the key {shown(key)}, which is {kind_of(key)} and no text")
        return self._text(str.__str__(key), "a key of ")

    def _text(self, text: str, where: str) -> str:
        if "\x00" in text:
            self._refuse("contains the character NUL, which no database stores", where)
        try:
            self._spend(len(text.encode()) + 3)
        except UnicodeEncodeError as error:
            words = f"is not Unicode text: character {error.start + 1} is a lone surrogate"
            self._refuse(words, where)
        return text

    def _whole(self, number: int) -> int:
        if not -NUMBER_MAX <= number <= NUMBER_MAX:
            self._refuse(f"is an integer beyond {NUMBER_MAX:.1e}; write it as a text")
        self._spend(number.bit_length() // 4)
        return number

    def _decimal(self, number: float) -> float | int:
        if not math.isfinite(number):
            self._refuse(f"is {number}, which is not a JSON number")
        return int(number) if abs(number) >= EXACT_MAX else number + 0.0  # adding 0.0 removes a negative zero
