"""`.backlog-worker/`: the files that people write, and the state that we keep beside them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backlog_worker.integrations import DefinitionFile

NAME = ".backlog-worker"


@dataclass(slots=True)
class Project:
    """The directory of one project."""

    folder: Path
    env: str = "prod"
    _seen: tuple[tuple[str, int, int], ...] = field(default=(), repr=False)

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
        """Return the policy and every pipeline; an unreadable file has an empty body, and so is refused by name."""
        self._seen = self._stamps()
        return [
            DefinitionFile(kind=kind, file=str(path), body=_text(path), contracts=contracts(path))
            for kind, path in self._paths()
        ]

    def changed(self) -> bool:
        """Return whether a file came, went, or was written since `files`."""
        return self._stamps() != self._seen

    def _paths(self) -> list[tuple[str, Path]]:
        policy = self.folder / "policy.yml"
        pipelines = sorted((self.folder / "pipelines").glob("*.yml"))
        return [("policy", policy)] * policy.exists() + [("pipeline", path) for path in pipelines]

    def _stamps(self) -> tuple[tuple[str, int, int], ...]:
        read = [*(self.folder / "pipelines").rglob("*.json"), *(self.folder / "pipelines").rglob("*.yml")]
        watched = sorted({*(path for _, path in self._paths()), *read, *(self.folder / "agents").glob("*.md")})
        found = []
        for path in watched:
            try:
                stat = path.stat()
            except OSError:
                continue
            found.append((str(path), stat.st_mtime_ns, stat.st_size))
        return tuple(found)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def contracts(path: Path) -> dict[str, Any]:
    """Read what a pipeline may name, by the paths under which it names them: schemas, files to include, agents.

    Paths start at the pipeline's folder; agents lie in `agents/` beside it. What cannot be read is left out, and is
    then refused by name.
    """
    found: dict[str, Any] = {}
    for each in sorted({*path.parent.rglob("*.json"), *path.parent.rglob("*.yml")} - {path}):
        name = each.relative_to(path.parent).as_posix()
        try:
            text = each.read_text(encoding="utf-8")
            found[name] = json.loads(text) if each.suffix == ".json" else text
        except (OSError, ValueError):
            continue
    for each in sorted((path.parent.parent / "agents").glob("*.md")):
        found[f"agents/{each.name}"] = _text(each)
    return found
