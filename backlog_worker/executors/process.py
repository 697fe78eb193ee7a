"""A child process with its own process group, a clean environment, time limits, bounded output, and a guaranteed
end.
"""

import codecs
import contextlib
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from backlog_worker import modes
from backlog_worker.domain.masking import Stream, masked
from backlog_worker.executors import Report, Stop, isolation, reaper
from backlog_worker.executors.isolation import Isolation, Walls

TAIL_CHARACTERS = 64 * 1024
LINE_CHARACTERS = 16 * 1024
OVERLAP_CHARACTERS = 4 * 1024  # so that no token is split before it is masked
TERM_SECONDS = 5.0
RUN_VARIABLE = "BACKLOG_RUN_ID"
_PROGRESS = re.compile(r"\[PROGRESS:\s*(\d{1,3})\s*%\s*\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of a child: total time, time without output, memory, CPU time."""

    timeout: float
    silence: float | None = None
    memory_mb: int | None = None
    cpu_seconds: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a child ended: its status, the limit it exceeded, whether its claim was lost, the tail of its output."""

    status: int
    timed_out: str
    killed: bool
    tail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """What to start: arguments, directory, environment, standard input, and isolation."""

    arguments: Sequence[str]
    folder: Path
    env: Mapping[str, str]
    text: str | None = None
    walls: Walls = field(default_factory=Walls)
    report: Report = field(default_factory=Report)
    stop: Stop = field(default_factory=Stop)


def run(child: Child, limits: Limits) -> Ended:
    """Run a child to its end; at its end, at a limit, or when the claim is lost, all its processes are killed.

    Raises OSError if it cannot be started. On Linux the child also dies with the thread that started it.
    """
    started = start(child, limits, stdin=subprocess.PIPE if child.text is not None else subprocess.DEVNULL)
    tail = Tail(started.stdout, child.report)
    if child.text is not None:
        threading.Thread(target=_feed_stdin, args=(started, child.text), daemon=True).start()
    killed = threading.Event()
    child.stop.on_gone(lambda: threading.Thread(target=_lost, args=(started, killed), daemon=True).start())
    timed_out = ""
    try:
        timed_out = watched(started, limits, tail.heard)
    finally:  # also reached when the worker is stopped cold
        kill(started)
    return Ended(status=started.returncode, timed_out=timed_out, killed=killed.is_set(), tail=tail.text())


def start(child: Child, limits: Limits, *, stdin: int, stderr: int = subprocess.STDOUT) -> "subprocess.Popen[bytes]":
    """Start a child in its own process group, with memory and CPU limits; it dies with this process."""
    return subprocess.Popen(  # noqa: S603 - an argument list, made from reviewed files only
        [*before(child.walls, child.folder), *bounds(limits), *child.arguments],
        cwd=child.folder,
        env=dict(child.env),
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=stderr,
        start_new_session=True,
        umask=modes.of_people(),
    )


def watched(child: "subprocess.Popen[bytes]", limits: Limits, heard: Callable[[], float]) -> str:
    """Wait for a child to end; returns which time limit expired, or an empty text. *heard* returns the time of its last
    output.
    """
    began = time.monotonic()
    while True:
        now = time.monotonic()
        total = began + limits.timeout - now
        silent = float("inf") if limits.silence is None else max(began, heard()) + limits.silence - now
        if total <= 0 or silent <= 0:
            return "total" if total <= 0 else "silence"
        try:
            child.wait(timeout=min(total, silent))
        except subprocess.TimeoutExpired:
            continue
        return ""


def kill(child: "subprocess.Popen[bytes]") -> None:
    """Kill a child and all its processes: TERM, five seconds, KILL."""
    if child.poll() is None:
        ask_to_end(child.pid)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(timeout=TERM_SECONDS)
    end(child.pid, ended=child.poll() is not None)
    child.wait()


def ask_to_end(pid: int) -> None:
    """Send TERM to all processes of a child except those that isolate it, whose end would kill the rest at once."""
    if isolation.in_force() is Isolation.GROUP:
        signal_group(pid, signal.SIGTERM)
        return
    for each in reaper.below(pid):
        with contextlib.suppress(OSError):
            if _keeps(each):
                continue
            os.kill(each, signal.SIGTERM)


def end(pid: int, *, ended: bool) -> None:
    """Kill all processes that a child started, in any session, then the child and its group."""
    if not ended and isolation.in_force() is not Isolation.GROUP:
        reaper.end_below(pid)
    signal_group(pid, signal.SIGKILL)


def before(walls: Walls, folder: Path) -> list[str]:
    """Return the command prefix of a child that ties its life to ours and isolates it."""
    name = "TERM" if isolation.in_force() is Isolation.SUBREAPER else "KILL"  # a subreaper kills its descendants first
    return [*tether(name), *isolation.prefix(walls, folder)]


def _keeps(pid: int) -> bool:
    """Return whether a process is the outer or the inner process of `bwrap`."""
    return Path(f"/proc/{pid}/comm").read_text().strip() == "bwrap"


def tether(name: str) -> list[str]:
    """Return a prefix that makes the kernel send the child the signal *name* when its parent dies; empty elsewhere."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", name] if setpriv else []


def bounds(limits: Limits) -> list[str]:
    """Return a prefix that limits the memory and CPU time of a child, if the machine supports it."""
    prlimit = shutil.which("prlimit")
    wanted = [f"--as={limits.memory_mb * 1024 * 1024}"] if limits.memory_mb else []
    wanted += [f"--cpu={limits.cpu_seconds}"] if limits.cpu_seconds else []
    return [prlimit, *wanted] if prlimit and wanted else []


def orphans() -> Iterator[tuple[int, str]]:
    """Yield (pid, run id) of processes with a job's run id in their environment. Linux only."""
    marker = f"{RUN_VARIABLE}=".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            for part in (folder / "environ").read_bytes().split(b"\0"):
                if part.startswith(marker):
                    yield int(folder.name), part.removeprefix(marker).decode()


def kill_pid(pid: int) -> None:
    """Kill a process that a dead worker left behind."""
    with contextlib.suppress(OSError):
        os.kill(pid, signal.SIGKILL)


def signal_group(group: int, number: int) -> None:
    """Send a signal to a process group; a group that is gone is no error."""
    with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS refuses this for a group of zombies
        os.killpg(group, number)


class Tail:
    """Reads all output of a child, reports it line by line, and keeps the tail, so memory stays bounded.

    Secrets of this process are masked on arrival, before the text is split or cut.
    """

    def __init__(self, stream: IO[bytes] | None, report: Report) -> None:
        self._clean = Stream()
        self._kept: list[str] = []
        self._size = self._dropped = 0
        self._line = ""
        self._heard = time.monotonic()
        self._report = report
        self._thread = threading.Thread(target=self._read, args=(stream,), daemon=True)
        self._thread.start()

    def heard(self) -> float:
        """Return the monotonic time of the last output."""
        return self._heard

    def text(self) -> str:
        """Return the tail, with a note if the beginning was dropped."""
        self._thread.join(timeout=2)
        whole = masked("".join(self._kept))
        dropped = self._dropped + max(0, len(whole) - TAIL_CHARACTERS)
        head = f"[{dropped} characters before this were dropped]\n" if dropped else ""
        return head + whole[-TAIL_CHARACTERS:]

    def _read(self, stream: IO[bytes] | None) -> None:
        if stream is None:
            return
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        with stream, contextlib.suppress(OSError, ValueError):
            while chunk := os.read(stream.fileno(), 65536):
                self._heard = time.monotonic()
                self._take(self._clean.feed(decoder.decode(chunk)))
        self._take(self._clean.feed(decoder.decode(b"", final=True)) + self._clean.end())
        if self._line:
            self._say(self._line)

    def _take(self, text: str) -> None:
        text = text.replace("\x00", "\N{REPLACEMENT CHARACTER}")
        self._keep(text)
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            self._say(line)
        if len(self._line) > LINE_CHARACTERS + OVERLAP_CHARACTERS:
            line = masked(self._line)
            self._line = line[-OVERLAP_CHARACTERS:]
            self._say(line[:-OVERLAP_CHARACTERS])

    def _keep(self, text: str) -> None:
        """Keep the tail and some more characters, so that no token is split before it is masked."""
        self._kept.append(text)
        self._size += len(text)
        most = TAIL_CHARACTERS + OVERLAP_CHARACTERS
        if self._size > 2 * most:
            self._dropped += self._size - most
            self._kept, self._size = ["".join(self._kept)[-most:]], most

    def _say(self, line: str) -> None:
        text = masked(line.rstrip("\r"))
        for found in _PROGRESS.finditer(text):
            self._report.progress(int(found[1]))
        for at in range(0, max(1, len(text)), LINE_CHARACTERS):
            self._report.line(text[at : at + LINE_CHARACTERS])


def _feed_stdin(child: "subprocess.Popen[bytes]", text: str) -> None:
    if child.stdin is not None:
        with contextlib.suppress(OSError), child.stdin:
            child.stdin.write(text.encode())


def _lost(child: "subprocess.Popen[bytes]", killed: threading.Event) -> None:
    killed.set()
    kill(child)
