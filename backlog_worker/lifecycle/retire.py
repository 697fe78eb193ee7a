"""Retention, class by class: entries that are done, the bulk of runs, artifacts, histories past their own time.

A dry run counts what would go. Whatever stands under a legal hold stays, and every clean-up is an operation on record.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from backlog_worker.domain.policy import Policy
from backlog_worker.lifecycle import Kit
from backlog_worker.store import BULK, JsonlStore

BATCH = 500
ROWS = 10_000


def cleanup(kit: Kit, *, retention_days: int = 0, dry_run: bool = False) -> dict[str, Any]:
    """Apply the retention of the policy, or *retention_days* to what is done and canceled; returns what went, by class.

    Records and decisions of an entry outlive its row: they stand in its history, until `retention.evidence` is over.
    """
    with kit.store.read() as unit:
        policy = kit.book.policy(unit)
    while not dry_run and _tallied(kit):
        pass
    days = timedelta(days=retention_days or policy.defaults.retention_days)
    removed: dict[str, int] = {"entries": _entries(kit, policy, days, dry_run=dry_run)}
    lengths = {**_lengths(policy), "writebacks": days}
    for kind in BULK:
        removed[kind] = _bulk(kit, kind, lengths[kind], dry_run=dry_run)
    removed["artifacts"] = _artifacts(kit, policy.retention.artifacts, dry_run=dry_run)
    removed["histories"] = _histories(kit, dry_run=dry_run)
    if not dry_run and isinstance(kit.store, JsonlStore):
        before, after = kit.store.compact()
        removed["bytes"] = before - after
    return {"removed": removed, "retention_days": days.days, "dry_run": dry_run}


def _tallied(kit: Kit) -> int:
    """Keep what is countable of entries that an earlier release retired, while their histories are there."""
    with kit.store.begin(actor=kit.worker) as unit:
        return unit.keep_tallies(kit.env, BATCH)


def _lengths(policy: Policy) -> Mapping[str, timedelta]:
    kept = policy.retention
    return {"logs": kept.logs, "receipts": kept.receipts, "snapshots": kept.snapshots, "results": kept.results}


def _entries(kit: Kit, policy: Policy, days: timedelta, *, dry_run: bool) -> int:
    """Retire what has been final for longer than *days*, page by page."""
    evidence = policy.retention.evidence.total_seconds()
    reason = f"final for longer than {days.days} days, by policy {policy.stamp}"
    gone = 0
    while True:
        with kit.store.begin(actor=kit.worker) as unit:
            ids = unit.retirable(kit.env, days.total_seconds(), 1_000_000 if dry_run else BATCH)
            if dry_run:
                return len(ids)
            unit.hold(ids)
            retired = unit.retire(ids, reason, evidence)
        gone += len(retired)
        if not retired:
            return gone


def _bulk(kit: Kit, kind: str, length: timedelta, *, dry_run: bool) -> int:
    """Remove old rows a batch at a time: one statement over all of them could outlast its time limit."""
    if dry_run:
        with kit.store.read() as unit:
            return unit.old_bulk(kind, kit.env, length.total_seconds())
    gone = 0
    while True:
        with kit.store.begin(actor=kit.worker) as unit:
            removed = unit.forget_bulk(kind, kit.env, length.total_seconds(), ROWS)
        gone += removed
        if removed < ROWS:
            return gone


def _artifacts(kit: Kit, length: timedelta, *, dry_run: bool) -> int:
    """Remove artifacts that no stage and no stored result names any more, and that are older than *length*."""
    old = kit.artifacts.older(length.total_seconds())
    with kit.store.read() as unit:
        kept = unit.artifacts_kept(old)
    gone = [each for each in old if each not in kept]
    if not dry_run:
        for each in gone:
            kit.artifacts.forget(each)
    return len(gone)


def _histories(kit: Kit, *, dry_run: bool) -> int:
    gone = 0
    while True:
        with kit.store.begin(actor=kit.worker) as unit:
            ids = unit.outlived(kit.env, 1_000_000 if dry_run else BATCH)
            if dry_run:
                return len(ids)
            unit.forget_histories(ids)
        gone += len(ids)
        if not ids:
            return gone
