"""What happened, one line each, and the hash chain that ties the lines of an entry together.

The canonical text of an event holds a digest of its data, never the data. Since version 2 that digest is taken over a
skeleton in which every text and every list is replaced by its own digest: so one value can be redacted, and the chain
still holds. Since version 3 an event carries, under `rows`, what the rows say that its transaction wrote.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

VERSION = 3
REDACTED = "$redacted"  # {"$redacted": digest} stands where a text or a list was
KEPT = "kept"  # beside it, in an event of version 1: what is left, which the chain does not cover
WORDS = "[redacted]"  # what a column says whose text was redacted
# What a later version added to events of `filed`, by the version before it.
_ADDED: Mapping[int, Mapping[str, Any]] = {1: {"service": "", "category": "", "legal_hold": ""}}
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One line of the history of one entry; `hash` is sha256(prev, canonical), as hexadecimal text."""

    entry_id: str
    seq: int
    at: datetime
    change: str
    actor: str
    run_id: str | None
    data: Mapping[str, Any]
    canonical: str
    prev: str
    hash: str
    version: int = VERSION


def digest(value: object) -> str:
    """Return the SHA-256 of *value* as compact JSON with sorted keys: equal values, equal digests."""
    return _sha256(compact(value))


def compact(value: object) -> str:
    """Write *value* as JSON in one canonical way."""
    return _ENCODER.encode(value)


def chained(event: Mapping[str, Any], prev: str, *, version: int = VERSION) -> Event:
    """Make the next event of a chain; *version* is given where an old one is made again, to be compared."""
    canonical = compact(
        [
            version,
            event["entry_id"],
            event["seq"],
            event["change"],
            round(event["at"].timestamp(), 6),
            event["actor"],
            event["run_id"],
            content(event["data"], version),
        ]
    )
    return Event(**event, version=version, canonical=canonical, prev=prev, hash=_sha256(prev + canonical))


def content(data: Mapping[str, Any], version: int) -> str:
    """Return the digest of an event's data; what was redacted gives the digest that it had."""
    if version == 1:
        return str(data[REDACTED]) if set(data) == {REDACTED, KEPT} else digest(data)
    return digest(_skeleton(data))


def broken(events: Iterable[Event]) -> tuple[int, str] | None:
    """Find the first event of one entry that was changed, dropped or reordered; None where the chain holds."""
    prev, expected = "", 1
    for event in events:
        if event.seq != expected:
            return event.seq, f"expected event {expected}, found {event.seq}"
        fields = {name: getattr(event, name) for name in ("entry_id", "seq", "at", "change", "actor", "run_id", "data")}
        again = chained(fields, prev, version=event.version)
        if (again.canonical, again.prev, again.hash) != (event.canonical, event.prev, event.hash):
            return event.seq, f"event {event.seq} ({event.change}) does not match its hash"
        prev, expected = event.hash, expected + 1
    return None


def upcast(event: Event) -> Mapping[str, Any]:
    """Return the data of an event as this release would have written it; what is stored stays as it was."""
    if event.version >= VERSION:
        return event.data
    data: Mapping[str, Any] = event.data[KEPT] if set(event.data) == {REDACTED, KEPT} else event.data
    if event.change != "filed" or "set" not in data:
        return data
    added: dict[str, Any] = {}
    for version in range(event.version, VERSION):
        added |= _ADDED.get(version, {})
    return {**data, "set": {**added, **data["set"]}}


def redacted(event: Event, names: Iterable[str]) -> dict[str, Any]:
    """Return the data of an event without the texts and lists under *names*, wherever they stand in it.

    An event of version 1 was sealed as a whole: its digest stays, and beside it what is left, outside of the chain.
    """
    wanted = frozenset(names)
    if event.version > 1:
        return {key: _without(key, each, wanted) for key, each in event.data.items()}
    data = upcast(event) if KEPT in event.data else event.data
    left = {key: _without(key, each, wanted) for key, each in data.items()}
    return dict(event.data) if left == data else {REDACTED: content(event.data, 1), KEPT: left}


def worded(value: Any) -> Any:  # noqa: ANN401 - free JSON in, free JSON out
    """Return a value with words where texts and lists were redacted, for rows and for people."""
    if is_redacted(value):
        return WORDS
    if isinstance(value, Mapping):
        return {key: worded(each) for key, each in value.items()}
    return value


def event_words(data: Mapping[str, Any]) -> str:
    """Return what an event says, in a few words."""
    said = worded(data)
    if not isinstance(said, Mapping):
        return WORDS
    given = said.get("set", {}).get("reason") if isinstance(said.get("set"), Mapping) else None
    names = ("job_id", "take", "result", "answer", "question", "rule", "target", "remote_id")
    parts = [f"{name}={said[name]}" for name in names if said.get(name)]
    jobs = said.get("jobs")
    listed = jobs.items() if isinstance(jobs, Mapping) else ()
    parts += [f"{job} {each[0]}" for job, each in listed if each and isinstance(each, list | tuple)]
    parts += [str(said[name]) for name in ("reason", "comment", "because") if said.get(name)]
    return str(given or " ".join(parts) or str(said.get("sha256") or "")[:12])


def is_redacted(value: object) -> bool:
    """Return whether *value* stands where something was redacted."""
    if not isinstance(value, Mapping) or len(value) != 1 or REDACTED not in value:
        return False
    return isinstance(value[REDACTED], str) and _DIGEST.fullmatch(value[REDACTED]) is not None


def _without(key: str, value: Any, names: frozenset[str]) -> Any:  # noqa: ANN401 - free JSON in, free JSON out
    if is_redacted(value):
        return value
    if isinstance(value, Mapping):
        return {name: _without(name, each, names) for name, each in value.items()}
    if key in names and isinstance(value, str | list | tuple) and value:
        return {REDACTED: _skeleton(value)}
    return value


def _skeleton(value: Any) -> Any:  # noqa: ANN401 - free JSON in, free JSON out
    """Replace every text and every list by its digest; a place that was redacted holds just that."""
    if isinstance(value, str):
        return _sha256(value)
    if isinstance(value, Mapping):
        if REDACTED in value and is_redacted(value):
            return value[REDACTED]
        return {key: _skeleton(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return digest(value)
    return value


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
