"""Why entries wait, counted over the whole queue with the dispatcher's own reasons.

The best entries are walked as in a tick, until no room is left. After that the load is constant, so entries that agree
in everything a decision reads have the same reason and are counted together: a million of them by a few hundred
queries. This still reads the whole queue, a second or two for a million entries. A long queue is therefore counted once
a minute by the alert job, and others are shown that count with its time.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from heapq import merge
from typing import Any

from backlog_worker.domain import expression
from backlog_worker.domain.admission import Load, Waiting, admit, windows
from backlog_worker.domain.budget import Scope
from backlog_worker.domain.decision import Deciding
from backlog_worker.domain.entry import FOLDED, Entry, Status
from backlog_worker.domain.masking import cut
from backlog_worker.domain.policy import Policy
from backlog_worker.domain.priority import Place, Scored, scored
from backlog_worker.domain.reasons import Bar, Wait
from backlog_worker.lifecycle import Kit, money
from backlog_worker.lifecycle.walk import Queue, load_of
from backlog_worker.store import Alike, Unit

KIND = "waiting"
WALKED_MOST = 20_000  # beyond this many different waits, the rest is judged by the load at that point
LIVE_MAX = 20_000  # a longer queue is counted once a minute, by the alert job
KEPT_FOR = timedelta(minutes=5)  # an older count is not shown
STALLED_SECONDS = 60.0  # a tick takes two: an entry that is free for longer indicates a fault
CODES = tuple(code.value for code in (*Bar, *Wait))
FAULTS = (Wait.SCORE_ERROR.value, Bar.INPUT_INVALID.value, Bar.DEFINITION_MISSING.value)
_ALWAYS = ("pipeline", "team", "constraints")


@dataclass(frozen=True, slots=True, kw_only=True)
class Census:
    """Why entries wait at one moment: their number by first reason, where faults precede everything else.

    `next` goes in the next tick; the `stalled` among them have been free for longer than any tick takes.
    """

    at: datetime
    reasons: Mapping[str, int]
    next: int
    stalled: int
    samples: Mapping[str, str]

    @property
    def faults(self) -> int:
        """Return how many entries wait for a repair."""
        return sum(self.reasons.get(code, 0) for code in FAULTS)


class _Count:
    """Counts single entries or groups by their first reason, under the load of the current decision."""

    def __init__(self, deciding: Deciding, caps: money.Caps, policy: Policy, now: datetime) -> None:
        self.deciding, self._caps, self._policy, self._now = deciding, caps, policy, now
        self.reasons: Counter[str] = Counter()
        self.samples: dict[str, str] = {}
        self.walked: list[str] = []
        self.next = self.stalled = 0

    def said(self, code: str, number: int, sample: str) -> None:
        """Count a reason."""
        self.reasons[code] += number
        self.samples.setdefault(code, cut(sample, 200))

    def walk(self, each: Scored) -> None:
        """Decide about the next entry as the tick would."""
        self.walked.append(each.entry.id)
        self._read(each.entry)
        load = self.deciding.load
        waits = self.deciding.say(each).waits
        if waits:
            self.said(waits[0].code.value, 1, f"{each.entry.id}: {waits[0].text}")
        else:
            self.next += 1
            self.stalled += _stalled(each.entry, load, self._now)

    def first(self, entry: Entry, created_at: datetime) -> Waiting | None:
        """Return what holds back an entry like this, created then, after the walk."""
        self._read(entry)
        each = scored(self._policy, replace(entry, created_at=created_at), self._now)
        waits = admit(each, self.deciding.load, self._policy, self._now)
        return waits[0] if waits else None

    def _read(self, entry: Entry) -> None:
        if more := self._caps.of(entry):
            self.deciding.load = replace(self.deciding.load, caps={**self.deciding.load.caps, **more})


def census(kit: Kit, unit: Unit) -> Census:
    """Return why entries wait: now, or for a long queue as last counted, about a minute ago."""
    if unit.queue_length(kit.env) > LIVE_MAX:
        kept = unit.snapshots(kit.env, KIND, unit.now() - KEPT_FOR)
        if kept:
            data: Mapping[str, Any] = kept[-1]["data"]
            return Census(at=kept[-1]["at"], **data)
    return counted(kit, unit)


def keep(kit: Kit, found: Census) -> None:
    """Store the count of a long queue for readers in the next minutes."""
    if sum(found.reasons.values()) <= LIVE_MAX:
        return
    data = {name: getattr(found, name) for name in ("reasons", "next", "stalled", "samples")}
    with kit.store.begin(actor="alerts") as unit:
        unit.keep_snapshot(kit.env, KIND, found.at, {**data, "reasons": dict(found.reasons)})
        unit.forget_snapshots(kit.env, KIND, KEPT_FOR.total_seconds())


def counted(kit: Kit, unit: Unit) -> Census:
    """Count all waiting entries by their first reason; those without one go next."""
    policy, now = kit.book.policy(unit), unit.now()
    load = load_of(kit, unit, policy)
    count = _Count(Deciding(load, policy, now), money.Caps(unit, kit.env, policy), policy, now)
    queue = Queue(unit, kit.env, policy, load.groups)
    woken = sorted((scored(policy, entry, now) for entry in unit.woken(kit.env)), key=_place)
    for each in merge(queue, woken, key=_place):
        count.walk(each)
        if count.deciding.closed or len(count.walked) >= WALKED_MOST:
            break
    fields, spends = _fields(kit, unit, policy)
    alike = unit.alike(kit.env, fields, count.walked, spends=spends)
    for found in _uniform_groups(kit, unit, count, alike):
        wait = count.first(found.entry, found.oldest)
        code = wait.code if wait else Wait.BACKING_OFF  # it sleeps until its next check
        words = wait.text if wait else f"is checked again at {found.entry.wake_at:%H:%M:%SZ}"
        count.said(code.value, found.number, f"{found.entry.id}: {words}")
    for bars, number, entry_id in unit.barred_by(kit.env):
        count.said(min(bars, key=[*Bar].index), number, f"{entry_id} is blocked")
    reasons = {code: count.reasons[code] for code in CODES if count.reasons[code]}
    return Census(at=now, reasons=reasons, next=count.next, stalled=count.stalled, samples=count.samples)


def _place(each: Scored) -> Place:
    return each.place


def _fields(kit: Kit, unit: Unit, policy: Policy) -> tuple[list[str], bool]:
    """Return the columns that a decision may read besides the age, and whether it reads the spending of each entry."""
    read = {*_ALWAYS, *policy.reads}
    for pipeline in kit.book.pipelines(unit).values():
        if pipeline.concurrency.group is not None:
            read |= expression.read_fields(pipeline.concurrency.group.key)
    spends = any(rule.queues and rule.scope == Scope.ENTRY for rule in policy.budgets)
    return sorted(read & set(FOLDED)), spends


def _uniform_groups(kit: Kit, unit: Unit, count: _Count, alike: Sequence[Alike]) -> Sequence[Alike]:
    """Return groups with one reason each; single entries if a term fails at some ages only."""
    for each in alike:
        ends = (count.first(each.entry, each.oldest), count.first(each.entry, each.youngest))
        if len({wait and wait.code for wait in ends}) > 1:
            fields, _ = _fields(kit, unit, kit.book.policy(unit))
            return unit.alike(kit.env, fields, count.walked, one_by_one=True)
    return alike


def _stalled(entry: Entry, load: Load, now: datetime) -> bool:
    """Return whether an entry has been free to go for long; unknown, so false, if it shares a key or a window."""
    if load.key(entry) or windows(entry):
        return False
    since = [each for each in (entry.changed_at, entry.retry_at if entry.status == Status.RETRYING else None) if each]
    return bool(since) and (now - max(since)).total_seconds() > STALLED_SECONDS
