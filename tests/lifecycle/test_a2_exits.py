"""A2: whatever an executor raises is an attempt that counts; only a process that was told to stop stops by it."""

from dataclasses import replace

import pytest

from backlog_worker import tasks
from backlog_worker.lifecycle import audit, watch
from backlog_worker.testing import bench

ONE = 'name: spec\nversion: 1\nretryRuns: 0\njobs:\n  - { id: a, python: "fake:a", retry: { maxAttempts: 2, delayMs: 0 } }\n'
ENDS = [SystemExit(3), SystemExit(), KeyboardInterrupt(), GeneratorExit(), BaseException("mine")]


@pytest.fixture(autouse=True)
def _runs(monkeypatch):
    """This process was not told to stop, whatever another test said to it."""
    monkeypatch.setattr(tasks, "_stopping", tasks.threading.Event())


def raises(error):
    def _raises(_job, _work):
        raise error

    return _raises


@pytest.mark.parametrize("error", ENDS, ids=lambda error: f"{type(error).__name__}{error}")
def test_a2_what_ends_a_program_and_comes_from_an_executor_is_counted_and_capped(error):
    table = bench(pipelines=[ONE])
    table.kit = replace(table.kit, stopping=tasks._stops)
    table.executor.results["a"] = [raises(error)] * 9
    (filed,) = table.file({})
    table.run(6)
    with table.kit.store.read() as unit:
        found = unit.entry(filed.entry_id)
        stages = unit.stages({found.id: found.pipeline_hash})[found.id]
    assert found.status == "escalated"
    assert type(error).__name__ in found.reason
    assert len(stages["a"].tries) == 2, "as many as `retry.maxAttempts` says"
    assert found.expiries == 0, "no worker was lost"
    assert watch.verify(table.kit) == []
    assert list(audit.verify(table.kit)) == []


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()], ids=repr)
def test_a2_the_same_ends_the_task_of_a_worker_that_was_told_to_stop(error):
    table = bench(pipelines=[ONE])
    table.kit = replace(table.kit, stopping=tasks._stops)
    table.executor.results["a"] = [raises(error)]
    table.file({})
    tasks._stopping.set()
    with pytest.raises(type(error)):
        table.run(2)


def test_a2_outside_of_a_worker_a_person_may_interrupt_and_an_executor_may_not():
    table = bench(pipelines=[ONE])
    assert table.kit.stopping(KeyboardInterrupt())
    assert not table.kit.stopping(SystemExit(0))
