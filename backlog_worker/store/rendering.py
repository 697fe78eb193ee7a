"""Conversion of rows to readable lines and back, with raw statements of the driver."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from backlog_worker.store.sql.dialect import METADATA, kind_of

KEYS = {name: tuple(column.name for column in table.primary_key) for name, table in METADATA.tables.items()}
_ENCODER = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)
_STORED = json.JSONEncoder(separators=(",", ":"))  # as the statements of the store write JSON on SQLite


def triggers(raw: Any, table: str) -> Iterator[str]:  # noqa: ANN401 - the driver's cursor
    """Yield triggers that record every written row of a table, and the key of every deleted row."""
    key = ", ".join(f"'{name}', OLD.{name}" for name in _key(raw, table))
    live = "WHEN (SELECT live FROM capturing) = 1"
    for verb in ("INSERT", "UPDATE"):
        yield (
            f"CREATE TEMP TRIGGER IF NOT EXISTS {verb}_{table} AFTER {verb} ON main.{table} {live}"
            f" BEGIN INSERT INTO changed VALUES ('{table}', NEW.rowid); END"
        )
    yield (
        f"CREATE TEMP TRIGGER IF NOT EXISTS delete_{table} AFTER DELETE ON main.{table} {live}"
        f" BEGIN INSERT INTO gone VALUES ('{table}', json_object({key})); END"
    )


def put(raw: Any, table: str, row: Mapping[str, Any]) -> None:  # noqa: ANN401 - the driver's cursor
    """Insert or replace a row; columns unknown to this release are left out."""
    known = [name for name in row if name in METADATA.tables[table].c]
    marks = ", ".join("?" for _ in known)
    values = [stored(table, name, row[name]) for name in known]
    raw.execute(f"INSERT OR REPLACE INTO {table} ({', '.join(known)}) VALUES ({marks})", values)


def row(raw: Any, table: str, place: int) -> dict[str, Any] | None:  # noqa: ANN401 - the driver's cursor
    """Return the row with a rowid in readable form; None if it was deleted."""
    found = raw.execute(f"SELECT * FROM {table} WHERE rowid = ?", (place,)).fetchone()
    return None if found is None else _named(raw, table, found)


def rows(raw: Any, table: str) -> Iterator[dict[str, Any]]:  # noqa: ANN401 - the driver's cursor
    """Yield every row of a table in key order; nothing if the schema lacks the table."""
    if raw.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (table,)).fetchone():
        order = ", ".join(_key(raw, table))
        for each in raw.execute(f"SELECT * FROM {table} ORDER BY {order}"):
            yield _named(raw, table, each)


def _key(raw: Any, table: str) -> list[str]:  # noqa: ANN401 - the driver's cursor
    """Return the key columns of a table that the schema, possibly an older one, has."""
    there = {each[1] for each in raw.execute(f"PRAGMA table_info({table})")}
    return [name for name in KEYS[table] if name in there]


def _named(raw: Any, table: str, values: Sequence[Any]) -> dict[str, Any]:  # noqa: ANN401 - the driver's cursor
    return {
        head[0]: shown(table, head[0], value)
        for head, value in zip(raw.description, values, strict=True)
        if value is not None
    }


def shown(table: str, name: str, value: Any) -> Any:  # noqa: ANN401 - one value of any column
    """Return a value in readable form: moments in ISO 8601, JSON as JSON."""
    kind = kind_of(table, name)
    if kind == "moment" and isinstance(value, int | float):
        return datetime.fromtimestamp(value, UTC).isoformat()
    return json.loads(value) if kind == "data" and isinstance(value, str) else value


def stored(table: str, name: str, value: Any) -> Any:  # noqa: ANN401 - one value of any column
    """Convert a value from the readable form to the database's form."""
    kind = kind_of(table, name)
    if kind == "moment" and isinstance(value, str):
        return datetime.fromisoformat(value).timestamp()
    return _STORED.encode(value) if kind == "data" and value is not None else value


def line_of(value: Mapping[str, Any]) -> bytes:
    """Return one line of a file."""
    return (_ENCODER.encode(value) + "\n").encode()
