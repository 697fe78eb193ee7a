"""`.backlog-worker/`: the files that people write, and the state that we keep beside them."""

import errno
import json
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backlog_worker.integrations import DefinitionFile

NAME = ".backlog-worker"
SIZE_MAX = 4 * 1024 * 1024


@dataclass(slots=True)
class Project:
    """The directory of one project."""

    folder: Path
    env: str = "prod"
    _seen: tuple[tuple[str, int, int, int], ...] = field(default=(), repr=False)

    @property
    def root(self) -> Path:
        """Return the directory in which commands run."""
        return self.folder.parent

    @property
    def state(self) -> Path:
        """Return where the database lies, and what environments share."""
        return self.folder / "state"

    @property
    def own(self) -> Path:
        """Return where artifacts, write-backs and workspaces of this environment lie, and of no other."""
        return self.state / "env" / self.env

    def files(self) -> Sequence[DefinitionFile]:
        """Return the policy and every pipeline; one that cannot be read says why, and the others are read."""
        self._seen = self._stamps()
        return [_file(kind, path) for kind, path in self._paths()]

    def changed(self) -> bool:
        """Return whether a file came, went, or was written since `files`."""
        return self._stamps() != self._seen

    def _paths(self) -> list[tuple[str, Path]]:
        policy, folder = self.folder / "policy.yml", self.folder / "pipelines"
        found = [("policy", policy)] * os.path.lexists(policy)
        try:
            paths = sorted(each for each in folder.iterdir() if each.suffix == ".yml" and not each.name.startswith("."))
        except FileNotFoundError:
            return found
        except OSError:  # a folder that cannot be looked into is itself what cannot be read
            return [*found, ("pipeline", folder)]
        return [*found, *(("pipeline", each) for each in paths)]

    def _stamps(self) -> tuple[tuple[str, int, int, int], ...]:
        read = _beneath(self.folder / "pipelines", (".json", ".yml"))
        watched = sorted({*(path for _, path in self._paths()), *read, *_beneath(self.folder / "agents", (".md",))})
        found = []
        for path in watched:
            try:
                known = path.stat()
            except OSError:
                continue
            found.append((str(path), known.st_mtime_ns, known.st_ctime_ns, known.st_size))  # rights change the second
        return tuple(found)


def _beneath(folder: Path, endings: tuple[str, ...]) -> list[Path]:
    """Return the files in a folder and in those below it; what cannot be looked into, or vanishes, is left out."""
    return [Path(place) / name for place, _, names in os.walk(folder) for name in names if name.endswith(endings)]


def _file(kind: str, path: Path) -> DefinitionFile:
    try:
        body = _text(path)
        return DefinitionFile(kind=kind, file=str(path), body=body, contracts=contracts(path))
    except UnicodeDecodeError as error:
        fault = f"the text is not UTF-8: {error.reason} at byte {error.start}"
    except OSError as error:
        fault = f"the file cannot be read: {error.strerror or error}"
    return DefinitionFile(kind=kind, file=str(path), body="", fault=fault)


def _text(path: Path) -> str:
    """Read a regular file, and no more of it than any definition may have; whatever else has that name may block."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    with path.open(encoding="utf-8") as file:
        return file.read(SIZE_MAX)


def contracts(path: Path) -> dict[str, Any]:
    """Read what a pipeline may name, by the paths under which it names them: schemas, files to include, agents.

    Paths start at the pipeline's folder; agents lie in `agents/` beside it. What cannot be read is left out, and is
    then refused by name.
    """
    found: dict[str, Any] = {}
    folder = path.parent.parent / "agents"
    agents = [each for each in _beneath(folder, (".md",)) if each.parent == folder]
    for each in sorted({*_beneath(path.parent, (".json", ".yml")), *agents} - {path}):
        name = f"agents/{each.name}" if each in agents else each.relative_to(path.parent).as_posix()
        try:
            text = _text(each)
            found[name] = json.loads(text, parse_constant=_no_number) if each.suffix == ".json" else text
        except (OSError, ValueError, RecursionError):
            continue
    return found


def _no_number(word: str) -> float:
    message = f"{word} is no number of JSON"
    raise ValueError(message)
