"""What happened, one line each, and the hash chain that ties the lines of an entry together."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

VERSION = 1
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)


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
    return hashlib.sha256(compact(value).encode()).hexdigest()


def compact(value: object) -> str:
    """Write *value* as JSON in one canonical way."""
    return _ENCODER.encode(value)


def chained(event: Mapping[str, Any], prev: str) -> Event:
    """Make the next event of a chain: its canonical text holds the digest of the data, never the data."""
    canonical = compact(
        [
            VERSION,
            event["entry_id"],
            event["seq"],
            event["change"],
            round(event["at"].timestamp(), 6),
            event["actor"],
            event["run_id"],
            digest(event["data"]),
        ]
    )
    value = hashlib.sha256((prev + canonical).encode()).hexdigest()
    return Event(**event, canonical=canonical, prev=prev, hash=value)


def broken(events: Iterable[Event]) -> tuple[int, str] | None:
    """Find the first event of one entry that was changed, dropped or reordered; None where the chain holds."""
    prev, expected = "", 1
    for event in events:
        if event.seq != expected:
            return event.seq, f"expected event {expected}, found {event.seq}"
        fields = {name: getattr(event, name) for name in ("entry_id", "seq", "at", "change", "actor", "run_id", "data")}
        again = chained(fields, prev)
        if (again.canonical, again.prev, again.hash) != (event.canonical, event.prev, event.hash):
            return event.seq, f"event {event.seq} ({event.change}) does not match its hash"
        prev, expected = event.hash, expected + 1
    return None
