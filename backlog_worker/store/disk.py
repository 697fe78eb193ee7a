"""What a disk says is wrong, in our own words: a full one is waited for, any other fault names the file."""

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from backlog_worker.domain.errors import BacklogError, FullError, UnreachableError

P = ParamSpec("P")
R = TypeVar("R")
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class _InFolder(Protocol):
    folder: Path


S = TypeVar("S", bound=_InFolder)


def on_disk(step: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """Let an OSError of *step* leave as one of our own errors."""

    def _own(self: S, /, *arguments: P.args, **named: P.kwargs) -> R:
        try:
            return step(self, *arguments, **named)
        except OSError as error:
            raise own(error, self.folder) from None

    return _own


def own(error: OSError, folder: Path) -> BacklogError:
    """Make one of our errors of an OSError over files in *folder*."""
    where = error.filename or folder
    if error.errno in _FULL:
        return FullError(f"the disk of {where} is full: {error.strerror}", hint="make room; what waits goes on then")
    return UnreachableError(
        f"{where} cannot be used: {error.strerror or error}", hint="look at its disk and its rights"
    )
