"""Events, and the hash chain that links the events of an entry.

The canonical text of an event contains a digest of its data, not the data. Since version 2 that digest is computed over
a skeleton in which every text and every list is replaced by its own digest, so a value can be redacted without
breaking the chain. Since version 3 an event carries, under `rows`, the values of the rows that its transaction wrote.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

VERSION = 3
REDACTED = "$redacted"  # {"$redacted": digest} replaces a text or a list
KEPT = "kept"  # beside it, in events of version 1: the remaining data, which the chain does not cover
WORDS = "[redacted]"  # the value of a column whose text was redacted
# Defaults that a later version added to events of `filed`, by the version before it.
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
    """Return *value* as canonical JSON."""
    return _ENCODER.encode(value)


def chained(event: Mapping[str, Any], prev: str, *, version: int = VERSION) -> Event:
    """Return the next event of a chain; *version* is used to rebuild an older event for comparison."""
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
    """Return the digest of an event's data; a redacted value contributes its original digest."""
    if version == 1:
        return str(data[REDACTED]) if set(data) == {REDACTED, KEPT} else digest(data)
    return digest(_skeleton(data))


def broken(events: Iterable[Event]) -> tuple[int, str] | None:
    """Return the first event of one entry that was changed, dropped or reordered; None if the chain is intact."""
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
    """Return the data of an event in the format of this release; the stored event does not change."""
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
    """Return the data of an event without the texts and lists under *names*, at any depth.

    An event of version 1 has one digest for all of its data: that digest stays, and the remaining data is stored beside
    it, outside of the chain.
    """
    wanted = frozenset(names)
    if event.version > 1:
        return {key: _without(key, each, wanted) for key, each in event.data.items()}
    data = upcast(event) if KEPT in event.data else event.data
    left = {key: _without(key, each, wanted) for key, each in data.items()}
    return dict(event.data) if left == data else {REDACTED: content(event.data, 1), KEPT: left}


def worded(value: Any) -> Any:  # noqa: ANN401 - free JSON in, free JSON out
    """Return a value with a readable mark for each redacted text or list, for rows and for people."""
    if is_redacted(value):
        return WORDS
    if isinstance(value, Mapping):
        return {key: worded(each) for key, each in value.items()}
    return value


def event_words(data: Mapping[str, Any]) -> str:
    """Return a short text about an event."""
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
    """Return whether *value* marks a redaction."""
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
    """Replace every text and every list by its digest; a redacted value already is its digest."""
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
