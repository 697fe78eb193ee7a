"""The search language: terms joined by *and*, commas are *or*, `-` negates; errors carry their position."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from backlog_worker.domain import duration
from backlog_worker.domain.document import suggestion
from backlog_worker.domain.entry import Entry, Status
from backlog_worker.domain.errors import UsageError
from backlog_worker.domain.masking import cut
from backlog_worker.domain.outcome import FailureKind
from backlog_worker.domain.reasons import Bar
from backlog_worker.domain.wire import fault_in_text

# key -> its allowed words; empty means any text.
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
    "key": (),
    "url": (),
    "is": ("live", "retired"),
}
# Keys that are columns of an entry.
PLAIN = ("category", "owner", "pipeline", "priority", "service", "source", "status", "team")
FREE = ("title", "dedupe_key", "url", "external_ref")  # the fields that free words search


@dataclass(frozen=True, slots=True, kw_only=True)
class Clause:
    """One term: a key, the values of which one must match, and whether it is negated. The key `words` is free text."""

    key: str
    values: tuple[str, ...]
    negated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """A parsed search; without clauses it matches everything."""

    text: str
    clauses: tuple[Clause, ...]

    @property
    def retired(self) -> bool:
        """Return whether it asks for retired entries; the default are present entries."""
        said = [("retired" in each.values) != each.negated for each in self.clauses if each.key == "is"]
        return bool(said) and all(said)

    @property
    def words(self) -> tuple[str, ...]:
        """Return the free words that must occur."""
        return tuple(each.values[0] for each in self.clauses if each.key == "words" and not each.negated)


def parsed(text: str) -> Filter:
    """Parse *text*; raises UsageError with the position of an unknown key or value and a suggestion."""
    if fault := fault_in_text(text):
        message = f"the filter {cut(ascii(text), 100)} is {fault}"
        raise UsageError(message)
    try:
        words = shlex.split(text)
    except ValueError as error:
        message = f"the filter {text!r} cannot be read: {error}"
        raise UsageError(message) from None
    return Filter(text=text, clauses=tuple(_clause(word, text) for word in words))


def matches(wanted: Filter, entry: Entry, now: datetime) -> bool:
    """Return whether a retired entry matches, by the same rules as `Unit.search` for present ones."""
    return all(_holds(each, entry, now) != each.negated for each in wanted.clauses if each.key != "is")


def _holds(clause: Clause, entry: Entry, now: datetime) -> bool:
    if clause.key in PLAIN:
        return str(getattr(entry, clause.key)) in clause.values
    if clause.key == "words":
        word = clause.values[0].lower()
        return any(word in str(getattr(entry, name)).lower() for name in FREE)
    if clause.key in {"label", "reason"}:
        return bool(set(entry.labels if clause.key == "label" else entry.bars) & set(clause.values))
    if clause.key == "age":
        edges = [(sign, now - length) for sign, length in map(age, clause.values)]
        return any(entry.created_at < edge if sign == ">" else entry.created_at > edge for sign, edge in edges)
    if clause.key == "key":
        return entry.dedupe_key in clause.values
    return clause.key == "url" and entry.url in clause.values  # a retired entry has no open reviews


def age(value: str) -> tuple[str, timedelta]:
    """Read `>7d` or `<24h`; raises UsageError."""
    sign, rest = value[:1], value[1:]
    try:
        length = duration.parsed(rest)
    except ValueError:
        length = None
    if sign not in "<>" or not sign or length is None:
        message = f"age:{value} is invalid; write age:>7d or age:<24h"
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
