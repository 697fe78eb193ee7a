"""Backlogs in files: `gh issue list --json`, JSON arrays, JSON Lines, CSV and YAML, one record at a time.

A record comes with its place; one that cannot be read comes as the error that says why, and the rest goes on.
"""

import csv
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from backlog_worker.domain import document
from backlog_worker.domain.draft import Constraints
from backlog_worker.domain.errors import Finding, InvalidFileError, InvalidInputError, NotFoundError
from backlog_worker.domain.masking import cut

CHUNK = 1 << 16
RECORD_MAX = 4 * 1024 * 1024
ELIGIBLE_LABEL = "ai-ok"
# Fields of a draft that no tracker has, or that go before what is read from its labels.
OURS = (
    *("constraints", "category", "service", "signals", "due_date", "pipeline", "depends_on", "priority", "team"),
    *("owner", "eligible_by", "eligible_at", "dedupe_key", "source"),
)
Read = tuple[str, Mapping[str, Any] | InvalidInputError]
# How people label priorities in trackers, in our words; other names stay as they are and the policy judges them.
_PRIORITY = re.compile(r"^(?:p(?:rio(?:rity)?)?\s*[:/ -]?\s*)?(high|medium|low|[0-4])$", re.IGNORECASE)
_NUMBERED = {"0": "high", "1": "medium", "2": "low", "3": "low", "4": "low"}
_TEAM = re.compile(r"^team[:/ ]\s*(.+)$", re.IGNORECASE)
_REPOSITORY = re.compile(r"^https?://[^/]+/([^/]+/[^/]+)/(?:issues|pull)/\d+")


def records(path: Path) -> Iterator[Read]:
    """Yield every record of a file as a draft; raises NotFoundError or InvalidFileError where the file is unusable."""
    readers = {
        ".json": _json,
        ".jsonl": _json_lines,
        ".ndjson": _json_lines,
        ".csv": _csv,
        ".yml": _yaml,
        ".yaml": _yaml,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        message = f"{path} is of no known kind"
        raise InvalidInputError(message, hint=f"name it {', '.join(readers)}")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for place, record in reader(file, path):
                yield place, record if isinstance(record, InvalidInputError) else drafted(record)
    except FileNotFoundError:
        message = f"there is no file {path}"
        raise NotFoundError(message) from None
    except IsADirectoryError:
        message = f"{path} is a directory"
        raise InvalidInputError(message, hint="name a file") from None
    except UnicodeDecodeError as error:
        text = f"the file is not UTF-8: {error.reason} at byte {error.start}"
        raise InvalidFileError([_finding(path, 1, 1, text, "save it as UTF-8")]) from None


def size(path: Path) -> int:
    """Return the size of a file in bytes, 0 where there is none."""
    return path.stat().st_size if path.is_file() else 0


def drafted(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a record as a draft: an issue of GitHub is translated, anything else is a draft already."""
    if "number" in record and "title" in record and ("createdAt" in record or "labels" in record):
        return {**_issue(record), **_carried(record)}
    return record


def _carried(issue: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an issue says of itself in our words: an export that somebody completed for the import.

    A condition on running that stands outside of `constraints` is passed on as it is, so that it is refused.
    """
    return {name: issue[name] for name in (*OURS, *Constraints.model_fields) if issue.get(name) not in (None, "")}


def _issue(issue: Mapping[str, Any]) -> dict[str, Any]:
    """Translate one record of `gh issue list --json`; what a worker needs goes into `input`."""
    labels = [
        str(each.get("name", "")) if isinstance(each, Mapping) else str(each) for each in issue.get("labels") or ()
    ]
    url = str(issue.get("url") or "")
    match = _REPOSITORY.match(url)
    repository = match.group(1) if match else "unknown"
    people = [str(each.get("login", "")) for each in issue.get("assignees") or () if isinstance(each, Mapping)]
    author = issue.get("author")
    eligible = ELIGIBLE_LABEL in labels
    draft = {
        "title": issue["title"],
        "dedupe_key": f"github:{repository}#{issue['number']}",
        "url": url,
        "source": f"github:{repository}",
        "external_ref": str(issue["number"]),
        "labels": labels,
        **_priority(labels),
        "team": next((found.group(1) for label in labels if (found := _TEAM.match(label))), ""),
        "owner": people[0] if people else "",
        "author": str(author.get("login", "")) if isinstance(author, Mapping) else str(author or ""),
        "eligible_by": f"label {ELIGIBLE_LABEL}" if eligible else "",
        "input": {
            name: issue[name] for name in ("number", "title", "body", "comments", "attachments") if name in issue
        },
    }
    if issue.get("createdAt"):
        draft["created_at"] = issue["createdAt"]
    if eligible and issue.get("updatedAt"):
        draft["eligible_at"] = issue["updatedAt"]
    return draft


def _priority(labels: list[str]) -> dict[str, str]:
    """Return the priority that a label names, if one does."""
    for label in labels:
        if match := _PRIORITY.match(label.strip()):
            word = match.group(1).lower()
            return {"priority": _NUMBERED.get(word, word)}
    return {}


def _json(file: IO[str], path: Path) -> Iterator[Read]:
    """Read a JSON array record by record, so that a file of any size fits into memory."""
    decoder, text, line, number = json.JSONDecoder(), "", 1, 0
    text = file.read(CHUNK).lstrip()
    if text.startswith("{"):
        yield from _one(text + file.read(RECORD_MAX), path)
        return
    if not text.startswith("["):
        raise InvalidFileError([_finding(path, 1, 1, "not a JSON array", "export with `gh issue list --json ...`")])
    text = text[1:]
    while True:
        line += text[: len(text) - len(text.lstrip(" \t\r\n,"))].count("\n")
        text = text.lstrip(" \t\r\n,")
        if text.startswith("]"):
            return
        try:
            value, end = decoder.raw_decode(text)
        except json.JSONDecodeError as error:
            more = file.read(CHUNK) if len(text) <= RECORD_MAX else ""
            if not more:
                at = line + text[: error.pos].count("\n")
                column = error.pos - text[: error.pos].rfind("\n")
                what = f"not JSON: {error.msg}" if text else "the array does not end"
                raise InvalidFileError([_finding(path, at, column, what, "is the file cut off?")]) from None
            text += more
            continue
        if end == len(text) and (more := file.read(CHUNK)):
            text += more  # a number or a word may go on
            continue
        number += 1
        yield f"{path.name}:{line}", _mapping(value, number)
        line += text[:end].count("\n")
        text = text[end:]


def _one(text: str, path: Path) -> Iterator[Read]:
    try:
        yield f"{path.name}:1", _mapping(json.loads(text), 1)
    except json.JSONDecodeError as error:
        finding = _finding(path, error.lineno, error.colno, f"not JSON: {error.msg}", "is the file cut off?")
        raise InvalidFileError([finding]) from None


def _json_lines(file: IO[str], path: Path) -> Iterator[Read]:
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        place = f"{path.name}:{number}"
        try:
            yield place, _mapping(json.loads(line), number)
        except (json.JSONDecodeError, RecursionError) as error:
            column = getattr(error, "colno", 1)
            yield place, InvalidInputError(f"not JSON at column {column}: {cut(str(error), 100)}")


_LISTS = ("labels", "depends_on")


def _csv(file: IO[str], path: Path) -> Iterator[Read]:
    """Read a table with a header; lists are separated by semicolons, empty cells are left out, `input.x` is nested."""
    rows = csv.DictReader(file)
    try:
        for row in rows:
            record: dict[str, Any] = {}
            for name, value in row.items():
                if name is None or isinstance(value, list):
                    record["__cells"] = "more cells than the header"
                elif value not in (None, ""):
                    _cell(record, name.strip(), value)
            place = f"{path.name}:{rows.line_num}"
            yield place, InvalidInputError(record["__cells"]) if "__cells" in record else record
    except csv.Error as error:
        raise InvalidFileError([_finding(path, rows.line_num, 1, f"not CSV: {error}", "check the quotes")]) from None


def _cell(record: dict[str, Any], name: str, value: str) -> None:
    head, dot, rest = name.partition(".")
    if dot and head in {"input", "signals", "constraints"}:
        inside = record.setdefault(head, {})
        inside[rest] = _listed(value) if rest == "sign_off_before" else value
    else:
        record[name] = _listed(value) if name in _LISTS else value


def _listed(value: str) -> list[str]:
    return [part.strip() for part in value.split(";") if part.strip()]


def _yaml(file: IO[str], path: Path) -> Iterator[Read]:
    source = document.read(file.read(document.SIZE_MAX + 1), file=str(path), group="1")
    if not isinstance(source.value, list):
        raise InvalidFileError([source.finding((), "03", "not a list of records", hint="begin each record with `- `")])
    for index, value in enumerate(source.value):
        yield f"{path.name}:{source.places[(index,)][0]}", _mapping(value, index + 1)


def _mapping(value: object, number: int) -> Mapping[str, Any] | InvalidInputError:
    if isinstance(value, dict):
        return value
    return InvalidInputError(f"record {number} is a {type(value).__name__}, not an object")


def _finding(path: Path, line: int, column: int, text: str, hint: str) -> Finding:
    return Finding(code="BW101", text=text, file=str(path), line=line, column=column, hint=hint)
