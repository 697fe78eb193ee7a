"""Variables of the environment, each with and without: what they change is seen in what a process does."""

import logging
import sys

import pytest
import structlog
from typer.testing import CliRunner

from backlog_worker import settings, telemetry, wiring
from backlog_worker.cli import app
from backlog_worker.executors import isolation


@pytest.fixture(autouse=True)
def _project(tmp_path, monkeypatch):
    monkeypatch.setenv("BACKLOG_DIR", str(tmp_path / ".backlog-worker"))
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(app, ["init"]).exit_code == 0
    yield
    isolation.choose("")
    telemetry.configure(level="ERROR")


@pytest.mark.parametrize("kind", ["", "group", "subreaper"])
def test_isolation_is_what_keeps_the_children_of_jobs_apart_and_doctor_says_it(kind, monkeypatch):
    if kind:
        monkeypatch.setenv("BACKLOG_ISOLATION", kind)
    wiring.solo(settings.load())
    assert isolation.in_force() == (kind or isolation.best())
    said = CliRunner().invoke(app, ["--json", "doctor"]).stdout
    assert (kind == "group") is ("group" in said.partition("isolation")[2][:200])


@pytest.fixture
def served(monkeypatch, capfd):
    """Serve the HTTP API for no time, and return how its process logs then."""

    def _served(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        told = []
        monkeypatch.setattr("backlog_worker.web.limits.serve", lambda *_: told.append(structlog.get_config()))
        capfd.readouterr()
        done = CliRunner().invoke(app, ["web"])
        assert done.exit_code == 0, done
        (config,) = told
        return config

    return _served


@pytest.mark.parametrize(
    ("value", "renderer"), [("", "JSONRenderer"), ("true", "JSONRenderer"), ("false", "ConsoleRenderer")]
)
def test_log_json_chooses_lines_for_programs_or_for_people(value, renderer, served):
    config = served(**({"BACKLOG_LOG_JSON": value} if value else {}))
    assert type(config["processors"][-1]).__name__ == renderer


@pytest.mark.parametrize(("value", "level"), [("", logging.INFO), ("ERROR", logging.ERROR), ("DEBUG", logging.DEBUG)])
def test_log_level_leaves_out_what_is_below_it(value, level, served):
    served(**({"BACKLOG_LOG_LEVEL": value} if value else {}))
    assert structlog.get_logger().is_enabled_for(level)
    assert structlog.get_logger().is_enabled_for(level - 10) is False
    assert logging.getLogger().level == level


def test_secrets_dir_and_secrets_command_are_where_a_job_finds_its_secrets(tmp_path, monkeypatch):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "IN_FOLDER").write_text("from-the-folder")
    program = tmp_path / "ask.py"
    program.write_text("import sys\nprint('asked-for-' + sys.argv[1])\n")
    without = wiring.solo(settings.load()).secrets
    assert (without("IN_FOLDER"), without("ELSEWHERE")) == (None, None)
    monkeypatch.setenv("BACKLOG_SECRETS_DIR", str(tmp_path / "kept"))
    assert wiring.solo(settings.load()).secrets("IN_FOLDER") == "from-the-folder"
    monkeypatch.setenv("BACKLOG_SECRETS_COMMAND", f"{sys.executable} {program}")
    assert wiring.solo(settings.load()).secrets("ELSEWHERE") == "asked-for-ELSEWHERE"
