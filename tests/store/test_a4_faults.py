"""Every error of a driver leaves the store as one of ours, wherever it is raised: at the connection, in a statement, at the commit."""

import sqlite3
import subprocess
import sys
import time

import psycopg
import pytest
import sqlalchemy as sa

from backlog_worker.domain.errors import BacklogError, BusyError, FullError, StoreError, UnreachableError
from backlog_worker.store import Store, migrate, opened
from backlog_worker.store.sql import connection, deadline, faults
from backlog_worker.testing import bench
from tests.hole import Hole

POSTGRES = connection.made("postgresql://nobody@127.0.0.1:1/none")[0]
SQLITE = connection.made("sqlite:////tmp/none.db")[0]

STATES = {
    FullError: ["53100"],
    BusyError: ["40001", "40P01", "40003", "55P03", "55006", "57014", "25P03", "25P04", "53200"],
    UnreachableError: ["08000", "08006", "57P01", "57P02", "57P03", "53300", "25006", "28P01", "3D000", "58030"],
    StoreError: ["23505", "23514", "22P02", "42P01", "42601", "0A000", "P0001", "XX000"],
}
CODES = {
    FullError: [sqlite3.SQLITE_FULL],
    BusyError: [sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_BUSY | 2 << 8, sqlite3.SQLITE_PROTOCOL],
    UnreachableError: [
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR | 3 << 8,
    ],
    StoreError: [
        sqlite3.SQLITE_CONSTRAINT,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_ERROR,
        sqlite3.SQLITE_MISMATCH,
    ],
}


def wrapped(error, statement="UPDATE entries SET x = 1"):
    """The error as SQLAlchemy hands it on."""
    driver = psycopg if isinstance(error, psycopg.Error) else sqlite3
    return sa.exc.DBAPIError.instance(statement, {}, error, driver.Error)


@pytest.mark.parametrize(("kind", "state"), [(kind, state) for kind, states in STATES.items() for state in states])
def test_a4_every_state_of_postgresql_has_one_of_our_errors(kind, state):
    found = psycopg.errors.lookup(state)("somebody said no") if state in psycopg.errors._sqlcodes else None
    found = found or type("Named", (psycopg.DatabaseError,), {"sqlstate": state})("somebody said no")
    ours = faults.own(POSTGRES, wrapped(found))
    assert type(ours) is kind
    assert "somebody said no" in str(ours)
    if kind in {StoreError, BusyError}:
        assert "entries" in str(ours), "the table is named"
    if kind is not StoreError:
        assert ours.hint


@pytest.mark.parametrize(("kind", "code"), [(kind, code) for kind, codes in CODES.items() for code in codes])
def test_a4_every_code_of_sqlite_has_one_of_our_errors(kind, code):
    found = sqlite3.OperationalError("somebody said no")
    found.sqlite_errorcode = code
    assert type(faults.own(SQLITE, wrapped(found))) is kind
    assert type(faults.own(SQLITE, found)) is kind, "raw, too"


@pytest.mark.parametrize(
    "error",
    [psycopg.OperationalError("server closed the connection"), psycopg.InterfaceError("the connection is closed")],
)
def test_a4_a_server_that_says_nothing_is_away(error):
    assert type(faults.own(POSTGRES, wrapped(error))) is UnreachableError
    assert type(faults.own(POSTGRES, error)) is UnreachableError


@pytest.mark.parametrize(
    "error",
    [sa.exc.TimeoutError("QueuePool limit"), sa.exc.ResourceClosedError("closed"), sa.exc.InvalidRequestError("x")],
)
@pytest.mark.parametrize("engine", [POSTGRES, SQLITE])
def test_a4_what_sqlalchemy_raises_by_itself_is_ours_too(engine, error):
    assert isinstance(faults.own(engine, error), BacklogError)


@pytest.fixture
def store(database_url) -> Store:
    made = opened(database_url)
    migrate.upgrade(made)
    return made


BOTH = pytest.mark.parametrize("database_url", ["postgres", "sqlite"], indirect=True)


@BOTH
@pytest.mark.parametrize(
    "text",
    [
        "INSERT INTO leases (name) VALUES ('x')",
        "SELECT nothing FROM entries",
        "SELECT * FROM no_such_table",
        "this is no statement",
        "INSERT INTO leases SELECT 1",
    ],
)
def test_a4_what_a_database_refuses_is_our_error_and_nothing_is_written(store, text):
    with pytest.raises(StoreError), store.begin() as unit:
        unit.take_lease("kept", "me", 60)
        unit.run(text)
    with store.read() as unit:
        assert unit.late_by("kept") is None


@BOTH
@pytest.mark.parametrize("value", ["\ud800", "a\x00b", 2**70, float("inf"), float("nan")])
def test_a4_a_value_that_no_database_holds_is_our_error_or_is_held(store, value):
    try:
        with store.begin() as unit:
            unit.run("SELECT :value", value=value)
            unit.insert("snapshots", [{"env": "prod", "kind": "x", "at": unit.now(), "data": {"value": value}}])
    except BacklogError:
        pass


@BOTH
def test_a4_an_error_at_the_commit_is_ours(store, monkeypatch):
    driver = store.engine.dialect.loaded_dbapi

    def _lost(_connection):
        raise driver.OperationalError("gone at the commit")

    with monkeypatch.context() as patch:
        patch.setattr(store.engine.dialect, "do_commit", _lost)
        with pytest.raises(BacklogError, match="gone at the commit"), store.begin() as unit:
            unit.take_lease("x", "me", 60)
    with store.begin() as unit:
        assert unit.take_lease("x", "you", 60)


def test_a4_a_foreign_lock_on_postgresql_is_busy_and_then_over(postgres_url, monkeypatch):
    monkeypatch.setattr(connection, "_OPTIONS", connection._OPTIONS.replace("lock_timeout=10000", "lock_timeout=100"))
    store = opened(postgres_url)
    migrate.upgrade(store)
    with psycopg.connect(postgres_url) as foreign:
        foreign.execute("LOCK TABLE leases, workers IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(BusyError, match="leases"), store.begin() as unit:
            unit.take_lease("x", "me", 60)
    with store.begin() as unit:
        assert unit.take_lease("x", "me", 60)


HOLDER = """
import sqlite3, sys
held = sqlite3.connect(sys.argv[1], isolation_level=None)
held.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
sys.stdin.read()
"""


def test_a4_a_foreign_lock_on_sqlite_is_busy_and_then_over(tmp_path):
    path = tmp_path / "backlog.db"
    store = opened(f"sqlite:///{path}")
    migrate.upgrade(store)
    sa.event.listen(store.engine, "connect", lambda raw, _: raw.execute("PRAGMA busy_timeout=50"))
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(BusyError, match="locked"), store.begin() as unit:
            unit.take_lease("x", "me", 60)
        holder.stdin.close()
    with store.begin() as unit:
        assert unit.take_lease("x", "me", 60)


def test_a4_a_full_disk_under_sqlite_is_full_and_goes_on_when_there_is_room(tmp_path):
    table = bench(url=f"sqlite:///{tmp_path / 'backlog.db'}")
    table.file({})
    pages = []
    sa.event.listen(
        table.kit.store.engine,
        "connect",
        lambda raw, _: [raw.execute(f"PRAGMA max_page_count={each}") for each in pages],
    )
    with table.kit.store.read() as unit:
        pages.append(unit.value("PRAGMA page_count"))
    with pytest.raises(FullError) as raised:
        table.file(*({"input": {"body": "x" * 20_000}} for _ in range(20)))
    assert "free some space" in raised.value.hint
    pages.clear()
    table.file({"input": {"body": "x" * 20_000}})
    table.run()
    assert table.statuses() == {"completed": 2}


def test_a4_a_row_that_cannot_be_read_is_named_and_hides_no_other(tmp_path):
    table = bench(url=f"sqlite:///{tmp_path / 'backlog.db'}")
    bad, good = [each.entry_id for each in table.file({"dedupe_key": "bad"}, {"dedupe_key": "good"})]
    with table.kit.store.begin() as unit:
        unit.run("UPDATE entries SET labels = '{not json' WHERE id = :id", id=bad)
    with pytest.raises(StoreError, match=bad), table.kit.store.begin() as unit:
        unit.hold([bad])
    table.run()
    with table.kit.store.read() as unit:
        assert unit.value("SELECT status FROM entries WHERE id = :id", id=good) == "completed"


@pytest.fixture
def hole(postgres_url):
    made = Hole(postgres_url)
    yield made
    made.close()


def test_a4_a_connection_that_swallows_packets_is_given_up_by_our_own_clock(hole, monkeypatch):
    monkeypatch.setattr(deadline, "ANSWER_SECONDS", 1.0)
    store = opened(hole.url)
    migrate.upgrade(store)
    began = time.monotonic()
    with pytest.raises(UnreachableError, match="no answer within"), store.begin() as unit:
        unit.take_lease("x", "me", 60)
        hole.swallows.set()
        unit.late_by("x")
    assert time.monotonic() - began < 5
    hole.swallows.clear()
    with store.begin() as unit:
        assert unit.take_lease("x", "you", 60), "it was rolled back, and a new connection is made"
