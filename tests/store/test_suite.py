"""The definition of a store: every backend does this, alike."""

import json
from datetime import UTC, datetime, timedelta
from itertools import islice

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backlog_worker.domain.entry import Change, Note
from backlog_worker.domain.errors import ConflictError, LostClaimError, StoreError, UsageError
from backlog_worker.domain.outcome import FailureKind, Refused
from backlog_worker.domain.priority import scored
from backlog_worker.domain.review import Answer, Decided
from backlog_worker.domain.search import parsed
from backlog_worker.lifecycle import (
    audit,
    claim,
    definitions,
    dispatch,
    evidence,
    operate,
    retire,
    review,
    seals,
    watch,
)
from backlog_worker.lifecycle.walk import Queue
from backlog_worker.store import migrate, opened
from backlog_worker.testing import POLICY, bench

BACKENDS = ["memory", "sqlite", "jsonl", "postgres", "auto"]


@pytest.fixture(params=BACKENDS)
def url(request, tmp_path):
    if request.param == "postgres":
        return request.getfixturevalue("postgres_url")
    if request.param == "auto":
        return f"auto+{request.getfixturevalue('postgres_url')}"
    if request.param == "jsonl":
        return f"jsonl://{tmp_path / 'backlog'}"
    return "memory://" if request.param == "memory" else f"sqlite:///{tmp_path / 'backlog.db'}"


@pytest.fixture
def table(url):
    made = bench(url=url)
    yield made
    assert watch.verify(made.kit) == []
    assert list(audit.verify(made.kit)) == []
    made.kit.store.close()


def only(table):
    with table.kit.store.read() as unit:
        return unit.search("prod", parsed(""))[0]


def test_the_whole_story_runs(table):
    table.file({}, {"labels": []}, {"priority": "high"})
    table.run(3)
    assert table.statuses() == {"completed": 2, "blocked": 1}


def test_the_history_is_insert_only(table):
    table.file({})
    for text in ("UPDATE events SET change = 'x'", "DELETE FROM events"):
        with pytest.raises(StoreError, match="insert only"), table.kit.store.begin() as unit:
            unit.run(text)


def test_a_change_is_all_or_nothing(table):
    (filed,) = table.file({})
    with pytest.raises(RuntimeError, match="stop"), table.kit.store.begin() as unit:
        unit.hold([filed.entry_id])
        unit.move(filed.entry_id, Change.CANCELED, "never mind")
        unit.flush()
        raise RuntimeError("stop")
    assert only(table).status == "queued"


def test_what_the_table_forbids_is_not_written(table):
    (filed,) = table.file({})
    with pytest.raises(ConflictError, match="cannot be claimed"), table.kit.store.begin() as unit:
        unit.hold([filed.entry_id])
        unit.move(filed.entry_id, Change.CLAIMED, "no")


def test_a_row_that_changed_since_it_was_read_is_refused(table):
    (filed,) = table.file({})
    with pytest.raises(ConflictError, match="nothing was written"), table.kit.store.begin() as unit:
        unit.hold([filed.entry_id])
        unit.held[filed.entry_id].read = only_like(unit.held[filed.entry_id].read, seq=99)
        unit.note(filed.entry_id, Note.EDITED, {})


def only_like(entry, **values):
    from dataclasses import replace

    return replace(entry, **values)


def test_a_run_that_lost_its_claim_is_refused(table):
    with pytest.raises(LostClaimError), table.kit.store.begin() as unit:
        unit.renewed("run_none")


def test_the_database_says_what_must_never_be(table):
    table.file({})
    for text in (
        "UPDATE entries SET status = 'nonsense'",
        "UPDATE entries SET run_id = 'run_x'",
        "UPDATE entries SET status = 'ready'",
        "UPDATE entries SET status = 'blocked'",
        "INSERT INTO links (from_id, to_id, kind) VALUES ('a', 'a', 'depends_on')",
    ):
        with pytest.raises(StoreError), table.kit.store.begin() as unit:
            unit.run(text)


def test_a_forged_row_of_history_is_found(url):
    made = bench(url=url)
    made.file({}, {})
    made.run(2)
    with made.kit.store.begin() as unit:
        if unit.dialect.name == "sqlite":
            unit.run("DROP TRIGGER events_no_update")
        else:
            unit.run("ALTER TABLE events DISABLE TRIGGER events_insert_only")
        unit.run("UPDATE events SET actor = 'mallory' WHERE seq = 4 AND entry_id = (SELECT min(id) FROM entries)")
    found = list(audit.verify(made.kit))
    assert [(each.invariant, "event 4" in each.text) for each in found] == [("I8", True)]


def test_a_planted_violation_is_found(url):
    made = bench(url=url)
    made.file({})
    with made.kit.store.begin() as unit:
        if unit.dialect.name == "postgresql":
            unit.run("ALTER TABLE entries DISABLE TRIGGER entries_have_events")
        unit.run("UPDATE entries SET status = 'ready', leased_until = {now}, seq = 7")
    assert {each.invariant for each in watch.verify(made.kit)} == {"I6"}
    assert [each.invariant for each in audit.verify(made.kit)] == ["I7"]


def test_migrating_again_changes_nothing_and_the_dry_run_writes_nothing(url):
    store = opened(url)
    assert "CREATE TABLE entries" in migrate.dry_run(store)
    assert migrate.revision(store) == 0
    assert migrate.upgrade(store) == (0, migrate.head())
    assert migrate.upgrade(store) == (migrate.head(), migrate.head())
    assert migrate.dry_run(store) == ""
    migrate.fitting(store)


@pytest.mark.filterwarnings("ignore:Skipped unsupported reflection of expression-based index")  # test_c1_ids has these
@pytest.mark.filterwarnings("ignore:autogenerate skipping metadata-specified expression-based index")
def test_the_sum_of_the_migrations_is_the_tables(url):
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    from backlog_worker.store.sql.dialect import METADATA

    store = opened(url)
    migrate.upgrade(store)
    with store.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []


def test_filters_find_what_they_say_and_unknown_words_are_errors_with_a_place(table):
    table.file(
        {"labels": ["ai-ok", "bug"], "team": "web", "title": "Login loop"},
        {"labels": [], "team": "api", "title": "Other", "created_at": datetime.now(UTC).isoformat()},
    )
    with table.kit.store.read() as unit:

        def found(text):
            return len(unit.search("prod", parsed(text)))

        assert [found("status:queued"), found("label:bug,x"), found("-label:bug"), found("team:web,api")] == [
            1,
            1,
            1,
            2,
        ]
        assert [found("reason:NOT_ELIGIBLE"), found("login"), found("'no such words'")] == [1, 1, 0]
        assert found("age:>1s") + found("age:<1s") == 2
        assert found("%") == 0, "a wildcard of SQL is a character"
    for text, words in (
        ("stauts:queued", 'unknown key "stauts" at position 1'),
        ("status:open", 'unknown value "open"'),
    ):
        with pytest.raises(UsageError, match=words) as caught:
            parsed(text)
        assert caught.value.hint


def test_entry_text_is_bound_never_run(table):
    nasty = "'); DROP TABLE entries; -- {now} :rows %(x)s $1 \\ \" 🙂"
    (filed,) = table.file({"title": nasty, "input": {"body": nasty}, "labels": ["ai-ok", nasty]})
    assert filed.new
    assert only(table).title == nasty
    sha = only(table).input_sha256
    with table.kit.store.read() as unit:
        assert unit.input(filed.entry_id, sha) == {"body": nasty}
    table.run(2)
    assert only(table).status == "completed"


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["high", "medium", "low", "odd"]), st.integers(0, 300), st.sampled_from(["web", "api"])
        ),
        min_size=1,
        max_size=60,
    ),
    st.integers(1, 20),
    st.booleans(),
)
def test_the_top_of_the_queue_equals_a_plain_sort(entries, most, teams):
    """Also after the policy began to read other fields, and after time went by."""
    made = bench()
    made.file(
        *(
            {
                "priority": p,
                "team": team,
                "created_at": (datetime(2027, 1, 15, tzinfo=UTC) - timedelta(days=d)).isoformat(),
            }
            for p, d, team in entries
        )
    )
    if teams:
        terms = 'priority:\n  terms:\n    - { id: team, value: "entry.team == \'web\' ? 2.0 : 0.0" }\n    - { id: age, value: "math.floor(entry.age_days / 7.0)", cap: 5 }\n'
        made.texts.texts[0] = type(made.texts.texts[0])(kind="policy", file="p", body=POLICY + terms)
        definitions.reload(made.kit.store, made.kit.book, made.texts, author="file")
    for _ in range(2):
        made.clock.forward(86_400 * 6)
        with made.kit.store.begin() as unit:
            policy, now = made.kit.book.policy(unit), unit.now()
            dispatch.regroup("prod", unit, policy, {})  # as the tick does, before it looks for the best
            given_order = [each.entry.id for each in islice(Queue(unit, "prod", policy, {}), most)]
            waiting = unit.search("prod", parsed("status:queued"), most=1000)
        plain = sorted(waiting, key=lambda each: scored(policy, each, now).place)
        assert given_order == [each.id for each in plain[:most]]


def test_bulk_answers_are_each_their_own(table):
    table.file({}, {}, {})
    table.executor.results = {"draft": [Refused(kind=FailureKind.VALIDATION, reason="no")] * 3}
    table.run(2)
    with table.kit.store.read() as unit:
        letters = unit.reviews("prod", kind="dead_letter")
    operate.edit(table.kit, letters[0].entry_id, {"priority": "high"}, actor="ana", reason="x")
    decided = Decided(answer=Answer.REQUEUE, actor="li", reason="again")
    done, refused, _ = review.answer_all(table.kit, letters, decided)
    assert (len(done), len(refused)) == (2, 1)


def test_a_lease_is_the_databases_and_the_first_has_it(table):
    with table.kit.store.begin() as unit:
        assert unit.take_lease("x", "a", 1000)
        assert unit.take_lease("x", "a", 1000)
        assert not unit.take_lease("x", "b", 1000)
        assert unit.late_by("x") < 0
        assert unit.late_by("never") is None
        slot = unit.now()
        assert unit.take_slot("beat:x", slot)
        assert not unit.take_slot("beat:x", slot)


def test_an_older_wish_never_overtakes_a_newer_one(table):
    (filed,) = table.file({})
    row = {"target": "t", "topic": "k", "entry_id": filed.entry_id, "run_id": None}
    with table.kit.store.begin() as unit:
        unit.put({**row, "id": "wb_1", "seq": 5, "body": {"n": 5}, "sha256": "5", "put_at": unit.now()})
        unit.put({**row, "id": "wb_2", "seq": 4, "body": {"n": 4}, "sha256": "4", "put_at": unit.now()})
        (wish,) = unit.take_wishes(60, 5)
        assert wish["body"] == {"n": 5}
        assert unit.take_wishes(60, 5) == [], "a wish that is being sent is nobody else's"
        unit.put({**row, "id": "wb_3", "seq": 6, "body": {"n": 6}, "sha256": "6", "put_at": unit.now()})
        unit.sent(wish, "remote")
        assert [each["body"] for each in unit.take_wishes(60, 5)] == [{"n": 6}]


def test_sweep_gives_back_nothing_that_is_renewed(table):
    table.file({})
    table.tick()
    table.ring(most=1)
    assert claim.sweep(table.kit) is not None


def test_a_backlog_of_the_first_revision_goes_on_after_the_upgrade(url):
    from alembic import command

    store = opened(url.removeprefix("auto+"))  # `auto` refuses what this release does not know
    with store.connected() as connection:
        config = migrate._config()
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.commit()
    with store.begin() as unit:
        unit.run("INSERT INTO stages (entry_id, pipeline_hash, job_id, status) VALUES ('bl_1', 'h', 'a', 'completed')")
        unit.run(
            "INSERT INTO reviews (id, env, kind, entry_id, opened_at, due_at, seq) VALUES ('rev_1', 'prod', 'approval', 'bl_1', {now}, {now}, 1)"
        )
    assert migrate.upgrade(store) == (1, migrate.head())
    with store.begin() as unit:
        assert unit.stages({"bl_1": "h"})["bl_1"]["a"].status == "completed"
        assert unit.review("rev_1").on_timeout == "escalate"
        unit.run("UPDATE stages SET status = 'skipped' WHERE entry_id = 'bl_1'")
        unit.run("UPDATE reviews SET kind = 'question' WHERE id = 'rev_1'")
        if unit.dialect.name == "sqlite":
            assert unit.value("PRAGMA integrity_check") == "ok"
    with pytest.raises(Exception, match=r"stages_status_known|CHECK"), store.begin() as unit:
        unit.run("UPDATE stages SET status = 'unheard' WHERE entry_id = 'bl_1'")


def ended(table, **fields):
    (filed,) = table.file(fields)
    table.run(3)
    return filed.entry_id


def test_a_text_is_redacted_only_on_record_and_the_chain_stays_whole(table):
    entry_id = ended(table, title="a secret of a customer")
    with table.kit.store.begin() as unit:
        before = unit.history(entry_id)
    forged = json.dumps({"set": {"title": {"$redacted": "0" * 64}}})
    cast = "CAST(:data AS jsonb)" if table.kit.store.dialect.name == "postgresql" else ":data"
    with pytest.raises(StoreError, match="insert only"), table.kit.store.begin() as unit:
        unit.run(f"UPDATE events SET data = {cast} WHERE entry_id = :entry AND seq = 1", data=forged, entry=entry_id)
    assert evidence.redact(table.kit, entry_id, actor="ana", reason="asked")
    with table.kit.store.read() as unit:
        after = unit.history(entry_id)
        assert unit.entry(entry_id).title == "[redacted]"
    assert [event.hash for event in after[: len(before)]] == [event.hash for event in before]
    assert "a secret of a customer" not in str(after)
    with pytest.raises(StoreError, match="insert only"), table.kit.store.begin() as unit:
        unit.run("UPDATE events SET actor = 'eve' WHERE entry_id = :entry AND seq = 1", entry=entry_id)
    for name in ("redactions", "operations"):
        with pytest.raises(StoreError, match="insert only"), table.kit.store.begin() as unit:
            unit.run(f"DELETE FROM {name}")


def test_seals_hold_and_what_was_sealed_and_altered_is_found(table):
    entry_id = ended(table)
    with table.kit.store.begin() as unit:
        first = unit.seal("seal_1", seals.LONG_AGO, unit.now() + timedelta(seconds=60), "")
    assert first["entries"] == 1
    assert list(seals.verify_seals(table.kit, seals.sealed(first))) == []
    with table.kit.store.begin() as unit:
        if unit.dialect.name == "postgresql":
            unit.run("ALTER TABLE events DISABLE TRIGGER events_insert_only")
        else:
            unit.run("DROP TRIGGER events_no_delete")
    with pytest.raises(RuntimeError), table.kit.store.begin() as unit:
        unit.run("DELETE FROM events WHERE entry_id = :entry AND seq > 3", entry=entry_id)
        assert [each[0] for each in unit.unsealed(first, 5)] == [entry_id]
        raise RuntimeError
    with pytest.raises(StoreError, match="insert only"), table.kit.store.begin() as unit:
        unit.run("UPDATE seal_heads SET seq = 1")


def test_an_entry_is_retired_and_its_history_goes_when_its_time_is_over(table):
    entry_id = ended(table, dedupe_key="k")
    with pytest.raises(StoreError, match="retired"), table.kit.store.begin() as unit:
        unit.run("DELETE FROM entries")
    with table.kit.store.begin() as unit:
        unit.hold([entry_id])
        assert unit.retire([entry_id], "done for long", 3600.0) == [entry_id]
    assert table.statuses() == {}
    assert list(audit.verify(table.kit)) == []
    with pytest.raises(StoreError, match="insert only"), table.kit.store.begin() as unit:
        unit.forget_histories([entry_id])
    assert evidence.verify(json.loads(json.dumps(evidence.export(table.kit, entry_id)))) == []
    (again,) = table.file({"dedupe_key": "k"})
    assert (again.new, again.entry_id) == (False, entry_id)
    with table.kit.store.begin() as unit:
        unit.run("UPDATE retired SET evidence_until = at")
    table.clock.forward(5)
    assert retire.cleanup(table.kit)["removed"]["histories"] == 1
    with table.kit.store.read() as unit:
        assert unit.history(entry_id) == []


def test_rows_are_rebuilt_from_the_history(table):
    entry_id = ended(table, owner="ana")
    with table.kit.store.begin() as unit:
        unit.run("UPDATE entries SET owner = 'eve'")
        unit.run("UPDATE runs SET worker = 'eve'")
    assert [each.subject for each in audit.verify(table.kit)] == [entry_id]
    audit.rebuild(table.kit, apply=True, reason="somebody wrote into the tables")
    with table.kit.store.read() as unit:
        assert unit.entry(entry_id).owner == "ana"


def test_tokens_alerts_snapshots_and_operations_are_kept(table):
    with table.kit.store.begin() as unit:
        now = unit.now()
        unit.add_token(
            {
                "id": "t1",
                "env": "prod",
                "name": "x",
                "role": "viewer",
                "hash": "h",
                "created_by": "ana",
                "scopes": ["a"],
                "expires_at": None,
            }
        )
        unit.use_token("t1")
        assert unit.token("t1")["used_at"] is not None
        assert unit.revoke_token("prod", "t1", "ana")
        assert not unit.revoke_token("prod", "t1", "ana")
        for number in range(2):
            unit.begin_alert({"id": f"a{number}", "env": "prod", "rule": "late", "words": "w", "notify": ["oncall"]})
        assert set(unit.open_alerts("prod")) == {"late"}
        assert unit.fire_alert("a0", "w")
        assert not unit.fire_alert("a0", "w")
        assert unit.ack_alert("prod", "late", "li", "on it")
        assert unit.resolve_alert("a0")
        assert unit.open_alerts("prod") == {}
        unit.keep_snapshot("prod", "risk", now, {"scores": {"gateway": 2.5}})
        (row,) = unit.snapshots("prod", "risk", now - timedelta(hours=1))
        assert row["data"] == {"scores": {"gateway": 2.5}}
        unit.act({"id": "op_1", "env": "prod", "actor": "ana", "action": "x.y", "result": "denied", "detail": {"n": 1}})
        assert [act["detail"] for act in unit.acts("prod", result="denied")] == [{"n": 1}]
    with pytest.raises(StoreError), table.kit.store.begin() as unit:
        unit.act({"id": "op_2", "env": "prod", "actor": "ana", "action": "x.y", "result": "odd"})


def test_the_bulk_of_old_runs_goes_in_batches_and_what_a_legal_hold_covers_stays(table, monkeypatch):
    kept, gone = (each.entry_id for each in table.file({}, {}))
    table.run(3)
    with table.kit.store.begin() as unit:
        for entry_id in (kept, gone):
            (run,) = unit.runs(entry_id)
            for n in range(5):
                unit.add_log({"run_id": run["id"], "job_id": "draft", "take": 1, "n": n, "text": "words"}, keep=100)
    evidence.legal_hold(table.kit, kept, actor="ana", reason="a lawsuit", on=True)
    with table.kit.store.begin() as unit:
        old = "{now} - interval '40 days'" if unit.dialect.name == "postgresql" else "{now} - 40 * 86400"
        unit.run(f"UPDATE log_chunks SET at = {old}")
        unit.run(f"UPDATE decisions SET at = {old}")
    monkeypatch.setattr(retire, "ROWS", 2)
    dry = retire.cleanup(table.kit, dry_run=True)["removed"]
    done = retire.cleanup(table.kit)["removed"]
    assert (dry["logs"], done["logs"]) == (5, 5)
    assert done["receipts"] == dry["receipts"] >= 1
    with table.kit.store.read() as unit:
        assert unit.value("SELECT count(*) FROM log_chunks") == 5
        assert unit.value("SELECT count(*) FROM decisions") == 0
