"""A2: a run ends although a row of it cannot be read, and its end says what its record lacks."""

import pytest

from backlog_worker.domain.outcome import Done
from backlog_worker.lifecycle import operate
from backlog_worker.testing import POLICY, bench

TWO = 'name: spec\nversion: 1\njobs:\n  - { id: a, python: "f:a" }\n  - { id: b, python: "f:b", dependsOn: a }\n'
DUE = POLICY.replace("maxAttempts: 3", "maxAttempts: 1")


class EndedError(BaseException):
    """Stands for the end of a whole process."""


def ends(_job, _work):
    raise EndedError


@pytest.fixture
def broken():
    """A run whose worker died in its second job, and whose first job left a row that nobody can read."""
    table = bench(pipelines=[TWO], policy=DUE)
    table.executor.results["a"] = [Done(output={"n": 1})]
    table.executor.results["b"] = [ends]
    (filed,) = table.file({})
    with pytest.raises(EndedError):
        table.run(2)
    table.kit.heart.rest(list(table.kit.heart._takes))
    with table.kit.store.begin() as unit:
        unit.run("UPDATE stages SET output = '{no json' WHERE job_id = 'a'")
    return table, filed.entry_id


def entry(table, entry_id):
    with table.kit.store.read() as unit:
        return unit.entry(entry_id), unit.wishes(entry_id)


def test_a2_the_sweep_ends_a_run_with_a_stage_that_cannot_be_read_and_says_so(broken):
    table, entry_id = broken
    for _ in range(8):
        table.clock.forward(25)
        table.sweep()
    found, (wish,) = entry(table, entry_id)
    assert found.status == "escalated"
    assert found.reason.startswith("its worker was lost 1 times")
    assert found.reason.endswith("its record lacks what cannot be read: the stage `a`")
    assert {each["job"] for each in wish["body"]["stages"]} >= {"b"}


def test_a2_an_entry_with_a_stage_that_cannot_be_read_can_be_canceled(broken):
    table, entry_id = broken
    operate.cancel(table.kit, entry_id, actor="ana", reason="its row is broken")
    found, _ = entry(table, entry_id)
    assert found.status == "canceled"
    assert "cannot be read" in found.reason
