"""The score of an entry with its terms, and the order of dispatch.

Entries with equal metadata form a rank group. Terms never decrease with age (otherwise the policy is refused), so in a
group the oldest entry is the best, and the best N of a million are found by reading the heads of the groups.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from backlog_worker.domain import expression
from backlog_worker.domain.entry import Entry
from backlog_worker.domain.events import compact
from backlog_worker.domain.expression import ExpressionError
from backlog_worker.domain.policy import Policy

DAY = 86400.0
Place = tuple[float, datetime, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """An entry with its score and terms; if a term failed, the score is None and `error` says why."""

    entry: Entry
    score: float | None
    terms: Mapping[str, float]
    error: str = ""

    @property
    def place(self) -> Place:
        """Return the sort key: better first, then older, then by id; entries without a score come last."""
        return (-(self.score if self.score is not None else float("-inf")), self.entry.created_at, self.entry.id)


def age_days(created_at: datetime, now: datetime) -> float:
    """Return the age in days, never negative."""
    return max(0.0, (now - created_at).total_seconds() / DAY)


def group_of(fields: Mapping[str, Any], reads: Sequence[str], more: Mapping[str, str] = MappingProxyType({})) -> str:
    """Return the rank group of an entry: the values that the policy reads and *more*, as canonical JSON."""
    return compact({**{name: _plain(fields[name]) for name in reads}, **more})


def score_group(policy: Policy, group: str, created_at: datetime, now: datetime) -> tuple[float, dict[str, float]]:
    """Score an entry of *group* created at that time; raises ExpressionError if a term fails."""
    values = {**_values(group, policy.reads), "labels": policy.labels, "entry.age_days": age_days(created_at, now)}
    terms: dict[str, float] = {}
    for term in policy.terms:
        try:
            terms[term.id] = term.points(values)[1]
        except ExpressionError as error:
            message = f'term "{term.id}": {error}'
            raise ExpressionError(message) from None
    score = sum(terms.values())
    if not math.isfinite(score):
        message = f"the terms add up to {score}, which is not a finite number"
        raise ExpressionError(message)
    return score, terms


def scored(policy: Policy, entry: Entry, now: datetime) -> Scored:
    """Score one entry; a failing term becomes an error of this entry and does not stop the tick."""
    fields = {name: getattr(entry, name) for name in policy.reads}
    try:
        score, terms = score_group(policy, group_of(fields, policy.reads), entry.created_at, now)
    except ExpressionError as error:
        return Scored(entry=entry, score=None, terms={}, error=str(error))
    return Scored(entry=entry, score=score, terms=terms)


def rank(entries: Sequence[Entry], policy: Policy, now: datetime) -> list[Scored]:
    """Return entries in the order of dispatch."""
    return sorted((scored(policy, entry, now) for entry in entries), key=lambda each: each.place)


@lru_cache(maxsize=10_000)
def _values(group: str, reads: tuple[str, ...]) -> Mapping[str, Any]:
    """Return the values of a rank group for the terms; raises ExpressionError if it lacks a field."""
    known = json.loads(group)
    missing = [name for name in reads if name not in known]
    if missing:
        message = f"the rank group {group} does not hold {', '.join(missing)}"
        raise ExpressionError(message)
    return {f"entry.{name}": expression.plain(known[name]) for name in reads}


def _plain(value: object) -> object:
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return {str(key): float(each) for key, each in value.items()}
    return sorted(str(each) for each in value) if isinstance(value, list | tuple) else value
