"""Children are kept apart: all that they start ends with them, and they read neither their worker nor its secrets."""

import os
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest

from backlog_worker.domain import pipeline
from backlog_worker.domain.outcome import Done, FailureKind, Faulted, Refused
from backlog_worker.executors import Report, Stop, Work, isolation, reaper
from backlog_worker.executors.acp import AcpExecutor
from backlog_worker.executors.command import CommandExecutor
from backlog_worker.executors.isolation import Isolation

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc, prctl and namespaces are Linux")
SECRET = "s3cret-of-the-state"
# The subreaper is tried on every machine; namespaces wherever they work.
KINDS = sorted({Isolation.SUBREAPER, isolation.best()})
ESCAPE = (
    "(setsid env -i /bin/sh -c 'trap \"\" TERM HUP; (setsid sleep {0} &) ; sleep {0}' >/dev/null 2>&1 &) ; sleep 0.1; "
)


@pytest.fixture(params=KINDS)
def kind(request):
    isolation.choose(request.param)
    yield request.param
    isolation.choose("")


@pytest.fixture
def namespaces(kind):
    """Return whether this round is the one with namespaces."""
    return kind is Isolation.NAMESPACES


@pytest.fixture
def command(tmp_path):
    folder = tmp_path / ".backlog-worker"
    (folder / "state").mkdir(parents=True)
    (folder / "state" / "token_pepper").write_text(SECRET)
    (folder / "policy.yml").write_text("version: 1\n")
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "TOKEN").write_text(SECRET)
    database = tmp_path / "elsewhere.db"
    database.write_text(SECRET)
    return CommandExecutor(
        project=tmp_path,
        workspaces=folder / "state" / "workspaces",
        hidden=(folder / "state", secrets, database),
        fixed=(folder / "policy.yml",),
    )


def job(run, *, isolation="project", head=""):
    text = f"name: p\njobs:\n  - id: j\n{head}    run: |\n      {run}\n    execution: {{ isolation: {isolation} }}\n"
    return pipeline.load(text).jobs[0]


def work(**fields):
    usual = {
        "run_id": "run_b2", "entry_id": "bl_test", "take": 1, "entry": {"title": "T"}, "input": {}, "previous": {},
        "timeout": timedelta(seconds=20), "report": Report(),
    }  # fmt: skip
    return Work(**{**usual, **fields})


def running(mark: str) -> list[int]:
    """Return the processes of this machine that were started with *mark*, zombies aside."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (folder / "cmdline").read_bytes().decode(errors="replace"):
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def mark() -> str:
    return f"9{time.monotonic_ns() % 10**9:09}.5"


@pytest.mark.parametrize("end", ["by itself", "failed", "killed itself"])
def test_whatever_a_child_started_ends_with_it(kind, command, end):
    name = mark()
    last = {"by itself": "true", "failed": "exit 3", "killed itself": "kill -9 $$"}[end]
    result = command.perform(job(ESCAPE.format(name) + last), work())
    assert isinstance(result, Done if end == "by itself" else Faulted), result
    assert running(name) == []


def test_whatever_a_child_started_ends_at_its_time_limit(kind, command):
    name = mark()
    result = command.perform(job(ESCAPE.format(name) + f"sleep {name}"), work(timeout=timedelta(seconds=1)))
    assert result.kind == FailureKind.TIMEOUT
    assert running(name) == []


def test_whatever_a_child_started_ends_with_its_claim(kind, command, eventually):
    name, stop, found = mark(), Stop(), []
    body = job(ESCAPE.format(name) + f"echo ready > $BACKLOG_WORKSPACE/ready; sleep {name}")
    thread = threading.Thread(target=lambda: found.append(command.perform(body, work(stop=stop))))
    thread.start()
    eventually(lambda: len(running(name)) >= 3)
    stop.lose()
    thread.join(20)
    assert "claim was lost" in found[0].reason
    assert running(name) == []


def test_whatever_a_child_started_ends_with_a_worker_that_is_killed(kind, tmp_path, eventually):
    name = mark()
    text = (
        "import sys; from backlog_worker.executors import isolation, process; from pathlib import Path\n"
        "isolation.choose(sys.argv[1])\n"
        "child = process.Child(arguments=['/bin/sh', '-c', sys.argv[2]], folder=Path(sys.argv[3]), env={'PATH': '/usr/bin:/bin'})\n"
        "process.run(child, process.Limits(timeout=60))\n"
    )
    script = ESCAPE.format(name) + f"sleep {name}"
    worker = subprocess.Popen([sys.executable, "-c", text, str(kind), script, str(tmp_path)])
    eventually(lambda: len(running(name)) >= 5)  # the worker, the shell, its sleep, and the two that fled
    worker.kill()
    worker.wait()
    eventually(lambda: running(name) == [], what="the end of all that the child started")


def test_a_child_that_catches_term_has_its_five_seconds(kind, command, tmp_path):
    body = job("trap 'echo cleaned > cleaned; exit 0' TERM; echo up; while true; do sleep 0.1; done")
    result = command.perform(body, work(timeout=timedelta(seconds=1)))
    assert result.kind == FailureKind.TIMEOUT
    assert (tmp_path / "cleaned").read_text() == "cleaned\n"


@pytest.mark.parametrize(
    ("last", "words"), [("exit 7", "status 7"), ("kill -9 $$", "SIGKILL"), ("kill -11 $$", "SIGSEGV")]
)
def test_how_a_child_ended_is_told_as_it_was(kind, command, last, words):
    assert words in command.perform(job(last), work()).reason


def test_a_program_that_is_missing_is_named(kind, command):
    result = command.perform(job("exec /no/such/program"), work())
    assert isinstance(result, Refused)
    assert "/no/such/program" in result.reason


def test_a_child_reads_no_process_of_its_worker(kind, namespaces, command, monkeypatch):
    monkeypatch.setenv("OF_THE_WORKER", SECRET)
    sees = f"cat /proc/{os.getpid()}/environ /proc/$PPID/environ | tr '\\0' '\\n' | grep -c OF_THE_WORKER; ls /proc | grep -c '^[0-9]'"
    given = work()
    command.perform(job(sees), given)
    secret, processes = (int(line) for line in given.report.lines if line.isdigit())
    if namespaces:
        assert secret == 0
        assert processes < 12


@pytest.mark.parametrize("where", ["project", "shared", "isolated", "strict"])
def test_a_child_finds_no_state_and_no_secret_and_writes_its_own_folder_only(kind, command, tmp_path, where):
    if kind is not Isolation.NAMESPACES:
        assert not isolation.prefix(isolation.Walls(), tmp_path)[0].endswith("bwrap"), "files are those of the worker"
        return
    root = tmp_path
    run = (
        f"cat {root}/.backlog-worker/state/token_pepper {root}/secrets/TOKEN {root}/elsewhere.db;"
        f" echo x > {root}/.backlog-worker/policy.yml; echo x > {root}/planted; echo x > $BACKLOG_WORKSPACE/mine;"
        f" umount {root}/.backlog-worker/state; umount -l {root}/secrets; cat {root}/secrets/*;"
        ' echo \'{"data": {"mine": true}}\' > $BACKLOG_OUTPUT'
    )
    given = work()
    result = command.perform(job(run, isolation=where), given)
    assert result == Done(output={"mine": True})
    assert SECRET not in "\n".join(given.report.lines)
    assert (root / ".backlog-worker" / "policy.yml").read_text() == "version: 1\n"
    assert (root / "planted").exists() == (where == "project")
    assert (root / ".backlog-worker" / "state" / "token_pepper").read_text() == SECRET


def test_an_agent_that_denies_the_network_has_none(kind, namespaces, command, tmp_path):
    said = {}
    for words in ("permissions: { network: deny }", "permissions: { read: allow }"):
        script = tmp_path / "look.sh"
        script.write_text("#!/bin/sh\nls /sys/class/net; cat /proc/net/dev | wc -l\n")
        script.chmod(0o755)
        agent = f"---\nexecutor: command\ncommand: ['{script}']\n{words}\n---\nlook"
        text = "name: p\njobs:\n  - id: j\n    agent: w\n"
        made = pipeline.load(text, contract={"agents/w.md": agent}.__getitem__).jobs[0]
        given = work(agent=made.agent)
        result = command.perform(made, given)
        assert isinstance(result, Done) or "requires network: deny" in result.reason, result
        said[words] = given.report.lines[-1] if isinstance(result, Done) else "refused"
    loopback = "3"  # two lines of headings and `lo`
    assert said["permissions: { network: deny }"] == (loopback if namespaces else "refused")
    assert said["permissions: { read: allow }"] == str(len(Path("/proc/net/dev").read_text().splitlines()))


def test_a_strict_job_is_refused_where_nothing_keeps_it_apart(command, tmp_path):
    acp = AcpExecutor(tmp_path, tmp_path / "w")
    agent = "---\nexecutor: acp\ncommand: ['true']\n---\nx"
    text = "name: p\njobs:\n  - id: j\n    agent: w\n    execution: { isolation: strict }\n"
    asked = pipeline.load(text, contract={"agents/w.md": agent}.__getitem__).jobs[0]
    for kind in (Isolation.SUBREAPER, Isolation.GROUP):
        isolation.choose(kind)
        try:
            for result in (
                command.perform(job("echo ran > ran", isolation="strict"), work()),
                acp.perform(asked, work(agent=asked.agent)),
            ):
                assert isinstance(result, Refused)
                assert "install bubblewrap" in result.reason
                assert str(kind) in result.reason
        finally:
            isolation.choose("")
    assert not (tmp_path / "ran").exists()


def test_nobody_of_the_same_user_reads_a_process_that_is_shut():
    text = (
        "import importlib.util, os, subprocess, sys\n"
        f"spec = importlib.util.spec_from_file_location('reaper', {reaper.__file__!r})\n"
        "reaper = importlib.util.module_from_spec(spec); spec.loader.exec_module(reaper)\n"
        "if sys.argv[1] == 'shut': reaper.control(reaper.PR_SET_DUMPABLE, 0)\n"
        "read = subprocess.run(['cat', f'/proc/{os.getpid()}/environ'], capture_output=True)\n"
        "print(read.returncode, b'PRIVATE' in read.stdout)\n"
    )
    drop = ["setpriv", "--reuid", "65534", "--clear-groups"] if os.getuid() == 0 else []
    said = {}
    for how in ("open", "shut"):
        command = [*drop, "/usr/bin/env", "PRIVATE=1", _python(), "-I", "-S", "-c", text, how]
        said[how] = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert said == {"open": ["0", "True"], "shut": ["1", "False"]}


def _python() -> str:
    """Return a Python that every user may start."""
    import shutil

    return next(
        (each for each in ("/usr/bin/python3", shutil.which("python3") or "") if Path(each).exists()), sys.executable
    )
