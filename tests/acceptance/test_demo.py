"""The demo, as a user starts it; also when a worker is killed in the middle of it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.servers, pytest.mark.timeout(280)]


@pytest.mark.parametrize(("backend", "entries"), [("sqlite", 60), ("jsonl", 30)])
def test_the_demo_accounts_for_every_entry_though_a_worker_is_killed(tmp_path, backend, entries):
    env = {name: value for name, value in os.environ.items() if not name.startswith("BACKLOG_")}
    env["BACKLOG_BACKEND"] = backend
    demo = subprocess.Popen(
        [sys.executable, "-m", "backlog_worker", "demo", "--entries", str(entries)],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env, start_new_session=True,
    )  # fmt: skip
    try:
        deadline, killed = time.monotonic() + 60, 0
        while time.monotonic() < deadline and killed < 2:
            for pid in stage_workers(tmp_path):
                if (tmp_path / ".backlog-worker" / "specs").exists():
                    os.kill(pid, signal.SIGKILL)
                    killed += 1
                    break
            time.sleep(0.3)
        said, _ = demo.communicate(timeout=200)
    finally:
        demo.kill()
    assert killed
    assert demo.returncode == 0, said
    assert f"accounted for   {entries} entries" in said
    assert "ran twice       0" in said
    assert "all hold" in said
    assert not stage_workers(tmp_path), "nothing is left behind"


def test_ctrl_c_keeps_the_state_and_the_next_start_goes_on(tmp_path):
    command = [sys.executable, "-m", "backlog_worker", "demo", "--entries", "30"]
    first = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    deadline = time.monotonic() + 60
    while not (tmp_path / ".backlog-worker" / "specs").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    first.send_signal(signal.SIGINT)
    said, _ = first.communicate(timeout=90)
    assert first.returncode == 130, said
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=150, check=False)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "imported  0 sample issues" in again.stderr
    assert "accounted for   30 entries" in again.stdout


def stage_workers(folder: Path) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if b"stages@" in (path / "cmdline").read_bytes() and Path(os.readlink(path / "cwd")) == folder:
                found.append(int(path.name))
        except OSError:
            continue
    return sorted(found)
