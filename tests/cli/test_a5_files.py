"""One bad file hides no other, wherever files are read; nothing but a regular file is opened; exports replace nothing."""

import os
import sys
import threading

import pytest

from backlog_worker import telemetry
from backlog_worker.cli import main
from backlog_worker.integrations import project as projects
from backlog_worker.integrations.project import Project
from backlog_worker.lifecycle.book import Book
from backlog_worker.testing import PIPELINE, POLICY


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A project with good files and one bad file of every kind."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BACKLOG_ACTOR", "ana")
    home = tmp_path / ".backlog-worker"
    pipelines = home / "pipelines"
    pipelines.mkdir(parents=True)
    (home / "agents").mkdir()
    (home / "policy.yml").write_text(POLICY)
    (pipelines / "a-good.yml").write_text(PIPELINE.replace("name: spec", "name: good"))
    (pipelines / "z-good.yml").write_text(PIPELINE.replace("name: spec", "name: last"))
    (pipelines / "bytes.yml").write_bytes(b"name: \xff")
    (pipelines / "folder.yml").mkdir()
    os.mkfifo(pipelines / "pipe.yml")
    (pipelines / "nowhere.yml").symlink_to(pipelines / "gone")
    (pipelines / "deep.yml").write_text("a: " + "[" * 5000)
    (pipelines / "huge.yml").write_bytes(b"#" * (projects.SIZE_MAX + 1))
    (pipelines / "typo.yml").write_text(
        "name: typo\nversion: 1\njobs:\n  - id: a\n    rnu: x\n  - id: a\n    when: 007\n"
    )
    (pipelines / "twice-1.yml").write_text(PIPELINE.replace("name: spec", "name: twice"))
    (pipelines / "twice-2.yml").write_text(PIPELINE.replace("name: spec", "name: twice"))
    (pipelines / "schema.yml").write_text(
        PIPELINE.replace("name: spec", "name: schema") + "accepts: schemas/pipe.json\n"
    )
    (pipelines / "schemas").mkdir()
    os.mkfifo(pipelines / "schemas" / "pipe.json")
    return home


BAD = ("bytes", "folder", "pipe", "nowhere", "deep", "huge", "typo", "twice-1", "twice-2", "schema")


@pytest.fixture
def run(monkeypatch, capsys):
    def _run(*arguments, code=0):
        with monkeypatch.context() as patched:
            patched.setattr(sys, "argv", ["backlog-worker", *arguments])
            with pytest.raises(SystemExit) as ended:
                main()
        said = capsys.readouterr()
        assert (ended.value.code or 0) == code, f"{arguments} ended with {ended.value.code}:\n{said}"
        return said.out + said.err

    yield _run
    with capsys.disabled():
        telemetry.configure(level="ERROR")


def test_a5_validate_lists_every_finding_of_every_file_with_its_place(run, folder):
    said = run("pipeline", "validate", code=7)
    for name in BAD:
        assert f"pipelines/{name}.yml:" in said, name
    assert "typo.yml:7:11" in said
    assert "a-good.yml: pipeline good 1 is valid" in said
    assert "z-good.yml: pipeline last 1 is valid" in said
    (folder / "policy.yml").write_bytes(b"\xff")
    assert "policy.yml:1:1" in run("policy", "validate", code=7)
    assert "z-good.yml: pipeline last 1 is valid" in run("pipeline", "validate", code=7)


def test_a5_doctor_names_each_file_with_its_place(run, folder):
    said = run("doctor", code=7)
    for name in BAD:
        assert f"pipelines/{name}.yml:" in said, name


def test_a5_a_start_takes_what_is_right_and_keeps_what_is_wrong_by_file(folder):
    book = Book(env="prod")
    book.look(Project(folder))
    assert sorted(each.name for each in book.files) == ["good", "last", "policy"]
    assert sorted(file.rpartition("/")[2].removesuffix(".yml") for file in book.findings) == sorted(BAD)
    words = {file.rpartition("/")[2]: str(error) for file, error in book.findings.items()}
    assert "it is not a regular file" in words["pipe.yml"]
    assert "it is a folder" in words["folder.yml"]
    assert "not UTF-8" in words["bytes.yml"]
    assert "larger than" in words["huge.yml"]
    assert "twice-2.yml too" in words["twice-1.yml"]
    assert '"schemas/pipe.json" cannot be read: it is not a regular file' in words["schema.yml"]


def test_a5_agents_are_listed_although_one_is_wrong(run, folder):
    (folder / "agents" / "good.md").write_text("---\nexecutor: auto\n---\nWrite.\n")
    (folder / "agents" / "bad.md").write_bytes(b"---\nexecutor: \xff\n---\n")
    os.mkfifo(folder / "agents" / "pipe.md")
    said = run("agent", "list", code=7)
    assert "good" in said
    assert "bad.md:1:1" in said
    assert "pipe.md:1:1" in said


def test_a1_definitions_are_read_from_their_own_folders_only_and_never_inside_of_a_transaction(
    run, folder, monkeypatch
):
    from backlog_worker.store import Store

    for name in BAD:
        path = folder / "pipelines" / f"{name}.yml"
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    state = folder / "state" / "env" / "prod" / "writebacks"
    state.mkdir(parents=True)
    (state / "one.json").write_text("{}")
    os.mkfifo(state / "pipe.json")
    (folder / "pipelines" / "unnamed.json").write_text("{}")
    opened, inside = [], threading.local()
    original, units = projects.text_of, {name: getattr(Store, name) for name in ("begin", "read")}

    def _read(path):
        assert not getattr(inside, "depth", 0), f"{path} is read inside of a transaction"
        opened.append(path.name)
        return original(path)

    def _counted(name):
        from contextlib import contextmanager

        @contextmanager
        def _within(self, **named):
            with units[name](self, **named) as unit:
                inside.depth = getattr(inside, "depth", 0) + 1
                try:
                    yield unit
                finally:
                    inside.depth -= 1

        return _within

    monkeypatch.setattr(projects, "text_of", _read)
    for name in units:
        monkeypatch.setattr(Store, name, _counted(name))
    run("entry", "add", "Login loop", "--label", "ai-ok")
    run("status")
    run("pipeline", "apply", "--reason", "x")
    assert set(opened) == {"policy.yml", "a-good.yml", "z-good.yml"}


def test_a5_an_export_replaces_no_file_that_it_did_not_write(run, folder, tmp_path):
    workflow = tmp_path / ".github" / "workflows" / "good.yml"
    workflow.parent.mkdir(parents=True)
    workflow.write_text("name: mine\n")
    good, last = (str(folder / "pipelines" / f"{name}-good.yml") for name in ("a", "z"))
    assert "was not written by this command" in run(
        "pipeline", "export", good, "--to", "github-actions", "--install", "true", code=6
    )
    assert workflow.read_text() == "name: mine\n"
    run("pipeline", "export", good, "--to", "github-actions", "--install", "true", "--force")
    run("pipeline", "export", good, "--to", "github-actions", "--install", "true")
    run("pipeline", "export", good, "--to", "github-actions", "--install", "true", "--check")
    for system, name in (("jenkins", "Jenkinsfile"), ("gitlab-ci", ".gitlab-ci.yml")):
        run("pipeline", "export", good, "--to", system, "--install", "true")
        before = (tmp_path / name).read_text()
        said = run("pipeline", "export", last, "--to", system, "--install", "true", code=6)
        assert f"{name} was made from the pipeline good" in said
        assert (tmp_path / name).read_text() == before
        run("pipeline", "export", last, "--to", system, "--install", "true", "--out", f"other-{system}")
        run("pipeline", "export", last, "--to", system, "--install", "true", "--force")
        assert (tmp_path / name).read_text() != before
    (tmp_path / "p").mkdir()
    assert "p" in run("pipeline", "export", good, "--to", "jenkins", "--install", "true", "--out", "p", code=2)
