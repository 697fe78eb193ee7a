"""The policy: rules as data, with a version and the hash of their text; it is loaded completely or not at all."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import Field

from backlog_worker.domain import alert, document, expression, known
from backlog_worker.domain.alert import Alert
from backlog_worker.domain.budget import Scope
from backlog_worker.domain.document import Document, Model
from backlog_worker.domain.duration import Duration, DurationOrZero, spoken
from backlog_worker.domain.errors import Finding, InvalidFileError
from backlog_worker.domain.expression import Expression, ExpressionError
from backlog_worker.domain.governing import (
    CATEGORIES,
    ID,
    PART,
    AlertFile,
    BudgetRule,
    CategoryFile,
    DedupeFile,
    DefaultsFile,
    GenerationFile,
    OwnershipFile,
    PriceFile,
    RetentionFile,
)

GROUP = "3"
PERSON = Annotated[str, Field(pattern=r"^\S(.*\S)?$", max_length=200)]

ENTRY_NAMES: expression.Names = (
    ("entry.title", "string"),
    ("entry.source", "string"),
    ("entry.url", "string"),
    ("entry.service", "string"),
    ("entry.category", "string"),
    ("entry.team", "string"),
    ("entry.owner", "string"),
    ("entry.labels", "texts"),
    ("entry.priority", "string"),
    ("entry.signals", "any"),
    ("entry.pipeline", "string"),
    ("entry.provenance", "any"),
)
# The fields besides the age that a priority term may read. Many entries share their values, so the best of a million
# entries are found without scoring all of them.
GROUP_FIELDS = ("category", "labels", "pipeline", "priority", "service", "signals", "source", "team")
_KINDS = dict(ENTRY_NAMES)
TERM_NAMES: expression.Names = (
    ("labels", "any"),
    ("entry.age_days", "double"),
    *((f"entry.{name}", _KINDS[f"entry.{name}"]) for name in GROUP_FIELDS),
)


class RuleFile(Model):
    """One eligibility rule; all rules must be true."""

    id: ID
    check: str


class TermFile(Model):
    """One term of the score: weight x min(value, cap)."""

    id: ID
    value: str
    weight: float = 1.0
    cap: float | None = None


class ExampleFile(Model):
    """An order that the priority must produce, checked by `policy test` and at every load."""

    name: str
    entries: dict[str, dict[str, Any]]
    order: list[str]


class PriorityFile(Model):
    """How queued entries are ordered."""

    labels: dict[str, float] = {"high": 3, "medium": 2, "low": 1}
    terms: list[TermFile] = [
        TermFile(id="label", value="labels[entry.priority]"),
        TermFile(id="age", value="math.floor(entry.age_days / 7.0)", cap=5),
    ]
    tests: list[ExampleFile] = []


class DispatchFile(Model):
    """Entries dispatched per tick, bells that may wait for each slot, and light entries per bell."""

    top: int = Field(default=20, ge=1, le=10_000)
    ahead: float = Field(default=1.0, ge=0, le=10_000)
    batch: int = Field(default=20, ge=1, le=500)


class ClaimsFile(Model):
    """The lease of a claim, its heartbeat, the number of runs that outages may end, and the longest quota wait."""

    timeout: Duration = timedelta(minutes=2)
    heartbeat: Duration = timedelta(seconds=30)
    max_attempts: int = Field(default=3, ge=1, le=100)
    retry_delay: DurationOrZero = timedelta(seconds=30)
    retry_delay_max: Duration = timedelta(hours=1)
    quota_max: Duration = timedelta(hours=24)

    def delay(self, faults: int, jitter: float) -> timedelta:
        """Full jitter over an exponential bound; *jitter* is uniform in [0, 1).

        Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
        """
        bound: timedelta = min(self.retry_delay * 2 ** min(faults, 30), self.retry_delay_max)
        return bound * max(jitter, 0.1)


class AdmissionFile(Model):
    """The maximum of entries that are ready or in progress in the whole fleet."""

    max_in_progress: int = Field(default=100, ge=1)


class DeadLetterFile(Model):
    """The owner of dead letters, and the time to answer them."""

    owner: str = "unassigned"
    role: str = "reviewer"
    answer_within: Duration = timedelta(hours=24)
    remind_after: Duration = timedelta(hours=24)
    on_deadline: Literal["escalate", "ignore"] = "escalate"


class PolicyFile(Model):
    """`.backlog-worker/policy.yml`."""

    version: str = Field(pattern=r"^[1-9][0-9]*$")
    defaults: DefaultsFile = DefaultsFile()
    dedupe: DedupeFile = DedupeFile()
    categories: dict[PART, CategoryFile] = CATEGORIES
    generation: GenerationFile = GenerationFile()
    ownership: OwnershipFile = OwnershipFile()
    eligibility: list[RuleFile] = Field(min_length=1)
    done_before: str = ""
    priority: PriorityFile = PriorityFile()
    dispatch: DispatchFile = DispatchFile()
    claims: ClaimsFile = ClaimsFile()
    admission: AdmissionFile = AdmissionFile()
    budgets: list[BudgetRule] = []
    prices: dict[str, PriceFile] = {}
    dead_letter: DeadLetterFile = DeadLetterFile()
    retention: RetentionFile = RetentionFile()
    roles: dict[ID, Annotated[list[PERSON], Field(min_length=1)]] = {}
    alerts: list[AlertFile] = []


@dataclass(frozen=True, slots=True)
class Rule:
    """An eligibility rule, compiled."""

    id: str
    check: Expression


@dataclass(frozen=True, slots=True)
class Term:
    """A term of the score, compiled."""

    id: str
    value: Expression
    weight: float
    cap: float | None

    def points(self, values: Mapping[str, Any]) -> tuple[float, float]:
        """Return the value of the term and its contribution to the score."""
        value = self.value.number(values)
        return value, self.weight * (value if self.cap is None else min(value, self.cap))


@dataclass(frozen=True, slots=True)
class Policy:
    """A validated policy; its stamp is stored with every score, claim and record."""

    version: int
    hash: str
    body: str
    rules: tuple[Rule, ...]
    done: Expression | None
    labels: Mapping[str, float]
    terms: tuple[Term, ...]
    reads: tuple[str, ...]
    tests: tuple[ExampleFile, ...]
    dispatch: DispatchFile
    claims: ClaimsFile
    admission: AdmissionFile
    budgets: tuple[BudgetRule, ...]
    prices: Mapping[str, Mapping[str, float]]
    dead_letter: DeadLetterFile
    defaults: DefaultsFile
    dedupe: DedupeFile
    categories: Mapping[str, CategoryFile]
    generation: GenerationFile
    ownership: OwnershipFile
    retention: RetentionFile
    alerts: tuple[Alert, ...]
    people: Mapping[str, Sequence[str]]
    warnings: tuple[Finding, ...]

    @property
    def grouped(self) -> tuple[str, ...]:
        """Return the fields that define a rank group: those that the terms and the limits read."""
        teams = {"team"} if any(rule.queues and rule.scope == Scope.TEAM for rule in self.budgets) else set()
        return tuple(sorted({*self.reads, "pipeline", *teams}))

    @property
    def stamp(self) -> str:
        """Return version and hash, such as ``7 (4be1c0)``."""
        return f"{self.version} ({self.hash[:6]})"

    def eligibility(self, values: Mapping[str, Any]) -> dict[str, bool]:
        """Evaluate every rule; an evaluation error counts as false."""
        return {rule.id: _said(rule, values) for rule in self.rules}

    def done_before(self, values: Mapping[str, Any]) -> bool:
        """Return whether an entry was done before it came here; an evaluation error counts as false."""
        return self.done is not None and _said(Rule("doneBefore", self.done), values)


def load(body: str, *, file: str = "policy.yml", stored: bool = False) -> Policy:
    """Load and validate a policy; raises InvalidFileError with every finding.

    A *stored* policy was in force before: an alert of it that cannot be compiled here does not fail the load.
    """
    source = document.read(body, file=file, group=GROUP)
    checked = source.checked(PolicyFile)
    findings: list[Finding] = [*_doubled(source, checked)]
    rules = [
        Rule(rule.id, each)
        for index, rule in enumerate(checked.eligibility)
        if (each := _compiled(source, ("eligibility", index, "check"), rule.check, findings, "bool"))
    ]
    terms = [
        Term(term.id, each, term.weight, term.cap)
        for index, term in enumerate(checked.priority.terms)
        if (each := _compiled(source, ("priority", "terms", index, "value"), term.value, findings, "number"))
    ]
    done = _compiled(source, ("doneBefore",), checked.done_before, findings, "bool") if checked.done_before else None
    alerts, faults = _alerts(source, checked)
    findings += [] if stored else [*faults, *_heartbeat(source, checked.claims)]
    findings += _categories(source, checked)
    findings += known.role(source, ("deadLetter", "role"), checked.dead_letter.role, checked.roles)
    if findings:
        raise InvalidFileError(findings)
    read: set[str] = set().union(*(expression.read_fields(term.value.source) for term in terms))
    policy = Policy(
        version=int(checked.version),
        hash=hashlib.sha256(body.encode()).hexdigest(),
        body=body,
        rules=tuple(rules),
        done=done,
        labels=dict(checked.priority.labels),
        terms=tuple(terms),
        reads=tuple(sorted(read - {"age_days"})),
        tests=tuple(checked.priority.tests),
        **_sections(checked),
        alerts=tuple(alerts),
        people={name: tuple(each) for name, each in checked.roles.items()},
        warnings=tuple(source.lengths(checked)),
    )
    if findings := list(_falling(source, policy)):
        raise InvalidFileError(findings)
    return policy


def _heartbeat(source: Document, claims: ClaimsFile) -> Iterator[Finding]:
    """Refuse a heartbeat that comes when the lease is over: every run that lasts longer would lose it."""
    if claims.heartbeat >= claims.timeout:
        key = "heartbeat" if "heartbeat" in claims.model_fields_set else "timeout"
        text = f"heartbeat {spoken(claims.heartbeat)} is not shorter than timeout {spoken(claims.timeout)}"
        yield source.finding(("claims", key), "03", text, hint="let three heartbeats fit in, such as 30s in 2m")


def _sections(checked: PolicyFile) -> dict[str, Any]:
    """Return the sections that are used as they are in the file."""
    same = (
        *("dispatch", "claims", "admission", "dead_letter", "defaults", "dedupe", "generation", "ownership"),
        "retention",
    )
    found: dict[str, Any] = {name: getattr(checked, name) for name in same}
    prices = {model: each.model_dump(exclude_none=True) for model, each in checked.prices.items()}
    return {**found, "budgets": tuple(checked.budgets), "categories": _categories_of(checked), "prices": prices}


def _categories_of(checked: PolicyFile) -> dict[str, CategoryFile]:
    """Return the categories of a policy; the built-in ones use its highest and lowest priority."""
    labels = checked.priority.labels
    if "categories" in checked.model_fields_set or not labels:
        return dict(checked.categories)
    named = {"high": max(labels, key=labels.__getitem__), "low": min(labels, key=labels.__getitem__)}
    return {
        name: each if each.priority in labels else each.model_copy(update={"priority": named[each.priority]})
        for name, each in checked.categories.items()
    }


def _said(rule: Rule, values: Mapping[str, Any]) -> bool:
    try:
        return rule.check.truth(values)
    except ExpressionError:
        return False


def _categories(source: Document, checked: PolicyFile) -> Iterator[Finding]:
    for name, category in checked.categories.items():
        if category.priority not in checked.priority.labels and "categories" in (source.value or {}):
            known = ", ".join(checked.priority.labels)
            hint = f"one of: {known}, or add it to `priority.labels`"
            text = f'the category "{name}" has the unknown priority "{category.priority}"'
            yield source.finding(("categories", name, "priority"), "03", text, hint=hint)


def _alerts(source: Document, checked: PolicyFile) -> tuple[list[Alert], list[Finding]]:
    faults: list[Finding] = []
    asked = partial(_of_dashboard, source, faults)
    return alert.compiled(source, checked.alerts, checked.priority.labels, asked, faults), faults


def _of_dashboard(
    source: Document, findings: list[Finding], path: document.Path, text: str, names: expression.Names
) -> Expression | None:
    try:
        return expression.compiled(text, names, "bool")
    except ExpressionError as error:
        hint = alert.hint(str(error))
        findings.append(source.finding(path, "04", str(error), hint=hint, shift=error.column))
        return None


def _compiled(
    source: Document,
    path: document.Path,
    text: str,
    findings: list[Finding],
    wants: str,
) -> Expression | None:
    names = ENTRY_NAMES if wants == "bool" else TERM_NAMES
    try:
        return expression.compiled(text, names, wants)
    except ExpressionError as error:
        known = [name for name, _ in names]
        hint = document.suggestion(str(error).split("'")[1] if "'" in str(error) else "", known)
        findings.append(source.finding(path, "04", str(error), hint=hint, shift=error.column))
        return None


def _doubled(source: Document, checked: PolicyFile) -> Iterator[Finding]:
    lists: tuple[tuple[document.Path, list[str]], ...] = (
        (("eligibility",), [rule.id for rule in checked.eligibility]),
        (("priority", "terms"), [term.id for term in checked.priority.terms]),
        (("alerts",), [alert.id for alert in checked.alerts]),
    )
    for path, ids in lists:
        for index, each in enumerate(ids):
            if each in ids[:index]:
                yield source.finding((*path, index, "id"), "05", f'the id "{each}" stands twice')


# The ages in days at which a term is evaluated: half days for two months, weeks for three years, years for ten.
_AGES = (
    *(day / 2 for day in range(120)),
    *(float(day) for day in range(60, 1100, 7)),
    *(365.0 * y for y in range(3, 11)),
)


def _falling(source: Document, policy: Policy) -> Iterator[Finding]:
    """Yield findings for terms that decrease with age: in a rank group the oldest entry must be the best."""
    base: dict[str, Any] = {f"entry.{name}": "" for name in GROUP_FIELDS} | {"entry.labels": [], "entry.signals": {}}
    for index, term in enumerate(policy.terms):
        if "age_days" not in expression.read_fields(term.value.source):
            continue
        for label in policy.labels or {"": 0.0}:
            values = {**base, "labels": dict(policy.labels), "entry.priority": label}
            try:
                points = [term.points({**values, "entry.age_days": age})[1] for age in _AGES]
            except ExpressionError:
                continue  # the term needs values of an entry, so it is checked on entries
            if any(later < earlier for earlier, later in pairwise(points)):
                path: document.Path = ("priority", "terms", index, "value")
                yield source.finding(path, "08", f'the term "{term.id}" decreases while an entry grows older')
                break
