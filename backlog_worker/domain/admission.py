"""Admission: the reasons why one candidate has to wait; a candidate without one is dispatched."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from backlog_worker.domain import expression
from backlog_worker.domain.budget import Cap, Scope
from backlog_worker.domain.draft import rule_values
from backlog_worker.domain.entry import FOLDED, Entry, Status
from backlog_worker.domain.events import digest
from backlog_worker.domain.expression import Expression, ExpressionError
from backlog_worker.domain.pipeline import Pipeline
from backlog_worker.domain.policy import ENTRY_NAMES, Policy
from backlog_worker.domain.priority import Scored
from backlog_worker.domain.reasons import Wait
from backlog_worker.domain.window import Window, announced, opens


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """The entries that wait for the same thing: all of a concurrency key, or of a pipeline (and possibly a team)."""

    key: str = ""
    pipeline: str = ""
    team: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """One wait of one candidate: its code, its text, when it ends if known, and which entries share it."""

    code: Wait
    text: str
    until: datetime | None = None
    shared: Shared | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """The concurrency group of one pipeline: its key, its limit, and what happens beyond the limit."""

    key: Expression
    limit: int
    on_conflict: str

    def of(self, entry: Entry) -> str:
        """Return the concurrency key of one entry."""
        try:
            return str(self.key.scalar(rule_values({name: getattr(entry, name) for name in FOLDED})))
        except ExpressionError:
            return f"?{entry.id}"

    @property
    def stamp(self) -> str:
        """Return a short digest of the key's expression; if it changes, the keys of entries are computed again."""
        return digest(self.key.source)[:8]


def group_of(pipeline: Pipeline | None) -> Group | None:
    """Return the concurrency group of a pipeline, if it has one."""
    group = pipeline.concurrency.group if pipeline else None
    if group is None:
        return None
    return Group(expression.compiled(group.key, ENTRY_NAMES, "any"), group.limit, group.on_conflict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """The load of the fleet: entries ready or in progress, the slots they use, and the free capacity.

    An entry of a light pipeline shares its bell with up to `batch` entries and uses only that share of a slot.
    """

    held: int
    slots_held: float
    slots: int
    light: frozenset[str] = frozenset()
    chosen: int = 0
    full: bool = False
    caps: Mapping[tuple[str, str], Cap] = field(default_factory=dict)
    estimates: Mapping[str, float] = field(default_factory=dict)
    groups: Mapping[str, Group] = field(default_factory=dict)
    holders: Mapping[str, Sequence[str]] = field(default_factory=dict)
    live: frozenset[str] | None = None  # the pipelines in force; None means all

    def plus(self, entry: Entry, policy: Policy) -> "Load":
        """Return the load with *entry* added."""
        filled = self.slots_held + share(entry.pipeline, self.light, policy)
        price, key = self.estimates.get(entry.pipeline, 0.0), self.key(entry)
        caps = dict(self.caps)
        for rule in policy.budgets:
            if (cap := caps.get((rule.id, rule.counted_for(entry)))) is not None:
                caps[rule.id, rule.counted_for(entry)] = replace(cap, reserved=cap.reserved + price)
        holders = {**self.holders, key: [*self.holders.get(key, ()), entry.id]} if key else self.holders
        return replace(self, held=self.held + 1, slots_held=filled, chosen=self.chosen + 1, caps=caps, holders=holders)

    def key(self, entry: Entry) -> str:
        """Return the concurrency key of an entry, or ""; a key that cannot be evaluated belongs to this entry alone."""
        group = self.groups.get(entry.pipeline)
        return f"{entry.pipeline}:{group.of(entry)}" if group else ""


def share(pipeline: str, light: frozenset[str], policy: Policy) -> float:
    """Return the share of a slot that one entry of *pipeline* uses."""
    return 1.0 / policy.dispatch.batch if pipeline in light else 1.0


def admit(scored: Scored, load: Load, policy: Policy, now: datetime) -> tuple[Waiting, ...]:
    """Return the waits of one candidate: errors first, then time, then capacity."""
    entry = scored.entry
    waits: list[Waiting] = []
    if scored.score is None:
        waits.append(Waiting(code=Wait.SCORE_ERROR, text=scored.error))
    if load.live is not None and entry.pipeline not in load.live:
        text = f'the pipeline "{entry.pipeline}" is retired'
        waits.append(Waiting(code=Wait.PIPELINE_RETIRED, text=text, shared=Shared(pipeline=entry.pipeline)))
    if overdue(entry, policy, now):
        text = f"its due date {entry.due_date:%Y-%m-%d %H:%MZ} passed before it ran"
        waits.append(Waiting(code=Wait.DEADLINE_PASSED, text=text))
    if (wait := _closed(entry, now)) is not None:
        waits.append(wait)
    if entry.status == Status.RETRYING and entry.retry_at and entry.retry_at > now:
        text = f"it failed and is retried at {entry.retry_at:%H:%M:%SZ}: {entry.reason}"
        waits.append(Waiting(code=Wait.BACKING_OFF, text=text, until=entry.retry_at))
    if wait := _broke(entry, load, policy) or _shared(entry, load):
        waits.append(wait)
    return tuple(waits) or _room(entry, load, policy)


def overdue(entry: Entry, policy: Policy, now: datetime) -> bool:
    """Return whether the due date of an entry has passed and the policy forbids starting it after that."""
    late = entry.due_date is not None and entry.due_date <= now
    return late and policy.dead_letter.on_deadline == "escalate"


def not_before(entry: Entry) -> datetime | None:
    """Return the moment before which the entry must not run."""
    text = entry.constraints.get("not_before")
    return datetime.fromisoformat(text) if text else None


def windows(entry: Entry) -> Sequence[Window]:
    """Return the run windows of the entry."""
    return [Window.model_validate(each) for each in entry.constraints.get("windows", ())]


def _closed(entry: Entry, now: datetime) -> Waiting | None:
    begin = not_before(entry)
    if begin and begin > now:
        text = f"not before {begin.isoformat(sep=' ', timespec='minutes')}"
        return Waiting(code=Wait.OUTSIDE_WINDOW, text=text, until=begin)
    allowed = windows(entry)
    opening = opens(allowed, now)
    if opening is None:
        return None
    text = f"window {'; '.join(map(str, allowed))} is closed, opens {announced(allowed, now)}"
    return Waiting(code=Wait.OUTSIDE_WINDOW, text=text, until=opening)


def _broke(entry: Entry, load: Load, policy: Policy) -> Waiting | None:
    price = load.estimates.get(entry.pipeline, 0.0)
    for rule in policy.budgets:
        cap = load.caps.get((rule.id, rule.counted_for(entry)))
        if cap is None or cap.takes(price):
            continue
        text = f"{rule.id}: {cap.spent:.2f} spent and {cap.reserved:.2f} reserved of {cap.usd:.2f} USD"
        if cap.unknown:
            text += f", and the price of {', '.join(cap.unknown)} is unknown: set it under `prices` of the policy"
        else:
            text += f", a run of {entry.pipeline} is expected to cost {price:.2f}"
        team = entry.team if rule.scope == Scope.TEAM else None
        shared = None if rule.scope == Scope.ENTRY else Shared(pipeline=entry.pipeline, team=team)
        return Waiting(code=Wait.BUDGET_EXHAUSTED, text=text, shared=shared)
    return None


def _shared(entry: Entry, load: Load) -> Waiting | None:
    group, key = load.groups.get(entry.pipeline), load.key(entry)
    holders = load.holders.get(key, ())
    if group is None or len(holders) < group.limit:
        return None
    text = f'group "{key}" is held by {", ".join(holders[:5])} ({group.limit} at once, {group.on_conflict})'
    return Waiting(code=Wait.KEY_LIMIT, text=text, shared=Shared(key=key))


def _room(entry: Entry, load: Load, policy: Policy) -> tuple[Waiting, ...]:
    if load.chosen >= policy.dispatch.top:
        return (Waiting(code=Wait.BELOW_CUTOFF, text=f"{load.chosen} better entries are dispatched in this tick"),)
    if not load.slots:
        return (Waiting(code=Wait.NO_WORKER, text="no worker is alive"),)
    if load.held >= policy.admission.max_in_progress:
        text = f"{load.held} of at most {policy.admission.max_in_progress} are chosen or in progress"
        return (Waiting(code=Wait.NO_SLOT, text=text),)
    room = load.slots * (1.0 + policy.dispatch.ahead)
    if load.full or load.slots_held + share(entry.pipeline, load.light, policy) > room + 1e-9:
        text = f"{load.slots_held:.1f} of {load.slots} slots are taken, and {policy.dispatch.ahead:g} may wait for each"
        return (Waiting(code=Wait.NO_SLOT, text=text),)
    return ()
