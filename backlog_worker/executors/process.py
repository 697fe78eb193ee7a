"""A child process: a group of its own, an environment from nothing, a time limit, bounded output, and a sure end."""

import contextlib
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from backlog_worker.executors import Stop

TAIL_BYTES = 64 * 1024
TERM_SECONDS = 5.0
RUN_VARIABLE = "BACKLOG_RUN_ID"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a child ended: its status, whether time ran out, and the tail of what it printed."""

    status: int
    timed_out: bool
    killed: bool
    tail: str


def run(arguments: Sequence[str], *, folder: Path, env: Mapping[str, str], timeout: float, stop: Stop) -> Ended:
    """Run a child to its end; after *timeout* seconds, or when the claim is lost, its whole group is killed.

    Raises OSError where it cannot be started. On Linux the child also dies with the thread that started it.
    """
    child = subprocess.Popen(  # noqa: S603 - an argument list, made from reviewed files only
        [*tether("KILL"), *arguments],
        cwd=folder,
        env=dict(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    tail = _Tail(child.stdout)
    killed = threading.Event()

    def _lost() -> None:
        killed.set()
        kill(child)

    timed_out = False
    try:
        stop.on_gone(lambda: threading.Thread(target=_lost, daemon=True).start())
        child.wait(timeout=timeout)
    except subprocess.TimeoutExpired:
        timed_out = True
    finally:  # a cold stop of the worker comes through here, too
        kill(child)
    return Ended(status=child.returncode, timed_out=timed_out, killed=killed.is_set(), tail=tail.text())


def kill(child: "subprocess.Popen[bytes]") -> None:
    """End the whole group: TERM, five seconds, KILL; also what the child left behind in its group."""
    if child.poll() is None:
        _signal(child.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(timeout=TERM_SECONDS)
    _signal(child.pid, signal.SIGKILL)
    child.wait()


def tether(name: str) -> list[str]:
    """Return the prefix that lets the kernel send a child the signal *name* when its starter dies; empty elsewhere."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", name] if setpriv else []


def orphans() -> Iterator[tuple[int, str]]:
    """Find processes that carry the run id of a job in their environment: (pid, run id). Linux only."""
    marker = f"{RUN_VARIABLE}=".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            for part in (folder / "environ").read_bytes().split(b"\0"):
                if part.startswith(marker):
                    yield int(folder.name), part.removeprefix(marker).decode()


def kill_pid(pid: int) -> None:
    """Kill one process that a dead worker left behind."""
    with contextlib.suppress(OSError):
        os.kill(pid, signal.SIGKILL)


class _Tail:
    """Reads everything a child prints and keeps the end, so that no child can fill the memory or block on a pipe."""

    def __init__(self, stream: IO[bytes] | None) -> None:
        self._kept = b""
        self._dropped = 0
        self._thread = threading.Thread(target=self._read, args=(stream,), daemon=True)
        self._thread.start()

    def text(self) -> str:
        """Return the tail; what was cut off is said."""
        self._thread.join(timeout=2)
        head = f"[{self._dropped} bytes before this were dropped]\n" if self._dropped else ""
        return head + self._kept.decode("utf-8", "replace").replace("\x00", "\N{REPLACEMENT CHARACTER}")

    def _read(self, stream: IO[bytes] | None) -> None:
        if stream is None:
            return
        with stream, contextlib.suppress(OSError, ValueError):
            while chunk := os.read(stream.fileno(), 65536):
                joined = self._kept + chunk
                self._dropped += max(0, len(joined) - TAIL_BYTES)
                self._kept = joined[-TAIL_BYTES:]


def _signal(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS refuses for a group of zombies
        os.killpg(group, number)
