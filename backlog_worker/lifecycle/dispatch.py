"""One tick: walk the queue, mark the chosen entries ready, store the receipts; bells are rung after the commit."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from backlog_worker.domain import lane
from backlog_worker.domain.admission import Group, Load, Waiting
from backlog_worker.domain.bell import Bell, claim_bell
from backlog_worker.domain.decision import Decision, Receipt
from backlog_worker.domain.entry import FINAL, WAITING, Change, Entry
from backlog_worker.domain.events import digest
from backlog_worker.domain.policy import Policy
from backlog_worker.domain.reasons import Bar, Wait
from backlog_worker.lifecycle import Kit, contract, enact, operate
from backlog_worker.lifecycle.loops import attempt
from backlog_worker.lifecycle.ringing import READY_FOR
from backlog_worker.lifecycle.walk import Walked, load_of, walk
from backlog_worker.store import Unit
from backlog_worker.telemetry import emit

TICK_SECONDS = 1.0  # shorter than the period of the tick in beat_schedule.py
RECEIPTS = 3  # receipts kept per dispatched entry: room for the entries that wait
LOOKED_AT_AGAIN = timedelta(minutes=5)  # waits for people, or for its own budget to be raised
REGROUPED = 5000  # entries per tick that get new rank groups after the policy reads other fields
DECISIONS_KEPT = 2000
ROUNDS = 10  # walks per tick while contracts change; the next tick continues


def tick(kit: Kit) -> list[Bell]:
    """Mark the best entries ready, with a receipt for every candidate, and return their bells.

    Only one tick runs at a time, whoever starts it: it takes a lease in its own transaction.
    """
    attempt("definitions", lambda: enact.follow(kit))
    with kit.store.begin(actor="dispatch") as unit:
        unit.lease = READY_FOR.total_seconds()
        if not unit.take_lease(f"dispatch:{kit.env}", kit.new_id("tick"), TICK_SECONDS):
            return []
        policy = kit.book.policy(unit)
        last = unit.last_decision(kit.env)
        if last is None or last["policy"] != policy.stamp:
            unit.rouse(kit.env)
        unit.wake(kit.env)
        load = load_of(kit, unit, policy)
        regroup(kit.env, unit, policy, load.groups)
        seen = _walk_valid(kit, unit, policy, load)
        decision = Decision(policy=policy.stamp, at=unit.now(), receipts=seen.receipts)
        chosen = _mark_ready(unit, decision, load)
        _put_to_sleep(unit, decision)
        _lanes(kit.env, unit, seen)
        _make_way(kit, unit, decision, load)
        _store_decision(kit, unit, decision, len(chosen), last)
        light = {name for name, pipeline in kit.book.pipelines(unit).items() if pipeline.light}
    if chosen:
        emit("dispatched", count=len(chosen), policy=policy.stamp)
    return bells(chosen, light, policy)


def _walk_valid(kit: Kit, unit: Unit, policy: Policy, load: Load) -> Walked:
    """Walk the queue; chosen entries that violate a changed contract are blocked, and others are chosen instead."""
    for left in reversed(range(ROUNDS)):
        seen = walk(kit, unit, policy, load, receipts=policy.dispatch.top * RECEIPTS)
        chosen = [receipt.scored.entry for receipt in seen.receipts if not receipt.waits]
        broken = contract.broken(kit, unit, chosen)
        for entry_id, entry in (unit.hold(broken) if broken else {}).items():
            if entry.status in WAITING:
                unit.move(entry_id, Change.BLOCKED, broken[entry_id], bars=[Bar.INPUT_INVALID.value])
        if not broken or not left:
            break
        unit.flush()
    kept = tuple(receipt for receipt in seen.receipts if receipt.scored.entry.id not in broken)
    return replace(seen, receipts=kept)


def regroup(env: str, unit: Unit, policy: Policy, groups: Mapping[str, Group]) -> None:
    """Assign new rank groups after a policy or pipeline reads other fields; some thousand entries per tick."""
    stale = [group.key for group in unit.groups(env) if not lane.fits(group.key, policy, groups)]
    if stale:
        unit.regroup(env, stale, lambda entry: lane.lane_of(entry, policy, groups.get(entry.pipeline)), REGROUPED)


def bells(chosen: Sequence[Entry], light: set[str], policy: Policy) -> list[Bell]:
    """Return one bell per entry, or one per batch for a pipeline whose jobs are all light.

    An entry that ran before gets its own bell: if it crashes its worker, no other entry is affected.
    """
    batched = {entry.id for entry in chosen if entry.pipeline in light and not entry.attempt}
    single = [claim_bell((entry.id,), entry.attempt + 1) for entry in chosen if entry.id not in batched]
    for name in sorted(light):
        ids = [entry.id for entry in chosen if entry.pipeline == name and entry.id in batched]
        size = policy.dispatch.batch
        single += [claim_bell(tuple(ids[at : at + size]), 1) for at in range(0, len(ids), size)]
    return single


def _make_way(kit: Kit, unit: Unit, decision: Decision, load: Load) -> None:
    """Cancel entries that a concurrency group has no room for: the newest, or the holders replaced by a newer entry."""
    for receipt in decision.receipts:
        entry = receipt.scored.entry
        group = load.groups.get(entry.pipeline)
        if group is None or group.on_conflict == "wait" or not any(w.code == Wait.KEY_LIMIT for w in receipt.waits):
            continue
        newest = group.on_conflict == "cancelNewest"
        gone = [entry.id] if newest else list(load.holders.get(load.key(entry), ()))[:1]
        words = "its concurrency group is full" if newest else f"replaced by {entry.id} in its concurrency group"
        for held in unit.hold(gone).values():
            if held.status not in FINAL:
                operate.canceled(kit, unit, held, words)


def _mark_ready(unit: Unit, decision: Decision, load: Load) -> list[Entry]:
    """Mark chosen entries ready if they are unchanged since they were scored; the others wait for the next tick."""
    chosen = {receipt.scored.entry.id: receipt for receipt in decision.chosen}
    marked = []
    for entry_id, entry in unit.hold(chosen).items():
        receipt = chosen[entry_id]
        if entry.seq != receipt.scored.entry.seq or entry.status != receipt.scored.entry.status:
            continue
        marked.append(_dispatched(unit, receipt, decision, load))
    order = {entry_id: receipt.position for entry_id, receipt in chosen.items()}
    return sorted(marked, key=lambda entry: order[entry.id])


def _dispatched(unit: Unit, receipt: Receipt, decision: Decision, load: Load) -> Entry:
    price = load.estimates.get(receipt.scored.entry.pipeline)
    scored_entry = receipt.scored
    data = {"position": receipt.position, "terms": dict(scored_entry.terms), "policy": decision.policy}
    data["tick"] = decision.at.isoformat()
    words = f"position {receipt.position}, score {scored_entry.score or 0:.2f} under policy {decision.policy}"
    return unit.move(
        scored_entry.entry.id,
        Change.DISPATCHED,
        words,
        data,
        rung_at=decision.at,
        score=scored_entry.score,
        scored_by=decision.policy,
        group_key=load.key(scored_entry.entry) or None,
        reserved_usd=price,
    )


def _put_to_sleep(unit: Unit, decision: Decision) -> None:
    """Put entries to sleep that wait for themselves alone, until that wait may be over; they are not read before."""
    asleep: dict[str, datetime] = {}
    for receipt in decision.receipts:
        found = [until for wait in receipt.waits if (until := _until(wait, decision.at))]
        if found:
            asleep[receipt.scored.entry.id] = max(found)
    unit.sleep(asleep)


def _until(wait: Waiting, now: datetime) -> datetime | None:
    if wait.code == Wait.DEADLINE_PASSED or (wait.code == Wait.BUDGET_EXHAUSTED and wait.shared is None):
        return now + LOOKED_AT_AGAIN
    return wait.until


def _lanes(env: str, unit: Unit, seen: Walked) -> None:
    """Give full concurrency keys that crowd a rank group their own lanes, so that their entries are skipped unread."""
    left = REGROUPED
    for group, key in sorted(seen.crowded):
        left -= unit.into_lane(env, group, key, lane.own_lane(group, key), left)
        if left <= 0:
            break


def _store_decision(kit: Kit, unit: Unit, decision: Decision, chosen: int, last: Mapping[str, Any] | None) -> None:
    """Store the decision if it differs from the last one.

    Every dispatched entry gets a receipt, and so do the best of the waiting ones, up to a limit that keeps a tick
    small.
    """
    policy = kit.book.policy(unit)
    most = policy.dispatch.top * RECEIPTS
    receipts: list[dict[str, Any]] = [
        {
            "entry_id": receipt.scored.entry.id,
            "position": receipt.position,
            "score": receipt.scored.score,
            "terms": dict(receipt.scored.terms),
            "waits": [{"code": wait.code.value, "text": wait.text} for wait in receipt.waits],
        }
        for number, receipt in enumerate(decision.receipts)
        if number < most or not receipt.waits
    ]
    seqs = {each.scored.entry.id: each.scored.entry.seq for each in decision.receipts}  # a returned entry is a change
    said = [
        [row["entry_id"], seqs[row["entry_id"]], row["position"], [wait["code"] for wait in row["waits"]]]
        for row in receipts
    ]
    row = {
        "id": kit.new_id("dec"),
        "env": kit.env,
        "at": decision.at,
        "policy": decision.policy,
        "digest": digest(said),
        "counts": {"candidates": len(decision.receipts), "chosen": chosen},
    }
    if last is not None and last["policy"] == decision.policy and (not receipts or last["digest"] == row["digest"]):
        return
    unit.keep_decision(row, receipts)
    if int(decision.at.timestamp()) % 60 == 0:
        unit.forget_decisions(kit.env, DECISIONS_KEPT)
