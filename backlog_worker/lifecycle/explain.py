"""Why an entry does or does not run, now or at a past tick, computed by the dispatcher's own walk."""

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from backlog_worker.domain import draft as drafts
from backlog_worker.domain.decision import Receipt
from backlog_worker.domain.entry import FINAL, WAITING, Change, Entry, Status, entry_of, fold
from backlog_worker.domain.errors import NotFoundError
from backlog_worker.domain.priority import Scored, scored
from backlog_worker.domain.reasons import REMEDIES, Bar, Standing, Wait
from backlog_worker.lifecycle import Kit, contract, operation
from backlog_worker.lifecycle.position import position as placed
from backlog_worker.lifecycle.walk import load_of, walk
from backlog_worker.store import Unit

EXPLAINED_MOST = 100_000  # entries that one explanation may read if each waits for itself alone


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """The explanation of one entry: its state, its score, its reasons, and the remedies."""

    entry: Entry
    at: datetime
    policy: str
    scored: Scored | None
    position: int | None  # counted over the whole queue; None for a sleeping entry
    reasons: tuple[tuple[str, str], ...]
    eligibility: dict[str, bool] | None  # None: the policy of that time was not recorded
    receipts: tuple[dict[str, Any], ...]
    past: bool = False

    @property
    def remedies(self) -> list[str]:
        """Return what would free the entry, first reason first; empty for the past."""
        if self.past:
            return []
        if self.entry.status == Status.ESCALATED:
            return [f"backlog-worker review show {self.entry.id}"]
        return [REMEDIES[code][1] for code, _ in self.reasons if code in REMEDIES]


def explain(kit: Kit, entry_id: str, *, at: datetime | None = None) -> Explained:
    """Explain one entry; with *at*, as it stood then, by the policy and the last tick of that time. Raises
    NotFoundError.
    """
    if at is not None:
        return _past(kit, entry_id, at)
    with kit.store.read() as unit:
        entry = operation.found(unit, entry_id)
        policy, now = kit.book.policy(unit), unit.now()
        receipts = tuple(unit.receipts_of(entry.id))
        receipt, position, broken = None, None, ""
        if entry.status in WAITING:
            load = load_of(kit, unit, policy)
            receipt = walk(kit, unit, policy, load, receipts=0, watched=entry, most=EXPLAINED_MOST).watched
            if receipt and entry.wake_at is None:
                position = placed(unit, kit.env, policy, load.groups, receipt.scored)
            broken = contract.broken(kit, unit, [entry]).get(entry.id, "")
        eligibility = policy.eligibility(drafts.rule_values(_columns(entry)))
    return Explained(
        entry=entry,
        at=now,
        policy=policy.stamp,
        scored=receipt.scored if receipt else scored(policy, entry, now),
        position=position,
        reasons=(*[(Bar.INPUT_INVALID.value, broken)] * bool(broken), *_reasons(entry, receipt, now)),
        eligibility=eligibility,
        receipts=receipts,
    )


def next_up(kit: Kit, most: int) -> list[Receipt]:
    """Return who would go now and why the others would not; for a full limit, only the first entry behind it is
    listed.
    """
    with kit.store.read() as unit:
        policy = kit.book.policy(unit)
        return list(walk(kit, unit, policy, load_of(kit, unit, policy), receipts=most).receipts)[:most]


def _columns(entry: Entry) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in (each.name for each in fields(entry))}


def _past(kit: Kit, entry_id: str, at: datetime) -> Explained:
    """Explain from the history up to a moment, the decisions and the policy of that time only."""
    with kit.store.read() as unit:
        entry = _as_it_stood(unit, entry_id, at)
        policy = kit.book.policy_at(unit, at)
        receipts = tuple(unit.receipts_of(entry.id, before=at))
    since = entry.changed_at or entry.created_at
    last = receipts[0] if receipts and entry.status in WAITING and receipts[0]["at"] >= since else None
    waits = tuple((wait["code"], wait["text"]) for wait in last["waits"]) if last else ()
    return Explained(
        entry=entry,
        at=at,
        policy=policy.stamp if policy else last["policy"] if last else "",
        scored=Scored(entry=entry, score=last["score"], terms=last["terms"]) if last else None,
        position=last["position"] if last else None,
        reasons=waits if entry.status in WAITING else _reasons(entry, None, at),
        eligibility=policy.eligibility(drafts.rule_values(_columns(entry))) if policy else None,
        receipts=receipts,
        past=True,
    )


def _as_it_stood(unit: Unit, entry_id: str, at: datetime) -> Entry:
    """Return an entry as its history had it at a moment; raises NotFoundError if it did not exist then."""
    events = unit.history(entry_id)
    if not events:
        message = f"entry {entry_id} is unknown, or its history has expired"
        raise NotFoundError(message, hint="backlog-worker entry list")
    then = [event for event in events if event.at <= at]
    if not then:
        message = (
            f"{entry_id} did not exist at {at:%Y-%m-%d %H:%M:%SZ}; it was filed at {events[0].at:%Y-%m-%d %H:%M:%SZ}"
        )
        raise NotFoundError(message, hint=f"backlog-worker entry history {entry_id}")
    values = fold(then)
    if not values:
        left = f"it was retired at {then[-1].at:%Y-%m-%d %H:%M:%SZ}"
        message = f"{entry_id} had left the backlog at {at:%Y-%m-%d %H:%M:%SZ}; {left}"
        raise NotFoundError(message, hint=f"backlog-worker entry history {entry_id}")
    moved = [event.at for event in then if event.change in set(Change)]
    return entry_of(values, seq=then[-1].seq, changed_at=moved[-1])


def _reasons(entry: Entry, receipt: Receipt | None, now: datetime) -> tuple[tuple[str, str], ...]:
    if receipt is not None:
        if not receipt.waits and entry.wake_at is not None and entry.wake_at > now:
            return (
                (
                    Wait.BACKING_OFF.value,
                    f"waits for itself alone; checked again at {entry.wake_at:%H:%M:%SZ}",
                ),
            )
        return tuple((wait.code.value, wait.text) for wait in receipt.waits)
    if entry.status == Status.BLOCKED:
        return tuple((bar, entry.reason) for bar in entry.bars)
    if entry.status == Status.READY:
        return ((Standing.DISPATCHED.value, entry.reason),)
    if entry.status == Status.IN_PROGRESS:
        lease = f", lease until {entry.leased_until:%H:%M:%SZ}" if entry.leased_until else ""
        return ((Standing.CLAIMED.value, f"{entry.reason}{lease}"),)
    return () if entry.status in FINAL else ((entry.status.upper(), entry.reason),)
