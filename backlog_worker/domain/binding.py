"""Binding rows to the history: the event that wrote a row holds the values of that row.

Every column is bound unless it is listed below, so a new column is bound automatically. Values equal to the column's
default are left out, so adding a column does not change older rows. *Loose* columns are written without an event, by
the clock, by bells and by retries, and are not evidence. A large value is bound through the column with its digest.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from backlog_worker.domain.events import Event, upcast

COMPLETE_FROM = 3  # events of this version and later carry the rows that they wrote
ROWS = "rows"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """A table with rows of entries: the column with the entry's id, the key, and the columns not bound as is."""

    key: tuple[str, ...]
    owner: str = "entry_id"
    loose: frozenset[str] = frozenset()
    by_digest: Mapping[str, str]  # the value -> the column that holds its digest

    def name(self, row: Mapping[str, Any]) -> str:
        """Return the name of a row, which is unique within its entry."""
        return "/".join(str(row[column]) for column in self.key)

    def facts(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values of a row that are not part of its name, as JSON; NULLs are left out."""
        apart = {self.owner, *self.key, *self.loose, *self.by_digest}
        return {name: plain(each) for name, each in row.items() if name not in apart and each is not None}

    def row(self, entry_id: str, name: str, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Return a row rebuilt from its history, without loose columns and values that are bound by a digest."""
        names = dict(zip(self.key, name.split("/", len(self.key) - 1), strict=True))
        return {self.owner: entry_id, **names, **facts}


_NOTHING: Mapping[str, str] = {}
BOUND: Mapping[str, Bound] = {
    "runs": Bound(key=("id",), by_digest=_NOTHING),
    "stages": Bound(
        key=("pipeline_hash", "job_id"),
        loose=frozenset({"leased_until", "rung_at", "rings", "progress"}),
        by_digest={"output": "sha256"},
    ),
    "reviews": Bound(key=("id",), loose=frozenset({"assigned_at", "reminded_at", "rung_at"}), by_digest=_NOTHING),
    "outbox": Bound(
        key=("id",),
        loose=frozenset({"attempts", "leased_until", "retry_at", "rung_at", "error"}),
        by_digest={"body": "sha256"},
    ),
    "links": Bound(key=("kind", "to_id"), owner="from_id", by_digest=_NOTHING),
}


def told(events: Iterable[Event]) -> dict[str, dict[str, Mapping[str, Any]]]:
    """Fold a history into its rows, as table -> row name -> values; deleted rows are left out."""
    found: dict[str, dict[str, Mapping[str, Any]]] = {table: {} for table in BOUND}
    for event in events:
        for table, rows in upcast(event).get(ROWS, {}).items():
            for name, facts in rows.items():
                found[table].pop(name, None)
                if facts is not None:
                    found[table][name] = facts
    return found


def complete(events: Iterable[Event]) -> bool:
    """Return whether every event of a history carries the rows that it wrote; older versions did not."""
    return all(event.version >= COMPLETE_FROM for event in events)


def plain(value: object) -> Any:  # noqa: ANN401 - free JSON
    """Return a value of a row as JSON; moments are kept to the microsecond."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, tuple | list):
        return [plain(each) for each in value]
    if isinstance(value, Mapping):
        return {name: plain(each) for name, each in value.items()}
    return str(value) if isinstance(value, str) else value
