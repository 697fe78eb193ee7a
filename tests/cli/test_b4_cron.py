"""B4: a line of the exported cron file runs as it is written, with nothing from around it."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from backlog_worker.cli import app
from backlog_worker.cli.schedules import _cron, _quoted, drift, registry
from backlog_worker.domain.masking import without_password
from backlog_worker.settings import Settings


@pytest.fixture
def project(tmp_path, monkeypatch):
    folder = tmp_path / "50% of it"  # cron ends a command at a bare per cent sign
    folder.mkdir()
    monkeypatch.chdir(folder)
    for words in (["init"], ["db", "migrate"]):
        assert CliRunner().invoke(app, words).exit_code == 0
    return folder


def exported():
    found = CliRunner().invoke(app, ["schedule", "export"])
    assert found.exit_code == 0, found.output
    return [line for line in found.stdout.splitlines() if "tool run" in line]


def as_cron_runs(line):
    """Run the command of a line as cron does: without its five fields, with its per cent signs, with no environment."""
    command = line.split(None, 5)[5].replace("\\%", "%")
    return subprocess.run(["env", "-i", "/bin/sh", "-c", command], capture_output=True, text=True, check=False)


def test_every_line_runs_under_an_empty_environment_on_this_project_and_keeps_its_words(project):
    line = next(line for line in exported() if line.endswith("# hourly_check"))
    ended = as_cron_runs(line)
    log = project / ".backlog-worker" / "state" / "cron.log"
    assert ended.returncode in {0, 7}, log.read_text()
    assert not ended.stdout + ended.stderr
    assert log.read_text()
    assert log.stat().st_mode & 0o077 == 0


def test_a_line_says_the_same_to_a_shell_and_to_cron(project):
    for line in exported():
        command = line.split(None, 5)[5]
        assert "%" not in command.replace("\\%", "")
        assert shlex.split(command) == shlex.split(command.replace("\\%", "%"))


@pytest.mark.parametrize("value", ["a%b", "a b%c", "it's 5%", "%", "$HOME", "", "a;b", "`x`"])
def test_a_quoted_word_is_one_word(value):
    for word in (_quoted(value), _quoted(value).replace("\\%", "%")):
        ended = subprocess.run(["/bin/sh", "-c", f"printf %s {word}"], capture_output=True, text=True, check=True)
        assert ended.stdout == value


def test_the_lines_name_the_database_and_never_its_password():
    given = Settings(database_url="postgresql://ana:sesam@db:5432/b?sslmode=require&password=sesam", dir=Path("/p/.b"))
    text = "\n".join(_cron(registry(), given, user="root"))
    assert "sesam" not in text
    assert "BACKLOG_DATABASE_URL='postgresql://ana@db:5432/b?sslmode=require'" in text
    assert "~/.pgpass" in text
    assert f"PATH={Path(sys.executable).parent}:" in text
    assert drift(text) == []


@pytest.mark.parametrize(
    ("address", "wanted"),
    [
        ("postgresql://h/d", ("postgresql://h/d", False)),
        ("postgresql://u@h/d?sslmode=require", ("postgresql://u@h/d?sslmode=require", False)),
        ("postgresql://u:p%40@h/d", ("postgresql://u@h/d", True)),
        ("postgresql://h/d?user=u&password=p", ("postgresql://h/d?user=u", True)),
        ("sqlite:////a/b", ("sqlite:////a/b", False)),
    ],
)
def test_an_address_is_told_without_its_password(address, wanted):
    assert without_password(address) == wanted


def test_what_is_kept_in_memory_has_no_cron_file(project, monkeypatch):
    monkeypatch.setenv("BACKLOG_BACKEND", "memory")
    found = CliRunner().invoke(app, ["schedule", "export"])
    assert found.exit_code != 0
    assert "tool run" not in found.stdout
