"""Evidence for third parties: the bundle of one entry, seals over all histories, and redactions that keep both
valid.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from backlog_worker.domain import evidence as bundles
from backlog_worker.domain import inclusion, policy, projection
from backlog_worker.domain.binding import BOUND, plain
from backlog_worker.domain.entry import FINAL, FOLDED, Change, Entry, Note, Status, entry_of, fold
from backlog_worker.domain.errors import ConflictError, InvalidFileError, NotFoundError
from backlog_worker.domain.events import Event, digest, redacted, worded
from backlog_worker.domain.evidence import Checked
from backlog_worker.domain.pipeline import Pipeline
from backlog_worker.lifecycle import Kit, operation
from backlog_worker.lifecycle.reading import parsed
from backlog_worker.store import PIPELINE, POLICY, Unit

# Texts of people and models; ids, times, statuses, digests and verdicts are not redacted.
TEXTS = (
    *("title", "url", "source", "external_ref", "author", "reason", "text", "why", "question", "detail", "error"),
    *("stages", "people", "artifacts", "comment", "value", "output", "tries", "gates", "recovery"),
)


def export(kit: Kit, entry_id: str) -> dict[str, Any]:
    """Return the bundle of one entry, which `checked` verifies without a database; raises NotFoundError.

    For a retired entry it holds everything its history binds; inputs and outputs are reduced to their digests.
    """
    with kit.store.read() as unit:
        entry, left = whole(unit, entry_id)
        events = unit.history(entry.id)
        tables = told_rows(events, entry.id) if left else _rows(unit, entry.id)
        inputs = unit.input_versions(entry.id)
        parts = {
            "entry": {name: plain(getattr(entry, name)) for name in FOLDED},
            "retired": {name: plain(each) for name, each in left.items() if name != "legal_hold"} if left else None,
            "events": [{**_fields(event), "at": event.at.isoformat()} for event in events],
            "inputs": {sha: inputs.get(sha) for sha in sorted({*inputs, *projection.inputs(events)})},
            **{part: tables[table] for table, part in bundles.PARTS.items()},
            "receipts": projection.receipts(events),
            "waits": [_row(row) for row in unit.receipts_of(entry.id, 1000) if row["waits"]],
            "definitions": _definitions(kit, unit, tables["runs"]),
            "lineage": {kind: _linked(tables["links"], kind) for kind in bundles.LINKS},
            "proof": inclusion.proof(unit.seals(), unit.sealed_heads(entry.id), unit.leaves, entry.id),
        }
    return bundles.bundle({**parts, "artifacts": _artifacts(kit, tables["stages"])})


def checked(value: Mapping[str, Any], seal: Mapping[str, Any] | None = None) -> Checked:
    """Verify a bundle, and with a seal that it is included under it: chain, fold, rows, records, definitions."""
    return bundles.checked(value, pinned, seal)


def verify(value: Mapping[str, Any], seal: Mapping[str, Any] | None = None) -> list[str]:
    """Return the faults of a bundle; an empty list means that every digest matches."""
    return checked(value, seal).faults


def told_rows(events: Sequence[Event], entry_id: str) -> dict[str, list[dict[str, Any]]]:
    """Return the rows that a history describes, with its records as the bodies of write-backs."""
    found, records = projection.rows(events, entry_id), projection.records(events)
    lean = {digest(each): each for each in (_placeholder_record(record) for record in records.values())}
    bodies = {**lean, **{sha: record for sha, record in records.items() if digest(record) == sha}}
    wishes = [{**row, "body": bodies[row["sha256"]]} if row.get("sha256") in bodies else row for row in found["outbox"]]
    return {**found, "outbox": wishes}


def redact(kit: Kit, entry_id: str, *, actor: str, reason: str, names: Sequence[str] = TEXTS) -> int:
    """Remove the texts of people and models from an entry for good; returns how many events lost text.

    Its artifacts are removed too, unless another entry refers to them. Chain, seals and the verdicts of its records
    stay verifiable, because each text leaves its digest. Only a final or blocked entry can be redacted, and none under
    a legal hold.
    """
    operation.reasoned(reason)
    with kit.store.begin(actor=actor) as unit:
        entry, left = whole(unit, entry_id)
        _may_be_redacted(entry, left)
        events = unit.history(entry.id)
        changed = {event.seq: found for event in events if (found := redacted(event, names)) != dict(event.data)}
        after = [replace(event, data=changed.get(event.seq, event.data)) for event in events]
        named = unit.artifacts_of(entry.id)
        if left is None:
            unit.hold([entry.id])
            unit.note(entry.id, Note.REDACTED, {"fields": sorted(names), "because": reason})
            lean = entry_of(fold(after))
            unit.redact_rows(entry.id, {name: getattr(lean, name) for name in FOLDED})
            _queue_redacted_record(unit, entry.id, after)
            unit.flush()
        why = {"actor": actor, "reason": reason, "fields": sorted(names)}
        unit.redact(entry.id, changed, why)
        kept = unit.artifacts_kept(named)
        detail = {"events": len(changed)}
        operation.record(kit, unit, "audit.redact", subject=entry.id, reason=reason, detail=detail)
    for sha256 in set(named) - kept:
        kit.artifacts.forget(sha256)
    return len(changed)


def legal_hold(kit: Kit, entry_id: str, *, actor: str, reason: str, on: bool) -> None:
    """Put an entry under a legal hold, which keeps it, its bulk data and its history regardless of retention, or lift
    it.
    """
    operation.reasoned(reason)
    words = f"{actor}: {reason}"[:500] if on else ""
    with kit.store.begin(actor=actor) as unit:
        entry, left = whole(unit, entry_id)
        if left is not None:
            unit.hold_retired(entry.id, words)
        else:
            unit.hold([entry.id])
            unit.note(entry.id, Note.EDITED, {"reason": reason, "fields": ["legal_hold"]}, legal_hold=words)
        operation.record(kit, unit, "audit.hold" if on else "audit.release", subject=entry.id, reason=reason)


def whole(unit: Unit, entry_id: str) -> tuple[Entry, Mapping[str, Any] | None]:
    """Return an entry; for a retired one, its state at its end and its remainder. Raises NotFoundError."""
    left = unit.retired(entry_id)
    if left is None:
        return operation.found(unit, entry_id), None
    values = fold(event for event in unit.history(left["entry_id"]) if event.change != Change.RETIRED)
    if not values:
        message = f"the evidence of {entry_id} was kept until {left['evidence_until']:%Y-%m-%d}, and is gone"
        raise NotFoundError(message)
    return entry_of(values), left


def _may_be_redacted(entry: Entry, left: Mapping[str, Any] | None) -> None:
    hold = left["legal_hold"] if left else entry.legal_hold
    if hold:
        message = f"{entry.id} is under a legal hold ({hold})"
        raise ConflictError(message, hint=f'backlog-worker audit release {entry.id} --reason "..." first')
    if left is None and entry.status not in FINAL | {Status.BLOCKED}:
        message = f"{entry.id} is {entry.status}; only a final or blocked entry can be redacted"
        raise ConflictError(message, hint=f'backlog-worker entry hold {entry.id} --reason "..." first')


def _queue_redacted_record(unit: Unit, entry_id: str, events: Sequence[Event]) -> None:
    """Queue the redacted record to replace the one at the source."""
    records = projection.records(events)
    for wish in unit.wishes(entry_id):
        if wish["sha256"] in records:
            body = _placeholder_record(records[wish["sha256"]])
            unit.rewrite_wish(wish["id"], body, digest(body))


def _placeholder_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a redacted record in its usual shape: placeholders for texts, and no stages, people or artifacts."""
    found: dict[str, Any] = worded(record)
    lists: dict[str, list[Any]] = {name: [] for name in ("stages", "people") if isinstance(record.get(name), Mapping)}
    output = found.get("output")
    return {**found, **lists, "output": {**output, "artifacts": []} if output else output}


def _rows(unit: Unit, entry_id: str) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of an entry as they are stored, by table, as JSON."""
    return {table: [_row(row) for row in unit.bound_rows(table, [entry_id]).get(entry_id, ())] for table in BOUND}


def _linked(rows: Sequence[Mapping[str, Any]], kind: str) -> list[str]:
    return sorted(str(row["to_id"]) for row in rows if row["kind"] == kind)


def _definitions(kit: Kit, unit: Unit, runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    wanted = [(kind, str(run[f"{kind}_hash"])) for run in runs for kind in (PIPELINE, POLICY)]
    found = {}
    for kind, name in dict.fromkeys(wanted):
        row = unit.definition(kit.env, kind, name)
        if row is not None:
            found[name] = {key: row[key] for key in ("kind", "name", "version", "body", "contracts")}
    return found


def pinned(definition: Mapping[str, Any]) -> dict[str, Any]:
    """Parse a stored definition and return its identity; only an empty hash if it cannot be read."""
    try:
        if definition["kind"] == POLICY:
            read = policy.load(definition["body"])
            return {"kind": POLICY, "name": POLICY, "version": str(read.version), "hash": read.hash, "contracts": {}}
        made = parsed(PIPELINE, definition["body"], definition["name"], dict(definition["contracts"]))
    except (InvalidFileError, KeyError):
        return {"hash": ""}
    if not isinstance(made, Pipeline):
        return {"hash": ""}
    named = {"kind": PIPELINE, "name": made.name, "version": str(made.version), "hash": made.hash}
    return {**named, "contracts": dict(made.used)}


def _artifacts(kit: Kit, stages: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    found = {}
    for each in (one for stage in stages for one in bundles.artifacts_of(stage)):
        content = kit.artifacts.read(each["sha256"])
        small = content is not None and len(content) <= bundles.ARTIFACT_BYTES_MAX
        encoded = base64.b64encode(content).decode() if small and content is not None else None
        found[each["sha256"]] = {"name": each["name"], "size": each["size"], "base64": encoded}
    return found


def _fields(event: Event) -> dict[str, Any]:
    return {name: plain(getattr(event, name)) for name in event.__dataclass_fields__}


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: plain(value) for name, value in row.items()}
