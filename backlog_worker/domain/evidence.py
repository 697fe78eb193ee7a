"""The evidence of one entry: everything from which its runs can be rebuilt, and the checks that need no database.

A bundle holds the history with its chain, every version of the input, the policies and pipelines by their hashes, what
jobs returned, what people said, and the artifacts that are small. `faults` recomputes every digest in it.
"""

import base64
import hashlib
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

from backlog_worker.domain.entry import Change, Note, differing
from backlog_worker.domain.errors import BacklogError
from backlog_worker.domain.events import REDACTED, Event, broken, compact, digest, upcast

SCHEMA = "backlog-worker/evidence@1"
ARTIFACT_BYTES_MAX = 1_000_000


def bundle(parts: Mapping[str, Any]) -> dict[str, Any]:
    """Close a bundle: its parts under the schema's name, with the digest of all of them."""
    value = {"schema": SCHEMA, **parts}
    return {**value, "sha256": digest(value)}


def faults(value: Mapping[str, Any], pinned: Callable[[Mapping[str, Any]], str]) -> list[str]:
    """Say what is wrong with a bundle; nothing means that every part is what it was when it was exported.

    *pinned* recomputes the hash of a definition.
    """
    if value.get("schema") != SCHEMA:
        return [f"not a bundle of evidence: its schema is {value.get('schema')!r}, wanted {SCHEMA}"]
    try:
        return list(_faults(value, pinned))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return [f"the bundle is not whole: {type(error).__name__} {error}"]


def event_of(row: Mapping[str, Any]) -> Event:
    """Make an event of a bundle's row."""
    return Event(**{**row, "at": datetime.fromisoformat(row["at"])})


def _faults(value: Mapping[str, Any], pinned: Callable[[Mapping[str, Any]], str]) -> Iterator[str]:
    parts = {name: each for name, each in value.items() if name != "sha256"}
    if digest(parts) != value["sha256"]:
        yield "the bundle does not match its own digest"
    events = [event_of(row) for row in value["events"]]
    if fault := broken(events):
        yield f"history: {fault[1]}"
    if any(event.entry_id != value["entry"]["id"] for event in events):
        yield "history: an event belongs to another entry"
    yield from _folded(value, events)
    for sha256, given in value["inputs"].items():
        if not _gives(given, sha256):
            yield f"input {sha256[:12]} does not match its digest"
    if value["entry"]["input_sha256"] not in value["inputs"] and not value.get("retired"):
        yield "the input of the entry is missing"
    yield from _recorded(value, events)
    yield from _attached(value, pinned)


def _attached(value: Mapping[str, Any], pinned: Callable[[Mapping[str, Any]], str]) -> Iterator[str]:
    """Check definitions and artifacts against the hashes under which they stand."""
    for name, definition in value["definitions"].items():
        if pinned(definition) != name:
            yield f"{definition['kind']} {definition['name']} does not match its hash {name[:12]}"
    for sha256, artifact in value["artifacts"].items():
        content = artifact.get("base64")
        if content is not None and hashlib.sha256(base64.b64decode(content)).hexdigest() != sha256:
            yield f"artifact {sha256[:12]} does not match its digest"


def _folded(value: Mapping[str, Any], events: list[Event]) -> Iterator[str]:
    retired = value.get("retired")
    try:
        wrong = differing([event for event in events if event.change != Change.RETIRED], value["entry"])
    except BacklogError as error:
        yield f"history: {error}"
        return
    if wrong:
        yield f"the history does not give: {', '.join(wrong)}"
    if bool(retired) != any(event.change == Change.RETIRED for event in events):
        yield "the bundle and its history do not agree on whether the entry is retired"


def _recorded(value: Mapping[str, Any], events: list[Event]) -> Iterator[str]:
    """Check records and outputs against the digests that the history holds."""
    said = [(event, upcast(event)) for event in events if event.change in {Note.CHECKPOINTED, Note.RECORDED}]
    known = {str(data.get("sha256")) for _, data in said}
    for event, data in said:
        record = data.get("record", {})
        untouched = event.change == Note.RECORDED and REDACTED not in compact(record)  # else the chain alone speaks
        if untouched and digest(record) != data["sha256"]:
            yield f"the record of event {event.seq} does not match its digest"
    for stage in value["stages"]:
        sha256 = stage.get("sha256")
        if sha256 and not _gives(stage.get("output"), sha256):
            yield f"the output of {stage['job_id']} does not match its digest"
        if sha256 and stage.get("takes") and not stage.get("answered") and sha256 not in known:
            yield f"the output of {stage['job_id']} is not the one that the history tells of"


def _gives(given: object, sha256: str) -> bool:
    return given == {REDACTED: sha256} or digest(given) == sha256
