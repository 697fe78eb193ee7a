"""Slots of schedules and given outputs on every backend, alike."""

import time
from datetime import timedelta

import pytest

from backlog_worker.domain.errors import NotAllowedError
from backlog_worker.domain.review import Answer, Decided
from backlog_worker.domain.slots import Slots
from backlog_worker.lifecycle import again, review, slots
from backlog_worker.lifecycle.slots import Schedule
from backlog_worker.testing import bench
from tests.store.test_suite import only, table, url  # noqa: F401 - fixtures

ASKS = """\
name: spec
version: 1
jobs:
  - id: ask
    interactive: true
    prompt: How many?
    output: { type: object, required: [n] }
    gates: [{ id: G-1, check: "output.n > 0.0" }]
  - { id: publish, python: "f:publish", dependsOn: ask, approval: { roles: [lead] } }
"""


def test_e_slots_are_taken_given_back_and_forgotten_on_every_backend(table):  # noqa: F811 - the fixture
    line = Schedule(env="prod", name="schedule:x", slots=Slots.of("* * * * *"), catch_up="all")
    with table.kit.store.begin(actor="beat") as unit:
        assert unit.slot("schedule:x") is None
        assert slots.take(unit, line, table.kit.new_id).new
        before = unit.slot("schedule:x")
        later = before.replace(second=0, microsecond=0) + timedelta(minutes=3)
        assert unit.take_slot("schedule:x", later)
        assert unit.slot("schedule:x") == later
        assert not unit.leave_slot("schedule:x", later + timedelta(minutes=1), before)
        assert unit.leave_slot("schedule:x", later, before)
        assert abs(unit.slot("schedule:x") - before) < timedelta(milliseconds=1)
        assert unit.take_slot("schedule:x", before - timedelta(minutes=30)) is False
        assert unit.forget_slots(["schedule:x", "schedule:never"]) == 1
        assert unit.forget_slots([]) == 0
        assert unit.slot("schedule:x") is None


@pytest.fixture
def asking(url):  # noqa: F811 - the fixture
    made = bench(url=url, pipelines=[ASKS])
    yield made
    made.kit.store.close()


def until(table, holds):  # noqa: F811 - a parameter
    """Run until a condition holds: the time of a real database is its own, and a tick works once a second."""
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        table.run(1)


def test_b6_a_given_output_is_judged_and_b7_a_role_is_asked_on_every_backend(asking):
    asking.file({"pipeline": "spec"})

    def _asked(kind):
        with asking.kit.store.read() as unit:
            return [each.kind for each in unit.reviews("prod")] == [kind]

    until(asking, lambda: _asked("question"))
    entry = only(asking)
    _, bells = review.decide(
        asking.kit, entry.id, Decided(answer=Answer.ANSWER, actor="li", reason="r", value={"n": 2})
    )
    asking.bells += bells
    until(asking, lambda: _asked("approval"))
    with pytest.raises(NotAllowedError):
        review.decide(asking.kit, entry.id, Decided(answer=Answer.APPROVE, actor="mallory", reason="r"))
    with asking.kit.store.read() as unit:
        assert [row["actor"] for row in unit.acts("prod", result="denied")] == ["mallory"]
    review.decide(asking.kit, entry.id, Decided(answer=Answer.APPROVE, actor="ana", reason="r"))
    until(asking, lambda: only(asking).status == "completed")
    pipeline_hash = only(asking).pipeline_hash
    with asking.kit.store.read() as unit:
        stage = unit.stages({entry.id: pipeline_hash})[entry.id]["ask"]
        (run, *_) = unit.runs(entry.id)
    assert (stage.output, stage.gates[0]["result"], stage.attempts) == ({"n": 2}, "pass", 0)
    assert "given" not in stage.approval
    new = again.fork(asking.kit, run["id"], "ask", actor="ana", reason="what if", output={"n": -1})
    until(asking, lambda: _asked("dead_letter"))
    with asking.kit.store.read() as unit:
        forked = unit.entry(new)
    assert (forked.status, "G-1" in forked.reason) == ("escalated", True)
