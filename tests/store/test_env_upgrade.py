"""D: rows of the release before say no environment; after the upgrade each is of the one that it belongs to."""

import pytest

from backlog_worker.store import JsonlStore, Store, migrate

ENTRY = (
    "INSERT INTO entries (id, env, schema_version, title, dedupe_key, pipeline, priority, input_sha256, created_at,"
    " status, seq, bars) VALUES ('{0}', '{1}', 1, 't', '{0}', 'p', 'low', 'x', {{now}}, 'blocked', 1, '[\"ON_HOLD\"]')"
)
RETIRED = (
    "INSERT INTO retired (env, dedupe_key, entry_id, status, hash, seq, at, evidence_until) VALUES"
    " ('staging', 'k', 'bl_r', 'completed', 'x', 1, {now}, {now})"
)
EVENT = (
    "INSERT INTO events (entry_id, seq, at, change, version, actor, canonical, prev, hash) VALUES"
    " ('{0}', 1, {{now}}, 'filed', 2, 'ana', '', '', 'x')"
)
WISH = (
    "INSERT INTO outbox (id, target, topic, entry_id, seq, sha256, status) VALUES"
    " ('{0}', 'folder', '{1}', '{2}', 1, 'x', 'due')"
)
RUN = (
    "INSERT INTO runs (id, entry_id, attempt, worker, pipeline_hash, policy_hash, claimed_at) VALUES"
    " ('run_{0}', '{0}', 1, 'w', 'h', 'h', {{now}})"
)
OLD = (
    ENTRY.format("bl_p", "prod"),
    EVENT.format("bl_p"),
    ENTRY.format("bl_s", "staging"),
    EVENT.format("bl_s"),
    RETIRED,
    "INSERT INTO alerts (id, env, rule, since) VALUES ('alert_1', 'staging', 'r', {now})",
    WISH.format("wb_p", "bl_p", "bl_p"),
    WISH.format("wb_s", "bl_s", "bl_s"),
    WISH.format("wb_r", "bl_r", "bl_r"),
    WISH.format("wb_a", "alert_1:alert.fired", ""),
    WISH.format("wb_x", "bl_gone", "bl_gone"),
    RUN.format("bl_p"),
    RUN.format("bl_s"),
    *(
        f"INSERT INTO leases (name, holder, until) VALUES ('{name}', 'h', {{now}})"
        for name in ("dispatch:prod", "sweep:staging", "alerts:staging", "beat:weekly", "x")
    ),
    "INSERT INTO workers (name, seen_at, slots, schema_min, schema_max) VALUES ('w@h', {now}, 2, 3, 3)",
)
PAIRS = {
    "outbox": {("wb_p", "prod"), ("wb_s", "staging"), ("wb_r", "staging"), ("wb_a", "staging"), ("wb_x", "prod")},
    "runs": {("run_bl_p", "prod"), ("run_bl_s", "staging")},
    "leases": {
        *(("dispatch:prod", "prod"), ("sweep:staging", "staging"), ("alerts:staging", "staging")),
        *(("beat:weekly", "prod"), ("x", "prod")),
    },
    "workers": {("w@h", "prod")},
}


@pytest.fixture(params=["memory", "sqlite", "jsonl", "postgres"])
def store(request, tmp_path):
    if request.param == "postgres":
        return Store(request.getfixturevalue("postgres_url"))
    if request.param == "jsonl":
        return JsonlStore(tmp_path / "files")
    return Store("memory://" if request.param == "memory" else f"sqlite:///{tmp_path / 'backlog.db'}")


def test_d_rows_of_the_release_before_get_the_environment_of_what_they_belong_to(store):
    with store.connected() as connection:
        migrate.build(connection, 3)
    with store.begin() as unit:
        for text in OLD:
            unit.run(text)
        unit.run("DELETE FROM leases WHERE name = 'x'")  # a line of a file that names the old key
        unit.run("INSERT INTO leases (name, holder, until) VALUES ('x', 'h', {now})")
    assert migrate.upgrade(store) == (3, migrate.head())
    with store.read() as unit:
        for table, pairs in PAIRS.items():
            key = "id" if table in {"outbox", "runs"} else "name"
            assert {tuple(row) for row in unit.run(f"SELECT {key}, env FROM {table}")} == pairs
        assert [each["id"] for each in unit.wishes()] == ["wb_x", "wb_p"]
    with store.of("staging").begin() as unit:
        assert unit.wishes_due() == 3
        assert unit.late_by("sweep:staging") is not None
    if isinstance(store, JsonlStore):
        again = JsonlStore(store.folder)
        with again.read() as unit:
            assert unit.wishes_due() == 2


def test_d_a_database_says_the_same_of_itself_for_ever_and_another_says_something_else(store, tmp_path):
    migrate.upgrade(store)
    first = store.fingerprint()
    assert store.fingerprint() == first
    assert store.of("staging").fingerprint() != first, "another environment is another backlog"
    other = Store(f"sqlite:///{tmp_path / 'other.db'}")
    migrate.upgrade(other)
    assert other.fingerprint() != first
    with store.read() as unit:
        assert unit.value("SELECT count(*) FROM identity") == 1
    if not store.url.startswith("memory"):
        again = JsonlStore(store.folder) if isinstance(store, JsonlStore) else Store(store.url)
        assert again.fingerprint() == first


def test_d_a_copy_of_a_postgresql_database_beside_it_is_another_one(postgres_server, postgres_url):
    import psycopg

    from tests.conftest import with_database

    store = Store(postgres_url)
    migrate.upgrade(store)
    first = store.fingerprint()
    store.close()
    name = postgres_url.partition("?")[0].rsplit("/", 1)[1]
    with psycopg.connect(postgres_server, autocommit=True) as admin:
        admin.execute(f'CREATE DATABASE "{name}_copy" TEMPLATE "{name}"')
        copy = Store(with_database(postgres_url, f"{name}_copy"))
        assert copy.fingerprint() != first
        copy.close()
        admin.execute(f'DROP DATABASE "{name}_copy"')
