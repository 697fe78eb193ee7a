"""A directory per run: what a job is given, what it returns, and nothing of another run."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OUTPUT_BYTES_MAX = 1_000_000


@dataclass(frozen=True, slots=True)
class Workspace:
    """The files of one take of one job."""

    folder: Path

    @classmethod
    def made(cls, root: Path, run_id: str, job_id: str, take: int) -> "Workspace":
        """Make an empty directory; what an earlier try of the same take left is removed."""
        folder = root / run_id / f"{job_id}.{take}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, mode=0o700)
        return cls(folder)

    @property
    def context(self) -> Path:
        """Return the file that a job reads."""
        return self.folder / "context.json"

    @property
    def output(self) -> Path:
        """Return the file that a job writes."""
        return self.folder / "output.json"

    def give(self, value: Mapping[str, Any]) -> None:
        """Write what the job is given."""
        self.context.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")

    def returned(self) -> Any:  # noqa: ANN401 - free JSON of a child
        """Read what the job returned, or None; raises ValueError that says what is wrong with it."""
        if self.output.is_symlink() or not self.output.exists():
            return None
        size = self.output.stat().st_size
        if size > OUTPUT_BYTES_MAX:
            message = f"the output has {size} bytes, at most {OUTPUT_BYTES_MAX} are taken"
            raise ValueError(message)
        text = self.output.read_text(encoding="utf-8", errors="replace")
        return json.loads(text.replace("\\u0000", "\\ufffd")) if text.strip() else None

    def remove(self) -> None:
        """Remove the directory, and that of the run where this was its last."""
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.folder.parent.exists() and not any(self.folder.parent.iterdir()):
            shutil.rmtree(self.folder.parent, ignore_errors=True)
