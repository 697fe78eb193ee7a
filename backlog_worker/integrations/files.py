"""Backlogs in files: tracker exports, JSON arrays, JSON Lines, CSV and YAML, one record at a time.

Each record carries its location; an unreadable one is returned as its error, and the others are still read.
"""

import codecs
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from backlog_worker.domain import dedupe, document, wire
from backlog_worker.domain.draft import Place
from backlog_worker.domain.errors import Finding, InvalidFileError, InvalidInputError, NotFoundError
from backlog_worker.domain.masking import cut
from backlog_worker.domain.tracker import Passed, drafted
from backlog_worker.integrations import json_stream, sheet

Record = Mapping[str, Any] | InvalidInputError | Passed
Read = tuple[Place, Record]
_WRAPPED = ("issues", "items", "nodes", "data")  # where responses of search APIs keep their records


def records(path: Path) -> Iterator[Read]:
    """Yield every record of a file as a draft; dependent records come last, with the keys they depend on.

    Raises NotFoundError or InvalidFileError if the file is unusable, possibly after some records.
    """
    readers = {
        ".json": _json,
        ".jsonl": _json_lines,
        ".ndjson": _json_lines,
        ".csv": _csv,
        ".tsv": _csv,
        ".yml": _yaml,
        ".yaml": _yaml,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        message = f"{path} has an unknown file type"
        raise InvalidInputError(message, hint=f"name it {', '.join(readers)}")
    names, broken = _Names(), None
    try:
        with _opened(path) as file:
            for number, (line, value) in enumerate(reader(file, path), start=1):
                yield from names.known(Place(path.name, line, number), _record(value, path.name))
    except FileNotFoundError:
        message = f"there is no file {path}"
        raise NotFoundError(message) from None
    except PermissionError:
        message = f"{path} may not be read"
        raise InvalidInputError(message, hint="grant read permission") from None
    except UnicodeDecodeError as error:
        text = f"the file is not {error.encoding}: {error.reason} at byte {error.start}"
        broken = InvalidFileError([_finding(path, 1, 1, text, "save it as UTF-8")])
    except InvalidFileError as error:
        broken = error
    yield from names.held()
    if broken:
        raise broken


def readable(reading: Iterator[Read], path: Path) -> Iterator[Read]:
    """Yield records; an unreadable remainder of a file is one more refusal, or raises if no record could be read."""
    last = 0
    try:
        for place, record in reading:
            last = max(last, place.record)
            yield place, record
    except InvalidFileError as error:
        if not last:
            raise
        found = error.findings[0]
        words = f"{found.text} (line {found.line}, column {found.column}); nothing after it can be read: {found.hint}"
        yield Place(path.name, found.line, last + 1), InvalidInputError(words)


def size(path: Path) -> int:
    """Return the size of a file in bytes, 0 if it does not exist."""
    return path.stat().st_size if path.is_file() else 0


@dataclass(slots=True)
class _Names:
    """The names of the records of one file, so that one may depend on another regardless of their order."""

    keys: dict[str, str] = field(default_factory=dict)
    passed: set[str] = field(default_factory=set)
    waiting: list[tuple[Place, Mapping[str, Any]]] = field(default_factory=list)

    def known(self, place: Place, record: Record) -> Iterator[Read]:
        """Yield a record, unless it depends on others and has to wait."""
        if isinstance(record, Passed):
            self.passed |= record.names
        elif isinstance(record, Mapping):
            key = str(record.get("dedupe_key") or "")
            if key.startswith("record:"):
                for name in (str(record.get("external_ref") or ""), str(record.get("title") or "")):
                    self.keys[name] = key if self.keys.get(name, key) == key else ""
            if record.get("depends_on") and isinstance(record["depends_on"], list):
                self.waiting.append((place, record))
                return
        yield place, record

    def held(self) -> Iterator[Read]:
        """Yield the records that depend on others, with their keys; closed records hold no one back."""
        for place, record in self.waiting:
            needs, several = [], ""
            for each in record["depends_on"]:
                name = str(each).strip()
                key = self._key(name, str(record.get("dedupe_key") or ""))
                several = several or ("" if key else name)
                if not {key, name, name.removeprefix("#")} & self.passed:
                    needs.append(key)
            if several:
                yield place, InvalidInputError(f"depends on {cut(several, 80)!r}, and several records have that name")
            else:
                yield place, {**record, "depends_on": needs}

    def _key(self, name: str, own: str) -> str:
        found = next((self.keys[each] for each in (name, name.removeprefix("#")) if each in self.keys), None)
        return dedupe.referred(name, own) if found is None else found


def _opened(path: Path) -> IO[str]:
    """Open a file as text: UTF-8, or the encoding of its byte order mark; invalid bytes stay within their record."""
    if path.is_dir():
        message = f"{path} is a directory"
        raise InvalidInputError(message, hint="name a file")
    if path.exists() and not path.is_file():
        message = f"{path} is not a regular file"
        raise InvalidInputError(message, hint="write its content to a file first")
    with path.open("rb") as file:
        mark = file.read(2)
    if mark in {codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE}:
        return path.open(encoding="utf-16", newline="")
    return path.open(encoding="utf-8-sig", errors="surrogateescape", newline="")


def _record(value: object, file: str) -> Record:
    """Return one value of a file as a draft; without key and address, a record is identified by its content."""
    if isinstance(value, InvalidInputError):
        return value
    if not isinstance(value, dict):
        return InvalidInputError(f"the record is a {type(value).__name__}, not an object")
    if wire.fault(value):
        return value  # the check of the draft reports the location
    made = drafted(value)
    if isinstance(made, Passed):
        return made
    named = dict(made)
    if "blocked_by" in named and "depends_on" not in named:
        named["depends_on"] = named.pop("blocked_by")
    if "dedupe_key" not in named:
        url = named.get("url")
        key = dedupe.key_of(url) if isinstance(url, str) else ""
        named["dedupe_key"] = key or dedupe.content_key(named, file)
    return named


def _json(file: IO[str], path: Path) -> Iterator[tuple[int, object]]:
    stream = json_stream.Stream(file)
    try:
        for line, value in stream.values():
            for each in _unwrapped(value):
                yield line, each
    except json_stream.CutError as error:
        what, hint = error.text, "is the file cut off?"
        if (error.line, error.column) == (1, 1):
            what, hint = f"not a JSON array: {what}", "export with `gh issue list --json number,title,body,labels,url`"
        raise InvalidFileError([_finding(path, error.line, error.column, what, hint)]) from None


def _unwrapped(value: object) -> list[object]:
    if isinstance(value, dict) and "title" not in value:
        found = next((value[name] for name in _WRAPPED if isinstance(value.get(name), list)), None)
        return [value] if found is None else found
    return [value]


def _json_lines(file: IO[str], _path: Path) -> Iterator[tuple[int, object]]:
    for line, value in json_stream.lines(file):
        for each in value if isinstance(value, list) else [value]:
            yield line, each


def _csv(file: IO[str], path: Path) -> Iterator[tuple[int, object]]:
    try:
        yield from sheet.rows(file)
    except InvalidInputError as error:
        raise InvalidFileError([_finding(path, 1, 1, str(error), error.hint)]) from None


def _yaml(file: IO[str], path: Path) -> Iterator[tuple[int, object]]:
    """Read a list of records; the items of a block list are parsed one by one."""
    begun: list[str] = []
    start = number = 0
    mark = ""
    for number, line in enumerate(file, start=1):
        if not mark and (found := _ITEM.match(line)):
            mark = found[1]
        elif not mark and line.strip() and not line.lstrip().startswith(("#", "---", "%")):
            yield from _whole_list(line + file.read(document.SIZE_MAX + 1), path, number)
            return
        if mark and _ITEM.match(line) and line.startswith(mark) and begun:
            yield start, _item("".join(begun), path, start)
            begun = []
        if mark:
            start = start if begun else number
            begun.append(line)
    if begun:
        yield start, _item("".join(begun), path, start)


_ITEM = re.compile(r"^( *-)(?=[ \n\r])")


def _item(text: str, path: Path, line: int) -> object:
    try:
        found = document.read(text, file=str(path), group="1").value
    except InvalidFileError as error:
        found = error.findings[0]
        return InvalidInputError(f"{found.text} (line {found.line + line - 1}, column {found.column}): {found.hint}")
    return found[0] if isinstance(found, list) and len(found) == 1 else found


def _whole_list(text: str, path: Path, line: int) -> Iterator[tuple[int, object]]:
    source = document.read(text, file=str(path), group="1")
    if not isinstance(source.value, list):
        raise InvalidFileError([source.finding((), "03", "not a list of records", hint="begin each record with `- `")])
    for index, value in enumerate(source.value):
        yield source.places[(index,)][0] + line - 1, value


def _finding(path: Path, line: int, column: int, text: str, hint: str) -> Finding:
    return Finding(code="BW101", text=text, file=str(path), line=line, column=column, hint=hint)
