"""Retired entries, reconstructed from their histories."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from backlog_worker.domain import projection
from backlog_worker.domain.entry import Entry
from backlog_worker.domain.errors import NotFoundError
from backlog_worker.domain.events import Event
from backlog_worker.lifecycle import Kit
from backlog_worker.lifecycle.evidence import told_rows, whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """A retired entry in its final state, with its history and the rows that it describes."""

    entry: Entry
    words: str
    events: Sequence[Event]
    tables: Mapping[str, Sequence[Mapping[str, Any]]]
    receipts: Sequence[Mapping[str, Any]]

    @property
    def records(self) -> list[Mapping[str, Any]]:
        """Return the last record that was written back, if the history has one."""
        return [row["body"] for row in self.tables["outbox"] if row.get("body") and row["target"] == "folder"]


def remembered(kit: Kit, entry_id: str) -> Remembered | None:
    """Return a retired entry by its id or a prefix of it; None if it is not retired.

    Raises NotFoundError if its evidence has expired.
    """
    with kit.store.read() as unit:
        left = unit.retired(entry_id)
        if left is None:
            return None
        entry, _ = whole(unit, left["entry_id"])
        events = unit.history(entry.id)
    words = f"retired on {left['at']:%Y-%m-%d}, evidence until {left['evidence_until']:%Y-%m-%d}"
    if left["legal_hold"]:
        words += f" and under a legal hold ({left['legal_hold']})"
    tables, receipts = told_rows(events, entry.id), projection.receipts(events)
    return Remembered(entry=entry, words=words, events=events, tables=tables, receipts=receipts)


def record(kit: Kit, entry_id: str) -> Mapping[str, Any]:
    """Return the last record of an entry, retired or not; raises NotFoundError if none was written back."""
    old = remembered(kit, entry_id)
    if old is not None:
        records, words = old.records, f"nothing was written back for {old.entry.id}; it is {old.words}"
    else:
        with kit.store.read() as unit:
            entry, _ = whole(unit, entry_id)
            records = [wish["body"] for wish in unit.wishes(entry.id)]
        words = f"nothing was written back for {entry.id}; it is {entry.status}"
    if not records:
        raise NotFoundError(words)
    return records[0]
