"""D: one project may serve several environments; its folders keep them apart, and old folders are still read."""

import json
import os

import pytest
from typer.testing import CliRunner

from backlog_worker import settings, telemetry, wiring
from backlog_worker.cli import app
from backlog_worker.domain.errors import ConflictError, InvalidInputError, NotFoundError, RefusedError
from backlog_worker.integrations.artifacts import FolderArtifacts
from backlog_worker.integrations.folder import FolderTracker
from backlog_worker.settings import Settings
from backlog_worker.testing import PIPELINE, POLICY


@pytest.fixture(autouse=True)
def _logs_again():
    """A command logs to where its test listened, which is closed afterwards."""
    yield
    telemetry.configure(level="ERROR")


@pytest.fixture
def project(tmp_path, monkeypatch):
    folder = tmp_path / ".backlog-worker"
    (folder / "pipelines").mkdir(parents=True)
    (folder / "policy.yml").write_text(POLICY)
    (folder / "pipelines" / "spec.yml").write_text(PIPELINE)
    monkeypatch.setenv("BACKLOG_DIR", str(folder))
    monkeypatch.setenv("BACKLOG_ACTOR", "ana")
    return folder


def said(*words):
    before = dict(os.environ)
    try:
        found = CliRunner().invoke(app, list(words))
    finally:
        os.environ.clear()
        os.environ.update(before)
    return found.stdout, found.exception


def added(env, key):
    output, error = said("--env", env, "entry", "add", key, "--key", key, "--label", "ai-ok")
    assert error is None, output
    return next(word for word in output.split() if word.startswith("bl_"))


def test_d_a_command_finds_what_is_of_its_own_environment_only(project):
    theirs, mine = added("prod", "one"), added("staging", "two")
    why = ("--reason", "x")
    for words in (
        ("entry", "show", theirs), ("entry", "history", theirs), ("entry", "hold", theirs, *why),
        ("entry", "cancel", theirs, *why), ("entry", "comment", theirs, "words"), ("explain", theirs),
        ("entry", "edit", theirs, "--title", "taken", *why), ("run", "cancel", theirs, *why),
        ("run", "retry", theirs, *why), ("audit", "export", theirs), ("review", "show", theirs),
        ("audit", "redact", theirs, *why), ("writeback", "show", theirs), ("dlq", "requeue", theirs, *why),
    ):  # fmt: skip
        output, error = said("--env", "staging", *words)
        assert isinstance(error, NotFoundError), f"{words}: {output} {error!r}"
    assert theirs not in said("--env", "staging", "entry", "list")[0]
    assert mine in said("--env", "staging", "entry", "list")[0]
    output, error = said("--env", "prod", "entry", "history", theirs)
    assert error is None
    assert "taken" not in output


def test_d_a_tool_for_another_environment_works_there_and_nowhere_else(project):
    added("prod", "one")
    call = ("tool", "run", "--tool", "backlog_tool", "--action", "list", "--params-json")
    output, error = said(*call, '{"env": "staging"}')
    assert error is None
    assert json.loads(output) == []
    assert "one" in said(*call, '{"env": "prod"}')[0]
    upsert = json.dumps({"env": "staging", "entry": {"title": "t", "dedupe_key": "k"}})
    _, error = said("tool", "run", "--tool", "backlog_tool", "--action", "upsert", "--params-json", upsert)
    assert isinstance(error, ConflictError), "nobody has put a policy in force there"
    assert "no policy is in force in environment staging" in str(error)
    added("staging", "two")
    output, error = said("tool", "run", "--tool", "backlog_tool", "--action", "upsert", "--params-json", upsert)
    assert error is None
    assert json.loads(output)["id"] in said("--env", "staging", "entry", "list")[0]
    assert json.loads(output)["id"] not in said("--env", "prod", "entry", "list")[0]
    for name in ("../../elsewhere", "Prod", "a b", "x" * 33, "a.b"):
        given = settings.load()
        kit = wiring.kit_of(given)
        with pytest.raises(InvalidInputError, match="no name of an environment"):
            kit.elsewhere(name)
    assert sorted(path.name for path in project.parent.iterdir()) == [".backlog-worker"]


def test_d_the_folders_of_two_environments_are_apart_and_the_database_is_shared(tmp_path):
    one, two = Settings(dir=tmp_path), Settings(dir=tmp_path, env="staging")
    for name in ("own", "journal", "reports", "socket"):
        assert getattr(one, name) != getattr(two, name), name
        assert not {getattr(one, name), *getattr(one, name).parents} & {getattr(two, name)}
    assert one.database == two.database


def test_d_what_an_older_release_kept_in_one_folder_is_still_read_and_can_be_redacted(tmp_path):
    old, new = (
        FolderArtifacts(tmp_path / "artifacts"),
        FolderArtifacts(tmp_path / "own" / "artifacts", tmp_path / "artifacts"),
    )
    _, sha = old.keep(b"kept")
    assert new.read(sha) == b"kept"
    assert new.older(-1e9) == [], "retention of one environment leaves alone what may be another's"
    new.forget(sha)
    assert (old.read(sha), new.read(sha)) == (None, None)
    before, after = (
        FolderTracker(tmp_path / "writebacks"),
        FolderTracker(tmp_path / "own" / "w", tmp_path / "writebacks"),
    )
    before.write("bl_1", {"n": 1}, "")
    assert after.read("bl_1") == {"n": 1}
    after.write("bl_1", {"n": 2}, "")
    assert (after.read("bl_1"), before.read("bl_1")) == ({"n": 2}, {"n": 1})
    assert (after.read("bl_2"), after.topics()) == (None, ["bl_1"])


def test_d_a_fresh_demo_does_not_forget_the_backlog_of_another_environment(project):
    added("prod", "one")
    _, error = said("--env", "staging", "demo", "--fresh", "--entries", "1")
    assert isinstance(error, RefusedError)
    assert "which also holds prod" in str(error)
    assert "one" in said("--env", "prod", "entry", "list")[0]
