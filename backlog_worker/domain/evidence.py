"""Evidence bundles: everything needed to rebuild the runs of one entry, and checks that need no database.

A bundle contains the history with its chain, every version of the input, the policies and pipelines by hash, outputs of
jobs, answers of people, small artifacts, and the proof that links its history to the seals.
`checked` recomputes every digest, and reports what the history binds and what it does not.
"""

import base64
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from backlog_worker.domain import inclusion, projection
from backlog_worker.domain.entry import DEFAULTS, DERIVED, FOLDED, Change, Note, differing
from backlog_worker.domain.errors import BacklogError
from backlog_worker.domain.events import REDACTED, Event, broken, compact, digest, upcast
from backlog_worker.domain.inclusion import Included

SCHEMA = "backlog-worker/evidence@2"
SCHEMAS = ("backlog-worker/evidence@1", SCHEMA)  # every published version stays readable
ARTIFACT_BYTES_MAX = 1_000_000
PARTS: Mapping[str, str] = {"runs": "runs", "stages": "stages", "reviews": "reviews", "outbox": "writebacks"}
LINKS = ("depends_on", "calls", "fork_of")
_KNOWN = frozenset(
    {
        *("schema", "entry", "retired", "events", "inputs", "runs", "stages", "reviews", "receipts", "waits"),
        *("writebacks", "definitions", "lineage", "artifacts", "proof", "sha256"),
    }
)
Pinned = Callable[[Mapping[str, Any]], Mapping[str, Any]]


@dataclass(slots=True)
class Checked:
    """The result of checking a bundle: faults, what its history binds and does not bind, and the seal over it."""

    faults: list[str] = field(default_factory=list)
    events: int = 0
    rows: int = 0
    unbound: dict[str, int] = field(default_factory=dict)
    included: Included | None = None

    @property
    def whole(self) -> bool:
        """Return whether the history binds everything in the bundle that is called evidence."""
        return not self.faults and not self.unbound


def bundle(parts: Mapping[str, Any]) -> dict[str, Any]:
    """Return a complete bundle: its parts, the name of the schema, and the digest of all parts."""
    value = {"schema": SCHEMA, **parts}
    return {**value, "sha256": digest(value)}


def checked(value: Mapping[str, Any], pinned: Pinned, seal: Mapping[str, Any] | None = None) -> Checked:
    """Check a bundle by itself and, with *seal*, that this seal includes its history.

    *pinned* loads a definition and returns its kind, name, version, hash, and the files that it read.
    """
    found = Checked()
    if value.get("schema") not in SCHEMAS:
        found.faults.append(schema_fault(value))
        return found
    try:
        found.faults += _faults(value, pinned, found)
        if seal is not None:
            found.included = inclusion.under(value.get("proof"), seal, value["entry"]["id"])
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        found.faults.append(f"the bundle is malformed: {type(error).__name__} {error}")
    if found.included is not None and found.included.fault:
        found.faults.append(found.included.fault)
    return found


def schema_fault(value: Mapping[str, Any]) -> str:
    """Say that something is no bundle, by the name of its schema."""
    return f"not a bundle of evidence: its schema is {value.get('schema')!r:.100}, wanted {' or '.join(SCHEMAS)}"


def event_of(row: Mapping[str, Any]) -> Event:
    """Return the event in a row of a bundle."""
    return Event(**{**row, "at": datetime.fromisoformat(row["at"])})


def tables_of(value: Mapping[str, Any]) -> dict[str, list[Mapping[str, Any]]]:
    """Return the rows of a bundle by table."""
    tables: dict[str, list[Mapping[str, Any]]] = {table: list(value[part]) for table, part in PARTS.items()}
    owner = value["entry"]["id"]
    pairs = [(kind, each) for kind, listed in value["lineage"].items() for each in listed]
    return {**tables, "links": [{"from_id": owner, "kind": kind, "to_id": each} for kind, each in pairs]}


def artifacts_of(row: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Return the artifacts that a stage names; empty if they were redacted."""
    given = row.get("artifacts", ())
    listed = given if isinstance(given, list | tuple) else ()
    named = [each for each in listed if isinstance(each, Mapping) and {"sha256", "name", "size"} <= set(each)]
    return [each for each in named if all(isinstance(each[name], str) for name in ("sha256", "name"))]


def _faults(value: Mapping[str, Any], pinned: Pinned, found: Checked) -> Iterator[str]:
    parts = {name: each for name, each in value.items() if name != "sha256"}
    if digest(parts) != value["sha256"]:
        yield "the bundle does not match its own digest"
    yield from (f"unknown part {name!r}" for name in sorted(set(value) - _KNOWN))
    if value["schema"] == SCHEMA:
        yield from (f"the part {name!r} is missing" for name in sorted(_KNOWN - set(value)))
        if set(value["lineage"]) != set(LINKS):
            yield f"the lineage is not just {', '.join(LINKS)}"
    events = [event_of(row) for row in value["events"]]
    found.events = len(events)
    if fault := broken(events):
        yield f"history: {fault[1]}"
    if any(event.entry_id != value["entry"]["id"] for event in events):
        yield "history: an event belongs to another entry"
    yield from _folded(value, events)
    yield from _left(value, events, found)
    yield from _rows(value, events, found)
    yield from _records(events)
    yield from _attached(value, pinned)
    if value.get("proof") is not None:
        yield from inclusion.faults(value["proof"], events)


def _folded(value: Mapping[str, Any], events: list[Event]) -> Iterator[str]:
    if strange := sorted(set(value["entry"]) - set(FOLDED)):
        yield f"the entry has unknown columns: {', '.join(strange)}"
    if value["schema"] == SCHEMA and (missing := sorted(DERIVED - set(value["entry"]))):
        yield f"the entry lacks columns: {', '.join(missing)}"
    later = {name: each for name, each in DEFAULTS.items() if name not in DERIVED}
    row = {**later, **value["entry"]}  # older bundles lack columns that were added later
    try:
        wrong = differing([event for event in events if event.change != Change.RETIRED], row)
    except BacklogError as error:
        yield f"history: {error}"
        return
    if wrong:
        yield f"these columns differ from the history: {', '.join(wrong)}"


def _left(value: Mapping[str, Any], events: list[Event], found: Checked) -> Iterator[str]:
    """Check the remaining data of a retired entry against its last event."""
    left, retired = value.get("retired"), any(event.change == Change.RETIRED for event in events)
    if bool(left) != retired:
        yield "the bundle and its history disagree on whether the entry is retired"
    elif left:
        yield from (f"the retired entry differs: {name}" for name in projection.retired_differing(events, left))
        if "evidence_until" not in events[-1].data:
            found.unbound["evidence_until"] = 1


def _rows(value: Mapping[str, Any], events: list[Event], found: Checked) -> Iterator[str]:
    """Check runs, stages, reviews, write-backs, links, receipts and inputs against the history."""
    gone = bool(value.get("retired"))
    compared = projection.compared(events, tables_of(value), gone=gone)
    found.rows, found.unbound = found.rows + compared.bound, {**found.unbound, **compared.unbound}
    yield from compared.wrong
    given = dict(value["inputs"])
    if gone:
        given = {sha: each for sha, each in given.items() if each is not None}
        yield from (f"input {sha[:12]} is missing" for sha in projection.inputs(events) - set(value["inputs"]))
        yield from projection.wrong_inputs(events, given, gone=True)
    else:
        yield from projection.wrong_inputs(events, given)
    told = projection.receipts(events)
    if value["schema"] == SCHEMA:
        if list(value["receipts"]) != told:
            yield "the receipts differ from those in the history"
        found.rows += len(told)
    elif value["receipts"]:
        found.unbound["receipts"] = len(value["receipts"])


def _records(events: Sequence[Event]) -> Iterator[str]:
    """Check every record in the history against its digest; a redacted record is covered by the chain only."""
    for event in events:
        if event.change == Note.RECORDED:
            data = upcast(event)
            record = data.get("record", {})
            if REDACTED not in compact(record) and digest(record) != data["sha256"]:
                yield f"the record of event {event.seq} does not match its digest"


def _attached(value: Mapping[str, Any], pinned: Pinned) -> Iterator[str]:
    """Check definitions and artifacts against their hashes."""
    wanted = {str(run[f"{kind}_hash"]) for run in value["runs"] for kind in ("pipeline", "policy")}
    for name, definition in value["definitions"].items():
        if {**pinned(definition), "body": definition.get("body")} != {**definition, "hash": name}:
            yield f"{definition['kind']} {definition['name']} does not match its hash {name[:12]}"
    yield from (f"no run used the definition {name[:12]}" for name in sorted(set(value["definitions"]) - wanted))
    named = {(one["sha256"], one["name"], one["size"]) for row in value["stages"] for one in artifacts_of(row)}
    for sha256, artifact in value["artifacts"].items():
        if (sha256, artifact["name"], artifact["size"]) not in named:
            yield f"artifact {sha256[:12]} is not the one that a stage names"
        if artifact.get("base64") is not None:
            content = base64.b64decode(artifact["base64"], validate=True)
            same = hashlib.sha256(content).hexdigest() == sha256 and len(content) == artifact["size"]
            if not same or base64.b64encode(content).decode() != artifact["base64"]:
                yield f"artifact {sha256[:12]} does not match its digest"
        elif artifact["size"] <= ARTIFACT_BYTES_MAX and not value.get("retired"):
            yield f"artifact {sha256[:12]} is missing"
