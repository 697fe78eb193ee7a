"""What people read: tables, JSON, errors with the way out, and exit codes."""

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, NoReturn

from backlog_worker.domain import errors
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


@dataclass(slots=True)
class Options:
    """The options of every command."""

    as_json: bool = False
    quiet: bool = False
    color: bool = True


OPTIONS = Options()


def exit_code(error: errors.BacklogError) -> int:
    """Return the exit code of an error; 1 for what has none of its own."""
    return next((code for kind, code in EXIT_CODES.items() if isinstance(error, kind)), 1)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows under a title; widths follow the terminal, and a pipe gets every character."""
    from rich.table import Table

    made = Table(title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column, overflow="fold" if column in {"why", "title", "question"} else "ellipsis")
    for row in rows:
        made.add_row(*(plain(cell) for cell in row))
    console().print(made)


def console(*, error: bool = False) -> "Console":
    """Return a console for data, or for talk."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else 200
    return Console(stderr=error, no_color=not OPTIONS.color or None, width=width, highlight=False, markup=False)


def say(*lines: str) -> None:
    """Print lines of data, as they are."""
    for line in lines:
        console().print(masked(line), soft_wrap=True)


def talk(*lines: str) -> None:
    """Print lines for people, on standard error; nothing with --quiet."""
    if not OPTIONS.quiet:
        for line in lines:
            console(error=True).print(masked(line), soft_wrap=True)


def following(text: str) -> None:
    """Say what may come next."""
    talk(f"Next: {text}")


def as_json(schema: str, data: object) -> None:
    """Print data under its schema's name and version."""
    value = json.loads(json.dumps(data, default=_jsonable))
    sys.stdout.write(json.dumps({"schema": f"{schema}@1", "data": masked_value(value)}, ensure_ascii=False) + "\n")


def shown(schema: str, data: object, human: Callable[[], None]) -> None:
    """Print JSON where that was asked for, else what people read."""
    if OPTIONS.as_json:
        as_json(schema, data)
    else:
        human()


def violations(found: Sequence[object], fine: str) -> None:
    """Print what must never be, or *fine*; ends with status 7 where there is any."""

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
    """Return a value as a cell of a table; control characters of untrusted text are shown, not sent to the terminal."""
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%SZ}"
    if isinstance(value, float):
        return f"{value:.2f}"
    if isinstance(value, list | tuple):
        return ", ".join(str(each) for each in value) or "-"
    shown_as = {"\n": " ", "\t": " "}
    return "".join(shown_as.get(c, c if c.isprintable() else "\N{REPLACEMENT CHARACTER}") for c in masked(str(value)))


def fail(error: errors.BacklogError) -> NoReturn:
    """Print an error with its way out, and end with its exit code."""
    prefix = "" if isinstance(error, errors.InvalidFileError) else "error: "
    if OPTIONS.as_json:
        as_json("error", {"error": str(error), "hint": error.hint})
    else:
        console(error=True).print(masked(f"{prefix}{error}"), soft_wrap=True)
        if error.hint:
            console(error=True).print(masked(f"help: {error.hint}"), soft_wrap=True)
    raise SystemExit(exit_code(error))


def _jsonable(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    if hasattr(value, "__dataclass_fields__"):
        return {name: getattr(value, name) for name in value.__dataclass_fields__}
    if isinstance(value, frozenset | set):
        return sorted(value)
    return str(value)
