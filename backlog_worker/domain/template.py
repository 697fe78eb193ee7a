"""Templates: `${{ expression }}` and `{{variable}}` are filled from typed values; nothing else is evaluated.

A text that consists of one placeholder (a *hole*) keeps the type of its value. A hole is a plain path, such as
`draft.output.title`, or a CEL expression that returns a number, a text or a boolean.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from backlog_worker.domain import expression
from backlog_worker.domain.condition import named, rewritten
from backlog_worker.domain.errors import InvalidInputError
from backlog_worker.domain.expression import ExpressionError

ROOTS = ("context", "entry", "env", "input", "inputs", "jobs", "params", "run", "secrets")
_HOLE = re.compile(r"\$\{\{(?P<cel>(?:(?!\$\{\{).)*?)\}\}|\{\{(?P<word>[^{}]*?)\}\}", re.DOTALL)
_STEP = re.compile(r"\.([A-Za-z_][\w-]*)|\[(\d{1,9})\]|\[\"([^\"]*)\"\]|\['([^']*)'\]")
_HEAD = re.compile(r"[A-Za-z_][\w-]*")
_GO = frozenset({"end", "else", "break", "continue"})  # keywords of Go templates, which shell commands may contain
_SECRET = re.compile(r"secrets\.([A-Za-z_][A-Za-z0-9_]*)$")


class TemplateError(InvalidInputError):
    """A placeholder cannot be filled."""

    def __init__(self, message: str, column: int = 0) -> None:
        super().__init__(message)
        self.column = column


@dataclass(frozen=True, slots=True)
class Hole:
    """One placeholder of a text: its position, its content, and its path if it is a plain look-up."""

    start: int
    end: int
    text: str
    path: tuple[str | int, ...] | None
    bare: bool

    @property
    def secret(self) -> str:
        """Return the name of the secret that it names, or ""."""
        found = _SECRET.fullmatch(self.text)
        return found.group(1) if found else ""


def holes(text: str, jobs: Mapping[str, str] = {}) -> Iterator[Hole]:
    """Yield the placeholders of a text; *jobs* maps the ids that the text may use to ids of the pipeline."""
    for match in _HOLE.finditer(text):
        inside = (match["cel"] if match["cel"] is not None else match["word"]).strip()
        yield Hole(match.start(), match.end(), inside, _path(inside, jobs), match["cel"] is None)


def faults(
    text: str, jobs: Mapping[str, str], ancestors: frozenset[str], params: frozenset[str]
) -> Iterator[tuple[int, str]]:
    """Yield errors in the placeholders of a text that are known before it runs, as (column from 0, message)."""
    for hole in holes(text, jobs):
        for word in _unknown(hole, jobs, ancestors, params):
            yield hole.start, word


def filled(value: Any, values: Mapping[str, Any], jobs: Mapping[str, str]) -> Any:  # noqa: ANN401 - free JSON in and out
    """Fill every placeholder in a JSON value; raises TemplateError that names it and what is missing."""
    if isinstance(value, str):
        return _text(value, values, jobs)
    if isinstance(value, Mapping):
        return {key: filled(each, values, jobs) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [filled(each, values, jobs) for each in value]
    return value


def in_command(text: str) -> str:
    """Return the first placeholder in a command that would be ours to fill, or "".

    A `{{ }}` that begins with a dot, or is not a plain path, belongs to the shell: `docker ps --format '{{.Names}}'`.
    """
    for hole in holes(text):
        if not hole.bare or (hole.path is not None and hole.text not in _GO):
            return text[hole.start : hole.end]
    return ""


def secrets_in(value: str) -> list[str]:
    """Return the names of the secrets that a text uses."""
    return [hole.secret for hole in holes(value) if hole.secret]


def _text(text: str, values: Mapping[str, Any], jobs: Mapping[str, str]) -> Any:  # noqa: ANN401 - one hole keeps its type
    found = list(holes(text, jobs))
    if len(found) == 1 and text.strip() == text[found[0].start : found[0].end]:
        return _value(found[0], values, jobs)
    parts, at = [], 0
    for hole in found:
        parts += [text[at : hole.start], _shown(_value(hole, values, jobs))]
        at = hole.end
    return "".join([*parts, text[at:]])


def _value(hole: Hole, values: Mapping[str, Any], jobs: Mapping[str, str]) -> Any:  # noqa: ANN401 - whatever stands there
    if hole.path is not None:
        return _looked_up(hole, values)
    try:
        program = expression.compiled(rewritten(hole.text, jobs).text, HOLE_NAMES, "any")
        return program.scalar({name: expression.plain(values.get(name)) for name, _ in HOLE_NAMES})
    except ExpressionError as error:
        message = f"${{{{ {hole.text} }}}} cannot be filled: {error}"
        raise TemplateError(message, hole.start) from None


def _looked_up(hole: Hole, values: Mapping[str, Any]) -> Any:  # noqa: ANN401 - whatever stands there
    path = hole.path or ()
    if path and path[0] not in values:  # a bare variable: first the run's context, then the inputs of the job
        scopes = [values.get(name) or {} for name in ("context", "inputs", "params", "env")]
        scope: Any = next((each for each in scopes if path[0] in each), None)
    else:
        scope = values
    for step in path:
        try:
            scope = scope[step]
        except (KeyError, IndexError, TypeError):
            message = f"{{{{ {hole.text} }}}} cannot be filled: there is no {step!r}"
            raise TemplateError(message, hole.start) from None
    return scope


HOLE_NAMES: expression.Names = tuple(
    (name, "any") for name in ("context", "entry", "env", "input", "inputs", "jobs", "params", "run")
)


def _path(text: str, jobs: Mapping[str, str]) -> tuple[str | int, ...] | None:
    head = named(text, jobs)
    if head is not None:
        rest, path = text[len(head) :], ["jobs", jobs[head]]
    elif found := _HEAD.match(text):
        rest, path = text[found.end() :], [found.group()]
    else:
        return None
    steps: list[str | int] = [*path]
    while rest:
        step = _STEP.match(rest)
        if step is None:
            return None
        word = next((each for each in (step[1], step[3], step[4]) if each is not None), None)
        steps.append(int(step[2]) if word is None else word)
        rest = rest[step.end() :]
    return tuple(steps)


def _unknown(hole: Hole, jobs: Mapping[str, str], ancestors: frozenset[str], params: frozenset[str]) -> Iterator[str]:
    if not hole.text:
        yield "an empty placeholder"
    elif hole.path is None:
        try:
            expression.compiled(rewritten(hole.text, jobs).text, HOLE_NAMES, "any")
        except ExpressionError as error:
            yield f"${{{{ {hole.text} }}}}: {error}"
    elif hole.path[0] == "jobs" and len(hole.path) > 1:
        if hole.path[1] not in ancestors:
            yield f'{{{{ {hole.text} }}}} reads the job "{hole.path[1]}", which does not come before this one'
    elif hole.path[0] == "params" and len(hole.path) > 1 and hole.path[1] not in params:
        yield f'{{{{ {hole.text} }}}}: there is no parameter "{hole.path[1]}"'
    elif hole.path[0] not in ROOTS and not hole.bare:
        yield f'${{{{ {hole.text} }}}}: "{hole.path[0]}" is neither a job before this one nor one of {", ".join(ROOTS)}'


def _shown(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return json.dumps(value, ensure_ascii=False)
