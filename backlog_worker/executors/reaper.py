"""The supervisor of one child without namespaces: `python -I -S reaper.py COMMAND ...`.

It is a subreaper, so every process that the child starts remains its descendant, in any session or group. It kills them
all when the child ends or when it is told to stop, and then exits as the child did. It imports nothing of this package.
"""

import contextlib
import ctypes
import os
import signal
import sys
from pathlib import Path

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER = 1, 4, 36
ROUNDS = 1000  # bounds the rounds for a program that forks faster than it is killed


def below(pid: int) -> list[int]:
    """Return every process below *pid*, the nearest first. Linux only."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            parent = int((folder / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(folder.name))
    found, at = [pid], 0
    while at < len(found):
        found += children.get(found[at], [])
        at += 1
    return found[1:]


def end_below(pid: int) -> None:
    """Kill every process below *pid* until none is left; only its parent can reap it."""
    for _ in range(ROUNDS):
        found = below(pid)
        for each in found:
            with contextlib.suppress(OSError):
                os.kill(each, signal.SIGKILL)
        if pid != os.getpid():
            return
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if not found:
            return


def control(option: int, value: int) -> None:
    """Set one property of this process (prctl); does nothing on systems without it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def main(command: list[str]) -> int:
    """Run a command until all its descendants have ended; returns its status, or ends by its signal."""
    control(PR_SET_CHILD_SUBREAPER, 1)
    signal.signal(signal.SIGTERM, _stopped)
    child = os.fork()
    if not child:
        _become(command)
    status = 0
    while True:
        pid, status = os.wait()
        if pid == child:
            break
    end_below(os.getpid())
    if os.WIFSIGNALED(status):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), os.WTERMSIG(status))
    return os.WEXITSTATUS(status)


def _become(command: list[str]) -> None:
    control(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)  # noqa: S606 - the command of a reviewed file, without a shell
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}\n")
        os._exit(127 if isinstance(error, FileNotFoundError) else 126)


def _stopped(*_: object) -> None:
    end_below(os.getpid())
    os._exit(128 + signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
