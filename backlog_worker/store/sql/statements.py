"""How a unit runs its statements: many rows in one statement, texts built once, rows decoded on the way out."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy.engine import Connection, CursorResult

from backlog_worker.domain.errors import StoreError
from backlog_worker.domain.masking import cut
from backlog_worker.store.sql.dialect import Dialect, decode, moment, packed
from backlog_worker.telemetry import emit

Row = dict[str, Any]
# The wall of a statement that goes by ids, or by an index of its own: what belongs to another environment is not there.
# Written so that no index that begins with env can tempt the planner away from that one.
HERE = "env || '' = :env"


class Statements:
    """One transaction of the store, as the verbs of the modules beside this one use it."""

    def __init__(self, connection: Connection, dialect: Dialect, env: str) -> None:
        self.connection = connection
        self.dialect = dialect
        self.env = env
        self.statements = 0
        self._now: datetime | None = None

    def now(self) -> datetime:
        """Return the database's time; the first reading counts for the whole transaction."""
        if self._now is None:
            self._now = moment(self.value("SELECT {now}"))
        return self._now

    def plan_freely(self) -> None:
        """Let the planner read whole tables in this transaction, as reports and verifications must."""
        if self.dialect.name == "postgresql":
            for name in ("enable_seqscan", "enable_bitmapscan", "enable_hashjoin", "enable_mergejoin"):
                self.run("SET LOCAL " + name + " = on")

    def run(self, text: str, **values: object) -> Sequence[Any]:
        """Run a statement and return its rows, if it gives any."""
        result = self._sent(text, values)
        return result.all() if result.returns_rows else ()

    def count(self, text: str, **values: object) -> int:
        """Run a statement and return how many rows it changed."""
        return self._sent(text, values).rowcount

    def value(self, text: str, **values: object) -> Any:  # noqa: ANN401 - one value of any column
        """Run a statement and return the first value of its first row, or None."""
        rows = self.run(text, **values)
        return rows[0][0] if rows else None

    def select(self, table: str, text: str, **values: object) -> list[Row]:
        """Run a statement over *table* and return decoded rows; raises StoreError for a row that cannot be read."""
        result = self._sent(text, values)
        columns = tuple(result.keys())
        return [_read(table, columns, row) for row in result.all()]

    def legible(self, table: str, text: str, **values: object) -> list[Row]:
        """Run a statement over *table* and return the rows that can be read; one that cannot is said, and left out."""
        result = self._sent(text, values)
        columns = tuple(result.keys())
        found = []
        for row in result.all():
            try:
                found.append(_read(table, columns, row))
            except StoreError as error:
                emit("row_unreadable", table=table, error=str(error))
        return found

    def insert(self, table: str, rows: Iterable[Mapping[str, Any]], tail: str = "") -> Sequence[Any]:
        """Insert rows that all have the same columns, in one statement; *tail* is the rest of it."""
        listed = list(rows)
        if not listed:
            return ()
        return self.run(_insert(self.dialect, table, tuple(listed[0]), tail), rows=packed(listed))

    def update(self, table: str, rows: Iterable[Mapping[str, Any]], guard: str, **values: object) -> Sequence[Any]:
        """Update one row of *table* for each of *rows*, where *guard* holds.

        A column with `__` in its name only serves the guard.
        *values* are shared by all rows; `lease` is a length in seconds from now, for `leased_until`.
        """
        listed = list(rows)
        if not listed:
            return ()
        text = _update(self.dialect, table, tuple(listed[0]), guard, "lease" in values)
        return self.run(text, rows=packed(listed), **values)

    def past(self, seconds: str = "seconds") -> str:
        """Return, in SQL, the moment that lies a parameter of that name, in seconds, before now."""
        return f"{{now}} - {self._seconds_of(f':{seconds}')}"

    def _moment(self, name: str) -> str:
        """Return, in SQL, the moment that a parameter of that name holds as seconds since 1970."""
        return f"to_timestamp(:{name})" if self.dialect.name == "postgresql" else f":{name}"

    def _seconds_of(self, value: str) -> str:
        """Return, in SQL, a number of seconds as what can be added to a moment."""
        return f"make_interval(secs => {value})" if self.dialect.name == "postgresql" else value

    def _sent(self, text: str, values: Mapping[str, object]) -> CursorResult[Any]:
        self.statements += 1
        try:
            return self.connection.exec_driver_sql(self.dialect.sql(text), values)
        except (ValueError, OverflowError) as error:  # no database can hold the value: half a character, a huge number
            message = f"the database cannot hold a value: {cut(str(error), 200)}"
            raise StoreError(message) from None


def _read(table: str, columns: tuple[str, ...], row: Sequence[Any]) -> Row:
    """Decode a row; raises StoreError that names it."""
    try:
        return decode(table, columns, row)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        which = dict(zip(columns, row, strict=True)).get("id", "")
        message = f"a row of {table} cannot be read ({columns[0]} {which or row[0]}): {cut(str(error), 200)}"
        raise StoreError(message, hint="restore the row from a backup: nothing of ours writes that") from None


@lru_cache(maxsize=256)
def _insert(dialect: Dialect, table: str, columns: tuple[str, ...], tail: str) -> str:
    names = ", ".join(columns)
    values = ", ".join(dialect.value(table, column) for column in columns)
    source = dialect.rows(table, columns)
    return " ".join(("INSERT INTO", table, f"({names})", "SELECT", values, "FROM", source, "WHERE true", tail))


@lru_cache(maxsize=256)
def _update(dialect: Dialect, table: str, columns: tuple[str, ...], guard: str, leased: bool) -> str:
    written = [column for column in columns if "__" not in column]
    settings = [f"{column} = {dialect.value(table, column)}" for column in written]
    if leased:
        settings.append("leased_until = {later}")
    source = dialect.rows(table, columns)
    return " ".join(("UPDATE", table, "SET", ", ".join(settings), "FROM", source, "WHERE", guard))
