"""Projection of a history onto other tables: runs, stages, reviews, write-backs and links, column by column.

Old histories describe their rows only in part; such rows are *unbound* and are not evidence.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from backlog_worker.domain.binding import BOUND, complete, plain, told
from backlog_worker.domain.entry import ENDS, Change, Note, fold
from backlog_worker.domain.errors import BacklogError
from backlog_worker.domain.events import REDACTED, Event, digest, upcast

# The columns of `runs` that must agree with the history of any version.
RUN_COLUMNS = ("attempt", "worker", "pipeline_hash", "policy_hash", "ended_by")
WORDS: Mapping[str, str] = {
    "runs": "run",
    "stages": "stage",
    "reviews": "review",
    "outbox": "write-back",
    "links": "link",
}


@dataclass(slots=True)
class Compared:
    """A comparison of rows with their history: differences, and the numbers of bound and unbound rows by table."""

    wrong: list[str] = field(default_factory=list)
    bound: int = 0
    unbound: dict[str, int] = field(default_factory=dict)

    def loose(self, what: str, number: int = 1) -> None:
        """Count unbound rows."""
        if number:
            self.unbound[what] = self.unbound.get(what, 0) + number


def compared(
    events: Sequence[Event], tables: Mapping[str, Sequence[Mapping[str, Any]]], *, gone: bool = False
) -> Compared:
    """Compare the rows of one entry, by table, with its history.

    With *gone*, values that are bound only by digest are absent, as for a retired entry.
    """
    found, known, whole = Compared(), told(events), complete(events)
    hidden = any(event.change == Note.REDACTED for event in events)
    for table, rows in tables.items():
        bound, left = BOUND[table], dict(known[table])
        for row in rows:
            name = bound.name(row)
            if events and row[bound.owner] != events[0].entry_id:
                found.wrong.append(f"{WORDS[table]} {_short(name)} belongs to another entry")
            said = left.pop(name, None)
            words = f"{WORDS[table]} {_short(name)}"
            broken = _by_digest(row, bound.by_digest, hidden=hidden, gone=gone)
            found.wrong += [f"the {each} of {_short(name)} does not match its digest" for each in broken]
            if said is not None:
                facts = bound.facts(row)
                differing = [each for each in dict.fromkeys((*facts, *said)) if said.get(each) != facts.get(each)]
                found.wrong += [f"{words}: {', '.join(differing)}"] if differing else []
                found.bound += 1
            elif whole:
                found.wrong.append(f"{words} is not in the history")
            else:
                found.loose(table)
        found.wrong += [f"{WORDS[table]} {_short(name)} is missing" for name in left]
    if not whole:
        found.wrong += [*_wrong_runs(events, tables.get("runs", ())), *_wrong_outputs(events, tables.get("stages", ()))]
    return found


def rows(events: Sequence[Event], entry_id: str) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of an entry rebuilt from its history, for an entry whose rows were deleted."""
    known = told(events)
    found = {
        table: [BOUND[table].row(entry_id, name, facts) for name, facts in sorted(known[table].items())]
        for table in BOUND
    }
    named = {row["id"] for row in found["runs"]}
    found["runs"] += [_shown(row) for row in runs(events).values() if row["id"] not in named]
    return found


def runs(events: Iterable[Event]) -> dict[str, dict[str, Any]]:
    """Return the runs of one entry by id, from its claims and ends."""
    found: dict[str, dict[str, Any]] = {}
    for event in events:
        data = upcast(event)
        if event.change == Change.CLAIMED and event.run_id:
            said = data.get("set", {})
            found[event.run_id] = {
                "id": event.run_id,
                "entry_id": event.entry_id,
                **{name: said.get(name) for name in ("attempt", "worker", "pipeline_hash")},
                "policy_hash": data.get("policy_hash"),
                "claimed_at": datetime.fromisoformat(str(said.get("claimed_at"))),
                "ended_at": None,
                "ended_by": None,
                "kind": None,
            }
        elif event.run_id in found and event.change in ENDS and found[event.run_id]["ended_by"] is None:
            end = {"ended_at": event.at, "ended_by": event.change, "kind": data.get("kind")}
            found[event.run_id] |= end
    return found


def inputs(events: Iterable[Event]) -> set[str]:
    """Return the digests of all inputs that an entry ever had."""
    said = (upcast(event).get("set", {}) for event in events)
    return {str(each["input_sha256"]) for each in said if each.get("input_sha256")}


def wrong_inputs(events: Sequence[Event], given: Mapping[str, Any], *, gone: bool = False) -> list[str]:
    """Return errors for inputs that do not match their digest, are unknown, or (unless *gone*) are missing."""
    known, hidden = inputs(events), any(event.change == Note.REDACTED for event in events)
    found = [
        f"input {sha[:12]} does not match its digest" for sha in given if not gives(given[sha], sha, hidden=hidden)
    ]
    found += [f"input {sha[:12]} is not in the history" for sha in given if sha not in known]
    return found + [f"input {sha[:12]} is missing" for sha in sorted(known - set(given)) if not gone]


def retired_differing(events: Sequence[Event], left: Mapping[str, Any]) -> list[str]:
    """Return the columns of a retired entry that differ from its history."""
    try:
        values = fold(event for event in events if event.change != Change.RETIRED)
    except BacklogError as error:
        return [str(error)]
    last = upcast(events[-1])
    wanted = {
        "entry_id": events[-1].entry_id,
        "env": values.get("env"),
        "dedupe_key": values.get("dedupe_key"),
        "status": last.get("status"),
        "seq": events[-1].seq,
        "hash": events[-1].hash,
        "at": events[-1].at,
    }
    if "evidence_until" in last:
        wanted["evidence_until"] = last["evidence_until"]
    return [name for name, value in wanted.items() if plain(left[name]) != plain(value)]


def receipts(events: Iterable[Event]) -> list[dict[str, Any]]:
    """Return the receipts of the ticks that chose an entry: time, position, and the terms of its score."""
    found = []
    for event in events:
        if event.change == Change.DISPATCHED:
            data = upcast(event)
            said = {name: data.get(name) for name in ("policy", "position", "terms")}
            found.append({"at": data.get("tick") or event.at.isoformat(), "score": data["set"].get("score"), **said})
    return found


def records(events: Iterable[Event]) -> dict[str, Mapping[str, Any]]:
    """Return the records of an entry by digest."""
    told_of = [upcast(event) for event in events if event.change == Note.RECORDED]
    return {str(data["sha256"]): data["record"] for data in told_of}


def changed_at(events: Iterable[Event]) -> datetime | None:
    """Return when the status of an entry last changed."""
    moved = [event.at for event in events if event.change in set(Change)]
    return moved[-1] if moved else None


def gives(value: object, sha256: object, *, hidden: bool) -> bool:
    """Return whether a value matches its digest, or is marked as redacted and the redaction is on record."""
    return (hidden and value == {REDACTED: sha256}) or digest(value) == sha256


def _by_digest(row: Mapping[str, Any], pairs: Mapping[str, str], *, hidden: bool, gone: bool) -> list[str]:
    """Return the values of a row that do not match the digest beside them."""
    found = []
    for name, sha in pairs.items():
        value, sha256 = row.get(name), row.get(sha)
        if gone and value is None:
            continue
        if not (value is None if sha256 is None else gives(value, sha256, hidden=hidden)):
            found.append(name)
    return found


def _wrong_runs(events: Sequence[Event], given: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return errors for runs that are missing, unknown, or different from an older history."""
    known, found = runs(events), []
    for row in given:
        wanted = known.pop(row["id"], None)
        if wanted is None:
            found.append(f"run {row['id']} is not in the history")
        elif differing := [name for name in RUN_COLUMNS if row[name] != wanted[name]]:
            found.append(f"run {row['id']}: {', '.join(differing)}")
    return found + [f"run {run_id} is missing" for run_id in known]


def _wrong_outputs(events: Iterable[Event], given: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the stages with a stored output that no checkpoint of an older history contains."""
    known = {str(upcast(event).get("sha256")) for event in events if event.change == Note.CHECKPOINTED}
    stored = [row for row in given if row.get("sha256") and row.get("takes") and row.get("worker")]
    stored = [row for row in stored if row["status"] == "completed"]
    return [f"stage {row['job_id']}: the output" for row in stored if row["sha256"] not in known]


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in row.items()}


def _short(name: str) -> str:
    head, slash, tail = name.rpartition("/")
    return tail if slash and len(head) == 64 else name  # noqa: PLR2004 - the hash of a pipeline says nothing to people
