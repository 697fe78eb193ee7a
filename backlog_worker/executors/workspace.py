"""A directory per run: the inputs and outputs of its jobs, separate from every other run."""

import errno
import json
import os
import shutil
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backlog_worker.domain.artifact import ARTIFACT_BYTES_MAX, ARTIFACTS_MAX, artifact_name
from backlog_worker.domain.errors import InvalidInputError
from backlog_worker.domain.masking import cut
from backlog_worker.domain.outcome import Done, FailureKind, Faulted, Result
from backlog_worker.domain.output import BYTES_MAX
from backlog_worker.domain.pipeline import Job
from backlog_worker.executors import Work, answers

_NO_LINK = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
_KINDS = {stat.S_IFIFO: "a named pipe", stat.S_IFDIR: "a folder", stat.S_IFSOCK: "a socket"} | {
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFLNK: "a link",
}


@dataclass(frozen=True, slots=True)
class Workspace:
    """The files of one take of one job; `place` is its working directory, its own or shared by the jobs of the run."""

    folder: Path
    place: Path

    @classmethod
    def made(cls, root: Path, run_id: str, name: str, *, shared: bool = False) -> "Workspace":
        """Create an empty directory; files of an earlier try of the same take are removed, a shared place stays."""
        folder = root / run_id / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, mode=0o700)
        place = root / run_id / "shared" if shared else folder / "work"
        place.mkdir(exist_ok=True, mode=0o700)
        return cls(folder, place)

    @property
    def context(self) -> Path:
        """Return the context file of a job."""
        return self.folder / "context.json"

    @property
    def output(self) -> Path:
        """Return the output file of a job."""
        return self.folder / "output.json"

    @property
    def prompt(self) -> Path:
        """Return the file with the prompt of an agent."""
        return self.folder / "prompt.md"

    def give(self, value: Mapping[str, Any], prompt: str = "") -> None:
        """Write the inputs of the job."""
        self.context.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
        if prompt:
            self.prompt.write_text(prompt, encoding="utf-8")

    def returned(self, most: int = BYTES_MAX) -> Any:  # noqa: ANN401 - free JSON of a child
        """Return the output of the job, or None; raises ValueError if it is invalid."""
        content = self._read(self.output, most, "the output")
        if content is None:
            return None
        try:
            text = content.decode()
        except UnicodeDecodeError as error:
            message = f"the output is not UTF-8 at byte {error.start + 1}"
            raise ValueError(message) from None
        return answers.parsed(text) if text.strip() else None

    def artifacts(self, patterns: Sequence[str]) -> dict[str, bytes]:
        """Read the artifacts of a job; raises ValueError if there are too many or too large ones.

        Links are not followed, and nothing outside of the place is read.
        """
        found: dict[str, bytes] = {}
        for pattern in patterns:
            for path in sorted(self.place.glob(pattern.lstrip("/"))):
                if not stat.S_ISREG(_mode(path)) or self.place.resolve() not in path.resolve().parents:
                    continue
                try:
                    name = artifact_name(str(path.relative_to(self.place)))
                except InvalidInputError as error:
                    raise ValueError(str(error)) from None
                if len(found) >= ARTIFACTS_MAX:
                    message = f"artifact {name}: at most {ARTIFACTS_MAX} files are allowed"
                    raise ValueError(message)
                content = self._read(path, ARTIFACT_BYTES_MAX, f"artifact {name}")
                if content is not None:
                    found[name] = content
        return found

    def unmatched(self, patterns: Sequence[str]) -> list[str]:
        """Return the patterns that match no file; links do not count."""
        found = {each: self.place.glob(each.lstrip("/")) for each in patterns}
        return [each for each, paths in found.items() if not any(stat.S_ISREG(_mode(path)) for path in paths)]

    def _read(self, path: Path, most: int, what: str) -> bytes | None:
        """Read a regular file of at most *most* bytes, or return None if there is none; raises ValueError.

        Every directory below the root of all workspaces is opened by name alone: no link is followed, and no opening
        can block.
        """
        root = self.folder.parent.parent
        *folders, name = path.relative_to(root).parts
        opened: list[int] = []
        try:
            opened.append(os.open(root, _NO_LINK | os.O_DIRECTORY))
            for folder in folders:
                opened.append(os.open(folder, _NO_LINK | os.O_DIRECTORY, dir_fd=opened[-1]))
            mode = os.stat(name, dir_fd=opened[-1], follow_symlinks=False).st_mode
            if not stat.S_ISREG(mode):
                message = f"{what} is {_KINDS.get(stat.S_IFMT(mode), 'no file')}, not a regular file"
                raise ValueError(message)
            opened.append(os.open(name, _NO_LINK, dir_fd=opened[-1]))
            return _bounded(opened[-1], most, what)
        except FileNotFoundError:
            return None
        except OSError as error:
            named = "a link" if error.errno in {errno.ELOOP, errno.ENOTDIR} else os.strerror(error.errno or 0)
            message = f"{what} cannot be read: {named}"
            raise ValueError(message) from None
        finally:
            for each in reversed(opened):
                os.close(each)

    def remove(self) -> None:
        """Remove the directory; a shared place stays until the run's last job on this machine ends."""
        shutil.rmtree(self.folder, ignore_errors=True)
        run = self.folder.parent
        if run.exists() and not any(run.iterdir()):
            shutil.rmtree(run, ignore_errors=True)


def with_artifacts(result: Result, job: Job, work: Work, workspace: Workspace) -> Result:
    """Log the artifact patterns that match nothing; a plain name without a file fails the job."""
    if not isinstance(result, Done):
        return result
    missing = workspace.unmatched(job.artifacts)
    for pattern in missing:
        work.report.line(f"[artifacts] no file matches {pattern}")
    named = [each for each in missing if not set(each) & set("*?[")]
    if named:
        text = f"it left no file {', '.join(named)} in its workspace, which `artifacts` names"
        return Faulted(kind=FailureKind.VALIDATION, reason=cut(text, 400))
    return result


def runs(root: Path) -> list[str]:
    """Return the runs with a directory on this machine."""
    return sorted(path.name for path in root.glob("run_*") if path.is_dir())


def forget(root: Path, run_id: str) -> None:
    """Remove the directory of a run that has ended, with its shared place."""
    shutil.rmtree(root / run_id, ignore_errors=True)


def _bounded(file: int, most: int, what: str) -> bytes:
    """Read an open file; raises ValueError if it is not a regular file or has more than *most* bytes."""
    found = os.fstat(file)
    if not stat.S_ISREG(found.st_mode):  # it was replaced between stat and open
        message = f"{what} is not a regular file"
        raise ValueError(message)
    if found.st_nlink > 1:  # it may be a second name of a system file
        message = f"{what} is a hard link: copy the file instead"
        raise ValueError(message)
    chunks, size = [], 0
    while size <= most and (chunk := os.read(file, min(most + 1 - size, 1 << 20))):
        chunks.append(chunk)
        size += len(chunk)
    if size > most:
        message = f"{what} has {max(size, found.st_size)} bytes; at most {most} are allowed"
        raise ValueError(message)
    return b"".join(chunks)


def _mode(path: Path) -> int:
    try:
        return path.lstat().st_mode
    except OSError:
        return 0
