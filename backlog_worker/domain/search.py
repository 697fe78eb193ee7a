"""The search language: terms joined by *and*, commas are *or*, `-` negates; errors carry their position."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from backlog_worker.domain import duration
from backlog_worker.domain.document import suggestion
from backlog_worker.domain.entry import Status
from backlog_worker.domain.errors import UsageError
from backlog_worker.domain.outcome import FailureKind
from backlog_worker.domain.reasons import Bar

# key -> the words that it takes; nothing means any text.
KEYS: Mapping[str, tuple[str, ...]] = {
    "status": tuple(Status),
    "reason": tuple(Bar),
    "failure": tuple(FailureKind),
    "label": (),
    "owner": (),
    "pipeline": (),
    "priority": (),
    "source": (),
    "service": (),
    "category": (),
    "team": (),
    "rule": (),
    "age": (),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Clause:
    """One term: a key, the values of which one must match, and whether it is negated. The key `words` is free text."""

    key: str
    values: tuple[str, ...]
    negated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """A text of the search language as a value; it matches everything where it has no clause."""

    text: str
    clauses: tuple[Clause, ...]


def parsed(text: str) -> Filter:
    """Parse *text*; raises UsageError with the position and a suggestion for a key or a value that is not known."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        message = f"the filter {text!r} cannot be read: {error}"
        raise UsageError(message) from None
    return Filter(text=text, clauses=tuple(_clause(word, text) for word in words))


def age(value: str) -> tuple[str, timedelta]:
    """Read `>7d` or `<24h`; raises UsageError."""
    sign, rest = value[:1], value[1:]
    try:
        length = duration.parsed(rest)
    except ValueError:
        length = None
    if sign not in "<>" or not sign or length is None:
        message = f"age:{value} is not understood; write age:>7d or age:<24h"
        raise UsageError(message)
    return sign, length


def _clause(word: str, text: str) -> Clause:
    negated, bare = word.startswith("-"), word.removeprefix("-")
    key, colon, value = bare.partition(":")
    if not colon:
        return Clause(key="words", values=(bare,), negated=negated)
    at = text.find(word) + 1
    if key not in KEYS:
        hint = suggestion(key, list(KEYS)) or f"known keys: {', '.join(KEYS)}"
        message = f'unknown key "{key}" at position {at} of the filter'
        raise UsageError(message, hint=hint)
    values = tuple(value.split(","))
    for each in values:
        if KEYS[key] and each not in KEYS[key]:
            hint = suggestion(each, list(KEYS[key])) or f"known values: {', '.join(KEYS[key])}"
            message = f'unknown value "{each}" of {key} at position {at} of the filter'
            raise UsageError(message, hint=hint)
        if key == "age":
            age(each)
    return Clause(key=key, values=values, negated=negated)
