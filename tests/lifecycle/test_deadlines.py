"""Due dates: the tick, the sweep, the claim and the end of a run agree, whichever comes first."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backlog_worker.domain.outcome import Done, FailureKind, Faulted, Refused
from backlog_worker.domain.search import parsed
from backlog_worker.domain.writeback import markdown
from backlog_worker.lifecycle import audit, explain, operate, watch
from backlog_worker.testing import POLICY, bench

START = datetime.fromtimestamp(1_800_000_000, UTC)
IGNORES = POLICY.replace("owner: team-platform", "owner: team-platform, onDeadline: ignore")
ONE = 'name: spec\njobs:\n  - { id: a, python: "f:a" }\n'


def due(seconds):
    return {"due_date": (START + timedelta(seconds=seconds)).isoformat()}


def record(table, entry_id):
    with table.kit.store.read() as unit:
        return unit.wishes(entry_id)[0]["body"]


def entry(table, entry_id):
    with table.kit.store.read() as unit:
        return unit.entry(entry_id)


def sound(table):
    assert watch.verify(table.kit) == []
    assert list(audit.verify(table.kit)) == []


@pytest.mark.parametrize("number", [1, 8, 20])
@pytest.mark.parametrize("pipeline", [ONE, "name: spec\njobs:\n  - { id: a, template: specification }\n"])
@pytest.mark.parametrize("first", ["tick", "sweep"])
def test_a3_what_is_past_its_due_date_never_begins_whoever_comes_first(number, pipeline, first):
    """Alone, in a batch of a light pipeline, or in a crowd."""
    table = bench(pipelines=[pipeline])
    table.file(*(due(-60) for _ in range(number)))
    if first == "sweep":
        table.sweep()
    table.run(4)
    assert table.statuses() == {"escalated": number}
    assert table.executor.performed == []
    with table.kit.store.read() as unit:
        assert all("DEADLINE_PASSED" in each.reason for each in unit.search("prod", parsed(""), most=50))
    sound(table)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    dues=st.lists(st.integers(-5, 40), min_size=1, max_size=8),
    steps=st.lists(st.sampled_from(["tick", "sweep", "ring", "wait"]), min_size=3, max_size=12),
    mode=st.sampled_from(["escalate", "ignore"]),
)
def test_a3_no_race_decides_what_a_due_date_does(dues, steps, mode):
    """An entry begins before its due date or not at all; in what order ticks, sweeps and claims come decides nothing."""
    table = bench(pipelines=[ONE], policy=POLICY if mode == "escalate" else IGNORES)
    filed = [each.entry_id for each in table.file(*map(due, dues))]
    for step in steps:
        if step == "wait":
            table.clock.forward(7)
        else:
            getattr(table, step)()
    table.run(6)
    for entry_id, seconds in zip(filed, dues, strict=True):
        found = entry(table, entry_id)
        with table.kit.store.read() as unit:
            claims = [event.at for event in unit.history(entry_id) if event.change == "claimed"]
            ends = [event.at for event in unit.history(entry_id) if event.change in {"completed", "escalated"}]
        limit = START + timedelta(seconds=seconds)
        body = record(table, entry_id)
        if mode == "escalate":
            assert all(at < limit for at in claims)
            assert found.status == ("completed" if claims else "escalated")
        else:
            assert found.status == "completed"
        assert body["deadline"]["missed"] is (ends[-1] >= limit)
        assert ("due date" in body["reason"]["text"]) is (ends[-1] >= limit)
    sound(table)


def test_a3_the_claim_refuses_what_fell_due_after_its_tick():
    table = bench(pipelines=[ONE])
    late, fine = table.file(due(5), due(500))
    table.tick()
    assert table.statuses() == {"ready": 2}
    table.clock.forward(10)
    table.ring()
    assert entry(table, late.entry_id).status == "escalated"
    assert entry(table, fine.entry_id).status == "completed"
    sound(table)


@pytest.mark.parametrize(
    ("seconds", "took", "result", "missed", "words"),
    [
        (600, 900, Done(output={}), True, "missed"),
        (600, 10, Done(output={}), False, "kept"),
        (600, 900, Refused(kind=FailureKind.VALIDATION, reason="no"), True, "missed"),
        (600, 10, Refused(kind=FailureKind.VALIDATION, reason="no"), None, "open"),
        (None, 10, Done(output={}), None, ""),
    ],
)
def test_a3_an_end_after_the_due_date_says_so(seconds, took, result, missed, words):
    table = bench(pipelines=[ONE])

    def slow(job, work):
        table.clock.forward(took)
        return result

    table.executor.results["a"] = [slow]
    (filed,) = table.file(due(seconds) if seconds else {})
    table.tick()
    table.ring()
    body = record(table, filed.entry_id)
    assert body["deadline"]["missed"] is missed
    assert (f"**Deadline:** {words}" in markdown(body)) is bool(words)
    assert ("was missed" in entry(table, filed.entry_id).reason) is (missed is True)
    sound(table)


def test_a3_explain_says_deadline_passed_and_a_new_date_lets_it_go():
    table = bench(pipelines=[ONE])
    (filed,) = table.file(due(-60))
    table.tick()
    assert [code for code, _ in explain.explain(table.kit, filed.entry_id).reasons] == ["DEADLINE_PASSED"]
    operate.edit(table.kit, filed.entry_id, {"due_date": START + timedelta(days=3)}, actor="ana", reason="later")
    table.run(3)
    assert entry(table, filed.entry_id).status == "completed"


def test_a3_a_policy_that_begins_to_ignore_due_dates_wakes_what_slept():
    table = bench(pipelines=[ONE])
    (filed,) = table.file(due(-60))
    table.tick()
    table.texts.texts[0] = type(table.texts.texts[0])(kind="policy", file="policy.yml", body=IGNORES)
    table.tick()
    assert entry(table, filed.entry_id).status == "ready"
    table.ring()
    assert record(table, filed.entry_id)["deadline"]["missed"] is True


def test_a3_a_retry_that_falls_behind_the_due_date_is_escalated():
    table = bench(pipelines=[ONE])
    table.executor.results["a"] = [Faulted(kind=FailureKind.INFRASTRUCTURE, reason="away")] * 5
    (filed,) = table.file(due(5))
    table.tick()
    table.ring()
    table.clock.forward(60)
    table.run(3)
    assert entry(table, filed.entry_id).status == "escalated"
    assert record(table, filed.entry_id)["deadline"]["missed"] is True
