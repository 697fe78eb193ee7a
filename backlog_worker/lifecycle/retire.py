"""Retention by class: final entries, the bulk data of runs, artifacts, expired histories.

A dry run counts what would be removed. Data under a legal hold stays, and every clean-up is a recorded operation.
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
    """Apply the retention of the policy, with *retention_days* for final entries; returns what was removed, by class.

    Records and decisions of an entry outlive its row: they are in its history, until `retention.evidence` ends.
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
    """Store the tallies of entries that an earlier release retired, while their histories exist."""
    with kit.store.begin(actor=kit.worker) as unit:
        return unit.keep_tallies(kit.env, BATCH)


def _lengths(policy: Policy) -> Mapping[str, timedelta]:
    kept = policy.retention
    return {"logs": kept.logs, "receipts": kept.receipts, "snapshots": kept.snapshots, "results": kept.results}


def _entries(kit: Kit, policy: Policy, days: timedelta, *, dry_run: bool) -> int:
    """Retire entries that have been final for longer than *days*, page by page."""
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
    """Remove old rows in batches: one statement over all of them could exceed its timeout."""
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
    """Remove artifacts older than *length* that no stage or stored result refers to."""
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
