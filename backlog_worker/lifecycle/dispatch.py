"""One tick: snapshot, decide, mark the best ready, keep the receipts; the bells are rung after the commit."""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from backlog_worker.domain import expression
from backlog_worker.domain.admission import Group, Load, share
from backlog_worker.domain.bell import Bell, claim_bell
from backlog_worker.domain.decision import Decision, Receipt, Snapshot, decide
from backlog_worker.domain.entry import FINAL, Change, Entry
from backlog_worker.domain.events import digest
from backlog_worker.domain.expression import ExpressionError
from backlog_worker.domain.pipeline import Pipeline
from backlog_worker.domain.policy import ENTRY_NAMES, Policy
from backlog_worker.domain.priority import Place, group_of, score_group, scored
from backlog_worker.domain.reasons import Wait
from backlog_worker.lifecycle import Kit, intake, money, operate
from backlog_worker.lifecycle.definitions import reload
from backlog_worker.store import Unit
from backlog_worker.telemetry import emit

STAGES_QUEUE = "stages"
TICK_SECONDS = 1.0  # shorter than the period of the tick in beat_schedule.py
READY_FOR = timedelta(minutes=10)  # a bell that nobody answers for so long sends its entry back to the queue
WINDOW = 3  # candidates per entry that may go: room for those that have to wait
REGROUPED = 5000  # entries a tick that get new rank groups after a policy began to read other fields
DECISIONS_KEPT = 2000


def tick(kit: Kit) -> list[Bell]:
    """Choose who goes and mark them ready, with a receipt for every candidate; returns their bells.

    One tick works at a time, whoever calls: its lease is taken in its own transaction.
    """
    if reload(kit.store, kit.book, kit.definitions, author="file"):
        intake.clear_all(kit, "a definition came into force")
    with kit.store.begin(actor="dispatch") as unit:
        unit.lease = READY_FOR.total_seconds()
        if not unit.take_lease(f"dispatch:{kit.env}", kit.new_id("tick"), TICK_SECONDS):
            return []
        policy = kit.book.policy(unit)
        unit.wake(kit.env)
        regroup(kit.env, unit, policy)
        seen = snapshot(kit, unit, policy)
        decision = decide(seen, policy, unit.now())
        chosen = _mark(unit, decision, seen.load)
        _rest(unit, decision)
        _make_way(kit, unit, decision, seen.load)
        _keep(kit, unit, decision, len(chosen))
        light = {name for name, pipeline in kit.book.pipelines(unit).items() if pipeline.light}
    if chosen:
        emit("dispatched", count=len(chosen), policy=policy.stamp)
    return bells(chosen, light, policy)


def snapshot(kit: Kit, unit: Unit, policy: Policy) -> Snapshot:
    """Read all that a decision may look at: the best candidates, exactly, and the load."""
    pipelines = kit.book.pipelines(unit)
    light = frozenset(name for name, pipeline in pipelines.items() if pipeline.light)
    held = unit.held_by_pipeline(kit.env)
    candidates = best(kit.env, unit, policy, policy.dispatch.top * WINDOW)
    groups = {name: group for name, pipeline in pipelines.items() if (group := _group_of(pipeline))}
    load = Load(
        held=sum(held.values()),
        slots_held=sum(share(name, light, policy) * number for name, number in held.items()),
        slots=unit.slots(STAGES_QUEUE, kit.seen_within.total_seconds()),
        light=light,
        caps=money.caps(unit, kit.env, policy, candidates),
        estimates=money.estimates(unit, kit.env, policy, pipelines),
        groups=groups,
        holders=unit.group_keys(kit.env) if groups else {},
    )
    return Snapshot(candidates=candidates, load=load)


def best(env: str, unit: Unit, policy: Policy, most: int) -> list[Entry]:
    """Return the best *most* waiting entries, exactly as a sort of all of them would.

    Groups are visited from the best head on; once so many entries are known to be better than the next head, the rest
    of the queue cannot matter. What cannot be scored comes last, a few of each group, to be shown with its error.
    """
    now = unit.now()
    heads: list[tuple[Place, str]] = []
    for group in unit.groups(env):
        if not _readable(group.key, policy):
            return best_of_few(unit, env, policy, most)
        heads.append((_head(policy, group.key, group.oldest, now), group.key))
    found: list[tuple[Place, Entry]] = []
    for place, key in sorted(heads):
        if len(found) >= most and found[most - 1][0] < place:
            break
        found += [(scored(policy, entry, now).place, entry) for entry in unit.oldest(env, key, most)]
        found.sort(key=lambda each: each[0])
    return [entry for _, entry in found[:most]]


def regroup(env: str, unit: Unit, policy: Policy) -> None:
    """Give entries the groups that a policy wants which began to read other fields; some thousands a tick."""
    stale = [group.key for group in unit.groups(env) if not _readable(group.key, policy)]
    if stale:
        unit.regroup(env, stale, lambda entry: _group(entry, policy), REGROUPED)


def best_of_few(unit: Unit, env: str, policy: Policy, most: int) -> list[Entry]:
    """Return the best among the oldest of every group, while groups are being made anew for a changed policy."""
    now = unit.now()
    oldest = [entry for group in unit.groups(env) for entry in unit.oldest(env, group.key, most)]
    return sorted(oldest, key=lambda entry: scored(policy, entry, now).place)[:most]


def bells(chosen: Sequence[Entry], light: set[str], policy: Policy) -> list[Bell]:
    """Ring once for each entry, or once for a batch of a pipeline whose jobs are all light."""
    single = [claim_bell((entry.id,), entry.attempt + 1) for entry in chosen if entry.pipeline not in light]
    for name in sorted(light):
        ids = [entry.id for entry in chosen if entry.pipeline == name]
        size = policy.dispatch.batch
        single += [claim_bell(tuple(ids[at : at + size]), 1) for at in range(0, len(ids), size)]
    return single


def _readable(group: str, policy: Policy) -> bool:
    return bool(group) and set(json.loads(group)) == set(policy.reads)


def _head(policy: Policy, group: str, oldest: datetime, now: datetime) -> Place:
    try:
        score = score_group(policy, group, oldest, now)[0]
    except ExpressionError:
        score = float("-inf")
    return (-score, oldest, "")


def _group(entry: Entry, policy: Policy) -> str:
    return group_of({name: getattr(entry, name) for name in policy.reads}, policy.reads)


def _group_of(pipeline: Pipeline) -> Group | None:
    group = pipeline.concurrency.group
    if group is None:
        return None
    return Group(expression.compiled(group.key, ENTRY_NAMES, "any"), group.limit, group.on_conflict)


def _make_way(kit: Kit, unit: Unit, decision: Decision, load: Load) -> None:
    """Cancel what a group has no place for: the newest, or the holders whom a newer entry replaces."""
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


def _mark(unit: Unit, decision: Decision, load: Load) -> list[Entry]:
    """Mark the chosen ready where they are still what was scored; the others are left to the next tick."""
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


def _rest(unit: Unit, decision: Decision) -> None:
    closed = {
        receipt.scored.entry.id: wait.until
        for receipt in decision.receipts
        for wait in receipt.waits
        if wait.code == Wait.OUTSIDE_WINDOW and wait.until is not None
    }
    unit.sleep(closed)


def _keep(kit: Kit, unit: Unit, decision: Decision, chosen: int) -> None:
    """Store the decision where it says something new; a tick that repeats the last one leaves no row."""
    receipts: list[dict[str, Any]] = [
        {
            "entry_id": receipt.scored.entry.id,
            "position": receipt.position,
            "score": receipt.scored.score,
            "terms": dict(receipt.scored.terms),
            "waits": [{"code": wait.code.value, "text": wait.text} for wait in receipt.waits],
        }
        for receipt in decision.receipts
    ]
    said = [[row["entry_id"], row["position"], [wait["code"] for wait in row["waits"]]] for row in receipts]
    row = {
        "id": kit.new_id("dec"),
        "env": kit.env,
        "at": decision.at,
        "policy": decision.policy,
        "digest": digest(said),
        "counts": {"candidates": len(receipts), "chosen": chosen},
    }
    last = unit.last_decision(kit.env)
    if not receipts or (last is not None and last["digest"] == row["digest"]):
        return
    unit.keep_decision(row, receipts)
    if int(decision.at.timestamp()) % 60 == 0:
        unit.forget_decisions(kit.env, DECISIONS_KEPT)
