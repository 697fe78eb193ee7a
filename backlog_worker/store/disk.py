"""Translation of disk errors: a full disk raises FullError, which callers wait for; others name the file."""

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
    """Decorate *step* to raise our own error instead of an OSError."""

    def _own(self: S, /, *arguments: P.args, **named: P.kwargs) -> R:
        try:
            return step(self, *arguments, **named)
        except OSError as error:
            raise own(error, self.folder) from None

    return _own


def own(error: OSError, folder: Path) -> BacklogError:
    """Return our error for an OSError on files in *folder*."""
    where = error.filename or folder
    if error.errno in _FULL:
        return FullError(
            f"the disk of {where} is full: {error.strerror}", hint="free some space; waiting work then continues"
        )
    return UnreachableError(
        f"{where} cannot be used: {error.strerror or error}", hint="check the disk and the permissions"
    )
