"""History and evidence: one entry's bundle, the backlog as it stood at a moment, and what changed between two."""

import base64
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from backlog_worker.domain import evidence, policy
from backlog_worker.domain.entry import FOLDED, after
from backlog_worker.domain.errors import InvalidFileError, NotFoundError
from backlog_worker.domain.events import Event
from backlog_worker.domain.frontier import Stage
from backlog_worker.lifecycle import Kit
from backlog_worker.lifecycle.definitions import parsed
from backlog_worker.store import PIPELINE, POLICY, Unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """The backlog as the history tells of one moment: how many entries stood where, and each entry's status."""

    at: datetime
    counts: Mapping[str, int]
    statuses: Mapping[str, str]


def export(kit: Kit, entry_id: str) -> dict[str, Any]:
    """Make the bundle of one entry, which `verify` checks without any database; raises NotFoundError."""
    with kit.store.read() as unit:
        entry = unit.entry(entry_id)
        if entry is None:
            message = f"there is no entry {entry_id}"
            raise NotFoundError(message, hint="backlog-worker entry list")
        events = unit.history(entry.id)
        runs = unit.runs(entry.id, most=1000)
        hashes = dict.fromkeys(str(run["pipeline_hash"]) for run in runs)
        stages = [each for found in hashes for each in unit.stages({entry.id: found})[entry.id].values()]
        parts = {
            "entry": {name: _json(getattr(entry, name)) for name in ("id", *FOLDED)},
            "events": [_row(event) for event in events],
            "inputs": unit.input_versions(entry.id),
            "runs": [{name: _json(value) for name, value in run.items()} for run in runs],
            "stages": [_stage(stage) for stage in stages],
            "reviews": [_fields(each) for each in unit.reviews_of(entry.id)],
            "receipts": [
                {name: _json(value) for name, value in row.items()} for row in unit.receipts_of(entry.id, 1000)
            ],
            "definitions": _definitions(kit, unit, runs),
            "lineage": {kind: unit.linked(entry.id, kind) for kind in ("depends_on", "calls", "fork_of")},
        }
    return evidence.bundle({**parts, "artifacts": _artifacts(kit, stages)})


def verify(value: Mapping[str, Any]) -> list[str]:
    """Check a bundle by itself: chain, fold, inputs, outputs, records, definitions, artifacts; says what is wrong."""
    return evidence.faults(value, _pinned)


def at(kit: Kit, moment: datetime) -> Past:
    """Fold every history up to a moment: the backlog as it stood then."""
    statuses: dict[str, str] = {}
    with kit.store.read() as unit:
        for events in unit.histories(kit.env):
            status = _status(events, moment)
            if status:
                statuses[events[0].entry_id] = status
    return Past(at=moment, counts=dict(sorted(Counter(statuses.values()).items())), statuses=statuses)


def diff(kit: Kit, first: datetime, second: datetime) -> list[tuple[str, str, str]]:
    """Return (entry, then, later) of every entry whose status differs between two moments."""
    one, other = at(kit, first).statuses, at(kit, second).statuses
    return [
        (entry_id, one.get(entry_id, "none"), other.get(entry_id, "none"))
        for entry_id in sorted({*one, *other})
        if one.get(entry_id) != other.get(entry_id)
    ]


def _status(events: list[Event], moment: datetime) -> str:
    folded: dict[str, Any] | None = None
    for event in events:
        if event.at > moment:
            break
        folded = after(folded, event.change, event.data)
    return str(folded["status"]) if folded else ""


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
            small = content is not None and len(content) <= evidence.ARTIFACT_BYTES_MAX
            encoded = base64.b64encode(content).decode() if small and content is not None else None
            found[each["sha256"]] = {"name": each["name"], "size": each["size"], "base64": encoded}
    return found


def _stage(stage: Stage) -> dict[str, Any]:
    answered = bool(stage.approval and not stage.tries and not stage.worker)
    return {**_fields(stage), "answered": answered}


def _row(event: Event) -> dict[str, Any]:
    return {**_fields(event), "at": event.at.isoformat()}


def _fields(value: Any) -> dict[str, Any]:  # noqa: ANN401 - one of our frozen dataclasses
    return {name: _json(getattr(value, name)) for name in value.__dataclass_fields__}


def _json(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, tuple):
        return list(value)
    return str(value) if hasattr(value, "value") and isinstance(value, str) else value
