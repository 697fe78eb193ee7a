"""`.backlog-worker/`: the files that people write, and the state stored beside them."""

import errno
import json
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from backlog_worker.domain.masking import cut
from backlog_worker.integrations import DefinitionFile

NAME = ".backlog-worker"
ENDINGS = (".yml", ".yaml")
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
        """Return the directory of the database and of the state that environments share."""
        return self.folder / "state"

    @property
    def own(self) -> Path:
        """Return the directory of this environment's artifacts, write-backs and workspaces."""
        return self.state / "env" / self.env

    @property
    def place(self) -> str:
        """Return the folder of these files."""
        return str(self.folder)

    def files(self) -> Sequence[DefinitionFile]:
        """Return the policy and every pipeline; an unreadable one carries its error, and the others are read."""
        self._seen = self._stamps()
        named = Contracts(self.folder / "pipelines")
        return [_file(kind, path, named if kind == "pipeline" else NO_CONTRACTS) for kind, path in self._paths()]

    def changed(self) -> bool:
        """Return whether a file was added, removed or written since `files`."""
        return self._stamps() != self._seen

    def complete(self) -> bool:
        """Return whether the folder of the pipelines exists: an unmounted one does not mean that pipelines were
        removed.
        """
        return (self.folder / "pipelines").is_dir()

    def _paths(self) -> list[tuple[str, Path]]:
        folder = self.folder / "pipelines"
        found = [("policy", path) for path in policies(self.folder)]
        try:
            paths = pipelines(self.folder)
        except FileNotFoundError:
            return found
        except OSError:  # an unreadable folder is reported itself
            return [*found, ("pipeline", folder)]
        return [*found, *(("pipeline", each) for each in paths)]

    def _stamps(self) -> tuple[tuple[str, int, int, int], ...]:
        read = _files_below(self.folder / "pipelines", (".json", *ENDINGS))
        watched = sorted({*(path for _, path in self._paths()), *read, *_files_below(self.folder / "agents", (".md",))})
        found = []
        for path in watched:
            try:
                known = path.stat()
            except OSError:
                continue
            found.append(
                (str(path), known.st_mtime_ns, known.st_ctime_ns, known.st_size)
            )  # a change of permissions alters the second
        return tuple(found)


def policies(folder: Path) -> list[Path]:
    """Return the policy files in a project's folder: normally one, two if both suffixes exist."""
    return [path for path in spelled(folder / "policy.yml") if os.path.lexists(path)]


def spelled(path: Path) -> list[Path]:
    """Return the possible names of a definition: a YAML file with either suffix."""
    return [path.with_suffix(ending) for ending in ENDINGS] if path.suffix in ENDINGS else [path]


def pipelines(folder: Path) -> list[Path]:
    """Return the pipeline files in a project's folder; raises OSError if the folder cannot be read."""
    found = (folder / "pipelines").iterdir()
    return sorted(each for each in found if each.suffix in ENDINGS and not each.name.startswith("."))


def _files_below(folder: Path, endings: tuple[str, ...]) -> list[Path]:
    """Return the files in a folder and its subfolders; unreadable and vanished ones are skipped."""
    return [Path(place) / name for place, _, names in os.walk(folder) for name in names if name.endswith(endings)]


def contracts(path: Path) -> Mapping[str, Any]:
    """Return the files that the pipeline at *path* may refer to."""
    return Contracts(path.parent)


def definition_at(kind: str, path: Path) -> DefinitionFile:
    """Read one definition of any name; an unreadable one carries its error."""
    return _file(kind, path, contracts(path) if kind == "pipeline" else NO_CONTRACTS)


def _file(kind: str, path: Path, named: Mapping[str, Any]) -> DefinitionFile:
    try:
        return DefinitionFile(kind=kind, file=str(path), body=text_of(path), contracts=named)
    except (OSError, UnicodeDecodeError) as error:
        return DefinitionFile(kind=kind, file=str(path), body="", fault=fault(error))


def fault(error: OSError | UnicodeDecodeError) -> str:
    """Return why a file cannot be read."""
    if isinstance(error, UnicodeDecodeError):
        return f"the text is not UTF-8: {error.reason} at byte {error.start}"
    return f"the file cannot be read: {error.strerror or error}"


def text_of(path: Path, most: int = SIZE_MAX) -> str:
    """Read a regular file of at most *most* bytes; never blocks on other kinds.

    Links are followed, because mounted configurations consist of them. Raises OSError or UnicodeDecodeError.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe without a writer opens at once
    try:
        mode = os.fstat(handle).st_mode
        if not stat.S_ISREG(mode):
            said = "it is a folder" if stat.S_ISDIR(mode) else "it is not a regular file"
            raise OSError(errno.EINVAL, said, str(path))
        with os.fdopen(handle, "rb", closefd=False) as file:
            content = file.read(most + 1)
    finally:
        os.close(handle)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"it is larger than {most // 1024 // 1024} MiB", str(path))
    return content.decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")


class Contracts(Mapping[str, Any]):
    """The files that pipelines of a folder may refer to, by path: schemas, included files, agents.

    Paths start at the folder of the pipelines; agents are in `agents/` beside it. A file is read on first use, and
    once. An unreadable file raises OSError with the reason.
    """

    def __init__(self, folder: Path) -> None:
        beside = folder.parent / "agents"
        agents = {f"agents/{each.name}": each for each in _files_below(beside, (".md",)) if each.parent == beside}
        own = {each.relative_to(folder).as_posix(): each for each in _files_below(folder, (".json", *ENDINGS))}
        self._paths = {**own, **agents}
        self._read: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 - a schema or a text
        """Return a schema as a value, and any other file as text; raises KeyError or OSError."""
        if name not in self._read:
            path = self._paths[name]
            try:
                text = text_of(path)
                self._read[name] = json.loads(text, parse_constant=_no_number) if path.suffix == ".json" else text
            except UnicodeDecodeError as error:
                raise OSError(errno.EINVAL, fault(error), str(path)) from None
            except (ValueError, RecursionError) as error:
                raise OSError(errno.EINVAL, f"it is not JSON: {cut(str(error), 150)}", str(path)) from None
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        """Yield the paths."""
        return iter(self._paths)

    def __len__(self) -> int:
        """Return how many files there are."""
        return len(self._paths)


NO_CONTRACTS: Mapping[str, Any] = MappingProxyType({})


def _no_number(word: str) -> float:
    message = f"{word} is not a JSON number"
    raise ValueError(message)
