"""What keeps the child of a job apart from its worker: namespaces by `bwrap`, a subreaper, or its process group.

- `namespaces`: it sees its own processes only, and all end with it. State and secrets are not there, and the project is
  read-only for a job in a folder of its own. Where the agent says `network: deny` it has an empty network.
- `subreaper`: all its processes end with it, in whatever session. Files and network are its worker's.
- `group`: the processes of its group end with it. Files and network are its worker's.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from pathlib import Path

from backlog_worker.domain.pipeline import Job
from backlog_worker.executors import reaper

PROBE_SECONDS = 10
_STARTER = ("/bin/sh", "-c", 'exec "$@"', "sh")  # exits with 127 or 126 if the program cannot be started


class Isolation(StrEnum):
    """How a child is isolated on this machine."""

    NAMESPACES = "namespaces"
    SUBREAPER = "subreaper"
    GROUP = "group"


_chosen: Isolation | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Walls:
    """What one child may see and write: `hidden` is absent, `fixed` is read-only, `open` overrides both."""

    hidden: Sequence[Path] = ()
    fixed: Sequence[Path] = ()
    open: Sequence[Path] = ()
    offline: bool = False


def choose(kind: str) -> None:
    """Use this kind in this process, as configured; empty means the best that works here."""
    global _chosen  # noqa: PLW0603 - isolation is process-wide
    _chosen = Isolation(kind) if kind else None


def in_force() -> Isolation:
    """Return the isolation in use: the configured one, or the best that works here, which is tested once."""
    return _chosen or best()


@lru_cache(maxsize=1)
def best() -> Isolation:
    """Return the best isolation that works on this machine."""
    if sys.platform != "linux":
        return Isolation.GROUP
    if shutil.which("bwrap"):
        try:
            done = subprocess.run(  # noqa: S603 - our own arguments
                [*_bubble(), "--", "/bin/sh", "-c", "test $$ -lt 9"],
                capture_output=True,
                timeout=PROBE_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return Isolation.SUBREAPER
        if done.returncode == 0:
            return Isolation.NAMESPACES
    return Isolation.SUBREAPER


def prefix(walls: Walls, folder: Path) -> list[str]:
    """Return the command prefix that isolates a child working in *folder*."""
    match in_force():
        case Isolation.NAMESPACES:
            return [*_bubble(), *_mounts(walls), "--chdir", str(folder.resolve()), "--", *_STARTER]
        case Isolation.SUBREAPER:
            return [sys.executable, "-I", "-S", str(Path(reaper.__file__).resolve())]
        case Isolation.GROUP:
            return []


def words() -> str:
    """Return the description of the isolation in force, for `doctor`."""
    return {
        Isolation.NAMESPACES: "namespaces: a job sees its own processes, no state and no secrets of others",
        Isolation.SUBREAPER: "subreaper: every process of a job ends with it; files and network are its worker's",
        Isolation.GROUP: "group: the processes of a job's group end with it; files and network are its worker's",
    }[in_force()]


def refusal(job: Job, *, offline: bool = False) -> str:
    """Return why a job that requires isolation or an agent without network cannot run here; empty if it can."""
    asked = "execution.isolation: strict" if job.execution.isolation == "strict" else offline and "network: deny"
    if not asked or in_force() is Isolation.NAMESPACES:
        return ""
    return (
        f"the job {job.id} requires {asked}, but this machine offers only {in_force()};"
        " install bubblewrap and allow user namespaces, then check with backlog-worker doctor"
    )


def shut() -> None:
    """Prevent other processes of this user from reading the memory and environment of this one (Linux)."""
    reaper.control(reaper.PR_SET_DUMPABLE, 0)


def _bubble() -> list[str]:
    program = shutil.which("bwrap") or "bwrap"
    apart = ["--die-with-parent", "--unshare-pid", "--unshare-ipc", "--cap-drop", "ALL"]
    return [program, *apart, "--bind", "/", "/", "--dev-bind", "/dev", "/dev", "--proc", "/proc"]


def _mounts(walls: Walls) -> Iterator[str]:
    """Return the mounts in order: later mounts cover earlier ones."""
    for path in walls.fixed:
        if path.exists():
            yield from ("--ro-bind", str(path.resolve()), str(path.resolve()))
    for path in walls.hidden:
        if path.is_dir():
            yield from ("--tmpfs", str(path.resolve()))
        elif path.exists():
            yield from ("--ro-bind", os.devnull, str(path.resolve()))
    for path in walls.open:
        yield from ("--bind", str(path.resolve()), str(path.resolve()))
    if walls.offline:
        yield "--unshare-net"
