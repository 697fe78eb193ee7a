"""Rank groups and lanes: an entry waits in its rank group, oldest first, or in a lane of it for one full key.

A rank group is defined by the fields that the policy and its limits read, so a full limit closes whole groups. A
concurrency key may have any number of values and is not one of these fields; only a key whose entries crowd a group
gets a lane, which is a group of its own.
"""

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from backlog_worker.domain.admission import Group, Shared
from backlog_worker.domain.entry import Entry
from backlog_worker.domain.events import compact, digest
from backlog_worker.domain.policy import Policy
from backlog_worker.domain.priority import group_of

KEYED, LIMIT = "keyed", "limit_key"  # these names do not collide with fields that a policy may read


def lane_of(entry: Entry, policy: Policy, group: Group | None) -> dict[str, str]:
    """Return the columns by which the queue finds an entry: its rank group and its shortened concurrency key."""
    fields = {name: getattr(entry, name) for name in policy.grouped}
    if group is None:
        return {"rank_group": group_of(fields, policy.grouped), LIMIT: ""}
    key = limit_key(f"{entry.pipeline}:{group.of(entry)}")
    return {"rank_group": group_of(fields, policy.grouped, {KEYED: group.stamp}), LIMIT: key}


def limit_key(key: str) -> str:
    """Return a concurrency key shortened to a length that fits an index."""
    return f"{key.partition(':')[0]}:{digest(key)[:20]}"


def own_lane(group: str, key: str) -> str:
    """Return the lane of one key in a rank group."""
    return compact({**read(group), LIMIT: key})


def fits(group: str, policy: Policy, groups: Mapping[str, Group]) -> bool:
    """Return whether a rank group belongs to this policy and these pipelines; if not, its entries are regrouped."""
    known = read(group)
    if set(known) - {KEYED, LIMIT} != set(policy.grouped):
        return False
    of = groups.get(str(known["pipeline"]))
    return bool(known.get(KEYED, "") == (of.stamp if of else ""))


def shares(group: str, wait: Shared) -> bool:
    """Return whether all entries of a rank group wait for the same budget."""
    known = read(group)
    return bool(known["pipeline"] == wait.pipeline and wait.team in {None, known.get("team")})


@lru_cache(maxsize=10_000)
def read(group: str) -> Mapping[str, Any]:
    """Return the fields of a rank group; the empty group has none."""
    known: Mapping[str, Any] = json.loads(group) if group else {}
    return known
