"""The position of an entry in the whole queue, counted group by group without reading the entries before it."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from backlog_worker.domain import lane
from backlog_worker.domain.admission import Group
from backlog_worker.domain.expression import ExpressionError
from backlog_worker.domain.policy import Policy
from backlog_worker.domain.priority import Scored, score_group
from backlog_worker.store import Unit


def position(unit: Unit, env: str, policy: Policy, groups: Mapping[str, Group], each: Scored) -> int | None:
    """Return the position of an entry in the whole queue, from 1; None while groups are being reassigned."""
    better, now = 0, unit.now()
    for group in unit.groups(env):
        if not lane.fits(group.key, policy, groups):
            return None
        better += unit.better(env, group.key, _before(policy, group.key, group.oldest, each, now))
    return better + 1


def score_at(policy: Policy, group: str, created_at: datetime, now: datetime) -> float:
    """Return the score of an entry of a group created at a given time; a failing score sorts last."""
    try:
        return score_group(policy, group, created_at, now)[0]
    except ExpressionError:
        return float("-inf")


def _before(policy: Policy, group: str, oldest: datetime, each: Scored, now: datetime) -> tuple[datetime, str]:
    """Return the place (moment, id) in a group before which every entry scores better: older ones come first."""
    mine = each.place
    low, high = 0, max(1, int((max(now, each.entry.created_at) - oldest) / timedelta(microseconds=1)) + 1)
    while low < high:  # the first moment at which an entry of this group no longer comes before it
        middle = (low + high) // 2
        moment = oldest + timedelta(microseconds=middle)
        if (-score_at(policy, group, moment, now), moment) < mine[:2]:
            low = middle + 1
        else:
            high = middle
    moment = oldest + timedelta(microseconds=low)
    alike = (-score_at(policy, group, moment, now), moment) == mine[:2]
    return (moment, each.entry.id if alike else "")
