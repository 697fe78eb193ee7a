"""Entries: hold, move and file. Every change is one guarded update with its event in the same transaction.

An entry is *held* once its row was read and locked in this transaction. `move` and `note` then record changes, and
`flush` (called before the commit) writes one guarded UPDATE for all held entries and one INSERT for their events. If
the UPDATE misses a held entry, another transaction changed it, and the whole transaction is refused.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from backlog_worker.domain.binding import ROWS
from backlog_worker.domain.entry import FOLDED, UNHELD, Change, Entry, Note, Status, declared, target
from backlog_worker.domain.errors import ConflictError, LostClaimError
from backlog_worker.domain.events import Event, chained
from backlog_worker.domain.masking import cut
from backlog_worker.store.sql.bound import BoundRows
from backlog_worker.store.sql.statements import HERE

HELD = frozenset({Status.READY, Status.IN_PROGRESS})
Data = Mapping[str, Any] | None
COLUMNS = tuple(each.name for each in fields(Entry))
LISTED = ", ".join(COLUMNS)
_HOLD = f"SELECT {LISTED} FROM entries WHERE id {{ids}} AND {HERE} ORDER BY id {{lock}}"
_RENEW = f"SELECT {LISTED} FROM entries WHERE run_id {{ids}} AND status = 'in_progress' AND {HERE} ORDER BY id {{lock}}"
# The guard: the row is unchanged since it was read, and still belongs to the same run.
_GUARD = (
    "entries.id = r.id__ AND entries.seq = r.seq__read AND entries.status = r.status__read"
    " AND coalesce(entries.run_id, '') = coalesce(r.run_id__read, '') RETURNING entries.id"
)


@dataclass(slots=True)
class Held:
    """An entry read in this transaction, with its pending changes."""

    read: Entry
    entry: Entry
    head: str
    seq: int
    run_id: str | None = None  # the last run that held it in this transaction; it may have ended since
    events: list[Event] = field(default_factory=list)
    written: set[str] = field(default_factory=set)


class Entries(BoundRows):
    """Methods for entries."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.held: dict[str, Held] = {}
        self.actor = "system"
        self.lease: float | None = None
        self.began = time.monotonic()  # leases given by this transaction begin no earlier

    def hold(self, entry_ids: Iterable[str]) -> dict[str, Entry]:
        """Lock entries in the order of their ids and return them.

        Unknown ids and ids of another environment are left out.
        """
        ids = self.dialect.bind(sorted(set(entry_ids)))
        return self._held(self.select("entries", _HOLD, ids=ids, env=self.env))

    def renew(self, run_ids: Iterable[str]) -> dict[str, Entry]:
        """Lock the entries that these runs still hold, by run; a run that is missing has lost its claim."""
        ids = self.dialect.bind(sorted(set(run_ids)))
        found = self._held(self.select("entries", _RENEW, ids=ids, env=self.env))
        return {str(entry.run_id): entry for entry in found.values()}

    def renewed(self, run_id: str) -> Entry:
        """Lock the entry that one run holds; raises LostClaimError if it holds none."""
        entry = self.renew([run_id]).get(run_id)
        if entry is None:
            message = f"run {run_id} has lost its claim"
            raise LostClaimError(message)
        return entry

    def move(self, entry_id: str, change: Change, reason: str, data: Data = None, **values: Any) -> Entry:
        """Apply *change* to a held entry if the table allows it; *data* is added to its event."""
        held = self.held[entry_id]
        status = target(change, held.entry.status)
        free = dict(UNHELD)
        if status in HELD:
            del free["leased_until"]  # set by the flush, in the database's time
        bars = {} if status == Status.BLOCKED else {"bars": ()}
        wake = {"wake_at": None, "rings": 0}
        moved = {**free, **bars, **wake, "reason": cut(reason, 500), "changed_at": self.now(), **values}
        before = held.entry
        said = declared(str(moved.get("declared", before.declared)), change, moved.get("bars", before.bars))
        if said != before.declared:
            moved["declared"] = said
        run_id = held.run_id = before.run_id or values.get("run_id") or held.run_id
        held.entry = replace(before, status=status, seq=held.seq + 1, **moved)
        held.written |= set(moved) | {"status"}
        if before.status == Status.IN_PROGRESS:
            self._end_run(str(before.run_id), change, reason, data, str(values.get("outcome", "")))
        changed = {name: _stored(getattr(held.entry, name)) for name in moved if name in FOLDED}
        self._event(held, change, {**(data or {}), "set": changed}, run_id)
        return held.entry

    def note(self, entry_id: str, note: Note, data: Mapping[str, Any], **values: Any) -> Entry:
        """Record an event of a held entry that does not change its status."""
        held = self.held[entry_id]
        if values:
            held.entry = replace(held.entry, seq=held.seq + 1, **values)
            held.written |= set(values)
        changed = {name: _stored(getattr(held.entry, name)) for name in values if name in FOLDED}
        run_id = held.entry.run_id or held.run_id
        self._event(held, note, {**data, "set": changed} if changed else dict(data), run_id)
        return held.entry

    def flush(self) -> None:
        """Write the pending changes; entries held by a run or a bell get a lease of `lease` seconds.

        The written rows of an entry are added to its last event. Raises ConflictError if a held row changed since it
        was read; the transaction is then rolled back.
        """
        self._bind()
        dirty = [held for held in self.held.values() if held.events]
        shapes: dict[tuple[bool, tuple[str, ...]], list[Held]] = {}
        for held in dirty:
            shapes.setdefault((held.entry.status in HELD, tuple(sorted(held.written))), []).append(held)
        for (leased, columns), group in shapes.items():
            rows = [_row(held, columns) for held in group]
            shared = {"lease": self.lease} if leased and self.lease is not None else {}
            if len(self.update("entries", rows, _GUARD, **shared)) != len(rows):
                message = "an entry changed while it was being written; nothing was written"
                raise ConflictError(message)
        self.append([event for held in dirty for event in held.events])
        for held in dirty:
            held.entry = held.read = replace(held.entry, seq=held.seq)
            held.events, held.written = [], set()

    def file(self, rows: Sequence[Mapping[str, Any]], inputs: Mapping[str, object]) -> set[str]:
        """Insert new entries with their inputs, except those with an existing (env, dedupe key); return the new ids."""
        tail = "ON CONFLICT (env, dedupe_key) DO NOTHING RETURNING id"
        new = {row[0] for row in self.insert("entries", in_order(rows), tail)}
        kept = [row for row in rows if row["id"] in new]
        self.keep_inputs({row["id"]: (row["input_sha256"], inputs[row["id"]]) for row in kept})
        return new

    def keep_inputs(self, inputs: Mapping[str, tuple[str, object]]) -> None:
        """Store inputs by digest; replaced inputs stay readable."""
        rows = [{"entry_id": entry, "sha256": sha, "value": value} for entry, (sha, value) in inputs.items()]
        self.insert("entry_inputs", rows, "ON CONFLICT DO NOTHING")

    def _held(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Entry]:
        found = {row["id"]: entry(row) for row in rows}
        heads = self.heads(list(found)) if found else {}
        for each in found.values():
            if each.id not in self.held:
                self.held[each.id] = Held(
                    read=each, entry=each, head=heads.get(each.id, ""), seq=each.seq, run_id=each.run_id
                )
        return {each: self.held[each].entry for each in found}

    def _bind(self) -> None:
        """Add the written rows to the last event of their entry, or to a new event."""
        if missing := [entry_id for entry_id in self.written if entry_id not in self.held]:
            self.hold(missing)
        for entry_id, rows in self.written.items():
            held = self.held.get(entry_id)
            if held is None:
                continue
            if not held.events:
                self._event(held, Note.WRITTEN, {}, held.entry.run_id or held.run_id)
            last = held.events[-1]
            fields_of = {name: getattr(last, name) for name in ("entry_id", "seq", "at", "change", "actor", "run_id")}
            held.events[-1] = chained({**fields_of, "data": {**last.data, ROWS: rows}}, last.prev)
            held.head = held.events[-1].hash
        self.written.clear()

    def _event(self, held: Held, change: str, data: Mapping[str, Any], run_id: object) -> None:
        held.seq += 1
        held.written.add("seq")
        fields_of = {
            "entry_id": held.entry.id,
            "seq": held.seq,
            "at": self.now(),
            "change": str(change),
            "actor": self.actor,
            "run_id": run_id,
            "data": data,
        }
        event = chained(fields_of, held.head)
        held.head = event.hash
        held.events.append(event)

    def _end_run(self, run_id: str, change: Change, reason: str, data: Data, outcome: str) -> None:
        end = {"ended_at": self.now(), "ended_by": str(change), "kind": (data or {}).get("kind"), "outcome": outcome}
        row = {"id__": run_id, "reason": cut(reason, 500), **end}
        self.update_bound("runs", [row], "runs.id = r.id__ AND runs.ended_at IS NULL")


def entry(row: Mapping[str, Any]) -> Entry:
    """Return the Entry of a decoded row."""
    return Entry(**{**row, "status": Status(row["status"])})


def in_order(rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Sort rows of entries by key, so that two transactions filing the same keys cannot deadlock."""
    return sorted(rows, key=lambda row: (row["env"], row["dedupe_key"]))


def _row(held: Held, columns: Sequence[str]) -> dict[str, Any]:
    read = held.read
    row = {name: getattr(held.entry, name) for name in columns}
    row["seq"] = held.seq
    return row | {"id__": read.id, "seq__read": read.seq, "status__read": str(read.status), "run_id__read": read.run_id}


def _stored(value: object) -> object:
    return value.isoformat() if hasattr(value, "isoformat") else value
