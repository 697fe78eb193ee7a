"""A directory per run: what a job is given, what it returns, and nothing of another run."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OUTPUT_BYTES_MAX = 1_000_000
ARTIFACT_BYTES_MAX = 16_000_000
ARTIFACTS_MAX = 100


@dataclass(frozen=True, slots=True)
class Workspace:
    """The files of one take of one job; `place` is where it works, its own or one that all jobs of the run share."""

    folder: Path
    place: Path

    @classmethod
    def made(cls, root: Path, run_id: str, name: str, *, shared: bool = False) -> "Workspace":
        """Make an empty directory; what an earlier try of the same take left is removed, a shared place stays."""
        folder = root / run_id / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, mode=0o700)
        place = root / run_id / "shared" if shared else folder / "work"
        place.mkdir(exist_ok=True, mode=0o700)
        return cls(folder, place)

    @property
    def context(self) -> Path:
        """Return the file that a job reads."""
        return self.folder / "context.json"

    @property
    def output(self) -> Path:
        """Return the file that a job writes."""
        return self.folder / "output.json"

    @property
    def prompt(self) -> Path:
        """Return the file that holds what an agent is told."""
        return self.folder / "prompt.md"

    def give(self, value: Mapping[str, Any], prompt: str = "") -> None:
        """Write what the job is given."""
        self.context.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
        if prompt:
            self.prompt.write_text(prompt, encoding="utf-8")

    def returned(self, most: int = OUTPUT_BYTES_MAX) -> Any:  # noqa: ANN401 - free JSON of a child
        """Read what the job returned, or None; raises ValueError that says what is wrong with it."""
        if self.output.is_symlink() or not self.output.exists():
            return None
        size = self.output.stat().st_size
        if size > most:
            message = f"the output has {size} bytes, at most {most} are taken"
            raise ValueError(message)
        text = self.output.read_text(encoding="utf-8", errors="replace")
        return json.loads(text.replace("\\u0000", "\\ufffd")) if text.strip() else None

    def artifacts(self, patterns: Sequence[str]) -> dict[str, bytes]:
        """Read the files that a job leaves for good; raises ValueError where they are too many or too large.

        Links are not followed, and nothing outside of the place is read.
        """
        found: dict[str, bytes] = {}
        for pattern in patterns:
            for path in sorted(self.place.glob(pattern.lstrip("/"))):
                if path.is_symlink() or not path.is_file() or self.place.resolve() not in path.resolve().parents:
                    continue
                name = str(path.relative_to(self.place))
                if path.stat().st_size > ARTIFACT_BYTES_MAX or len(found) >= ARTIFACTS_MAX:
                    message = f"artifact {name}: at most {ARTIFACTS_MAX} files of {ARTIFACT_BYTES_MAX} bytes are kept"
                    raise ValueError(message)
                found[name] = path.read_bytes()
        return found

    def remove(self) -> None:
        """Remove the directory; a place that the run shares stays until the run's last job on this machine."""
        shutil.rmtree(self.folder, ignore_errors=True)
        run = self.folder.parent
        if run.exists() and not any(run.iterdir()):
            shutil.rmtree(run, ignore_errors=True)


def runs(root: Path) -> list[str]:
    """Return the runs that have a directory on this machine."""
    return sorted(path.name for path in root.glob("run_*") if path.is_dir())


def forget(root: Path, run_id: str) -> None:
    """Remove the directory of a run that has ended, with the place that its jobs shared."""
    shutil.rmtree(root / run_id, ignore_errors=True)
