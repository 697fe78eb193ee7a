"""Write-backs as files: the newest record of each entry, as JSON and as Markdown."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backlog_worker.integrations.artifacts import write_whole

_SAFE = re.compile(r"[^A-Za-z0-9_.-]")


@dataclass(frozen=True, slots=True)
class FolderTracker:
    """A directory of records; *shared* is the directory of older releases, which is only read."""

    folder: Path
    shared: Path | None = None

    def write(self, topic: str, body: Mapping[str, Any], markdown: str) -> str:
        """Replace the record of *topic*; idempotent."""
        name = _SAFE.sub("_", topic)
        write_whole(self.folder / f"{name}.json", json.dumps(body, indent=1, ensure_ascii=False).encode())
        write_whole(self.folder / f"{name}.md", markdown.encode())
        return f"{self.folder.name}/{name}.md"

    def read(self, topic: str) -> Mapping[str, Any] | None:
        """Return the current record of *topic*; None if there is none or it is not a JSON object."""
        name = f"{_SAFE.sub('_', topic)}.json"
        for folder in (self.folder, self.shared):
            try:
                found = json.loads((folder / name).read_text(encoding="utf-8")) if folder else None
            except FileNotFoundError:
                continue
            except ValueError:
                return {}
            return found if isinstance(found, dict) or folder is None else {}
        return None

    def topics(self) -> list[str]:
        """Return the topics that have a record."""
        return sorted(path.stem for path in self.folder.glob("*.json"))
