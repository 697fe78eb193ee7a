"""Whose files are: what this program keeps is for its owner only, and what people ask for is as their umask says."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

PRIVATE = 0o077
_before = -1  # the umask of whoever started this process; -1 while it is in force


def private() -> None:
    """Make every file and folder of this process for its owner only, from now on; for processes that are all ours."""
    global _before  # noqa: PLW0603 - a umask is one for the whole process
    found = os.umask(PRIVATE)
    if _before < 0:
        _before = found


def of_people() -> int:
    """Return the umask for the children of jobs, which work for people; -1 leaves the one that is in force."""
    return _before


@contextlib.contextmanager
def as_people() -> Iterator[None]:
    """Write files that people asked for, such as those of `init`, with the umask of whoever started this process."""
    if _before < 0:
        yield
        return
    os.umask(_before)
    try:
        yield
    finally:
        os.umask(PRIVATE)


def keep(folder: Path) -> None:
    """Make a folder that nobody else can enter, also where an older release made it open to others."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with contextlib.suppress(OSError):  # it is somebody else's, who decided
        if folder.stat().st_mode & PRIVATE:
            folder.chmod(0o700)


def touch(file: Path) -> None:
    """Make a file for its owner only before a library makes it for all."""
    with contextlib.suppress(FileExistsError):
        os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
