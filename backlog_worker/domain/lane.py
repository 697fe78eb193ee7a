"""Where a waiting entry stands: in its rank group, whose oldest goes first, or in a lane of that for one full key.

A rank group holds the fields that the policy and its limits read, so a limit that is full closes whole groups. A
concurrency key may have any number of values, and is no part of them; only a key whose entries crowd a group gets a
lane, which is a group of its own.
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

KEYED, LIMIT = "keyed", "limit_key"  # no fields of an entry that a policy may read are called so


def lane_of(entry: Entry, policy: Policy, group: Group | None) -> dict[str, str]:
    """Return the columns by which the queue finds an entry: its rank group, and its concurrency key in short."""
    fields = {name: getattr(entry, name) for name in policy.grouped}
    if group is None:
        return {"rank_group": group_of(fields, policy.grouped), LIMIT: ""}
    key = limit_key(f"{entry.pipeline}:{group.of(entry)}")
    return {"rank_group": group_of(fields, policy.grouped, {KEYED: group.stamp}), LIMIT: key}


def limit_key(key: str) -> str:
    """Return a concurrency key in a length that an index takes."""
    return f"{key.partition(':')[0]}:{digest(key)[:20]}"


def own_lane(group: str, key: str) -> str:
    """Return the lane of one key in a rank group."""
    return compact({**read(group), LIMIT: key})


def fits(group: str, policy: Policy, groups: Mapping[str, Group]) -> bool:
    """Return whether a rank group was made for this policy and these pipelines; else its entries are placed anew."""
    known = read(group)
    if set(known) - {KEYED, LIMIT} != set(policy.grouped):
        return False
    of = groups.get(str(known["pipeline"]))
    return bool(known.get(KEYED, "") == (of.stamp if of else ""))


def shares(group: str, wait: Shared) -> bool:
    """Return whether all of a rank group wait for the same budget."""
    known = read(group)
    return bool(known["pipeline"] == wait.pipeline and wait.team in {None, known.get("team")})


@lru_cache(maxsize=10_000)
def read(group: str) -> Mapping[str, Any]:
    """Return the fields of a rank group; one that was never made has none."""
    known: Mapping[str, Any] = json.loads(group) if group else {}
    return known
