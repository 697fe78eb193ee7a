"""The history: append, read, and the head of each chain; insert only."""

from collections.abc import Sequence
from typing import Any

from backlog_worker.domain.events import Event
from backlog_worker.store.sql.dialect import moment
from backlog_worker.store.sql.statements import Statements

_COLUMNS = ("entry_id", "seq", "at", "change", "version", "actor", "run_id", "data", "canonical", "prev", "hash")
_LISTED = ", ".join(_COLUMNS)


class History(Statements):
    """Methods for the history."""

    def append(self, events: Sequence[Event]) -> None:
        """Add events; the key (entry, seq) refuses a second one, and a trigger refuses to change any."""
        self.insert("events", ({name: getattr(event, name) for name in _COLUMNS} for event in events))

    def history(self, entry_id: str) -> list[Event]:
        """Return the events of one entry, oldest first."""
        text = f"SELECT {_LISTED} FROM events WHERE entry_id = :entry ORDER BY seq"
        return [Event(**row) for row in self.select("events", text, entry=entry_id)]

    def histories(self, entry_ids: Sequence[str]) -> dict[str, list[Event]]:
        """Return the events of entries, oldest first; entries without events are left out."""
        text = f"SELECT {_LISTED} FROM events WHERE entry_id {{ids}} ORDER BY entry_id, seq"
        found: dict[str, list[Event]] = {}
        for row in self.select("events", text, ids=self.dialect.bind(entry_ids)):
            found.setdefault(row["entry_id"], []).append(Event(**row))
        return found

    def facts(self, entry_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return, by entry, the data of its last dispatch and claim, and of every answer and loss, with their moments.

        A lost stage is one mapping.
        """
        text = (
            "SELECT entry_id, change, at, actor, data FROM events WHERE entry_id {ids}"
            " AND change IN ('dispatched', 'claimed', 'answered', 'expired', 'lost') ORDER BY entry_id, seq"
        )
        found: dict[str, dict[str, Any]] = {}
        for row in self.select("events", text, ids=self.dialect.bind(entry_ids)):
            kept = {**row["data"], "at": row["at"], "actor": row["actor"]}
            facts = found.setdefault(row["entry_id"], {})
            if row["change"] == "answered":
                facts.setdefault("answered", []).append(kept)
            elif row["change"] in {"expired", "lost"}:
                facts.setdefault("lost", []).extend({**each, "at": row["at"]} for each in row["data"].get("lost", ()))
            else:
                facts[row["change"]] = kept
        return found

    def heads(self, entry_ids: Sequence[str]) -> dict[str, str]:
        """Return the hash of the last event of each entry; its row must be locked."""
        text = (
            "SELECT e.id, v.hash, {now} FROM entries e JOIN events v ON v.entry_id = e.id AND v.seq = e.seq"
            " WHERE e.id {ids}"
        )
        rows = self.run(text, ids=self.dialect.bind(entry_ids))
        if rows:
            self._now = moment(rows[0][2])  # read after the lock, so the events of an entry are in time order
        return {row[0]: row[1] for row in rows}
