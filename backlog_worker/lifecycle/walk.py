"""The queue, read best first while a decision is made; entries behind a full limit are skipped and block no others.

It is the only reader for the tick, `explain`, `entry next` and the counts of waiting entries. Entries come in the order
of a sort of the whole queue, merged from the heads of the rank groups. An entry that waits for a shared limit (a
concurrency key, the budget of a pipeline or a team) closes that limit: no other entry that waits for it is read.
Entries that wait for themselves alone (a window, a date) are read once, because the tick puts them to sleep until then.
"""

import heapq
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import count

from backlog_worker.domain import lane
from backlog_worker.domain.admission import Group, Load, Shared, group_of, share
from backlog_worker.domain.decision import Deciding, Receipt
from backlog_worker.domain.entry import Entry
from backlog_worker.domain.policy import Policy
from backlog_worker.domain.priority import Place, Scored, scored
from backlog_worker.lifecycle import Kit, money
from backlog_worker.lifecycle.position import score_at
from backlog_worker.store import Unit

STAGES_QUEUE = "stages"
PAGE = 32  # page size for a group; doubles with each page, up to 1024
PAGE_MAX = 1024
READ_MOST = 5000  # entries read per tick; those that wait for themselves then sleep, so the next tick gets further
CANCELED_MOST = 100  # entries of one key that a tick reads to cancel them
OVERGROWN = 500  # entries read of each group of an earlier policy, until `regroup` moves them


@dataclass(frozen=True, slots=True, kw_only=True)
class Walked:
    """The result of a walk: a receipt for every entry read, and keys that crowd their rank group."""

    receipts: tuple[Receipt, ...]
    crowded: frozenset[tuple[str, str]]
    watched: Receipt | None = None


def load_of(kit: Kit, unit: Unit, policy: Policy) -> Load:
    """Return the present load of the fleet; budgets are read as entries need them."""
    pipelines = kit.book.pipelines(unit)
    light = frozenset(name for name, pipeline in pipelines.items() if pipeline.light)
    held = unit.held_by_pipeline(kit.env)
    groups = {name: group for name, pipeline in pipelines.items() if (group := group_of(pipeline))}
    return Load(
        held=sum(held.values()),
        slots_held=sum(share(name, light, policy) * number for name, number in held.items()),
        slots=unit.slots(STAGES_QUEUE, kit.seen_within.total_seconds()),
        light=light,
        estimates=money.estimates(unit, kit.env, policy, pipelines),
        groups=groups,
        holders=unit.group_keys(kit.env) if groups else {},
        live=kit.book.names(unit),
    )


def walk(
    kit: Kit,
    unit: Unit,
    policy: Policy,
    load: Load,
    *,
    receipts: int,
    watched: Entry | None = None,
    most: int = READ_MOST,
) -> Walked:
    """Decide over the whole queue: the entries chosen, and their order, are those of `decide` over all entries.

    The walk ends when no entry can go any more and *receipts* receipts exist, or after *most* entries. With *watched*
    it ends with that entry, which is decided in its turn, wherever it stands.
    """
    queue = Queue(unit, kit.env, policy, load.groups)
    teller = _Teller(queue, Deciding(load, policy, unit.now()), money.Caps(unit, kit.env, policy))
    mine = scored(policy, watched, unit.now()) if watched else None
    said: list[Receipt] = []
    found: Receipt | None = None
    for each in queue:
        if mine and mine.place <= each.place:
            found = teller.say(mine)
            break
        said.append(teller.say(each))
        if queue.read >= most or (len(said) >= receipts and (teller.deciding.closed or each.score is None)):
            break
    if mine and found is None:
        found = teller.say(mine)
    return Walked(receipts=tuple(said), crowded=frozenset(queue.crowded), watched=found)


class Queue:
    """Iterates over the waiting entries of an environment, best first, and skips closed ones."""

    def __init__(self, unit: Unit, env: str, policy: Policy, groups: Mapping[str, Group]) -> None:
        self.read = 0
        self.crowded: set[tuple[str, str]] = set()
        self._unit, self._env, self._policy, self._now = unit, env, policy, unit.now()
        self._budgets: list[Shared] = []
        self._keys: set[str] = set()
        self._heap: list[tuple[Place, int, _Cursor]] = []
        self._numbers = count()
        for group in unit.groups(env):
            cursor = _Cursor(group=group.key)
            if lane.fits(group.key, policy, groups):
                self._heap.append((_head(policy, group.key, group.oldest, self._now), next(self._numbers), cursor))
            else:
                self._single_entry_groups(group.key)
        heapq.heapify(self._heap)

    def close(self, wait: Shared) -> None:
        """Skip every entry that waits for this."""
        if wait.key:
            self._keys.add(lane.limit_key(wait.key))
        elif wait not in self._budgets:
            self._budgets.append(wait)

    def __iter__(self) -> Iterator[Scored]:
        while self._heap:
            place, number, cursor = heapq.heappop(self._heap)
            if not cursor.sorted:
                yield cursor.page.popleft()
                continue
            if self._all_closed(cursor.group):
                continue
            if not cursor.page:
                self._fill(cursor)
                if cursor.page:
                    heapq.heappush(self._heap, (cursor.page[0].place, number, cursor))
                continue
            each = cursor.page.popleft()
            if not (cursor.over and not cursor.page):
                place = cursor.page[0].place if cursor.page else place
                heapq.heappush(self._heap, (place, number, cursor))
            if each.entry.limit_key in self._keys:
                cursor.passed[each.entry.limit_key] += 1
            else:
                yield each

    def _all_closed(self, group: str) -> bool:
        """Return whether a whole group waits for closed limits; a key is known for its own lane only."""
        known = lane.read(group).get(lane.LIMIT)
        return known in self._keys or any(lane.shares(group, wait) for wait in self._budgets)

    def _fill(self, cursor: "_Cursor") -> None:
        """Read the next page of a group; keys that filled most of the last page crowd the group."""
        if cursor.over:
            return
        if sum(cursor.passed.values()) * 2 > cursor.size and lane.LIMIT not in lane.read(cursor.group):
            self.crowded |= {(cursor.group, key) for key in cursor.passed}
        cursor.passed.clear()
        without = (
            sorted(self._keys) if cursor.size else []
        )  # the first page shows which keys crowd the head of the group
        cursor.size = min(PAGE_MAX, cursor.size * 2) if cursor.size else PAGE
        found = self._unit.oldest(self._env, cursor.group, cursor.size, after=cursor.after, without=without)
        self.read += len(found)
        cursor.over = len(found) < cursor.size
        if found:
            cursor.after = (found[-1].created_at, found[-1].id)
        cursor.page.extend(scored(self._policy, entry, self._now) for entry in found)

    def _single_entry_groups(self, group: str) -> None:
        """Read the oldest entries of a group of an earlier policy, each as a group of its own."""
        for entry in self._unit.oldest(self._env, group, OVERGROWN):
            each = scored(self._policy, entry, self._now)
            cursor = _Cursor(group=group, sorted=False, page=deque([each]))
            self._heap.append((each.place, next(self._numbers), cursor))


class _Teller:
    """Decides entries one after the other, and closes the limits that the waiting ones wait for."""

    def __init__(self, queue: Queue, deciding: Deciding, caps: money.Caps) -> None:
        self.deciding = deciding
        self._queue, self._caps = queue, caps
        self._canceled: Counter[str] = Counter()

    def say(self, each: Scored) -> Receipt:
        """Read the budgets that the entry is counted for, and decide."""
        if more := self._caps.of(each.entry):
            self.deciding.load = replace(self.deciding.load, caps={**self.deciding.load.caps, **more})
        receipt = self.deciding.say(each)
        for wait in receipt.waits:
            if wait.shared and not self._reads_on(each.entry, wait.shared):
                self._queue.close(wait.shared)
        return receipt

    def _reads_on(self, entry: Entry, wait: Shared) -> bool:
        """Return whether to read on in a group that cancels its newest entries; limited per tick."""
        if not wait.key or self.deciding.load.groups[entry.pipeline].on_conflict != "cancelNewest":
            return False
        self._canceled[wait.key] += 1
        return self._canceled[wait.key] < CANCELED_MOST


@dataclass(slots=True)
class _Cursor:
    """The position of the walk in one rank group."""

    group: str
    sorted: bool = True
    page: deque[Scored] = field(default_factory=deque)
    after: tuple[datetime, str] = (datetime.fromtimestamp(0, UTC), "")
    size: int = 0
    over: bool = False
    passed: Counter[str] = field(default_factory=Counter)


def _head(policy: Policy, group: str, oldest: datetime, now: datetime) -> Place:
    return (-score_at(policy, group, oldest, now), oldest, "")
