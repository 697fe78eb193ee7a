"""Rows that belong to entries: every written row is added to the next event of its entry."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from backlog_worker.domain.binding import BOUND
from backlog_worker.store.sql.dialect import METADATA, bare, decode, default_of, kind_of
from backlog_worker.store.sql.history import History
from backlog_worker.store.sql.statements import Row


class BoundRows(History):
    """Methods that write rows of entries; `flush` adds the written rows to the history."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.written: dict[str, dict[str, dict[str, Any]]] = {}  # entry -> table -> row name -> values

    def insert_bound(self, table: str, rows: Iterable[Mapping[str, Any]], tail: str = "") -> list[Row]:
        """Insert rows and return the written ones, without values that a digest binds."""
        return self._bound(table, self.insert(table, rows, f"{tail} RETURNING {', '.join(columns_of(table))}"))

    def update_bound(self, table: str, rows: Iterable[Mapping[str, Any]], guard: str) -> list[Row]:
        """Update one row for each of *rows* where *guard* holds, and return the written ones."""
        listed = ", ".join(f"{table}.{column}" for column in columns_of(table))
        return self._bound(table, self.update(table, rows, f"{guard} RETURNING {listed}"))

    def write_bound(self, table: str, text: str, **values: object) -> list[Row]:
        """Run an UPDATE of *table* and return the written rows."""
        return self._bound(table, self.run(f"{text} RETURNING {', '.join(columns_of(table))}", **values))

    def remove_bound(self, table: str, text: str, **values: object) -> int:
        """Run a DELETE of *table*; returns the number of deleted rows."""
        columns = (BOUND[table].owner, *BOUND[table].key)
        rows = self.run(f"{text} RETURNING {', '.join(columns)}", **values)
        found = [dict(zip(columns, row, strict=True)) for row in rows]
        for row in found:
            self._keep(table, row, None)
        return len(found)

    def bound_rows(self, table: str, entry_ids: Sequence[str]) -> dict[str, list[Row]]:
        """Return the current rows of entries, without loose and default values, by entry."""
        bound = BOUND[table]
        listed = ", ".join((*columns_of(table), *bound.by_digest))
        text = f"SELECT {listed} FROM {table} WHERE {bound.owner} {{ids}} ORDER BY {', '.join(bound.key)}"
        found: dict[str, list[Row]] = {}
        for row in self.select(table, text, ids=self.dialect.bind(entry_ids)):
            found.setdefault(row[bound.owner], []).append(bare(table, row))
        return found

    def restore_rows(self, table: str, entry_id: str, rows: Sequence[Mapping[str, Any]], *, alone: bool) -> None:
        """Write rows rebuilt from a history, for `audit rebuild`; with *alone*, other rows of the entry are deleted."""
        bound, made = BOUND[table], [_restored(table, row, self.now()) for row in rows]
        if alone:
            kept = {bound.name(row) for row in rows}
            for row in self.bound_rows(table, [entry_id]).get(entry_id, ()):
                if bound.name(row) not in kept:
                    guard = " AND ".join(f"{column} = :{column}" for column in (bound.owner, *bound.key))
                    named = {column: row[column] for column in (bound.owner, *bound.key)}
                    self.count(f"DELETE FROM {table} WHERE {guard}", **named)
        if made:
            keys = ", ".join(column.name for column in METADATA.tables[table].primary_key)
            kept_as_is = {*bound.by_digest, *keys.split(", ")}
            settings = [f"{column} = excluded.{column}" for column in made[0] if column not in kept_as_is]
            action = f"UPDATE SET {', '.join(settings)}" if settings else "NOTHING"
            self.insert(table, made, f"ON CONFLICT ({keys}) DO {action}")

    def _bound(self, table: str, rows: Iterable[Any]) -> list[Row]:
        found = [decode(table, columns_of(table), row) for row in rows]
        for row in found:
            self._keep(table, row, BOUND[table].facts(bare(table, row)))
        return found

    def _keep(self, table: str, row: Row, facts: Mapping[str, Any] | None) -> None:
        if row[BOUND[table].owner]:  # write-backs of digests and alerts belong to no entry
            rows = self.written.setdefault(row[BOUND[table].owner], {}).setdefault(table, {})
            rows[BOUND[table].name(row)] = facts


def _restored(table: str, row: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """Return a complete row from the values in a history, with defaults and an expired lease."""
    kinds = {column: kind_of(table, column) for column in columns_of(table)}
    full = {**{column: default_of(table, column) for column in kinds}, **row}
    found = {
        column: datetime.fromisoformat(value) if kinds.get(column) == "moment" and isinstance(value, str) else value
        for column, value in full.items()
    }
    if table == "stages":
        found["leased_until"] = now if found["status"] == "running" else None
    return found


@lru_cache
def columns_of(table: str) -> tuple[str, ...]:
    """Return the columns of a table whose values are bound directly."""
    apart = {*BOUND[table].loose, *BOUND[table].by_digest}
    return tuple(column.name for column in METADATA.tables[table].columns if column.name not in apart)
