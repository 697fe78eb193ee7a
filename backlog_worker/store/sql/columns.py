"""How columns are made, alike in every table; moments are `timestamptz` in PostgreSQL, seconds since 1970 in SQLite."""

from enum import StrEnum

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

METADATA = sa.MetaData()
MOMENT = sa.TIMESTAMP(timezone=True).with_variant(sa.REAL(), "sqlite")
DATA = JSONB().with_variant(sa.JSON(), "sqlite")
NUMBER: sa.Double[float] = sa.Double()


def text(name: str, *, default: str | None = None, nullable: bool = False) -> "sa.Column[str]":
    """Make a column of text."""
    return sa.Column(name, sa.Text, nullable=nullable, server_default=default)


def moment(name: str, *, nullable: bool = True) -> "sa.Column[object]":
    """Make a column that holds a moment of the database's clock."""
    return sa.Column(name, MOMENT, nullable=nullable)


def count(name: str) -> "sa.Column[int]":
    """Make a column that counts from 0."""
    return sa.Column(name, sa.Integer, nullable=False, server_default="0")


def data(name: str, default: str | None = None) -> "sa.Column[object]":
    """Make a column of free JSON."""
    return sa.Column(name, DATA, nullable=default is None, server_default=default)


def known(column: str, words: type[StrEnum], name: str) -> sa.CheckConstraint:
    """Make a CHECK that a column holds one word of a closed list."""
    listed = ", ".join(f"'{word}'" for word in words)
    return sa.CheckConstraint(f"{column} IN ({listed})", name=name)


def random_part(table: str, column: str, place: int) -> sa.Index:
    """Make an index over what people type of an id: its random part, which begins at *place*."""
    return sa.Index(f"{table}_by_random_part", sa.text(f"substr({column}, {place})"))


def partial(name: str, *columns: str, where: str, unique: bool = False) -> sa.Index:
    """Make an index over the rows of which *where* is true."""
    condition = sa.text(where)
    return sa.Index(name, *columns, unique=unique, postgresql_where=condition, sqlite_where=condition)
