"""Attempts, pauses and losses on both databases: the statements of the store are the same, and so is what they say."""

from datetime import timedelta

import pytest

from backlog_worker.domain.outcome import Done, FailureKind, Faulted, Throttled
from backlog_worker.lifecycle import attempt, audit, claim, stage, watch
from backlog_worker.testing import bench
from tests.lifecycle.test_attempts import KilledError, dies, entry, moved, stages, survive

FAULT = Faulted(kind=FailureKind.EXECUTION, reason="boom", data={"n": [1, None, "x"]})
PAIR = """\
name: spec
jobs:
  - { id: a, python: "f:a", retry: { maxAttempts: 3, backoff: fixed, delayMs: 60000 } }
  - { id: b, python: "f:b" }
"""


BOTH = pytest.mark.parametrize("database_url", ["sqlite", "postgres"], indirect=True)


@pytest.fixture
def table(database_url):
    made = bench(url=database_url, pipelines=[PAIR])
    yield made
    made.kit.store.close()


def goes(table):
    """Let the pause be over, and the dispatcher and the workers go on."""
    with table.kit.store.begin() as unit:
        free(unit)
    table.clock.forward(1)
    table.tick()
    table.ring()


@BOTH
def test_b3_a_failed_attempt_its_pause_and_what_it_left_are_rows(database_url, monkeypatch, eventually):
    monkeypatch.setattr(attempt, "HOLD", timedelta(0))
    alone = PAIR.replace("60000", "1").partition("  - { id: b")[0]
    table = bench(url=database_url, pipelines=[alone])
    (filed,) = table.file({})
    table.executor.results = {"a": [FAULT, Throttled(reason="429"), Done(output=1)]}
    table.tick()
    table.ring()
    found = entry(table, filed.entry_id)
    row = stages(table, found)["a"]
    assert (found.status, row.status, row.used, row.attempts) == ("retrying", "waiting", 1, 1)
    assert row.tries[-1]["data"] == {"n": [1, None, "x"]}
    assert row.wake_at == found.retry_at

    def now():
        goes(table)
        return stages(table, entry(table, filed.entry_id))["a"]

    eventually(lambda: (now().reason or {}).get("kind") == "quota", what="the second attempt meets a quota")
    row = stages(table, entry(table, filed.entry_id))["a"]
    assert (row.used, row.attempts) == (1, 1)
    eventually(lambda: now().status == "completed", what="it goes on")
    row = stages(table, entry(table, filed.entry_id))["a"]
    assert (entry(table, filed.entry_id).status, row.attempts, row.wake_at) == ("completed", 2, None)
    assert watch.verify(table.kit) == []
    assert list(audit.verify(table.kit)) == []


def wake(table):
    """Let every pause of a stage be over."""
    with table.kit.store.begin() as unit:
        unit.run("UPDATE stages SET wake_at = {now} WHERE wake_at IS NOT NULL")


def free(unit):
    """Let the next sweep come at once, and not late."""
    ago = "{now} - interval '1 second'" if unit.dialect.name == "postgresql" else "{now} - 1"
    unit.run(f"UPDATE leases SET until = {ago} WHERE name LIKE 'sweep%' OR name LIKE 'dispatch%'")


@BOTH
def test_b3_a_pause_that_is_over_goes_on_in_a_run_under_way_and_a_doubled_bell_does_not(table):
    (filed,) = table.file({})
    heard = []

    def long(job, work):
        """While b works, the pause of a is over, and the sweep rings for it."""
        wake(table)
        for _ in range(2):
            heard.extend(bell for bell in claim.sweep(table.kit) if bell.step == "stage")
        for bell in [*heard, *heard]:
            stage.advance(table.kit, *bell.ids)
        return Done()

    table.executor.results = {"a": [FAULT, Done()], "b": [long]}
    table.tick()
    table.ring()
    assert heard
    assert entry(table, filed.entry_id).status == "completed"
    assert [job for _, job in table.executor.performed] == ["a", "b", "a"]
    assert list(audit.verify(table.kit)) == []


@BOTH
def test_b3_an_attempt_that_failed_is_kept_before_the_next_one_begins(database_url):
    table = bench(url=database_url, pipelines=[PAIR.replace("60000", "1")])
    (filed,) = table.file({})
    kept = []

    def looks(job, work):
        kept.append(stages(table, entry(table, filed.entry_id))["a"])
        return Done()

    table.executor.results = {"a": [FAULT, looks]}
    table.tick()
    table.ring()
    (row,) = kept
    assert (row.status, row.used, row.attempts, row.tries[-1]["reason"]) == ("running", 1, 1, "boom")
    with table.kit.store.read() as unit:
        changes = [event.change for event in unit.history(filed.entry_id)]
    assert changes.count("attempted") == 1


@BOTH
def test_b3_a_late_attempt_of_a_void_take_is_refused(database_url):
    table = bench(url=database_url, pipelines=[PAIR.replace("60000", "1")])
    (filed,) = table.file({})

    def taken_away(job, work):
        with table.kit.store.begin() as unit:
            unit.run("UPDATE stages SET takes = takes + 1 WHERE job_id = 'a'")
        return FAULT

    table.executor.results = {"a": [taken_away, Done()]}
    table.tick()
    table.ring()
    row = stages(table, entry(table, filed.entry_id))["a"]
    assert (row.used, row.attempts, list(row.tries)) == (0, 0, [])
    assert [job for _, job in table.executor.performed].count("a") == 1, "a lost claim is found before the next attempt"


@BOTH
def test_b5_a_stage_that_is_lost_while_others_keep_the_run_is_named(table):
    (filed,) = table.file({})

    def long(job, work):
        """While a works, the worker of b dies."""
        bell = next(each for each in table.bells if each.step == "stage")
        with pytest.raises(KilledError):
            stage.advance(table.kit, *bell.ids)
        claim.sweep(table.kit)
        with table.kit.store.begin() as unit:
            early = "{now} - interval '10 minutes'" if unit.dialect.name == "postgresql" else "{now} - 600"
            unit.run(f"UPDATE stages SET leased_until = {early}, worker = 'other:42' WHERE job_id = 'b'")
            free(unit)
        table.bells.extend(claim.sweep(table.kit))
        return Done()

    table.executor.results = {"a": [long], "b": [dies, Done()]}
    table.tick()
    table.ring()
    found = entry(table, filed.entry_id)
    with table.kit.store.read() as unit:
        events = unit.history(filed.entry_id)
    assert [event.data["lost"] for event in events if event.change == "lost"] == [
        [{"job": "b", "worker": "other:42", "take": 1}]
    ]
    assert (found.status, found.expiries, stages(table, found)["b"].takes) == ("completed", 0, 2)
    record = next(event.data["record"] for event in events if event.change == "recorded")
    assert [(each["job"], each["worker"], each["take"]) for each in record["recovery"]["lost"]] == [
        ("b", "other:42", 1)
    ]
    assert list(audit.verify(table.kit)) == []


def test_b3_a_lost_worker_takes_only_the_attempt_under_way(tmp_path):
    table = bench(url=f"sqlite:///{tmp_path / 'b.db'}", pipelines=[PAIR.replace("60000", "1")])
    (filed,) = table.file({})
    table.executor.results = {"a": [FAULT, dies, FAULT, Done()]}
    survive(table)
    moved(table, 3, 10)
    row = stages(table, entry(table, filed.entry_id))["a"]
    assert (entry(table, filed.entry_id).status, row.attempts, len(row.tries)) == ("completed", 3, 2)
