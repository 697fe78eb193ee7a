"""What we keep is for its owner only, whatever the umask; what people ask for, and what jobs write, is as they say."""

import os
import stat
import subprocess
import sys

import pytest

from backlog_worker import wiring
from backlog_worker.settings import Settings

PIPELINE = "name: spec\nversion: '9'\njobs:\n  - { id: a, run: 'echo x > by-a-job; echo y > $BACKLOG_WORKSPACE/kept.txt', artifacts: ['*.txt'] }\n"
COMMANDS = (
    ("init",),
    ("entry", "add", "x", "--label", "ai-ok"),
    ("pipeline", "run", "spec", "--job", "a"),
    ("status",),
    ("audit", "seal"),
    ("audit", "seal", "--out", "seal.json"),
    ("db", "backup", "copy.db"),
    ("pipeline", "export", "spec", "--to", "gitlab-ci", "--install", "true", "--out", "ci.yml"),
    ("schedule", "export", "--out", "crontab"),
)


def _modes(folder):
    for base, folders, files in os.walk(folder):
        for name in ("", *folders, *files):
            path = os.path.join(base, name)
            if not os.path.islink(path):
                yield os.path.relpath(path, folder), stat.S_IMODE(os.lstat(path).st_mode)


def _open(folder):
    return {name: oct(mode) for name, mode in _modes(folder) if mode & 0o077}


@pytest.mark.parametrize(("umask", "backend"), [(0o022, "sqlite"), (0o000, "jsonl")])
def test_state_is_for_its_owner_only(tmp_path, umask, backend):
    env = {**os.environ, "BACKLOG_BACKEND": backend}
    for number, command in enumerate(COMMANDS):
        done = subprocess.run(
            [sys.executable, "-m", "backlog_worker", *command], cwd=tmp_path, env=env, umask=umask, capture_output=True,
            text=True, check=False,
        )  # fmt: skip
        expected = backend == "sqlite" or command[:2] != ("db", "backup")
        assert done.returncode == 0 or not expected, (command, done.stdout, done.stderr)
        if number == 0:
            (tmp_path / ".backlog-worker" / "pipelines" / "spec.yml").write_text(PIPELINE)
    state = tmp_path / ".backlog-worker" / "state"
    assert len(list(_modes(state))) > 5
    assert _open(state) == {}
    assert _open(tmp_path / ".backlog-worker" / "reports") == {}
    if backend == "sqlite":
        assert stat.S_IMODE((tmp_path / "copy.db").stat().st_mode) == 0o600, "a backup holds everything"
    for name in (".backlog-worker/policy.yml", "seal.json", "ci.yml", "crontab", "by-a-job"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o666 & ~umask, name


def test_a_database_outside_and_state_made_by_an_older_release_are_closed(tmp_path):
    before = os.umask(0)
    try:
        state = tmp_path / "p" / "state"
        state.mkdir(parents=True, mode=0o777)
        given = Settings(dir=tmp_path / "p", database_url=f"sqlite:///{tmp_path / 'elsewhere' / 'b.db'}")
        store = wiring.store_of(given)
        with store.begin() as unit:
            unit.run("CREATE TABLE x (y TEXT)")
            files = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "elsewhere").iterdir()}
    finally:
        os.umask(before)
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert set(files) > {"b.db"}, "and what SQLite puts beside it"
    assert set(files.values()) == {0o600}
