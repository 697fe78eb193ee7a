"""Wherever people read where an entry stands, one that had nothing to do reads so, and ends with status 0."""

import io

import pytest
from rich.console import Console

from backlog_worker.cli import runs
from backlog_worker.cli.screen import status_panel
from backlog_worker.cli.tree import run_tree
from backlog_worker.engine import Engine
from backlog_worker.lifecycle import again, watch
from backlog_worker.testing import bench

NONE = "name: spec\njobs:\n  - { id: a, python: 'f:a', when: '1 == 2' }\n"


@pytest.fixture
def done():
    table = bench(pipelines=[NONE])
    (filed,) = table.file({})
    table.run(4)
    return table, filed.entry_id


def test_b1_the_exit_text_says_that_there_was_nothing_to_do_and_the_status_is_0(done, capsys):
    table, entry_id = done
    runs._wait_for_end(Engine(table.kit), entry_id, 1.0)
    said = capsys.readouterr().out
    assert "nothing to do: every job was skipped (a: `when` is false: 1 == 2)" in " ".join(said.split())
    assert "completed" not in said


def test_b1_status_tree_python_and_events_say_nothing_to_do(done):
    table, entry_id = done
    console = Console(width=200, record=True, file=io.StringIO())
    run, entry, pipeline, stages = again.entry_of(table.kit, entry_id)
    console.print(run_tree(entry, run, pipeline, stages, []))
    console.print(status_panel(watch.report(table.kit)))
    text = console.export_text()
    assert text.count("nothing to do") == 2
    assert "0 of 1 eligible completed" in text
    engine = Engine(table.kit)
    assert engine.status(entry_id)["outcome"] == "nothing_to_do"
    (end,) = [each for each in engine.follow(entry_id) if each.name == "pipeline:completed"]
    assert end.data["outcome"] == "nothing_to_do"
    assert runs._how(run) == "nothing to do"
