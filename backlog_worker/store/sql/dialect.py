"""The differences between the two databases: time, locks, and binding many rows in one value.

The text of statements contains only our own names; all external values are bound. Many rows are bound as one JSON
array, so the text and the plan of a statement do not depend on the number of rows.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from backlog_worker.store.sql import columns, ledgers, tables


@dataclass(frozen=True, slots=True)
class Dialect:
    """The SQL dialect of one database."""

    name: str
    now: str
    lock: str
    skip_locked: str
    ids: str
    later: str

    def sql(self, text: str) -> str:
        """Make a driver's statement of *text*: `{now}`, `{lock}`, `{skip_locked}`, `{ids}` and `{later}` stand for the
        words of the database, and `:name` for a bound value.
        """
        return _statement(self, text)

    def bind(self, ids: Iterable[str]) -> object:
        """Bind a list of ids for `{ids}`."""
        return list(ids) if self.name == "postgresql" else json.dumps(list(ids))

    def rows(self, table: str, columns: Sequence[str]) -> str:
        """Return the FROM clause `r` that reads :rows as rows of *columns*; a name may carry a suffix after `__`."""
        kinds = [(column, kind_of(table, column.partition("__")[0])) for column in columns]
        if self.name == "postgresql":
            typed = ", ".join(f'"{column}" {_POSTGRES[kind]}' for column, kind in kinds)
            return f"jsonb_to_recordset(CAST(:rows AS jsonb)) AS r({typed})"
        parts = ", ".join(_SQLITE[kind].replace("?", column) + f' AS "{column}"' for column, kind in kinds)
        return f"(SELECT {parts} FROM json_each(:rows)) AS r"

    def value(self, table: str, column: str) -> str:
        """Return the SQL that converts a column of `r` for *table*."""
        moment = kind_of(table, column) == "moment" and self.name == "postgresql"
        return f'to_timestamp(r."{column}")' if moment else f'r."{column}"'


POSTGRES = Dialect(
    name="postgresql",
    now="clock_timestamp()",
    lock="FOR UPDATE",
    skip_locked="FOR UPDATE SKIP LOCKED",
    ids="= ANY(CAST(:ids AS text[]))",
    later="clock_timestamp() + make_interval(secs => :lease)",
)
SQLITE = Dialect(
    name="sqlite",
    now="backlog_now()",
    lock="",
    skip_locked="",
    ids="IN (SELECT value FROM json_each(:ids))",
    later="backlog_now() + :lease",
)
_POSTGRES = {"text": "text", "int": "bigint", "number": "double precision", "moment": "double precision"} | {
    "data": "jsonb",
    "bool": "boolean",
}
_SQLITE = dict.fromkeys(("text", "int", "number", "moment", "bool"), "value ->> '$.?'") | {
    "data": "nullif(value -> '$.?', 'null')"
}


def packed(rows: Iterable[Mapping[str, Any]]) -> str:
    """Bind many rows as one JSON text; moments become seconds since 1970."""
    return _ENCODER.encode([*rows])


def decoded(table: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """Convert a driver's row into Python values: moments in UTC, JSON as objects."""
    return decode(table, tuple(row), tuple(row.values()))


def decode(table: str, columns: tuple[str, ...], values: Sequence[Any]) -> dict[str, Any]:
    """Return a row from values in the order of *columns*, converting only columns that need it."""
    row = dict(zip(columns, values, strict=True))
    for column, kind in _special(table, columns):
        if row[column] is not None:
            row[column] = _decoded(kind, row[column])
    return row


def moment(value: object) -> datetime:
    """Return a moment of either database as an aware datetime in UTC."""
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    return datetime.fromtimestamp(float(str(value)), UTC)


METADATA = columns.METADATA
MODULES = (tables, ledgers)  # imported so that METADATA contains all tables before the first statement


@lru_cache(maxsize=512)
def kind_of(table: str, column: str) -> str:
    """Return the kind of a column: text, int, number, moment, data or bool."""
    kind = METADATA.tables[table].c[column].type
    if isinstance(kind, JSONB):
        return "data"
    pairs = ((sa.TIMESTAMP, "moment"), (sa.Boolean, "bool"), (sa.Integer, "int"), (sa.Double, "number"))
    return next((word for each, word in pairs if isinstance(kind, each)), "text")


def bare(table: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row without values equal to the column's default, so new columns do not change digests."""
    defaults = _defaults(table)
    return {name: value for name, value in row.items() if value != defaults.get(name)}


def default_of(table: str, column: str) -> Any:  # noqa: ANN401 - a value of any column
    """Return the default of a column, or None."""
    return _defaults(table).get(column)


@lru_cache
def _defaults(table: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for column in METADATA.tables[table].columns:
        if column.server_default is not None:
            text = str(getattr(column.server_default, "arg", ""))
            found[column.name] = text if kind_of(table, column.name) == "text" else json.loads(text)
    return found


@lru_cache(maxsize=1024)
def _statement(dialect: Dialect, text: str) -> str:
    for word in ("now", "lock", "skip_locked", "ids", "later"):
        text = text.replace("{" + word + "}", str(getattr(dialect, word)))
    return _BOUND.sub(r"%(\1)s", text.replace("%", "%%")) if dialect.name == "postgresql" else text


def _packed(value: object) -> object:
    if isinstance(value, datetime):
        return value.timestamp()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, tuple | frozenset | set):
        return list(value)
    return str(value)


@lru_cache(maxsize=512)
def _special(table: str, columns: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    kinds = ((column, kind_of(table, column)) for column in columns)
    return tuple((column, kind) for column, kind in kinds if kind in {"moment", "data", "bool"})


_BOUND = re.compile(r"(?<![:\w]):([a-z_]+)")
_ENCODER = json.JSONEncoder(default=_packed, separators=(",", ":"))


def _decoded(kind: str, value: object) -> object:
    if kind == "moment":
        return moment(value)
    if kind == "data" and isinstance(value, str):
        return json.loads(value)
    return bool(value) if kind == "bool" else value
