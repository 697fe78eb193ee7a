"""Digests, seals and merge reports as files for people and other programs: `reports/ENV/KIND/PERIOD.json` and `.md`."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backlog_worker.domain.errors import Finding, InvalidFileError
from backlog_worker.integrations.artifacts import write_whole


@dataclass(frozen=True, slots=True)
class FolderReports:
    """A directory of the reports of one environment, with a folder for each kind."""

    folder: Path

    def write(self, kind: str, period: str, value: Mapping[str, Any], markdown: str = "") -> list[str]:
        """Write a report atomically, replacing the one of the same period; returns the paths."""
        path = self.folder / kind / f"{period}.json"
        write_whole(path, (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode())
        if not markdown:
            return [str(path)]
        write_whole(path.with_suffix(".md"), markdown.encode())
        return [str(path), str(path.with_suffix(".md"))]

    def read(self, kind: str, period: str = "") -> tuple[str, Any] | None:
        """Return the path and the value of a report, by default the newest; None if there is none.

        Raises InvalidFileError if the file is not JSON.
        """
        found = sorted((self.folder / kind).glob(f"{period or '*'}.json"))
        if not found:
            return None
        try:
            return str(found[-1]), json.loads(found[-1].read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            line, column = getattr(error, "lineno", 1), getattr(error, "colno", 1)
            text, hint = f"not JSON: {error}", "recreate it with its tool"
            finding = Finding(code="BW401", text=text, file=str(found[-1]), line=line, column=column, hint=hint)
            raise InvalidFileError([finding]) from None
