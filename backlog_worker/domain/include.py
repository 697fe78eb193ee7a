"""Includes: jobs of other files, inserted with prefixed ids, their parameters and their origin.

An included file may include others; the result is flat. A file that includes itself is refused with the cycle's path.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from backlog_worker.domain import document
from backlog_worker.domain.document import Document, Path
from backlog_worker.domain.errors import Finding, InvalidFileError
from backlog_worker.domain.language import IncludeFile, JobFile, PipelineFile

DEPTH = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A job of some file in a pipeline: its id there, and the mapping of its file's ids."""

    id: str
    file: JobFile
    source: Document
    path: Path
    names: Mapping[str, str]
    params: Mapping[str, Any]
    env: Mapping[str, str]
    timeout: Any
    write_back: Any

    def finding(self, path: Path, number: str, text: str, *, hint: str = "", shift: int = 0) -> Finding:
        """Return a finding at a key of this job, in the file that contains it."""
        return self.source.finding((*self.path, *path), number, text, hint=hint, shift=shift)


def placed(
    source: Document, checked: PipelineFile, reader: Callable[[str], Any], findings: list[Finding]
) -> list[Placed]:
    """Return every job of a pipeline and its includes, in file order."""
    found = list(_placed(_Place(source, checked, "", checked.parameters, (source.file,), ""), reader, findings))
    seen: set[str] = set()
    for each in found:
        if each.id in seen:
            findings.append(each.finding(("id",), "05", f'the job "{each.id}" stands twice'))
        seen.add(each.id)
    return found


@dataclass(frozen=True, slots=True)
class _Place:
    source: Document
    checked: PipelineFile
    prefix: str
    params: Mapping[str, Any]
    trail: tuple[str, ...]
    folder: str


def _placed(place: _Place, reader: Callable[[str], Any], findings: list[Finding]) -> Iterator[Placed]:
    names = {job.id: place.prefix + job.id for job in place.checked.jobs}
    for index, include in enumerate(place.checked.includes):
        wanted = include if isinstance(include, IncludeFile) else IncludeFile.model_validate({"file": include})
        inside = _opened(place, ("includes", index), wanted, reader, findings)
        if inside is not None:
            brought = list(_placed(inside, reader, findings))
            local = len(place.prefix)
            names |= {each.id[local:]: each.id for each in brought}
            yield from brought
    for index, job in enumerate(place.checked.jobs):
        yield Placed(
            id=place.prefix + job.id,
            file=job,
            source=place.source,
            path=("jobs", index),
            names=names,
            params=place.params,
            env=place.checked.env,
            timeout=job.timeout or place.checked.timeout,
            write_back=job.write_back or place.checked.write_back,
        )


def _opened(
    place: _Place, at: Path, wanted: IncludeFile, reader: Callable[[str], Any], findings: list[Finding]
) -> _Place | None:
    name = _joined(place.folder, wanted.file)
    if name in place.trail or len(place.trail) > DEPTH:
        words = " -> ".join([*place.trail, name])
        findings.append(place.source.finding(at, "11", f"an include includes itself: {words}"))
        return None
    try:
        text = reader(name)
    except (KeyError, OSError) as error:
        findings.append(place.source.finding(at, "11", f'the file "{name}" {absent(error)}'))
        return None
    try:
        source = document.read(str(text), file=name, group=place.source.group)
        checked = source.checked(PipelineFile)
    except InvalidFileError as error:
        findings.extend(error.findings)
        return None
    for unknown in sorted(set(wanted.parameters) - set(checked.parameters)):
        hint = document.suggestion(unknown, list(checked.parameters))
        findings.append(
            place.source.finding((*at, "with", unknown), "11", f'{name} has no parameter "{unknown}"', hint=hint)
        )
    prefix = place.prefix + (f"{wanted.prefix}-" if wanted.prefix else "")
    folder = name.rpartition("/")[0]
    return _Place(source, checked, prefix, {**checked.parameters, **wanted.parameters}, (*place.trail, name), folder)


def absent(error: KeyError | OSError) -> str:
    """Return why a named file cannot be read."""
    return f"cannot be read: {error.strerror or error}" if isinstance(error, OSError) else "does not exist"


def _joined(folder: str, name: str) -> str:
    """Join paths; the result never leaves the folder of the pipelines."""
    parts: list[str] = []
    for part in [*folder.split("/"), *name.split("/")]:
        if part == "..":
            parts = parts[:-1]
        elif part not in {"", "."}:
            parts.append(part)
    return "/".join(parts)
