"""Artifacts by digest in a directory: written aside, synced, renamed; the same content is kept once."""

import contextlib
import hashlib
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class FolderArtifacts:
    """A directory of files named by the SHA-256 of their content.

    *shared* is the one of older releases: it is read, and what is redacted leaves it, but nothing else is done there.
    """

    folder: Path
    shared: Path | None = None

    def keep(self, content: bytes) -> tuple[str, str]:
        """Store *content* whole or not at all; returns its address, relative to the folder's parent, and its digest."""
        digest = hashlib.sha256(content).hexdigest()
        path = self.folder / digest[:2] / digest
        if path.exists():
            os.utime(path)  # kept again: retention counts from now
        else:
            write_whole(path, content)
        return f"{self.folder.name}/{digest[:2]}/{digest}", digest

    def read(self, sha256: str) -> bytes | None:
        """Return what was kept under a digest, or None where it is gone."""
        for path in self._places(sha256):
            with contextlib.suppress(OSError):
                return path.read_bytes()
        return None

    def older(self, seconds: float) -> list[str]:
        """Return the digests of what was kept longer ago than *seconds*."""
        before = time.time() - seconds
        found = []
        for path in sorted(self.folder.glob("??/*")):
            with contextlib.suppress(OSError):
                if path.stat().st_mtime < before and not path.name.startswith("."):
                    found.append(path.name)
        return found

    def forget(self, sha256: str) -> None:
        """Remove what was kept under a digest, if it is there."""
        for path in self._places(sha256):
            path.unlink(missing_ok=True)

    def _places(self, sha256: str) -> list[Path]:
        return [folder / sha256[:2] / sha256 for folder in (self.folder, self.shared) if folder is not None]


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old one or the new one, and a crash leaves no half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, aside = tempfile.mkstemp(dir=path.parent, prefix=".aside-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(aside).replace(path)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise
