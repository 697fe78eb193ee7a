"""Output for people and programs: tables, JSON, errors with their remedy, and exit codes."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, NoReturn

from backlog_worker.cli import layout
from backlog_worker.domain import errors, ident
from backlog_worker.domain.legible import visible
from backlog_worker.domain.masking import masked, masked_value

if TYPE_CHECKING:
    from rich.console import Console

EXIT_CODES: Mapping[type[errors.BacklogError], int] = {
    errors.UsageError: 2,
    errors.InvalidInputError: 2,
    errors.NotFoundError: 3,
    errors.NotAllowedError: 4,
    errors.UnauthenticatedError: 4,
    errors.ConflictError: 5,
    errors.RefusedError: 6,
    errors.UnreachableError: 9,
    errors.BusyError: 9,
}
FINDINGS = 7
INTERRUPTED = 130
PIPE = 200  # width of a drawing in a pipe, where rows and texts have no limit


@dataclass(slots=True)
class Options:
    """The options of every command."""

    as_json: bool = False
    quiet: bool = False
    color: bool = True
    fields: tuple[str, ...] = ()
    lines: bool = False


OPTIONS = Options()


def exit_code(error: errors.BacklogError) -> int:
    """Return the exit code of an error; 1 if it has none of its own."""
    return next((code for kind, code in EXIT_CODES.items() if isinstance(error, kind)), 1)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows under a title; they fit the terminal with ids whole, and a pipe gets every character."""
    cells = [[plain(cell) for cell in row] for row in rows]
    if not cells:
        talk("nothing to show")
        return
    say(*([plain(title)] if title else []), *layout.lines(columns, cells, width()))


def facts(*pairs: tuple[str, object]) -> None:
    """Print labels with their values, one per line; labels without a value are left out."""
    said = [(label, legible(value) if isinstance(value, str) else plain(value)) for label, value in pairs]
    say(*layout.facts([(label, text) for label, text in said if text not in {"", "-"}], width()))


def block(title: str, text: str, *, most: int = 0) -> None:
    """Print a text under its title, indented; after *most* lines the number of remaining ones is printed."""
    room = width()
    inner = room - 2 if room else None
    found = [part for line in legible(text).split("\n") for part in layout.wrapped(line, inner)]
    left = len(found) - most if most and len(found) > most else 0
    say(title, *(f"  {line}".rstrip() for line in found[: len(found) - left]))
    if left:
        say(f"  ({left} more lines)")


def width() -> int | None:
    """Return the width of the terminal; None for a pipe, where nothing is shortened."""
    on = console()
    return on.width if on.is_terminal else None


def ids(*known: str | None) -> Mapping[str | None, str]:
    """Return ids as shown: on a terminal as short as they can be told apart, in a pipe whole."""
    real = [each for each in known if each]
    named: dict[str | None, str] = {None: "", "": ""}
    named.update(ident.short_ids(real) if width() else zip(real, real, strict=True))
    return named


def console(*, error: bool = False) -> "Console":
    """Return a console for data, or for talk."""
    from rich.console import Console

    made = Console(stderr=error, no_color=not OPTIONS.color or None, highlight=False, markup=False, emoji=False)
    if not made.is_terminal:
        made.width = PIPE
    return made


def say(*lines: str) -> None:
    """Print lines of data; on a terminal long ones are broken at spaces."""
    _print(_broken(lines, error=False), error=False)


def verbatim(text: str) -> None:
    """Print a text without breaking its lines: a file, a drawing, a command."""
    _print([text], error=False)


def content_of_file(content: bytes) -> None:
    """Print the bytes of a file: as they are into a pipe, with control characters shown on a terminal."""
    if width() is None:
        sys.stdout.flush()
        sys.stdout.buffer.write(content)
    else:
        verbatim(content.decode("utf-8", "replace"))


def talk(*lines: str) -> None:
    """Print lines for people, on standard error; nothing with --quiet."""
    if not OPTIONS.quiet:
        _print(_broken(lines, error=True), error=True)


def _broken(lines: Iterable[str], *, error: bool) -> Iterator[str]:
    on = console(error=error)
    for line in (part for each in lines for part in legible(each).split("\n")):
        indent = len(line) - len(line.lstrip(" "))
        if not on.is_terminal or indent > on.width // 2:
            yield line
            continue
        yield from (" " * indent + part for part in layout.wrapped(line[indent:], on.width - indent))


def _print(lines: Iterable[str], *, error: bool) -> None:
    """Print lines; all text passes here, so that untrusted text cannot send control sequences to a terminal."""
    stream = sys.stderr if error else sys.stdout
    for line in lines:
        stream.write(f"{legible(line)}\n")
    stream.flush()


def following(text: str) -> None:
    """Print the suggested next command; it can be copied, so it is never broken into lines."""
    if not OPTIONS.quiet:
        _print([f"Next: {text}"], error=True)


def as_json(schema: str, data: object, known: Sequence[str] = ()) -> None:
    """Print data under its schema's name and version: whole, selected fields of it, or one line per item."""
    picked = _picked(schema.rpartition("/")[2], data, known)
    if OPTIONS.lines:
        for each in picked if isinstance(picked, list | tuple) else [picked]:
            _print([_json(each)], error=False)
    else:
        _print([_json({"schema": f"{schema}@1", "data": picked})], error=False)


def _json(value: object) -> str:
    plainly = json.loads(json.dumps(value, default=_jsonable))
    return json_text(masked_value(plainly))


def json_text(value: object, indent: int | None = None) -> str:
    """Return JSON in which whatever a terminal would obey is escaped; read as JSON it is the same value."""
    text = json.dumps(value, ensure_ascii=False, indent=indent, default=_jsonable)
    return "".join(each if each.isprintable() or each == "\n" else json.dumps(each)[1:-1] for each in text)


def document(value: object) -> None:
    """Print a JSON document whole, as it is stored: a schema, a recording, a bundle whose digests are checked."""
    sys.stdout.write(f"{json_text(value, indent=1)}\n")
    sys.stdout.flush()


def _picked(subject: str, data: object, known: Sequence[str]) -> object:
    """Return the selected fields; raises UsageError that names the unknown ones."""
    if not OPTIONS.fields:
        return data
    if isinstance(data, list | tuple):
        if not data:
            _of(subject, dict.fromkeys(known), known)
        return [_of(subject, each, known) for each in data]
    return _of(subject, data, known)


def _of(subject: str, data: object, known: Sequence[str]) -> dict[str, object]:
    """Return fields of one object, or of the object it is about, such as the entry of `entry show`."""
    about = _mapping(_mapping(data).get(subject))
    fields = {**about, **_mapping(data)}
    missing = [name for name in OPTIONS.fields if name not in fields]
    if missing and (fields or known):
        there = ", ".join(fields or known)
        message = f"there is no field {', '.join(missing)}"
        raise errors.UsageError(message, hint=f"--json takes: {there}")
    return {name: fields.get(name) for name in OPTIONS.fields}


def _mapping(value: object) -> Mapping[str, object]:
    if isinstance(value, Mapping):
        return value
    names = getattr(value, "__dataclass_fields__", ())
    return {name: getattr(value, name) for name in names}


def shown(schema: str, data: object, human: Callable[[], None], *, known: Sequence[str] = ()) -> None:
    """Print JSON if requested, else the text for people; *known* names the fields of possibly empty data."""
    if OPTIONS.as_json:
        as_json(schema, data, known)
    else:
        human()


def money(usd: float | None, unknown: int = 0) -> str:
    """Return a sum as people read it: without a price it is not known, and with some it is at least so much."""
    if usd is None:
        return "not known"
    return f"at least {usd:.2f}" if unknown else f"{usd:.2f}"


def violations(found: Sequence[object], fine: str) -> None:
    """Print violations, or *fine* without any; ends with status 7 if there are any."""

    def _human() -> None:
        if not found:
            say(fine)
        rows = [(getattr(v, "invariant", ""), getattr(v, "subject", ""), getattr(v, "text", "")) for v in found]
        if rows:
            table("", ("invariant", "subject", "why"), rows)

    shown("backlog-worker/violations", found, _human)
    if found:
        raise SystemExit(FINDINGS)


def plain(value: object) -> str:
    """Return a value as a table cell; control characters of untrusted text are made visible."""
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%SZ}"
    if isinstance(value, float):
        return f"{value:.2f}"
    if isinstance(value, list | tuple):
        return ", ".join(str(each) for each in value) or "-"
    return legible(value).replace("\n", " ").replace("\t", " ")


def legible(value: object) -> str:
    """Return a text without secrets and without control and format characters."""
    return visible(masked(str(value)))


def complain(text: str) -> None:
    """Print on standard error why a command ends, also with --quiet."""
    _print([text], error=True)


def fail(error: errors.BacklogError) -> NoReturn:
    """Print an error with its remedy, and end with its exit code."""
    prefix = "" if isinstance(error, errors.InvalidFileError) else "error: "
    if OPTIONS.as_json:
        OPTIONS.fields = ()
        as_json("error", {"error": str(error), "hint": error.hint})
    else:
        _print([f"{prefix}{error}", *([f"help: {error.hint}"] if error.hint else [])], error=True)
    raise SystemExit(exit_code(error))


def _jsonable(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    if hasattr(value, "__dataclass_fields__"):
        return {name: getattr(value, name) for name in value.__dataclass_fields__}
    if isinstance(value, frozenset | set):
        return sorted(value)
    return str(value)
