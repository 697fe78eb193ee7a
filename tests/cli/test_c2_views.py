"""People are shown things, not JSON: on 80 columns, with ids whole; programs get the same with --json."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from backlog_worker.cli.views.outputs import print_artifact
from backlog_worker.domain.outcome import Done, FailureKind, Refused
from backlog_worker.testing import POLICY, bench

SPEC = """\
name: spec
version: 1
jobs:
  - id: draft
    python: "f:draft"
    gates: [{ id: SPEC-001, check: "size(output.risks) > 0", onFail: ask, message: "No risk is named." }]
  - { id: publish, python: "f:publish", dependsOn: draft, approval: { roles: [lead] } }
"""
EVIL = "Login \x1b]0;owned\x07 loop with a very long title that nobody could read on a narrow terminal " * 2


@pytest.fixture
def project(tmp_path):
    folder = tmp_path / ".backlog-worker"
    (folder / "pipelines").mkdir(parents=True)
    (folder / "policy.yml").write_text(POLICY)
    (folder / "pipelines" / "spec.yml").write_text(SPEC)
    table = bench(url=f"sqlite:///{tmp_path}/b.db", pipelines=[SPEC])
    table.executor.results["draft"] = [
        Done(output={"risks": ["one"], "text": "first\nsecond"}, artifacts={"draft.md": b"# A \x1b[31mdraft\n"}),
        Done(output={"risks": []}),
        Refused(kind=FailureKind.VALIDATION, reason="no", data={"risks": "none"}),
    ]
    table.file(
        {"title": "Login loop", "pipeline": "spec", "dedupe_key": "github:acme/api#329", "input": {"body": EVIL}},
        {"title": EVIL, "pipeline": "spec", "dedupe_key": "github:acme/web#7"},
        {"title": "Slow search", "pipeline": "spec", "dedupe_key": "github:acme/web#9"},
    )
    table.run(3)
    return tmp_path


@pytest.fixture
def run(project):
    def _run(*arguments, code=0, terminal=True):
        env = {"PATH": os.environ["PATH"], "HOME": str(project), "BACKLOG_ACTOR": "ana", "BACKLOG_BACKEND": "sqlite"}
        env |= {"BACKLOG_DATABASE_URL": f"sqlite:///{project}/b.db", "PYTHONPATH": str(Path(__file__).parents[2])}
        env |= {"TTY_COMPATIBLE": "1", "COLUMNS": "80", "NO_COLOR": "1"} if terminal else {}
        done = subprocess.run(
            [sys.executable, "-m", "backlog_worker", *arguments],
            cwd=project, capture_output=True, text=True, timeout=60, check=False, env=env,
        )  # fmt: skip
        assert done.returncode == code, f"{arguments} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    return _run


def test_what_people_read_fits_80_columns_without_a_cut_id_and_without_json(run):
    commands = ["entry list", "entry show #329", "entry history #7", "review list", "review show #329"]
    commands += ["review show #7", "dlq list", "dlq show #9", "run list", "run show #329", "pipeline show spec"]
    named = set()
    for command in commands:
        printed = run(*command.split())
        assert printed.strip(), command
        assert "\x1b" not in printed, command
        assert not re.search(r'[{,] ?"\w+": ', printed), f"{command} prints JSON"
        assert all(len(line) <= 80 for line in printed.splitlines()), command
        named |= set(re.findall(r"\b(?:bl|run|rev)_\w+\S?", printed))
    for each in sorted(named):
        assert "\N{HORIZONTAL ELLIPSIS}" not in each
        verb = {"bl": ("entry", "show"), "run": ("run", "show"), "rev": ("review", "show")}[each.partition("_")[0]]
        if len(each) < 20:
            run(*verb, re.sub(r"\W$", "", each))


def test_a_review_shows_the_work_its_gates_and_what_each_answer_does(run, project):
    waiting = run("review", "show", "#7")
    for words in (
        "No risk is named.",
        "Output of draft",
        "gate SPEC-001",
        "approve",
        "reject",
        "--reason TEXT",
    ):
        assert words in waiting, words
    before = run("review", "show", "#329")
    for words in (
        "second",
        "draft.md",
        str(project)[:20],
        "lets publish start",
        "refuses publish",
        "The input",
        "ana, li",
    ):
        assert words in before, words


def test_json_comes_after_the_verb_with_the_fields_that_were_asked_for(run):
    entry = json.loads(run("entry", "show", "#329", "--json", "id,title,score"))
    assert entry["schema"] == "backlog-worker/entry@1"
    assert list(entry["data"]) == ["id", "title", "score"]
    assert json.loads(run("--json", "entry", "show", "#329"))["data"]["entry"]["title"] == "Login loop"
    lines = run("entry", "list", "--json-lines").splitlines()
    assert json.loads(lines[0])["title"] == "Login loop"
    refused = json.loads(run("entry", "list", "--json", "id,titel", code=2))
    assert "titel" in refused["data"]["error"]
    assert "title" in refused["data"]["hint"]
    assert "titel" in run("entry", "list", "status:failed", "--json", "titel", code=2)


def test_a_pipe_gets_whole_ids_and_the_raw_artifact_a_terminal_gets_it_without_control(run):
    assert len(run("entry", "list", terminal=False).splitlines()[1].split()[0]) == 29
    assert "draft.md" in run("run", "artifacts", "#329")
    assert "no artifact" in run("run", "artifacts", "#329", "--cat", "x", "--json", code=3)


def test_an_artifact_is_printed_raw_into_a_pipe_and_legibly_on_a_terminal(capsysbinary, monkeypatch):
    table = bench(url="memory://")
    _, sha = table.kit.artifacts.keep(b"# A \x1b[31mdraft\xff\n")
    found = [{"name": "draft.md", "sha256": sha}]
    print_artifact(table.kit, found, "draft.md")
    assert capsysbinary.readouterr().out == b"# A \x1b[31mdraft\xff\n"
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    print_artifact(table.kit, found, "draft.md")
    printed = capsysbinary.readouterr().out.decode()
    assert "\x1b" not in printed
    assert "[31mdraft" in printed
