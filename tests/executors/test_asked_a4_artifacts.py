"""Artifacts that are named are there, or the job says which are not."""

from datetime import timedelta

import pytest

from backlog_worker.domain.outcome import Done, FailureKind, Faulted
from backlog_worker.domain.pipeline import load
from backlog_worker.executors import Work
from backlog_worker.executors.command import CommandExecutor


def performed(tmp_path, artifacts, run="echo x > $BACKLOG_WORKSPACE/report.md"):
    job = load(f"name: p\njobs: [{{ id: a, run: '{run}', artifacts: {artifacts} }}]").jobs[0]
    work = Work(run_id="run_1", entry_id="e", take=1, entry={}, input={}, previous={}, timeout=timedelta(seconds=20))
    result = CommandExecutor(project=tmp_path, workspaces=tmp_path / "w").perform(job, work)
    return result, work.report.lines


def test_an_artifact_that_is_there_is_kept(tmp_path):
    result, lines = performed(tmp_path, '["report.md", "*.md"]')
    assert result == Done(output=None, artifacts={"report.md": b"x\n"})
    assert lines == []


def test_a_pattern_that_matches_nothing_is_said_in_the_log(tmp_path):
    result, lines = performed(tmp_path, '["out/**/*.html", "*.md"]')
    assert isinstance(result, Done)
    assert lines == ["[artifacts] no file matches out/**/*.html"]


@pytest.mark.parametrize("name", ["missing.md", "out/missing.md"])
def test_a_name_that_is_not_there_fails_the_job(tmp_path, name):
    result, lines = performed(tmp_path, f'["{name}", "report.md"]')
    assert isinstance(result, Faulted)
    assert result.kind == FailureKind.VALIDATION
    assert f"it left no file {name}" in result.reason
    assert lines == [f"[artifacts] no file matches {name}"]


def test_a_command_that_failed_says_why_it_failed(tmp_path):
    result, _ = performed(tmp_path, '["missing.md"]', run="echo broken; exit 3")
    assert isinstance(result, Faulted)
    assert "broken" in result.reason
