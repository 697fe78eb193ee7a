"""Engines and transactions: a pool per process, created after the fork; SQLite writers lock at BEGIN."""

import os
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import NullPool, StaticPool

from backlog_worker import installed
from backlog_worker.domain.errors import InvalidInputError, MissingExtraError
from backlog_worker.store.sql import deadline, faults
from backlog_worker.store.sql.dialect import POSTGRES, SQLITE, Dialect

# A hanging statement or lock must end before half of the shortest sensible lease.
# Every hot statement has its index; a table that is small, or not yet analyzed, must not tempt the planner to read
# all of it, dead rows included, once per statement; nor every row of an environment by a bitmap.
_OPTIONS = (
    "-c statement_timeout=30000 -c lock_timeout=10000 -c idle_in_transaction_session_timeout=60000 -c timezone=UTC"
    " -c enable_seqscan=off -c enable_bitmapscan=off -c enable_hashjoin=off -c enable_mergejoin=off -c jit=off"
)
LITE_WAIT_MS = 30_000  # how long a transaction on SQLite waits for the lock of another
Clock = Callable[[], float]
_ADDRESSES = "postgresql://user:password@host:5432/name or sqlite:////absolute/path.db; in a password write @ as %40"
# A SQLite file must not be open in a process that forks: the child would close it, and with it drop the locks that
# guard the file. So every transaction on one has a connection of its own, and a fork waits until it is closed.
FORKING = threading.RLock()
os.register_at_fork(before=FORKING.acquire, after_in_parent=FORKING.release, after_in_child=FORKING.release)


def made(url: str, *, clock: Clock | None = None) -> tuple[Engine, Dialect]:
    """Create an engine for *url*; *clock* replaces the database's clock, for SQLite in tests only.

    Raises InvalidInputError for an invalid database address.
    """
    try:
        if url.startswith("postgresql"):
            return _postgres(url), POSTGRES
        return _sqlite(url, clock or time.time), SQLITE
    except (ArgumentError, ValueError, TypeError):  # their messages may contain a password
        message = f"BACKLOG_DATABASE_URL is not a database address: {url.partition(':')[0]}:..."
        raise InvalidInputError(message, hint=_ADDRESSES) from None


@contextmanager
def opened(engine: Engine, *, writes: bool) -> Iterator[Connection]:
    """Open one transaction; errors of the driver, including those at commit, are raised as our own."""
    with reached(engine) as connection:
        if engine.dialect.name == "sqlite":
            connection.execution_options(begin="BEGIN IMMEDIATE" if writes else "BEGIN")
        with connection.begin():
            yield connection


@contextmanager
def reached(engine: Engine) -> Iterator[Connection]:
    """Connect; errors of the driver are raised as our own, UnreachableError if the server does not answer."""
    wrong = (SQLAlchemyError, engine.dialect.loaded_dbapi.Error)
    try:
        connection = engine.connect()
    except wrong as error:
        raise faults.own(engine, error, connecting=True) from None
    try:
        with connection:
            yield connection
    except wrong as error:
        raise faults.own(engine, error) from None


def _postgres(url: str) -> Engine:
    address = "postgresql+psycopg" + url[url.index("://") :]
    try:
        engine = sa.create_engine(
            address,
            pool_size=5,
            max_overflow=15,
            connect_args=dict(deadline.SOCKET),
        )
    except ModuleNotFoundError:
        message = "PostgreSQL needs the driver psycopg"
        raise MissingExtraError(message, hint=installed.command("postgres")) from None
    deadline.limited(engine)
    sa.event.listen(engine, "connect", _settled)
    sa.event.listen(engine, "begin", _begun_pooled)
    return engine


def _settled(raw: Any, _record: object) -> None:  # noqa: ANN401 - the driver, which is imported where it is used
    """Apply the session settings; behind a pooler such as PgBouncer they are applied per transaction.

    A pooler refuses startup options and shares sessions, so settings and prepared statements would affect other
    clients. It is recognised by the process id that it reports for the server.
    """
    raw.autocommit = True
    raw.pooled = raw.execute("SELECT pg_backend_pid()").fetchone()[0] != raw.info.backend_pid
    if raw.pooled:
        raw.prepare_threshold = None
    else:
        raw.execute(_settings("SET"))
    raw.autocommit = False


def _begun_pooled(connection: Connection) -> None:
    raw: Any = connection.connection.driver_connection
    if raw.pooled:
        raw.execute(_settings("SET LOCAL"))


def _settings(word: str) -> str:
    return "; ".join(f"{word} {name} = '{value}'" for name, value in re.findall(r"-c (\w+)=(\S+)", _OPTIONS))


def _sqlite(url: str, clock: Clock) -> Engine:
    memory = url in {"sqlite://", "memory://"}
    pool: dict[str, Any] = {"poolclass": StaticPool if memory else NullPool}
    address = "sqlite://" if memory else url
    arguments = {"check_same_thread": False, "timeout": LITE_WAIT_MS / 1000}
    engine = sa.create_engine(address, connect_args=arguments, **pool)

    @sa.event.listens_for(engine, "connect")
    def _connected(raw: sqlite3.Connection, _record: object) -> None:
        raw.isolation_level = None  # we begin ourselves: a deferred transaction that turns into a writer fails
        raw.create_function("backlog_now", 0, clock)
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={LITE_WAIT_MS}"):
            raw.execute(f"PRAGMA {pragma}")

    @sa.event.listens_for(engine, "begin")
    def _begun(connection: Connection) -> None:
        if word := connection.get_execution_options().get("begin", "BEGIN"):  # nothing: VACUUM runs outside of one
            connection.exec_driver_sql(word)

    return engine
