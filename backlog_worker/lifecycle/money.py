"""Budgets as they stand, and whether a stage may still spend; a retry, a resume or a requeue resets nothing."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from backlog_worker.domain.budget import Cap, Mode, Usage
from backlog_worker.domain.entry import Entry
from backlog_worker.domain.pipeline import Job, Pipeline
from backlog_worker.domain.policy import Policy
from backlog_worker.lifecycle.held import Start, Taken
from backlog_worker.store import Unit
from backlog_worker.telemetry import emit


@dataclass(frozen=True, slots=True, kw_only=True)
class Over:
    """A budget that is used up, and what happens then."""

    mode: Mode
    words: str


def exceeded(unit: Unit, start: Start, job: Job) -> Over | None:
    """Say which budget keeps a stage from starting; a budget that only warns is logged.

    A person who let the run go on granted the same sum again, as often as that happened.
    """
    entry, run = start.entry, start.run
    hardest: Over | None = None
    for name, once, mode, spent in _budgets(unit, entry, start.pipeline, job, start.policy):
        if spent < once or spent < (usd := once * (1 + unit.approved(entry.id, "budget"))):
            continue
        words = f"{name}: {spent:.2f} of {usd:.2f} USD are spent"
        if mode == Mode.WARN:
            emit("budget_exceeded", entry=entry.id, run=run["id"], budget=name, spent=spent, cap=usd)
        elif hardest is None or mode == Mode.STOP:
            hardest = Over(mode=mode, words=words)
    return hardest


def caps(unit: Unit, env: str, policy: Policy, candidates: Sequence[Entry]) -> dict[tuple[str, str], Cap]:
    """Return the budgets that hold entries back in the queue, by budget and what they are counted for."""
    pausing = [rule for rule in policy.budgets if rule.on_exceeded == "pause"]
    if not pausing:
        return {}
    held = unit.reserved(env)
    found = {}
    for rule in pausing:
        for name in {rule.counted_for(entry) for entry in candidates}:
            reserved = sum(
                row["reserved_usd"] for row in held if rule.scope == "day" or name == row.get(_COLUMN[rule.scope])
            )
            spent = unit.spent(env, rule.scope, name)
            found[rule.id, name] = Cap(usd=rule.usd, spent=spent, reserved=reserved)
    return found


def estimates(unit: Unit, env: str, policy: Policy, pipelines: Mapping[str, Pipeline]) -> dict[str, float]:
    """Return what a run of each pipeline is expected to cost: its mean so far, else its own budget."""
    if not policy.budgets:
        return {}
    found = {}
    for name, pipeline in pipelines.items():
        past = unit.costs_of_jobs(env, name)
        usual = sum(mean for _, mean in past.values())
        found[name] = usual if past else pipeline.budget.usd if pipeline.budget else 0.0
    return found


def line(taken: Taken, usage: Usage, usd: float | None) -> dict[str, Any]:
    """Return a line of the ledger without its id."""
    return {
        "env": taken.entry.env,
        "entry_id": taken.entry.id,
        "run_id": taken.run["id"],
        "job_id": taken.job.id,
        "pipeline": taken.pipeline.name,
        "team": taken.entry.team,
        "agent": taken.job.agent.name if taken.job.agent else "",
        "model": usage.model,
        "take": taken.take,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "usd": usd,
    }


_COLUMN = {"team": "team", "pipeline": "pipeline", "entry": "id"}


def _budgets(
    unit: Unit, entry: Entry, pipeline: Pipeline, job: Job, policy: Policy
) -> Iterator[tuple[str, float, Mode, float]]:
    if pipeline.budget is not None:
        spent = unit.spent(entry.env, "entry", entry.id)
        yield f"budget of pipeline {pipeline.name}", pipeline.budget.usd, Mode(pipeline.budget.on_exceeded), spent
    if job.budget is not None:
        spent = unit.spent_by_job(entry.id, job.id)
        yield f"budget of job {job.id}", job.budget.usd, Mode(job.budget.on_exceeded), spent
    for rule in policy.budgets:
        if rule.on_exceeded != "pause":
            yield rule.id, rule.usd, Mode(rule.on_exceeded), unit.spent(entry.env, rule.scope, rule.counted_for(entry))
