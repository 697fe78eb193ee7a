"""A2: what one entry of a bell does touches its neighbours in nothing, and what ends a worker is found out alone."""

import json

import pytest

from backlog_worker.domain.outcome import Done, FailureKind, Refused
from backlog_worker.lifecycle import audit, settle, stage, watch
from backlog_worker.testing import POLICY, answered, bench
from tests.executors.test_a1_outputs import BAD

LIGHT = """\
name: spec
version: 1
jobs:
  - { id: a, python: "fake:a", inline: true }
  - { id: b, python: "fake:b", dependsOn: a, inline: true }
"""
ALL = 19


class EndedError(BaseException):
    """Stands for the end of a whole process: nobody catches it."""


@pytest.fixture
def light():
    made = bench(pipelines=[LIGHT])
    yield made
    assert watch.verify(made.kit) == []
    assert list(audit.verify(made.kit)) == []


def by_id(table):
    with table.kit.store.read() as unit:
        rows = unit.run("SELECT id, status, expiries, faults, reason FROM entries")
    return {row[0]: row[1:] for row in rows}


@pytest.mark.parametrize("name", BAD)
def test_a2_a_job_that_returns_what_cannot_be_kept_fails_alone(light, name):
    filed = [each.entry_id for each in light.file(*({} for _ in range(ALL)))]
    bad = filed[7]
    make = BAD[name][0]
    light.executor.results["a"] = [
        lambda _job, work: Done(output=make() if work.entry_id == bad else {"n": 1}) for _ in range(9 * ALL)
    ]
    light.run(4)
    found = by_id(light)
    assert found[bad][:2] == ("escalated", 0), "no lease was lost"
    assert "not usable" in found[bad][3]
    assert {status for entry, (status, *_) in found.items() if entry != bad} == {"completed"}


def lived(table, bell):
    """Let a worker answer a bell, and end where its process ends; returns whether it lived."""
    try:
        table.bells += answered(table.kit, bell)
    except EndedError:
        table.kit.heart.rest(list(table.kit.heart._takes))
        return False
    return True


@pytest.mark.parametrize("attempts", [1, 3])
def test_a2_after_a_lost_batch_its_entries_go_alone_and_only_the_poisonous_one_is_counted(attempts):
    table = bench(pipelines=[LIGHT], policy=POLICY.replace("maxAttempts: 3", f"maxAttempts: {attempts}"))
    filed = [each.entry_id for each in table.file(*({} for _ in range(ALL)))]
    bad = filed[7]

    def _ends(_job, work):
        if work.entry_id == bad:
            raise EndedError
        return Done(output={})

    table.executor.results["a"] = [_ends] * (20 * ALL)
    sizes, ends = [], 0
    for _ in range(12):
        table.tick()
        while table.bells:
            bell = table.bells.popleft()
            sizes.append(len(bell.ids) if bell.step == "claim" else 1)
            ends += not lived(table, bell)
        for _ in range(6):
            table.clock.forward(25)
            table.sweep()
    found = by_id(table)
    assert sizes[0] == ALL
    assert set(sizes[1:]) == {1}, "from then on each goes alone"
    assert ends == 1 + attempts
    assert found[bad][0] == "escalated"
    assert f"lost {attempts} times" in found[bad][3]
    others = {entry: each for entry, each in found.items() if entry != bad}
    assert {each[:3] for each in others.values()} == {("completed", 0, 0)}
    assert list(audit.verify(table.kit)) == []
    assert watch.verify(table.kit) == []


def test_a2_an_entry_whose_claim_raises_costs_its_neighbours_nothing(light, monkeypatch):
    filed = [each.entry_id for each in light.file(*({} for _ in range(5)))]
    real = stage.onward

    def _onward(kit, unit, starts, **more):
        if any(start.entry.id == filed[2] for start in starts):
            raise RecursionError("too deep \ud800")
        return real(kit, unit, starts, **more)

    monkeypatch.setattr(stage, "onward", _onward)
    light.run(4)
    found = by_id(light)
    assert found[filed[2]][0] == "escalated"
    assert found[filed[2]][3].startswith("its run cannot begin: RecursionError: too deep")
    assert {status for entry, (status, *_) in found.items() if entry != filed[2]} == {"completed"}


def entry_whose_record_raises(monkeypatch, bad, error):
    from backlog_worker.domain import writeback

    real = writeback.record

    def _record(entry, run, pipeline, stages, end):
        if entry.id == bad and stages:
            raise error
        return real(entry, run, pipeline, stages, end)

    monkeypatch.setattr(settle.writeback, "record", _record)


ERRORS = [
    RecursionError("x"),
    MemoryError(),
    UnicodeEncodeError("utf-8", "\ud800", 0, 1, "no"),
    OverflowError("x"),
    KeyError("x"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda each: type(each).__name__)
def test_a1_a_record_that_cannot_be_built_keeps_no_run_from_its_end(light, monkeypatch, error):
    filed = [each.entry_id for each in light.file(*({} for _ in range(5)))]
    entry_whose_record_raises(monkeypatch, filed[2], error)
    light.run(4)
    assert light.statuses() == {"completed": 5}
    with light.kit.store.read() as unit:
        assert len(unit.wishes(filed[2])) == 1


@pytest.mark.parametrize("error", ERRORS, ids=lambda each: type(each).__name__)
@pytest.mark.parametrize("when", ["once", "always"])
def test_a1_a_settlement_that_raises_ends_its_own_run_at_once_and_by_name(light, monkeypatch, error, when):
    filed = [each.entry_id for each in light.file(*({} for _ in range(5)))]
    real, raised = stage.settle.settle, []

    def _settle(kit, unit, endings):
        if any(ending.entry.id == filed[2] for ending, _ in endings) and (when == "always" or len(raised) < 2):
            raised.append(1)
            raise error
        return real(kit, unit, endings)

    monkeypatch.setattr(stage.settle, "settle", _settle)
    light.tick()
    light.ring()
    found = by_id(light)
    status, expiries, _, reason = found[filed[2]]
    assert (status, expiries) == ("escalated", 0)
    assert type(error).__name__ in reason
    assert {each[0] for entry, each in found.items() if entry != filed[2]} == {"completed"}
    with light.kit.store.read() as unit:
        assert json.dumps(unit.wishes(filed[2])[0]["body"])


def test_a2_a_refusal_that_no_database_keeps_is_kept_all_the_same(light):
    (one,) = light.file({})
    light.executor.results["a"] = [
        Refused(kind=FailureKind.EXECUTION, reason="half \ud800 a\x00", data={1: float("nan")})
    ]
    light.run(2)
    status, expiries, _, reason = by_id(light)[one.entry_id]
    assert (status, expiries) == ("escalated", 0)
    assert "half" in reason
