"""Artifacts by digest in a directory: written aside, synced, renamed; equal content is stored once."""

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

    *shared* is the directory of older releases: it is only read, and redacted artifacts are removed from it.
    """

    folder: Path
    shared: Path | None = None

    def keep(self, content: bytes) -> tuple[str, str]:
        """Store *content* atomically; returns its address, relative to the folder's parent, and its digest."""
        digest = hashlib.sha256(content).hexdigest()
        path = self.folder / digest[:2] / digest
        if path.exists():
            os.utime(path)  # stored again: retention starts anew
        else:
            write_whole(path, content)
        return f"{self.folder.name}/{digest[:2]}/{digest}", digest

    def read(self, sha256: str) -> bytes | None:
        """Return the content with a digest, or None if it is gone."""
        for path in self._places(sha256):
            with contextlib.suppress(OSError):
                return path.read_bytes()
        return None

    def older(self, seconds: float) -> list[str]:
        """Return the digests of content stored more than *seconds* ago."""
        before = time.time() - seconds
        found = []
        for path in sorted(self.folder.glob("??/*")):
            with contextlib.suppress(OSError):
                if path.stat().st_mtime < before and not path.name.startswith("."):
                    found.append(path.name)
        return found

    def forget(self, sha256: str) -> None:
        """Remove the content with a digest, if it exists."""
        for path in self._places(sha256):
            path.unlink(missing_ok=True)

    def _places(self, sha256: str) -> list[Path]:
        return [folder / sha256[:2] / sha256 for folder in (self.folder, self.shared) if folder is not None]


def write_whole(path: Path, content: bytes) -> None:
    """Write a file atomically: readers see the old or the new content, also after a crash."""
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
