"""A project is found here or above, and no command but `init` and `demo` begins one."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from backlog_worker import settings
from backlog_worker.cli import app
from backlog_worker.domain.errors import NotFoundError

COMMANDS = [
    *("status", "entry list", "entry add x", "entry next", "run list", "review list", "dlq list", "pipeline list"),
    *("policy show", "policy history", "writeback list", "worker list", "schedule list", "alert list", "budget list"),
    *("audit verify", "audit operations", "db status", "db verify", "db migrate", "tool list", "role list"),
    *("policy validate", "pipeline validate", "agent list", "doctor", "up"),
]


@pytest.fixture(autouse=True)
def _empty(tmp_path, monkeypatch):
    for name in ("BACKLOG_DIR", "BACKLOG_DATABASE_URL", "BACKLOG_POSTGRES_DSN", "POSTGRES_DSN", "BACKLOG_BACKEND"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_in_an_empty_folder_makes_nothing(tmp_path, command):
    result = CliRunner().invoke(app, command.split())
    if command not in {"agent list", "tool list", "role list", "doctor"}:
        assert result.exit_code != 0 or result.exception
    assert list(tmp_path.iterdir()) == []


def test_a_command_without_a_project_says_how_to_begin_one(tmp_path, monkeypatch):
    result = CliRunner().invoke(app, ["entry", "list"])
    assert isinstance(result.exception, NotFoundError)
    assert str(result.exception) == f"there is no project in {tmp_path} or above"
    assert "backlog-worker init" in result.exception.hint
    monkeypatch.setenv("BACKLOG_DIR", str(tmp_path / "named"))
    assert str(tmp_path / "named") in str(CliRunner().invoke(app, ["entry", "list"]).exception)
    assert list(tmp_path.iterdir()) == []


def test_a_project_is_found_above(tmp_path, monkeypatch):
    assert CliRunner().invoke(app, ["init"]).exit_code == 0
    deep = tmp_path / "src" / "deep"
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    assert settings.load().folder == tmp_path / ".backlog-worker"
    assert CliRunner().invoke(app, ["entry", "add", "x"]).exit_code == 0
    assert list(deep.iterdir()) == []
    assert (tmp_path / ".backlog-worker" / "state" / "backlog.db").exists()


def test_init_begins_a_project_here_also_inside_of_another(tmp_path, monkeypatch):
    CliRunner().invoke(app, ["init"])
    inner = tmp_path / "inner"
    inner.mkdir()
    monkeypatch.chdir(inner)
    assert CliRunner().invoke(app, ["init"]).exit_code == 0
    assert (inner / ".backlog-worker" / "policy.yml").exists()
    assert settings.load().folder == inner / ".backlog-worker"


def test_a_folder_that_is_named_is_the_one(tmp_path, monkeypatch):
    CliRunner().invoke(app, ["init"])
    other = Path(tmp_path, "other")
    monkeypatch.setenv("BACKLOG_DIR", str(other))
    assert settings.load().folder == other
