"""Budgets and whether a stage may still spend; a retry, a resume or a requeue resets no budget."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from backlog_worker.domain.budget import Cap, Mode, Scope, Usage, learned
from backlog_worker.domain.entry import Entry
from backlog_worker.domain.governing import BudgetRule
from backlog_worker.domain.pipeline import Job, Pipeline
from backlog_worker.domain.policy import Policy
from backlog_worker.lifecycle.held import Start, Taken
from backlog_worker.store import Unit
from backlog_worker.telemetry import emit


@dataclass(frozen=True, slots=True, kw_only=True)
class Over:
    """An exhausted budget, and what happens then."""

    mode: Mode
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """The amount spent in the scope of a budget, and the models of calls without a known price."""

    usd: float
    unknown: tuple[str, ...] = ()
    unknown_at: datetime | None = None


def exceeded(unit: Unit, start: Start, job: Job) -> Over | None:
    """Return the budget that keeps a stage from starting, if any; a budget that only warns is logged.

    Each time a person lets the run continue, the same sum is granted again. If calls have no price, the budget cannot
    tell whether there is room: a person is asked, and asked again only after further such calls.
    """
    entry, run = start.entry, start.run
    hardest: Over | None = None
    for name, once, mode, spent in _budgets(unit, start, job):
        if mode != Mode.WARN and spent.unknown_at and _unanswered(unit, entry, spent.unknown_at):
            words = f"{name}: calls of {', '.join(spent.unknown)} have no known price; add it to `prices`"
            hardest = hardest or Over(mode=Mode.ASK, words=words)
        if spent.usd < once or spent.usd < (usd := once * (1 + unit.approved(entry.id, "budget"))):
            continue
        words = f"{name}: {spent.usd:.2f} of {usd:.2f} USD are spent"
        if mode == Mode.WARN:
            emit("budget_exceeded", entry=entry.id, run=run["id"], budget=name, spent=spent.usd, cap=usd)
        elif hardest is None or mode == Mode.STOP:
            hardest = Over(mode=Mode.STOP if mode == Mode.STOP else Mode.ASK, words=words)
    return hardest


def spent(unit: Unit, env: str, scope: Scope, name: str, policy: Policy, *, job: str = "") -> Spent:
    """Return what was spent in a scope, or by one job in it.

    A price that the policy has learned since counts for calls already made; the ledger does not keep which of their
    tokens came from a cache, so they cost what the dearest input costs.
    """
    usd, unknown = unit.tally(env, scope, name, job=job)
    if not unknown:
        return Spent(usd=usd)
    left = []
    for row in unit.unpriced(env, scope, name, job=job):
        later = learned(row["model"], row["input_tokens"], row["output_tokens"], policy.prices)
        if later is None:
            left.append(row)
        else:
            usd += later
    last = max((row["at"] for row in left), default=None)
    return Spent(usd=usd, unknown=tuple(row["model"] or "an unnamed model" for row in left), unknown_at=last)


class Caps:
    """The budgets that hold entries back in the queue, each read once per name that it is counted for."""

    def __init__(self, unit: Unit, env: str, policy: Policy) -> None:
        self._unit, self._env, self._policy = unit, env, policy
        self._rules = [rule for rule in policy.budgets if rule.queues]
        self._held = unit.reserved(env) if self._rules else []
        self._known: set[tuple[str, str]] = set()

    def of(self, entry: Entry) -> dict[tuple[str, str], Cap]:
        """Return the budgets that *entry* is counted for and that were not returned before."""
        found = {}
        for rule in self._rules:
            key = (rule.id, rule.counted_for(entry))
            if key not in self._known:
                self._known.add(key)
                found[key] = self._cap(rule, entry)
        return found

    def _cap(self, rule: BudgetRule, entry: Entry) -> Cap:
        name = rule.counted_for(entry)
        if rule.scope == Scope.ENTRY:  # held entries are not queued, and an entry that never ran has spent nothing
            was = spent(self._unit, self._env, rule.scope, name, self._policy) if entry.attempt else Spent(usd=0.0)
            granted = self._unit.approved(entry.id, "budget") if entry.attempt else 0
            answered = was.unknown_at is None or not _unanswered(self._unit, entry, was.unknown_at)
            unknown = () if answered else was.unknown
            return Cap(usd=rule.usd * (1 + granted), spent=was.usd, reserved=0.0, unknown=unknown)
        mine = (row for row in self._held if name in {"", row.get(rule.scope.value)})
        was = spent(self._unit, self._env, rule.scope, name, self._policy)
        reserved = sum(row["reserved_usd"] for row in mine)
        return Cap(usd=rule.usd, spent=was.usd, reserved=reserved, unknown=was.unknown)


def estimates(unit: Unit, env: str, policy: Policy, pipelines: Mapping[str, Pipeline]) -> dict[str, float]:
    """Return what is reserved for a run of each pipeline: its mean so far, or its own budget if the mean is unknown."""
    if not policy.budgets:
        return {}
    found = {}
    for name, pipeline in pipelines.items():
        past = unit.costs_of_jobs(env, name)
        known = [mean for _, mean in past.values() if mean is not None]
        own = pipeline.budget.usd if pipeline.budget else 0.0
        found[name] = sum(known) if past and len(known) == len(past) else max(own, sum(known))
    return found


def line(taken: Taken, usage: Usage, usd: float | None) -> dict[str, Any]:
    """Return a row of the ledger without its id."""
    return {
        "env": taken.entry.env,
        "entry_id": taken.entry.id,
        "run_id": taken.run["id"],
        "job_id": taken.job.id,
        "pipeline": taken.pipeline.name,
        "team": taken.entry.team,
        "agent": taken.job.agent.name if taken.job.agent else "",
        "model": usage.model if usage.counted or usd is not None else f"{usage.model or 'an agent'} (tokens not known)",
        "take": taken.take,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "usd": usd,
    }


def _budgets(unit: Unit, start: Start, job: Job) -> Iterator[tuple[str, float, Mode, Spent]]:
    """Yield the budgets that a stage is counted for, except those that pause the queue and renew."""
    entry, pipeline, policy = start.entry, start.pipeline, start.policy
    if pipeline.budget is not None:
        mine = spent(unit, entry.env, Scope.ENTRY, entry.id, policy)
        yield f"budget of pipeline {pipeline.name}", pipeline.budget.usd, Mode(pipeline.budget.on_exceeded), mine
    if job.budget is not None:
        by_job = spent(unit, entry.env, Scope.ENTRY, entry.id, policy, job=job.id)
        yield f"budget of job {job.id}", job.budget.usd, Mode(job.budget.on_exceeded), by_job
    for rule in policy.budgets:
        mode = Mode(rule.on_exceeded)
        if mode != Mode.PAUSE or not rule.scope.renews:
            name = rule.counted_for(entry, start.run["id"])
            yield rule.id, rule.usd, mode, spent(unit, entry.env, rule.scope, name, policy)


def _unanswered(unit: Unit, entry: Entry, since: datetime) -> bool:
    answered = unit.approved_at(entry.id, "budget")
    return answered is None or answered < since
