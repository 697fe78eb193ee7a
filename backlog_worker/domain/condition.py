"""Conditions of jobs: CEL over earlier jobs, with job ids quoted and every name checked at load.

`quality-check.status == 'failed'` would be a subtraction in CEL, so known ids outside of string literals become
`jobs["quality-check"]`. Errors report the column in the author's text. `always()`, `failure()` and `success()` test
the outcome of the earlier jobs.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from backlog_worker.domain import expression
from backlog_worker.domain.document import suggestion
from backlog_worker.domain.expression import LITERAL, Expression, ExpressionError
from backlog_worker.domain.policy import ENTRY_NAMES

ATTRIBUTES = ("attempts", "output", "reason", "status")
STATUSES = ("canceled", "completed", "failed", "pending", "running", "skipped", "waiting")
CONDITION_NAMES: expression.Names = (
    *ENTRY_NAMES,
    *((name, "any") for name in ("context", "env", "input", "inputs", "jobs", "params", "run")),
    ("now", "string"),
    ("upstream.failed", "bool"),
    ("upstream.completed", "bool"),
)
_CALLS = {"always()": "true", "failure()": "upstream.failed", "success()": "upstream.completed"}
_CALL = re.compile(r"\b(always|failure|success)\(\s*\)")
_ATTRIBUTE = re.compile(r"\.\s*([A-Za-z_]\w*)")
_INDEXED = re.compile(r"\bjobs\[\s*[\"']([^\"']+)[\"']\s*\](\s*\.\s*(?:status|reason)\b)?")
_ROOTS = frozenset(name.partition(".")[0] for name, _ in CONDITION_NAMES)
_COMPARED = re.compile(r"\.\s*status\s*(?:==|!=)\s*(['\"])(.*?)\1")


@dataclass(frozen=True, slots=True)
class Rewritten:
    """An expression rewritten as plain CEL, the jobs that it names, and a map of its columns to the original."""

    text: str
    reads: frozenset[str]
    mentions: frozenset[str] | None
    awaits: frozenset[str]
    asks_all: bool
    moves: tuple[tuple[int, int], ...]

    def column(self, at: int) -> int:
        """Map a column of the rewritten text to one of the author's text, both from 0."""
        shift = 0
        for place, longer in self.moves:
            if at >= place:
                shift += longer
        return max(0, at - shift)


@dataclass(frozen=True, slots=True)
class Condition:
    """A compiled `when`: the jobs whose outcome it reads, the jobs it names (None: any), whether it reads all of them.

    It can be evaluated once every job that it *awaits*, which is every job that it names, has ended.
    """

    source: str
    program: Expression
    reads: frozenset[str]
    mentions: frozenset[str] | None
    awaits: frozenset[str]
    asks_all: bool

    @property
    def asks_upstream(self) -> bool:
        """Return whether it reads the outcome of all earlier jobs."""
        return _CALL.search(self.source) is not None

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Evaluate the condition; raises ExpressionError if it cannot be evaluated."""
        return self.program.truth(values)


def compiled(source: str, jobs: Mapping[str, str]) -> Condition:
    """Compile a condition; *jobs* maps the ids it may use to ids of the pipeline. Raises ExpressionError."""
    found = rewritten(source, jobs)
    for place, text in _misread(source, jobs):
        raise ExpressionError(text, place)
    try:
        program = expression.compiled(found.text, CONDITION_NAMES)
    except ExpressionError as error:
        raise ExpressionError(_said(str(error), jobs), found.column(error.column)) from None
    return Condition(source, program, found.reads, found.mentions, found.awaits, found.asks_all)


def rewritten(source: str, jobs: Mapping[str, str]) -> Rewritten:
    """Replace job ids and the three calls by plain CEL, outside of string literals."""
    out: list[str] = []
    reads: set[str] = set()
    mentions: set[str] = set()
    moves: list[tuple[int, int]] = []
    at = length = 0
    asks_all = False
    while at < len(source):
        literal = LITERAL.match(source, at)
        call = None if literal else _CALL.match(source, at) if _starts(source, at) else None
        head = None if literal or call else named(source[at:], jobs) if _starts(source, at) else None
        if literal:
            old, new = literal.group(), literal.group()
        elif call:
            old, new = call.group(), _CALLS[f"{call[1]}()"]
            asks_all = asks_all or call[1] != "success"
        elif head is not None:
            old, new = head, f'jobs["{jobs[head]}"]'
            mentions.add(jobs[head])
            attribute = _ATTRIBUTE.match(source, at + len(head))
            if attribute is None or attribute[1] in {"status", "reason"}:
                reads.add(jobs[head])
        else:
            old = new = source[at]
        out.append(new)
        at += len(old)
        length += len(new)
        if len(new) != len(old):
            moves.append((length, len(new) - len(old)))
    indexed = list(_INDEXED.finditer(source))
    reads |= {match[1] for match in indexed if match[2]}
    awaits = frozenset(mentions) | {match[1] for match in indexed}
    anything = re.search(r"(?<![\w.])jobs\b", LITERAL.sub("''", source))
    named_jobs = None if anything else frozenset(mentions)
    return Rewritten("".join(out), frozenset(reads), named_jobs, awaits, asks_all, tuple(moves))


def named(text: str, jobs: Mapping[str, str]) -> str | None:
    """Return the longest job id that *text* begins with, if a dot or a bracket follows it."""
    found = re.match(r"[A-Za-z][A-Za-z0-9_-]*", text)
    if found is None:
        return None
    word = found.group()
    if word in jobs and text[len(word) : len(word) + 1] in {".", "["}:
        return word
    return None


def _misread(source: str, jobs: Mapping[str, str]) -> list[tuple[int, str]]:
    """Find unknown attributes of jobs and unknown statuses, which CEL would evaluate to an empty value."""
    found: list[tuple[int, str]] = []
    for match in re.finditer(r"[A-Za-z][A-Za-z0-9_-]*", LITERAL.sub(lambda each: "\0" * len(each.group()), source)):
        attribute = _ATTRIBUTE.match(source, match.end())
        if not _starts(source, match.start()):
            continue
        if match.group() not in jobs:
            if attribute and attribute[1] in ATTRIBUTES and match.group() not in _ROOTS:
                hint = suggestion(match.group(), list(jobs)) or "no job of this file has that id"
                found.append((match.start(), f'"{match.group()}" is not a job before this one; {hint}'))
            continue
        if attribute and attribute[1] not in ATTRIBUTES:
            hint = suggestion(attribute[1], list(ATTRIBUTES)) or f"one of: {', '.join(ATTRIBUTES)}"
            found.append((attribute.start(1), f'a job has no "{attribute[1]}"; {hint}'))
        compared = _COMPARED.match(source, match.end())
        if compared and compared[2] not in STATUSES:
            hint = suggestion(compared[2], list(STATUSES)) or f"one of: {', '.join(STATUSES)}"
            found.append((compared.start(2), f'"{compared[2]}" is not a status of a job; {hint}'))
    return found


def _starts(source: str, at: int) -> bool:
    """Return whether a name may begin here: not inside another word, and not after a dot."""
    before = source[at - 1] if at else " "
    return not (before.isalnum() or before in "._\"'")


def _said(message: str, jobs: Mapping[str, str]) -> str:
    found = re.search(r"undeclared reference to '([\w-]+)'", message)
    hint = suggestion(found[1], [*jobs, *(name for name, _ in CONDITION_NAMES)]) if found else ""
    return f"{message}; {hint}" if hint else message
