"""Alert rules over the dashboard: its fields, the built-in rules, and how a policy changes them."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from backlog_worker.domain import expression
from backlog_worker.domain.document import Document, Path, suggestion
from backlog_worker.domain.entry import Status
from backlog_worker.domain.errors import Finding
from backlog_worker.domain.expression import LITERAL, Expression
from backlog_worker.domain.governing import ALERTS, AlertFile
from backlog_worker.domain.reasons import Bar, Wait

# Every field of the dashboard, with the nested fields where it has some. A rule may read nothing else.
SHOWN = ("open", "in_progress", "blocked", "done", "canceled")
DASHBOARD: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("total", "overdue_count", "overdue", "top_services", "priority_counts", "top_overdue"), ()),
    "status_counts": SHOWN,
    "status_detail": tuple(status.value for status in Status),
    **dict.fromkeys(
        ("coverage", "escalation_rate", "failure_rate", "eligible", "covered", "nothing_to_do", "done_before"), ()
    ),
    **dict.fromkeys(("dead_letters", "reviews_overdue", "reviews_overdue_seconds"), ()),
    **dict.fromkeys(("writebacks_due", "writebacks_given_up", "writebacks_late_seconds"), ()),
    **dict.fromkeys(("definitions_invalid", "invariants_broken", "jobs_missed", "journaled"), ()),
    **dict.fromkeys(("last_tick_seconds", "tick_late_seconds", "sweep_late_seconds"), ()),
    **dict.fromkeys(("slots", "slots_idle", "moving", "stalled", "faults", "next"), ()),
    "waiting": tuple(code.value for code in (*Bar, *Wait)),
    "details": ("jobs_missed", "faults"),
    **dict.fromkeys(("waiting_at", "generated_at"), ()),
}
MEASURES = ("coverage", "escalation_rate", "failure_rate", "eligible", "covered", "nothing_to_do", "done_before")
WALKS = ("waiting", "next", "stalled", "faults")  # these require a walk over the whole queue
_READ = re.compile(r"\bdashboard\s*\.\s*(\w+)")
_PATH = re.compile(r"\bdashboard((?:\s*\.\s*\w+)+)(\s*\()?")
_UNKNOWN = re.compile(r"undeclared reference to '([^']+)'")
_NAMED = re.compile(r"\bdashboard\s*\.\s*priority_counts\s*\[\s*(?:'([^']*)'|\"([^\"]*)\")\s*\]")

Compile = Callable[[Path, str, expression.Names], Expression | None]


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert rule, compiled."""

    id: str
    source: str
    when: Expression | None  # None for a rule of an older release that can no longer be evaluated
    threshold: float
    lasts: timedelta
    notify: tuple[str, ...]

    @property
    def reads(self) -> tuple[str, ...]:
        """Return the fields of the dashboard that the rule reads."""
        return read(self.source)


def names() -> expression.Names:
    """Return the names that a rule may read, each with its type; a nested value is read through its fields only."""
    flat = [f"dashboard.{name}" for name, inside in DASHBOARD.items() if not inside]
    flat += [f"dashboard.{name}.{each}" for name, inside in DASHBOARD.items() for each in inside]
    return (*((name, "any") for name in flat), ("threshold", "double"))


def values(shown: Mapping[str, Any], threshold: float) -> dict[str, Any]:
    """Return the values that rules read from a dashboard; unknown ones are left out, so a rule that reads one fails."""
    found: dict[str, Any] = {"threshold": threshold}
    for name, inside in DASHBOARD.items():
        value = shown.get(name)
        pairs = {f"{name}.{each}": (value or {}).get(each) for each in inside} if inside else {name: value}
        found |= {f"dashboard.{key}": expression.plain(each) for key, each in pairs.items() if each is not None}
    return found


def read(source: str) -> tuple[str, ...]:
    """Return the fields of the dashboard that an expression reads, each once."""
    return tuple(dict.fromkeys(_READ.findall(LITERAL.sub("''", source))))


def merged(own: Sequence[AlertFile]) -> list[AlertFile]:
    """Return the rules of a policy and the built-in ones; a rule with a built-in id overrides only the keys it sets."""
    built_in = {
        str(each["id"]): AlertFile.model_validate(
            {name: each[name] for name in each if name not in {"means", "remedy"}}
        )
        for each in ALERTS
    }
    found = []
    for each in own:
        said = {name: getattr(each, name) for name in each.model_fields_set}
        found.append(built_in[each.id].model_copy(update=said) if each.id in built_in else each)
    named = {each.id for each in own}
    return [*found, *(each for id_, each in built_in.items() if id_ not in named)]


def compiled(
    source: Document, own: Sequence[AlertFile], labels: Iterable[str], compile_: Compile, findings: list[Finding]
) -> list[Alert]:
    """Compile the rules of a policy and the built-in ones, except those that are switched off.

    A rule with a finding is kept without `when`: a policy stored by an older release may contain one.
    """
    found = []
    for index, each in enumerate(merged(own)):
        path: Path = ("alerts", index, "when")
        if not each.when:
            hint = f"give it `when`, or one of the built-in ids: {', '.join(str(a['id']) for a in ALERTS)}"
            findings.append(
                source.finding(("alerts", index, "id"), "03", f"the alert {each.id} has no `when`", hint=hint)
            )
            continue
        when = compile_(path, each.when, names())
        findings += [source.finding(path, "04", *said) for said in _unknown(each.when, labels)]
        if each.enabled:
            found.append(Alert(each.id, each.when, when, each.threshold, each.for_, tuple(each.notify)))
    return found


def hint(error: str) -> str:
    """Return a suggestion for the unknown name in a compile error, or the list of the dashboard's fields."""
    match = _UNKNOWN.search(error)
    if match is None:
        return ""
    known = [name for name, _ in names()]
    wanted = match[1] if match[1].startswith("dashboard.") else f"dashboard.{match[1].removeprefix('dashboard')}"
    return suggestion(wanted, known) or f"the dashboard has: {', '.join(DASHBOARD)}"


def _unknown(text: str, labels: Iterable[str]) -> list[tuple[str]]:
    """Return findings for unknown nested fields, which the type check of CEL does not catch."""
    known = list(labels)
    found = [("priority_counts", one or other) for one, other in _NAMED.findall(text)]
    for path, called in _PATH.findall(LITERAL.sub("''", text)):
        parts = [part.strip() for part in path.split(".")[1:]]
        inside = DASHBOARD.get(parts[0], ())
        more = (parts[:-1] if called else parts)[2 if inside else 1 :]
        found += [(parts[0], more[0])] if more else []
    wrong = [(name, each) for name, each in found if name != "priority_counts" or each not in known]
    there = {"priority_counts": f"; there are: {', '.join(known)}"}
    return [(f'dashboard.{name} has no field "{each}"{there.get(name, "")}',) for name, each in wrong]
