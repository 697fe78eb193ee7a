"""Measures: what the tables count is what the histories tell, no ratio exceeds 1, and clean-up takes nothing away."""

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backlog_worker.domain.entry import Declared
from backlog_worker.domain.errors import ConflictError
from backlog_worker.domain.measures import WINDOW, Standing, measured, stood, waited
from backlog_worker.domain.outcome import Done, FailureKind, Refused
from backlog_worker.domain.search import parsed
from backlog_worker.lifecycle import audit, operate, retire, watch
from backlog_worker.lifecycle.dashboard import dashboard
from backlog_worker.store import migrate, opened
from backlog_worker.testing import PIPELINE, POLICY, bench

STRICT = PIPELINE.replace("name: spec", "name: strict").replace("version: 1\n", "version: 1\naccepts: contract.json\n")
CONTRACT = {"type": "object", "required": ["body"], "properties": {"body": {"type": "string", "minLength": 3}}}
DONE = POLICY + "doneBefore: \"'spec-ready' in entry.labels\"\n"
ACTS = (
    "tick",
    "ring",
    "forward",
    "sweep",
    "hold",
    "release",
    "cancel",
    "requeue",
    "complete",
    "edit",
    "cleanup",
    "file",
)


def table_of(**more):
    return bench(policy=DONE, pipelines=(PIPELINE, STRICT), files={"contract.json": CONTRACT}, **more)


def now_counts(table):
    with table.kit.store.read() as unit:
        return unit.now(), unit.counts("prod")


def agree(table):
    """Both ways of counting give every number alike, and no ratio exceeds 1."""
    moment, counts = now_counts(table)
    past = audit.at(table.kit, moment)
    assert past.measures == measured(counts)
    assert dict(past.counts) == dict(counts.by_status)
    found = past.measures
    assert all(0.0 <= ratio <= 1.0 for ratio in (found.coverage, found.escalation_rate, found.failure_rate))
    assert found.covered <= found.eligible <= found.total
    assert found.eligible + found.done_before + found.not_eligible == found.total
    return found


drafts = st.fixed_dictionaries(
    {
        "labels": st.sampled_from([["ai-ok"], ["ai-ok"], [], ["spec-ready"], ["ai-ok", "spec-ready"]]),
        "pipeline": st.sampled_from(["spec", "spec", "strict", "missing"]),
        "input": st.sampled_from([{"body": "It loops."}, {"body": "x"}]),
        "priority": st.sampled_from(["high", "low"]),
        "due_date": st.sampled_from([None, None, "2027-01-15T08:01:00Z"]),
    }
)


def act(table, word, number):
    kit = table.kit
    with kit.store.read() as unit:
        entries = unit.search("prod", parsed(""), most=1000)
    entry = entries[number % len(entries)] if entries else None
    named = {"actor": "ana", "reason": "because"}
    if word in {"tick", "sweep"}:
        getattr(table, word)()
    elif word == "ring":
        table.ring(number % 7)
    elif word == "forward":
        table.clock.forward(number * 97.0)
    elif word == "cleanup":
        table.clock.forward(86_400 * (number % 3))
        retire.cleanup(kit, retention_days=1)
    elif word == "file":
        table.file({"labels": ["ai-ok"], "priority": "high"})
    elif entry is not None:
        acts = {
            "edit": lambda: operate.edit(
                kit, entry.id, {"labels": [["ai-ok"], [], ["spec-ready"]][number % 3]}, **named
            ),
        }
        done = acts[word]() if word in acts else getattr(operate, word)(kit, entry.id, **named)
        if isinstance(done, tuple):
            table.bells += done[1]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    filed=st.lists(drafts, max_size=8),
    steps=st.lists(st.tuples(st.sampled_from(ACTS), st.integers(0, 50)), max_size=18),
    results=st.lists(st.sampled_from(["done", "refused", "fault"]), max_size=8),
)
def test_c4_the_history_and_the_tables_agree_on_every_number(filed, steps, results):
    table = table_of()
    made = {
        "done": Done(output={}),
        "refused": Refused(kind=FailureKind.VALIDATION, reason="no"),
        "fault": Refused(kind=FailureKind.TIMEOUT, reason="slow"),
    }
    table.executor.results = {"draft": [made[each] for each in results]}
    table.file(*filed)
    for word, number in steps:
        try:
            act(table, word, number)
        except ConflictError:
            continue  # that act has no place there
    agree(table)
    table.clock.forward(86_400 * 2)
    before = measured(now_counts(table)[1])
    assert list(audit.verify(table.kit)) == []
    retire.cleanup(table.kit, retention_days=1)
    assert measured(now_counts(table)[1]) == before, "clean-up takes nothing away"
    agree(table)
    table.kit.store.close()


@pytest.fixture(params=["memory", "postgres"])
def table(request):
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else "memory://"
    return table_of(url=url)


def test_c4_what_a_fault_bars_was_declared_eligible(table):
    table.file(
        {"pipeline": "strict", "input": {"body": "x"}},  # INPUT_INVALID
        {"pipeline": "missing"},  # DEFINITION_MISSING
        {"labels": []},  # NOT_ELIGIBLE
        {"labels": [], "pipeline": "missing"},
        {},
    )
    table.run(2)
    found = agree(table)
    assert (found.eligible, found.covered, found.not_eligible, found.coverage) == (3, 1, 2, pytest.approx(1 / 3))
    with table.kit.store.read() as unit:
        barred = unit.search("prod", parsed("status:blocked"))
    for each in barred:
        operate.cancel(table.kit, each.id, actor="ana", reason="never mind")
    assert agree(table).eligible == 3, "declared once, and for good"


def test_c4_what_people_complete_and_nobody_declared_is_not_coverage(table):
    ids = [each.entry_id for each in table.file({"labels": []}, {"labels": []}, {})]
    for entry_id in ids[:2]:
        operate.complete(table.kit, entry_id, actor="ana", reason="done by hand")
    found = agree(table)
    assert (found.completed, found.eligible, found.covered, found.coverage) == (2, 1, 0, 0.0)


def test_c4_specified_before_is_known_and_counted_apart(table):
    made = table.file(
        {"labels": ["ai-ok", "spec-ready"]},
        {"labels": ["spec-ready"]},
        {"labels": []},
        {"labels": ["ai-ok"]},
    )
    assert [each.status for each in made] == ["completed", "completed", "blocked", "queued"]
    assert "done before it came here" in made[0].reason
    table.run(2)
    found = agree(table)
    assert (found.done_before, found.not_eligible, found.eligible, found.coverage) == (2, 1, 1, 1.0)
    assert dashboard(table.kit)["done_before"] == 2
    assert len([entry for entry, _ in table.executor.performed if entry in {made[0].entry_id, made[1].entry_id}]) == 0
    assert list(audit.verify(table.kit)) == []
    assert watch.verify(table.kit) == []


def test_c4_a_policy_that_begins_to_say_what_was_done_before_asks_what_is_blocked():
    table = bench()
    held, free = table.file({"labels": ["spec-ready"]}, {"labels": []})
    other = table.file({"labels": ["spec-ready"]})[0]
    operate.hold(table.kit, other.entry_id, actor="ana", reason="wait")
    table.texts.texts = [
        replace(table.texts.texts[0], body=DONE.replace("version: 1", "version: 2")),
        *table.texts.texts[1:],
    ]
    table.tick()
    with table.kit.store.read() as unit:
        found = {each.id: (each.status.value, each.declared) for each in unit.search("prod", parsed(""))}
    assert found[held.entry_id] == ("completed", Declared.DONE_BEFORE)
    assert found[free.entry_id] == ("blocked", "")
    assert found[other.entry_id][0] == "blocked", "what a person holds stays held"
    assert list(audit.verify(table.kit)) == []


def test_c4_latency_includes_those_who_still_wait(table):
    table.kit = replace(table.kit)
    table.file({"priority": "high"})
    table.run(1)
    with table.kit.store.begin() as unit:
        unit.run("UPDATE workers SET slots = 0")
    table.file({"priority": "high"}, {"priority": "high"}, {"priority": "low"})
    moment, counts = now_counts(table)
    assert counts.waits["high"].still == 2
    assert counts.waits["high"].number == 3
    later = audit.at(table.kit, moment + WINDOW * 2)
    assert later.measures.wait_p90["high"] >= (WINDOW * 2).total_seconds() - 60
    assert later.measures.still_waiting == {"high": 2, "low": 1}


@pytest.mark.parametrize("status", ["queued", "ready", "retrying", "blocked", "canceled", "escalated", ""])
def test_c4_who_waits_is_said_by_one_rule(status):
    from datetime import UTC, datetime, timedelta

    now = datetime(2027, 1, 1, tzinfo=UTC)
    hour = timedelta(hours=1)
    assert waited(now - hour, None, status, now) == (
        (3600.0, True) if status in {"queued", "ready", "retrying"} else None
    )
    assert waited(now - hour, now - hour / 2, status, now) == (1800.0, False)
    assert waited(now - WINDOW - hour, now - WINDOW, status, now) is None
    assert waited(None, None, status, now) is None


def test_c4_what_was_retired_by_an_earlier_release_stays_counted_and_its_tally_is_kept_by_the_next_clean_up(table):
    table.file({"priority": "high"}, {}, {"labels": []})
    table.run(2)
    before = agree(table)
    with table.kit.store.begin() as unit:
        ids = [each.id for each in unit.search("prod", parsed("status:completed"))]
        unit.hold(ids)
        unit.retire(ids, "by an earlier release", 86_400)
        unit.run("UPDATE retired SET tally = NULL, cleared_at = NULL, waited = NULL")
    assert agree(table).covered == before.covered == 2
    with table.kit.store.begin() as unit:
        assert unit.keep_tallies("prod", 10) == 2
        assert unit.keep_tallies("prod", 10) == 0
    assert agree(table).covered == 2


def test_c4_a_history_past_its_time_is_still_counted_and_of_earlier_moments_nobody_claims_to_know():
    table = bench(policy=POLICY + "retention: { evidence: 1h }\n")
    table.file({}, {})
    table.run(2)
    then, counts = now_counts(table)
    before = measured(counts)
    table.clock.forward(2 * 86_400)
    retire.cleanup(table.kit, retention_days=1)
    table.clock.forward(2 * 86_400)
    assert retire.cleanup(table.kit, retention_days=1)["removed"]["histories"] == 2
    assert agree(table) == before
    past = audit.at(table.kit, then)
    assert (past.unknown, past.measures.total) == (2, 0)


@pytest.mark.parametrize("outcome", ["", "nothing_to_do"])
@pytest.mark.parametrize("declared", ["", "eligible", "done_before"])
@pytest.mark.parametrize("status", ["completed", "failed", "blocked"])
def test_c4_what_found_nothing_to_do_is_counted_apart_from_what_was_completed(status, declared, outcome):
    found = stood([Standing(status=status, declared=declared, outcome=outcome, number=3)])
    done, idle = status == "completed", status == "completed" and outcome == "nothing_to_do"
    assert found["nothing_to_do"] == 3 * idle
    assert found["completed"] == 3 * (done and not idle)
    assert found["covered"] == 3 * (done and not idle and declared == "eligible")
    assert found["eligible"] == 3 * (declared == "eligible")


def test_c4_only_completions_of_this_environment_count_as_doubled(table):
    table.file({})
    table.run(2)
    with table.kit.store.begin() as unit:
        assert unit.doubled("prod") == 0
        assert unit.doubled("elsewhere") == 0


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_c4_after_an_upgrade_an_older_backlog_knows_what_was_declared(kind, request, tmp_path):
    from alembic import command
    from alembic.script import ScriptDirectory

    url = request.getfixturevalue("postgres_url") if kind == "postgres" else f"sqlite:///{tmp_path / 'b.db'}"
    now = table_of()
    now.file(
        {"pipeline": "strict", "input": {"body": "x"}}, {"pipeline": "missing"}, {"labels": []}, {}, {}, {"labels": []}
    )
    now.run(2)
    with now.kit.store.read() as unit:
        ids = unit.page("prod", "", 100)
        rows, histories = unit.rows(ids), unit.histories(ids)
    operate.hold(now.kit, ids[2], actor="ana", reason="wait")
    operate.cancel(now.kit, ids[0], actor="ana", reason="no")
    with now.kit.store.read() as unit:
        rows, histories = unit.rows(ids), unit.histories(ids)
    store = opened(url)
    with store.connected() as connection:
        config = migrate._config()
        config.attributes["connection"] = connection
        scripts = ScriptDirectory.from_config(config)
        (tallies,) = [each for each in scripts.walk_revisions() if each.path.endswith("_add_tallies.py")]
        command.upgrade(config, tallies.down_revision)
        connection.commit()
    with store.begin() as unit:
        for entry_id in ids:
            events = histories[entry_id]
            unit.insert("entries", [{name: each for name, each in rows[entry_id].items() if name != "declared"}])
            unit.append(events)
    assert migrate.upgrade(store)[1] == migrate.head()
    with store.read() as unit:
        found = unit.rows(ids)
    assert {each: found[each]["declared"] for each in ids} == {each: rows[each]["declared"] for each in ids}
    assert len({each["declared"] for each in found.values()}) == 2
    older = replace(now.kit, store=store)
    assert [each for each in audit.verify(older) if "declared" in each.text] == []


def test_c4_a_bundle_of_an_earlier_release_is_still_whole():
    from backlog_worker.domain.events import digest
    from backlog_worker.lifecycle import evidence

    table = table_of()
    (filed,) = table.file({})
    table.run(2)
    bundle = evidence.export(table.kit, filed.entry_id)
    entry = {name: each for name, each in bundle["entry"].items() if name != "declared"}
    older = {**bundle, "schema": "backlog-worker/evidence@1", "entry": entry}
    older["sha256"] = digest({name: each for name, each in older.items() if name != "sha256"})
    assert evidence.verify(older) == []
    forged = {**bundle, "entry": {**bundle["entry"], "declared": "done_before"}}
    forged["sha256"] = digest({name: each for name, each in forged.items() if name != "sha256"})
    assert "declared" in evidence.verify(forged)[0]


def test_c4_a_tally_that_somebody_altered_is_found():
    table = table_of()
    (filed,) = table.file({})
    table.run(2)
    table.clock.forward(86_400 * 2)
    retire.cleanup(table.kit, retention_days=1)
    assert list(audit.verify(table.kit)) == []
    with table.kit.store.begin() as unit:
        unit.run("UPDATE retired SET tally = replace(tally, 'eligible', 'done_before')")
    assert [(each.subject, each.text) for each in audit.verify(table.kit)] == [
        (filed.entry_id, "its history does not produce its remainder: tally")
    ]
