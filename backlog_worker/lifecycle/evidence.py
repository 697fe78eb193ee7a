"""Proof for strangers: the bundle of one entry, seals over all histories, and redactions that keep both true."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from backlog_worker.domain import evidence as bundles
from backlog_worker.domain import policy
from backlog_worker.domain.entry import FINAL, FOLDED, Change, Entry, Note, Status, entry_of, fold
from backlog_worker.domain.errors import ConflictError, InvalidFileError, NotFoundError
from backlog_worker.domain.events import Event, digest, redacted, upcast, worded
from backlog_worker.domain.frontier import Stage
from backlog_worker.lifecycle import Kit, operation
from backlog_worker.lifecycle.definitions import parsed
from backlog_worker.store import PIPELINE, POLICY, Unit, Violation, seal_hash

SEAL_SCHEMA = "backlog-worker/seal@1"
SETTLED = timedelta(minutes=5)  # no transaction of ours lives so long: what is older is all there
LONG_AGO = datetime.fromtimestamp(0, UTC)
# What people and models wrote; ids, times, statuses, digests and verdicts stay readable.
TEXTS = (
    *("title", "url", "source", "external_ref", "author", "reason", "text", "why", "question", "detail", "error"),
    *("stages", "people", "artifacts", "comment", "value", "output"),
)


def export(kit: Kit, entry_id: str) -> dict[str, Any]:
    """Make the bundle of one entry, which `verify` checks without any database; raises NotFoundError.

    Of a retired entry the history tells, with its records; inputs and outputs have left with the row.
    """
    with kit.store.read() as unit:
        entry, left = _whole(unit, entry_id)
        events = unit.history(entry.id)
        runs = unit.runs(entry.id, most=1000)
        hashes = dict.fromkeys(str(run["pipeline_hash"]) for run in runs)
        stages = [each for found in hashes for each in unit.stages({entry.id: found})[entry.id].values()]
        parts = {
            "entry": {name: _json(getattr(entry, name)) for name in ("id", *FOLDED)},
            "retired": _row(left) if left else None,
            "events": [{**_fields(event), "at": event.at.isoformat()} for event in events],
            "inputs": unit.input_versions(entry.id),
            "runs": [_row(run) for run in runs],
            "stages": [_stage(stage) for stage in stages],
            "reviews": [_fields(each) for each in unit.reviews_of(entry.id)],
            "receipts": [_row(row) for row in unit.receipts_of(entry.id, 1000)],
            "writebacks": [_row(wish) for wish in unit.wishes(entry.id)],
            "definitions": _definitions(kit, unit, runs),
            "lineage": {kind: unit.linked(entry.id, kind) for kind in ("depends_on", "calls", "fork_of")},
        }
    return bundles.bundle({**parts, "artifacts": _artifacts(kit, stages)})


def verify(value: Mapping[str, Any]) -> list[str]:
    """Check a bundle by itself: chain, fold, inputs, outputs, records, definitions, artifacts; says what is wrong."""
    return bundles.faults(value, _pinned)


def seal(kit: Kit) -> dict[str, Any]:
    """Seal every history up to five minutes ago, and return the seal as it may be kept elsewhere."""
    with kit.store.begin(actor=kit.worker) as unit:
        last = unit.last_seal()
        since, at = (last["at"] if last else LONG_AGO), unit.now() - SETTLED
        if at <= since:
            return sealed(last) if last else {}
        return sealed(unit.seal(kit.new_id("seal"), since, at, last["hash"] if last else ""))


def sealed(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a seal in the form that is kept elsewhere."""
    return {"schema": SEAL_SCHEMA, **_row(row)}


def verify_seals(kit: Kit, outside: Mapping[str, Any] | None = None) -> Iterator[Violation]:
    """Compare every seal with the history, and one that was kept elsewhere with ours."""
    prev, known = "", {}
    with kit.store.read() as unit:
        rows = unit.seals()
    for row in rows:
        known[row["id"]] = sealed(row)
        with kit.store.read() as unit:
            if row["prev"] != prev or seal_hash(row) != row["hash"] or unit.root(row["id"]) != row["root"]:
                yield Violation(invariant="I8", subject=row["id"], text="the seal itself was altered, or one before it")
            for entry_id, seq in unit.unsealed(row, 20):
                text = f"event {seq} was altered or dropped after it was sealed at {row['at'].isoformat()}"
                yield Violation(invariant="I8", subject=entry_id, text=text)
        prev = row["hash"]
    if outside is not None:
        mine = known.get(str(outside.get("id")))
        if mine is None:
            text = "a seal that was kept elsewhere is not here: the history was cut off or put back"
            yield Violation(invariant="I8", subject=str(outside.get("id")), text=text)
        elif mine != dict(outside):
            text = "the seal differs from the one that was kept elsewhere"
            yield Violation(invariant="I8", subject=str(outside["id"]), text=text)


def redact(kit: Kit, entry_id: str, *, actor: str, reason: str, names: Sequence[str] = TEXTS) -> int:
    """Take what people and models wrote out of an entry for good; returns how many events lost something.

    Its artifacts go too, unless another entry names the same. Its chain, its seals and its records' verdicts stay
    verifiable: each text leaves its digest. Only a final or blocked entry is redacted, and none under a legal hold.
    """
    operation.reasoned(reason)
    with kit.store.begin(actor=actor) as unit:
        entry, left = _whole(unit, entry_id)
        _may_be_redacted(entry, left)
        events = unit.history(entry.id)
        if left is None:
            unit.hold([entry.id])
            unit.note(entry.id, Note.REDACTED, {"fields": sorted(names), "because": reason})
            unit.flush()
        changed = {event.seq: found for event in events if (found := redacted(event, names)) != dict(event.data)}
        why = {"actor": actor, "reason": reason, "fields": sorted(names)}
        unit.redact(entry.id, changed, why)
        named = unit.artifacts_of(entry.id)
        if left is None:
            after = unit.history(entry.id)
            lean = entry_of(fold(after))
            unit.redact_rows(entry.id, {name: getattr(lean, name) for name in FOLDED})
            _wishes(unit, entry.id, after)
        kept = unit.artifacts_kept(named)
        detail = {"events": len(changed)}
        operation.record(kit, unit, "audit.redact", subject=entry.id, reason=reason, detail=detail)
    for sha256 in set(named) - kept:
        kit.artifacts.forget(sha256)
    return len(changed)


def legal_hold(kit: Kit, entry_id: str, *, actor: str, reason: str, on: bool) -> None:
    """Keep an entry, its bulk data and its history whatever retention says, or stop keeping them."""
    operation.reasoned(reason)
    words = f"{actor}: {reason}"[:500] if on else ""
    with kit.store.begin(actor=actor) as unit:
        entry, left = _whole(unit, entry_id)
        if left is not None:
            unit.hold_retired(entry.id, words)
        else:
            unit.hold([entry.id])
            unit.note(entry.id, Note.EDITED, {"reason": reason, "fields": ["legal_hold"]}, legal_hold=words)
        operation.record(kit, unit, "audit.hold" if on else "audit.release", subject=entry.id, reason=reason)


def _whole(unit: Unit, entry_id: str) -> tuple[Entry, Mapping[str, Any] | None]:
    """Return an entry, or a retired one as it stood at its end and what is left of it; raises NotFoundError."""
    left = unit.retired(entry_id)
    if left is None:
        return operation.found(unit, entry_id), None
    values = fold(event for event in unit.history(entry_id) if event.change != Change.RETIRED)
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
        message = f"{entry.id} is {entry.status}; only what has ended or is blocked is redacted"
        raise ConflictError(message, hint=f'backlog-worker entry hold {entry.id} --reason "..." first')


def _wishes(unit: Unit, entry_id: str, events: Sequence[Event]) -> None:
    """Send the redacted record in place of the one that its source shows."""
    told = [upcast(event) for event in events if event.change == Note.RECORDED]
    records = {str(data["sha256"]): data["record"] for data in told}
    for wish in unit.wishes(entry_id):
        if wish["sha256"] in records:
            body = _lean(records[wish["sha256"]])
            unit.rewrite_wish(wish["id"], body, digest(body))


def _lean(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a redacted record in its own shape: words where texts were, and no stages, people or artifacts."""
    found: dict[str, Any] = worded(record)
    lists: dict[str, list[Any]] = {name: [] for name in ("stages", "people") if isinstance(record.get(name), Mapping)}
    output = found.get("output")
    return {**found, **lists, "output": {**output, "artifacts": []} if output else output}


def _definitions(kit: Kit, unit: Unit, runs: list[dict[str, Any]]) -> dict[str, Any]:
    wanted = [(kind, str(run[f"{kind}_hash"])) for run in runs for kind in (PIPELINE, POLICY)]
    found = {}
    for kind, name in dict.fromkeys(wanted):
        row = unit.definition(kit.env, kind, name)
        if row is not None:
            found[name] = {key: row[key] for key in ("kind", "name", "version", "body", "contracts")}
    return found


def _pinned(definition: Mapping[str, Any]) -> str:
    try:
        if definition["kind"] == POLICY:
            return policy.load(definition["body"]).hash
        return parsed(PIPELINE, definition["body"], definition["name"], dict(definition["contracts"])).hash
    except InvalidFileError:
        return ""


def _artifacts(kit: Kit, stages: list[Stage]) -> dict[str, Any]:
    found = {}
    for stage in stages:
        for each in stage.artifacts:
            content = kit.artifacts.read(each["sha256"])
            small = content is not None and len(content) <= bundles.ARTIFACT_BYTES_MAX
            encoded = base64.b64encode(content).decode() if small and content is not None else None
            found[each["sha256"]] = {"name": each["name"], "size": each["size"], "base64": encoded}
    return found


def _stage(stage: Stage) -> dict[str, Any]:
    answered = bool(stage.approval and not stage.tries and not stage.worker)
    return {**_fields(stage), "answered": answered}


def _fields(value: Event | Stage | Any) -> dict[str, Any]:  # noqa: ANN401 - one of our frozen dataclasses
    return {name: _json(getattr(value, name)) for name in value.__dataclass_fields__}


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _json(value) for name, value in row.items()}


def _json(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, tuple):
        return list(value)
    return str(value) if hasattr(value, "value") and isinstance(value, str) else value
