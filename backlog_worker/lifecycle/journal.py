"""Merge the journal that stored new work while PostgreSQL was unavailable: once, by dedupe key and event id."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from backlog_worker.integrations.artifacts import write_whole
from backlog_worker.lifecycle import Kit, intake, operation
from backlog_worker.store import AutoStore, JsonlStore
from backlog_worker.telemetry import emit

PAGE = 500


@dataclass(slots=True, kw_only=True)
class Merged:
    """The result of a merge: new entries, and entries whose key was already filed, with the existing entry."""

    at: str
    added: list[str] = field(default_factory=list)
    known: dict[str, str] = field(default_factory=dict)
    waiting: int = 0
    report: str = ""


def merge(kit: Kit, reports: Path | None = None) -> Merged | None:
    """Merge the journal into the backlog; returns None if it is empty. Raises UnreachableError.

    The journal is locked meanwhile and archived whole at the end. A crash in between is harmless: entries already
    merged are recognised by key and event ids on the next try. The policy in force then judges everything again.
    """
    store = kit.store
    if not isinstance(store, AutoStore) or not store.journaled():
        return None
    with store.exclusively():
        if not store.journaled():
            return None  # another process was first
        journal = store.journal()
        with store.read() as unit:
            merged = Merged(at=unit.now().isoformat())
        with journal.read() as unit:
            envs = unit.environments()
        for of in [kit if env == kit.env else kit.elsewhere(env) for env in dict.fromkeys([kit.env, *envs])]:
            after = ""
            while page := _page(journal, of.env, after):
                _merge_page(of, page, merged)
                after = page[-1].row["id"]
            if not merged.waiting:
                _merge_operations(of, journal)
        if merged.waiting:
            return merged
        stamp = f"{merged.at[:19].replace(':', '')}-{kit.new_id('m')[-6:]}"  # two merges may fall into one second
        aside = journal.folder.parent / "merged" / f"{kit.env}-{stamp}"
        journal.move_to(aside)
    folder = reports or aside
    merged.report = str(folder / f"merge-{stamp}.json")
    write_whole(Path(merged.report), json.dumps(asdict(merged), indent=1).encode())
    emit("store_merged", added=len(merged.added), known=len(merged.known), report=merged.report)
    return merged


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """What waits in a journal: the number of entries, since when, where, and whether PostgreSQL is unavailable."""

    count: int
    oldest: datetime | None
    folder: str
    away_since: datetime | None


def waiting(kit: Kit) -> Waiting | None:
    """Return what waits to be merged, without asking PostgreSQL; None if the store has no journal."""
    store = kit.store
    if not isinstance(store, AutoStore):
        return None
    folder, count, oldest = str(store.journal_folder), 0, None
    if store.journaled():
        with store.journal().read() as unit:
            count, oldest = unit.taken_in()
    return Waiting(count=count, oldest=oldest, folder=folder, away_since=store.away_since)


def held(kit: Kit) -> int | None:
    """Return how many entries wait in the journal; None if the store has none."""
    found = waiting(kit)
    return None if found is None else found.count


def takes_in(kit: Kit) -> bool:
    """Return whether new work now goes into the journal because PostgreSQL is unavailable."""
    return isinstance(kit.store, AutoStore) and kit.store.away_since is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Journaled:
    row: Mapping[str, Any]
    events: Sequence[Any]
    inputs: Mapping[str, Any]
    needs: Sequence[str]


def _page(journal: JsonlStore, env: str, after: str) -> list[_Journaled]:
    with journal.read() as unit:
        unit.env = env
        ids = unit.page(env, after, PAGE)
        rows, histories = unit.rows(ids), unit.histories(ids)
        return [
            _Journaled(
                row=rows[each],
                events=histories[each],
                inputs=unit.input_versions(each),
                needs=unit.linked(each, "depends_on"),
            )
            for each in ids
        ]


def _merge_operations(kit: Kit, journal: JsonlStore) -> None:
    """Merge recorded operations, dated now: sealed periods must not grow."""
    with journal.read() as unit:
        rows = unit.acts(kit.env, most=1_000_000)
    with kit.store.begin(actor="merge") as unit:
        unit.adopt_acts([{**row, "detail": {**row["detail"], "taken_in_at": row["at"].isoformat()}} for row in rows])


def _merge_page(kit: Kit, page: Sequence[_Journaled], merged: Merged) -> None:
    """Merge one page in one transaction; entries dated in the future by our clock wait, or times would run
    backwards.
    """
    with kit.store.begin(actor="merge") as unit:
        due = [each for each in page if each.events[-1].at <= unit.now()]
        merged.waiting += len(page) - len(due)
        keys = {each.row["dedupe_key"]: each.row["id"] for each in due}
        known = unit.with_key(kit.env, list(keys))
        merged.known |= {keys[key]: winner for key, winner in known.items() if winner != keys[key]}
        new = [each for each in due if each.row["dedupe_key"] not in known]
        unit.adopt(
            [each.row for each in new],
            [event for each in new for event in each.events],
            {each.row["id"]: each.inputs for each in new},
        )
        unit.depend([(each.row["id"], other) for each in new for other in each.needs])
        ids = [each.row["id"] for each in new]
        if ids:
            operation.record(kit, unit, "db.merge", reason="PostgreSQL is back", detail={"entries": ids})
        intake.clear(kit, unit, list(unit.hold(ids).values()), "PostgreSQL is back")
    merged.added += ids
