"""B7: a foreign lock, a pooler between us and PostgreSQL, a table that a migration holds: said as what it is, and over."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import psycopg
import pytest

from backlog_worker.domain.errors import BusyError
from backlog_worker.lifecycle import audit, dispatch, watch
from backlog_worker.store import migrate, opened
from backlog_worker.store.sql import connection
from backlog_worker.testing import bench

HOLDER = """
import sqlite3, sys
held = sqlite3.connect(sys.argv[1], isolation_level=None)
held.execute(sys.argv[2])
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("words", ["BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"])
def test_b7_a_foreign_lock_of_sqlite_is_named_and_outlived(tmp_path, monkeypatch, words):
    monkeypatch.setattr(connection, "LITE_WAIT_MS", 100)
    path = tmp_path / "backlog.db"
    table = bench(url=f"sqlite:///{path}")
    table.file({})
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path), words], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout.readline() == b"held\n"
        for _ in range(3):
            with pytest.raises(BusyError) as caught:
                table.file({})
            assert str(path) in str(caught.value)
            assert "another process holds the lock" in str(caught.value)
            assert "fuser" in caught.value.hint
            with pytest.raises(BusyError):
                dispatch.tick(table.kit)
        assert table.statuses() == {"queued": 1}, "readers go on"
        other.stdin.close()
        other.wait()
    table.file({})
    table.run()
    assert table.statuses() == {"completed": 2}


def test_b7_a_table_that_a_migration_holds_is_named_and_outlived(postgres_url, monkeypatch):
    options = connection._OPTIONS.replace("lock_timeout=10000", "lock_timeout=100")
    monkeypatch.setattr(connection, "_OPTIONS", options)
    table = bench(url=postgres_url)
    table.file({})
    with psycopg.connect(postgres_url) as other:
        other.execute("ALTER TABLE entries ADD COLUMN later text")
        for act in (lambda: table.file({}), lambda: dispatch.tick(table.kit), table.statuses):
            with pytest.raises(BusyError) as caught:
                act()
            assert "another session holds a lock" in str(caught.value)
            assert "pg_blocking_pids" in caught.value.hint
        other.rollback()
    table.file({})
    table.run()
    assert table.statuses() == {"completed": 2}
    table.kit.store.close()


@pytest.fixture
def pooled(postgres_url):
    """A PgBouncer in transaction mode with two sessions before an empty database; returns (pooled, direct) addresses."""
    binary = shutil.which("pgbouncer") or ("/usr/sbin/pgbouncer" if Path("/usr/sbin/pgbouncer").exists() else None)
    if binary is None:
        pytest.skip("no pgbouncer here: apt-get install pgbouncer")
    given = psycopg.conninfo.conninfo_to_dict(postgres_url)
    folder = Path(tempfile.mkdtemp(prefix="pb"))  # the path of a socket is short, and others may enter /tmp
    server = " ".join(f"{name}={given[name]}" for name in ("host", "port", "user", "password") if given.get(name))
    user = given.get("user", "postgres")
    (folder / "users.txt").write_text(f'"{user}" "{given.get("password", "")}"\n')
    (folder / "bouncer.ini").write_text(
        f"[databases]\n{given['dbname']} = {server} dbname={given['dbname']}\n[pgbouncer]\nlisten_addr =\n"
        f"unix_socket_dir = {folder}\nlisten_port = 6432\npool_mode = transaction\ndefault_pool_size = 2\n"
        f"auth_type = any\nauth_file = {folder / 'users.txt'}\nlogfile = {folder / 'log'}\nserver_reset_query =\n"
        "max_client_conn = 100\n"
    )
    command = [binary, str(folder / "bouncer.ini")]
    if os.geteuid() == 0:  # it refuses to run as root: it runs as whoever runs the server
        user_of = Path(given["host"]).owner() if given.get("host", "").startswith("/") else "nobody"
        for each in (folder, *folder.iterdir()):
            shutil.chown(each, user_of)
        command = [binary, "-u", user_of, str(folder / "bouncer.ini")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        log = b""
        while b"process up" not in log:
            line = process.stderr.readline()
            assert line, log.decode()
            log += line
        yield f"postgresql://{user}@/{given['dbname']}?host={folder}&port=6432", postgres_url
        process.terminate()
    shutil.rmtree(folder, ignore_errors=True)


def test_b7_a_fleet_works_behind_pgbouncer_and_leaves_nothing_in_its_sessions(pooled):
    url, direct = pooled
    table = bench(url=url)
    assert migrate.upgrade(table.kit.store) == (migrate.head(), migrate.head())
    table.file(*({} for _ in range(30)))
    table.run()
    assert table.statuses() == {"completed": 30}
    assert watch.verify(table.kit) == []
    assert list(audit.verify(table.kit)) == []
    with table.kit.store.read() as unit:
        assert unit.value("SHOW lock_timeout") == "10s"
        assert unit.value("SHOW enable_seqscan") == "off"
        assert unit.value("SHOW timezone") == "UTC"
        assert unit.connection.connection.driver_connection.pooled
        assert unit.value("SELECT count(*) FROM pg_prepared_statements") == 0
    with psycopg.connect(url, autocommit=True, prepare_threshold=None) as other:
        assert other.execute("SHOW lock_timeout").fetchone()[0] == "0"
        assert other.execute("SHOW enable_seqscan").fetchone()[0] == "on"
    with psycopg.connect(direct) as other:
        assert other.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchone()[0] == 0
    table.kit.store.close()


def test_b7_a_direct_connection_keeps_its_settings_and_its_prepared_statements(postgres_url):
    store = opened(postgres_url)
    migrate.upgrade(store)
    with store.read() as unit:
        assert unit.value("SHOW lock_timeout") == "10s"
        raw = unit.connection.connection.driver_connection
        assert not raw.pooled
        assert raw.prepare_threshold is not None
    store.close()
