"""Secrets by name, from the environment, a folder of files, or a program; every value read is masked from then on."""

import os
import re
import shlex
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from backlog_worker.domain import masking

SECONDS = 10
_taken: dict[str, str] = {}
_withdrawing = False
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def environment() -> dict[str, str]:
    """Return the environment of this process, including withdrawn secrets."""
    return {**_taken, **os.environ}


def withdraw(names: Iterable[str]) -> None:
    """Remove these names and all secrets read later from the environment, so that code of a job cannot read them.

    Only for processes that never re-execute their own program, which would lose them.
    """
    global _withdrawing  # noqa: PLW0603 - the environment is one for the whole process
    _withdrawing = True
    for name in names:
        if name in os.environ:
            _taken[name] = os.environ.pop(name)


@dataclass(frozen=True, slots=True)
class Secrets:
    """The secrets of this machine; a call returns one, or None if it is not found."""

    folder: Path
    command: str = ""

    def __call__(self, name: str) -> str | None:
        """Return a secret, looked up in the environment, then the folder, then the program."""
        if not _NAME.fullmatch(name) or name.startswith("BACKLOG_"):
            return None
        value = self._found(name)
        masking.keep([value] if value else [])
        return value

    def _found(self, name: str) -> str | None:
        if name in os.environ:
            if not _withdrawing:
                return os.environ[name]
            withdraw([name])
        if name in _taken:
            return _taken[name]
        for path in (self.folder / name, self.folder / name.lower()):
            try:
                return path.read_text(encoding="utf-8").rstrip("\n")
            except (OSError, UnicodeDecodeError):
                continue
        return self._asked(name) if self.command else None

    def _asked(self, name: str) -> str | None:
        try:
            done = subprocess.run(  # noqa: S603 - the operator's own program; the name is one argument and was checked
                [*shlex.split(self.command), name], capture_output=True, text=True, timeout=SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.rstrip("\n") if done.returncode == 0 else None
