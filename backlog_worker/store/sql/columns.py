"""Column types of all tables; moments are `timestamptz` in PostgreSQL and seconds since 1970 in SQLite."""

from enum import StrEnum

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

METADATA = sa.MetaData()
MOMENT = sa.TIMESTAMP(timezone=True).with_variant(sa.REAL(), "sqlite")
DATA = JSONB().with_variant(sa.JSON(), "sqlite")
NUMBER: sa.Double[float] = sa.Double()


def text(name: str, *, default: str | None = None, nullable: bool = False) -> "sa.Column[str]":
    """Return a text column."""
    return sa.Column(name, sa.Text, nullable=nullable, server_default=default)


def moment(name: str, *, nullable: bool = True) -> "sa.Column[object]":
    """Return a column for a moment of the database's clock."""
    return sa.Column(name, MOMENT, nullable=nullable)


def count(name: str) -> "sa.Column[int]":
    """Return a counter column that starts at 0."""
    return sa.Column(name, sa.Integer, nullable=False, server_default="0")


def data(name: str, default: str | None = None) -> "sa.Column[object]":
    """Return a JSON column."""
    return sa.Column(name, DATA, nullable=default is None, server_default=default)


def known(column: str, words: type[StrEnum], name: str) -> sa.CheckConstraint:
    """Return a CHECK that a column holds one word of a closed list."""
    listed = ", ".join(f"'{word}'" for word in words)
    return sa.CheckConstraint(f"{column} IN ({listed})", name=name)


def random_part(table: str, column: str, place: int) -> sa.Index:
    """Return an index on the random part of an id, which people type; it begins at *place*."""
    return sa.Index(f"{table}_by_random_part", sa.text(f"substr({column}, {place})"))


def partial(name: str, *columns: str, where: str, unique: bool = False) -> sa.Index:
    """Return a partial index on the rows for which *where* is true."""
    condition = sa.text(where)
    return sa.Index(name, *columns, unique=unique, postgresql_where=condition, sqlite_where=condition)
