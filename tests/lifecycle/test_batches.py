"""Light pipelines: entries share a bell, and one's failure never touches its neighbours; commits are counted."""

import pytest

from backlog_worker.domain.outcome import FailureKind, Refused
from backlog_worker.lifecycle import audit, watch
from backlog_worker.testing import bench

LIGHT = """\
name: spec
version: 1
jobs:
  - { id: a, python: "fake:a", inline: true }
  - { id: b, python: "fake:b", dependsOn: a, inline: true }
  - { id: c, python: "fake:c", dependsOn: b, inline: true }
"""


@pytest.fixture
def light():
    made = bench(pipelines=[LIGHT])
    yield made
    assert watch.verify(made.kit) == []
    assert list(audit.verify(made.kit)) == []


def test_twenty_entries_share_a_bell_and_four_commits(light):
    light.file(*({} for _ in range(20)))
    light.tick()
    assert len(light.bells) == 1
    before = light.kit.store.transactions
    light.answer(light.bells.popleft())
    assert light.kit.store.transactions - before == 4, (
        "claim and first take; two checkpoints with the next take; settle"
    )
    assert light.statuses() == {"completed": 20}


def test_one_failure_in_a_batch_is_its_own(light):
    light.file(*({} for _ in range(5)))
    light.executor.results = {"b": [Refused(kind=FailureKind.VALIDATION, reason="no")]}
    light.run(3)
    assert light.statuses() == {"completed": 4, "escalated": 1}


def test_an_entry_alone_with_a_bell_per_stage_takes_six_commits():
    heavy = bench()
    heavy.file({})
    heavy.tick()
    before = heavy.kit.store.transactions
    while heavy.bells:
        bell = heavy.bells.popleft()
        if bell.step in {"claim", "stage"}:
            heavy.answer(bell)
    assert heavy.kit.store.transactions - before == 6
    assert heavy.statuses() == {"completed": 1}


def test_a_doubled_bell_does_nothing(light):
    light.file({})
    light.tick()
    bell = light.bells.popleft()
    light.answer(bell)
    light.answer(bell)
    assert light.executor.performed.count(light.executor.performed[0]) == 1
