"""Spreadsheet tables: one row is one record; the header names fields, and only a title is required."""

import csv
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO, Any

from backlog_worker.domain.document import suggestion
from backlog_worker.domain.errors import InvalidInputError
from backlog_worker.domain.masking import cut
from backlog_worker.integrations.json_stream import RECORD_MAX

# The allowed column names; `signals.`, `constraints.` and `input.` accept any name after the dot.
COLUMNS = (
    *("title", "body", "dedupe_key", "url", "source", "external_ref", "pipeline", "service", "category", "team"),
    *("owner", "author", "author_association", "labels", "priority", "created_at", "due_date", "depends_on"),
    *("eligible_by", "eligible_at", "state", "windows", "sign_off_before", "not_before"),
)
CONSTRAINTS = ("windows", "sign_off_before", "not_before")
OPEN = ("signals", "constraints", "input")
_ALIASES = {
    "blocked_by": "depends_on",
    "due": "due_date",
    "label": "labels",
    "description": "body",
    "key": "dedupe_key",
}
_LISTS = ("labels", "depends_on", "sign_off_before")
_PART = re.compile(r'[ \t\r]*+"((?:[^"]|"")*+)"[ \t\r]*+(?=[,;\n]|$)|([^,;\n]+)')
_DELIMITERS = (",", ";", "\t", "|")


@dataclass(slots=True)
class _Lines:
    """The lines of a table; lines of an unterminated row can be given back."""

    file: IO[str]
    number: int = 0
    size: int = 0
    taken: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = self.waiting.pop() if self.waiting else self.file.readline(RECORD_MAX + 1)
        if not line:
            raise StopIteration
        self.taken.append(line)
        self.number += 1
        self.size += len(line)
        if self.size > RECORD_MAX:
            message = "a quote is not closed"
            raise csv.Error(message)
        return line

    def begin(self) -> int:
        """Begin a row and return its line."""
        self.taken.clear()
        self.size = 0
        return self.number + 1

    def give_back(self) -> None:
        """Give back all lines of a row except the first."""
        rest = self.taken[1:]
        self.waiting += reversed(rest)
        self.number -= len(rest)


def rows(file: IO[str]) -> Iterator[tuple[int, Mapping[str, Any] | InvalidInputError]]:
    """Yield each row as a record with the line on which it begins; raises InvalidInputError for an invalid header."""
    csv.field_size_limit(RECORD_MAX)
    lines = _Lines(file)
    delimiter, names = _header(lines)
    while True:
        line = lines.begin()
        try:
            cells = next(csv.reader(lines, delimiter=delimiter, strict=True), None)
        except csv.Error as error:
            words = str(error).replace("unexpected end of data", "a quote is not closed")
            lines.give_back()
            yield line, InvalidInputError(f"line {line} is not CSV: {words}")
            continue
        if cells is None:
            return
        if any(cell.strip() for cell in cells):
            try:
                yield line, _record(names, cells, decimal_comma=delimiter == ";")
            except ValueError as error:
                yield line, InvalidInputError(str(error))


def listed(cell: str) -> list[str]:
    """Return the parts of a cell, separated by commas, semicolons or lines; quoted parts may contain them."""
    found = ((match[1].replace('""', '"') if match[1] is not None else match[2]) for match in _PART.finditer(cell))
    return [part.strip() for part in found if part.strip()]


def _header(lines: _Lines) -> tuple[str, list[str]]:
    lines.begin()
    first = next(lines, "")
    forced = first.strip()[4:5] if first.lower().startswith("sep=") else ""
    if not forced:
        lines.give_back()
        lines.waiting.append(first)
        lines.number = 0
    lines.begin()
    text = next(lines, "")
    if not text.strip():
        message = "the table has no header"
        raise InvalidInputError(message, hint="name the columns on the first line; only title is required")
    delimiter = forced or max(_DELIMITERS, key=lambda each: len(_known(_cells(text, each))))
    names = [_named(each) for each in _cells(text, delimiter)]
    _check(names)
    return delimiter, names


def _cells(text: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([text.rstrip("\r\n")], delimiter=delimiter), [])
    except csv.Error:
        return []


def _named(cell: str) -> str:
    """Return the field of a header cell: `Due date` is due_date; the part after a dot keeps its case."""
    head, dot, rest = cell.strip().lstrip("\ufeff").partition(".")
    name = re.sub(r"[\s_-]+", "_", head.strip().lower())
    name = _ALIASES.get(name, name)
    if name == "constraints" and rest.strip().lower() in CONSTRAINTS:
        return rest.strip().lower()
    return f"{name}.{rest.strip()}" if dot else name


def _known(cells: Iterable[str]) -> list[str]:
    named = [_named(each) for each in cells]
    return [each for each in named if each in COLUMNS or (each.partition(".")[0] in OPEN and "." in each)]


def _check(names: list[str]) -> None:
    wrong = []
    known = set(_known(names))
    for at, name in enumerate(names, start=1):
        if name and name not in known:
            wrong.append(
                f'column {at} is called "{cut(name, 60)}": {suggestion(name, list(COLUMNS)) or "no such field"}'
            )
        elif name and names.index(name) + 1 < at:
            wrong.append(f'columns {names.index(name) + 1} and {at} are both called "{name}"')
    if "title" not in names:
        wrong.append("there is no column title")
    if wrong:
        hint = f"the columns are {', '.join(COLUMNS)}; signals.NAME; and input.NAME, which takes any other value"
        raise InvalidInputError("; ".join(wrong), hint=hint)


def _record(names: list[str], cells: list[str], *, decimal_comma: bool) -> dict[str, Any]:
    record: dict[str, Any] = {}
    for at, cell in enumerate(cells):
        name = names[at] if at < len(names) else ""
        if not cell.strip():
            continue
        if not name:
            message = f"cell {at + 1} holds {cut(cell, 40)!r}, but the header names no column there"
            raise ValueError(message)
        _put(record, name, cell, decimal_comma=decimal_comma)
    return record


def _put(record: dict[str, Any], name: str, cell: str, *, decimal_comma: bool) -> None:
    head, dot, rest = name.partition(".")
    value: Any = listed(cell) if name in _LISTS else cell
    if name == "windows":  # the days of one may be separated by commas
        value = [part.strip() for part in re.split(r"[;\n]", cell) if part.strip()]
    if head == "signals" and decimal_comma:
        value = cell.replace(",", ".")
    if name in CONSTRAINTS:
        record.setdefault("constraints", {})[name] = value
    elif name == "body":
        record.setdefault("input", {})["body"] = cell
    elif dot:
        record.setdefault(head, {})[rest] = value
    else:
        record[name] = value
