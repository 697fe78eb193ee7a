"""The command line against hostile arguments and files: an exit code and a sentence, never a traceback."""

import json
import os
import subprocess
import sys
from unittest import mock

import pytest

from tests.fuzz.cli import answer


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BACKLOG_ACTOR", "ana")
    run("init")
    (tmp_path / "folder").mkdir()
    (tmp_path / "deep.json").write_text("[" * 100_000)
    (tmp_path / "nan.json").write_text('{"a": NaN}')
    (tmp_path / "half.json").write_text('{"a": "\\ud800"}')
    (tmp_path / "digits.json").write_text("9" * 5000)
    (tmp_path / "bytes.json").write_bytes(b"\xff{}")
    (tmp_path / "list.json").write_text("[1]")
    return tmp_path


def run(*arguments, code=0, **env):
    """Run a command in this process, which lets out what the command lets out."""
    with mock.patch.dict(os.environ, env):
        ended, said = answer([os.fsdecode(each) for each in arguments])
    assert ended == code, f"{arguments}: {ended}\n{said}"
    return said


def test_a3_an_argument_that_is_no_text_is_named_by_its_number(project):
    said = run("entry", "list", b"label:\xff", code=2)
    assert "argument 3 is a text that is not UTF-8" in said


FILES = ["missing.json", "folder", "deep.json", "nan.json", "half.json", "digits.json", "bytes.json"]


@pytest.mark.parametrize("name", FILES)
def test_a3_a_file_that_cannot_be_used_is_named(project, name):
    code = 3 if name == "missing.json" else 2
    for line in (("audit", "verify", name), ("pipeline", "test", name), ("run", "start", "spec", "--input", name)):
        assert name in run(*line, code=code)


def test_a3_every_option_that_takes_a_json_file_reads_it_the_same_way(project, capsys):
    from backlog_worker.cli.named import read_json, read_object, read_text
    from backlog_worker.domain.errors import BacklogError

    for name in FILES:
        for read in (read_json, read_object):
            with pytest.raises(BacklogError, match=name):
                read(project / name)
    for name in ("missing.json", "folder", "bytes.json"):
        with pytest.raises(BacklogError, match=name):
            read_text(project / name)
    with pytest.raises(BacklogError, match="is not a JSON object"):
        read_object(project / "list.json")


def test_a3_a_file_that_cannot_be_written_is_named(project):
    for path in ("folder", "/proc/here/x.json"):
        assert path in run("schedule", "export", "--out", path, code=2)


def test_a3_a_backup_of_sqlite_is_a_whole_database_of_its_owner(project):
    run("entry", "add", "One")
    assert "wrote copy.db" in run("db", "backup", "copy.db")
    assert (project / "copy.db").stat().st_mode & 0o077 == 0
    said = run("--json", "entry", "list", BACKLOG_DATABASE_URL=f"sqlite:///{project / 'copy.db'}")
    assert [
        each["entry"]["title"] if "entry" in each else each["title"]
        for each in json.loads(said.splitlines()[0])["data"]
    ] == ["One"]
    assert "copy.db is there already" in run("db", "backup", "copy.db", code=2)
    assert "nowhere/copy.db" in run("db", "backup", "nowhere/copy.db", code=9)
    assert "bytes" in run("db", "compact")


@pytest.mark.parametrize("moment", ["0001-01-01", "9999-12-31T23:59:59-14:00", "2026-06-30T23:59:60Z", "x" * 500])
def test_a3_a_moment_at_the_ends_of_time_is_refused(project, moment):
    run("entry", "add", "One", "--key", "one")
    for line in (
        ("audit", "at", moment),
        ("audit", "diff", "2026-01-01", moment),
        ("explain", "One", "--at", moment),
        ("entry", "edit", "one", "--reason", "x", "--due-date", moment),
        ("entry", "add", "Two", "--due", moment),
    ):
        assert "error: " in run(*line, code=2)


def test_a3_what_a_terminal_cannot_show_is_escaped(project):
    run("entry", "add", "Straße 🐛")
    done = subprocess.run(
        [sys.executable, "-m", "backlog_worker", "entry", "list"],
        capture_output=True, text=True, timeout=120, check=False, env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )  # fmt: skip
    assert (done.returncode, "Stra\\xdfe" in done.stdout) == (0, True), done.stderr


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BACKLOG_DATABASE_URL", "postgresql://u:secretword@h:99999/d"),
        ("BACKLOG_DATABASE_URL", "postgresql://u:secret/word@h/d"),
        ("BACKLOG_DATABASE_URL", "postgresql://[::1/d"),
        ("BACKLOG_DATABASE_URL", "sqlite:relative.db"),
        ("BACKLOG_BROKER_URL", "redis://host:99999"),
        ("BACKLOG_BROKER_URL", "redis://:secretword@host:x/0"),
        ("BACKLOG_BROKER_URL", "http://host"),
        ("BACKLOG_BROKER_URL", "redis"),
        ("BACKLOG_URL", "http://h:x"),
        ("BACKLOG_OPENAI_URL", "https://[h"),
        ("BACKLOG_ACTOR", os.fsdecode(b"\xff")),
        ("BACKLOG_ENV", os.fsdecode(b"\xff")),
        ("BACKLOG_STAGE_SECONDS_MAX", "9" * 5000),
        ("BACKLOG_RETRY_SECONDS", "nan"),
    ],
)
def test_a3_a_setting_that_cannot_be_is_refused_by_name_and_tells_no_password(project, name, value):
    said = run("status", code=2, **{name: value})
    assert name in said
    assert "secret" not in said
    if value == "http://host":
        assert "redis://" in said


def test_a3_an_empty_setting_is_none():
    from backlog_worker import settings

    with mock.patch.dict(os.environ, {"BACKLOG_DATABASE_URL": "", "BACKLOG_BROKER_URL": "", "BACKLOG_URL": ""}):
        assert settings.load().keeps == "sqlite"
    with mock.patch.dict(os.environ, {"BACKLOG_DATABASE_URL": "postgres://h/d"}):
        assert settings.load().database == "postgresql://h/d"
