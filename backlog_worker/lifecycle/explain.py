"""Why an entry does or does not run, now or at a past tick: from the same walk as the dispatcher's."""

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from backlog_worker.domain import draft as drafts
from backlog_worker.domain.decision import Receipt
from backlog_worker.domain.entry import FINAL, WAITING, Entry, Status
from backlog_worker.domain.priority import Scored, scored
from backlog_worker.domain.reasons import REMEDIES, Standing, Wait
from backlog_worker.lifecycle import Kit, operation
from backlog_worker.lifecycle.position import position as placed
from backlog_worker.lifecycle.walk import load_of, walk

EXPLAINED_MOST = 100_000  # entries that one explanation may read where they all wait by themselves alone


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """Everything there is to say about one entry: where it stands, its score, its reasons, and the ways out."""

    entry: Entry
    at: datetime
    policy: str
    scored: Scored | None
    position: int | None  # in the whole queue, counted; None for what sleeps until its time
    reasons: tuple[tuple[str, str], ...]
    eligibility: dict[str, bool]
    receipts: tuple[dict[str, Any], ...]

    @property
    def remedies(self) -> list[str]:
        """Return what would free it, first reason first."""
        if self.entry.status == Status.ESCALATED:
            return [f"backlog-worker review show {self.entry.id}"]
        return [REMEDIES[code][1] for code, _ in self.reasons if code in REMEDIES]


def explain(kit: Kit, entry_id: str, *, at: datetime | None = None) -> Explained:
    """Explain one entry; with *at*, from the receipt of the last tick up to that moment. Raises NotFoundError."""
    with kit.store.read() as unit:
        entry = operation.found(unit, entry_id)
        policy, now = kit.book.policy(unit), unit.now()
        receipts = tuple(row for row in unit.receipts_of(entry.id) if at is None or row["at"] <= at)
        receipt, position = None, None
        if entry.status in WAITING and at is None:
            load = load_of(kit, unit, policy)
            receipt = walk(kit, unit, policy, load, receipts=0, watched=entry, most=EXPLAINED_MOST).watched
            if receipt and entry.wake_at is None:
                position = placed(unit, kit.env, policy, load.groups, receipt.scored)
        eligibility = policy.eligibility(drafts.rule_values(_columns(entry)))
    if at is not None:
        return _past(entry, at, receipts, eligibility)
    return Explained(
        entry=entry,
        at=now,
        policy=policy.stamp,
        scored=receipt.scored if receipt else scored(policy, entry, now),
        position=position,
        reasons=_reasons(entry, receipt, now),
        eligibility=eligibility,
        receipts=receipts,
    )


def next_up(kit: Kit, most: int) -> list[Receipt]:
    """Say who would go now, and why the others would not; of those behind one that is full only the first is said."""
    with kit.store.read() as unit:
        policy = kit.book.policy(unit)
        return list(walk(kit, unit, policy, load_of(kit, unit, policy), receipts=most).receipts)[:most]


def _columns(entry: Entry) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in (each.name for each in fields(entry))}


def _past(entry: Entry, at: datetime, receipts: tuple[dict[str, Any], ...], said: dict[str, bool]) -> Explained:
    last = receipts[0] if receipts else None
    found = Scored(entry=entry, score=last["score"], terms=last["terms"]) if last else None
    waits = tuple((wait["code"], wait["text"]) for wait in last["waits"]) if last else ()
    return Explained(
        entry=entry,
        at=last["at"] if last else at,
        policy=last["policy"] if last else "",
        scored=found,
        position=last["position"] if last else None,
        reasons=waits or ((Standing.DISPATCHED.value, "was chosen"),) if last else (),
        eligibility=said,
        receipts=receipts,
    )


def _reasons(entry: Entry, receipt: Receipt | None, now: datetime) -> tuple[tuple[str, str], ...]:
    if receipt is not None:
        if not receipt.waits and entry.wake_at is not None and entry.wake_at > now:
            return (
                (
                    Wait.BACKING_OFF.value,
                    f"waited for itself alone, and is looked at again at {entry.wake_at:%H:%M:%SZ}",
                ),
            )
        return tuple((wait.code.value, wait.text) for wait in receipt.waits)
    if entry.status == Status.BLOCKED:
        return tuple((bar, entry.reason) for bar in entry.bars)
    if entry.status == Status.READY:
        return ((Standing.DISPATCHED.value, entry.reason),)
    if entry.status == Status.IN_PROGRESS:
        return ((Standing.CLAIMED.value, f"{entry.reason}, lease until {entry.leased_until:%H:%M:%SZ}"),)
    return () if entry.status in FINAL else ((entry.status.upper(), entry.reason),)
