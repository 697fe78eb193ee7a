"""Generate entries from a digest, once for each period, service and category; what is there already is updated."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from backlog_worker.domain import digest as digests
from backlog_worker.domain import draft as drafts
from backlog_worker.domain.entry import FINAL, Entry, Status
from backlog_worker.domain.errors import ConflictError, InvalidInputError, NotFoundError
from backlog_worker.domain.events import digest as digest_of
from backlog_worker.lifecycle import Kit, intake, operate

UNDER_WAY = frozenset({Status.READY, Status.IN_PROGRESS})


@dataclass(slots=True, kw_only=True)
class Generated:
    """What one generation did: how many were created, updated, passed over, left out by the cap, and why."""

    week: str
    created: int = 0
    updated: int = 0
    skipped: int = 0
    capped: int = 0
    dry_run: bool = False
    why: list[str] = field(default_factory=list)
    entries: list[str] = field(default_factory=list)

    def as_data(self) -> dict[str, Any]:
        """Return what callers are answered."""
        return asdict(self)


def weekly(kit: Kit, *, actor: str, week: str = "", dry_run: bool = False) -> Generated:
    """File what the platform digest of a week asks for, the newest where none is named.

    Raises ConflictError with the runbook's words where there is no digest.
    """
    return _generated(kit, "platform", week, actor=actor, dry_run=dry_run)


def daily(kit: Kit, *, actor: str, date: str = "", dry_run: bool = False) -> Generated:
    """File what the risk digest of a day asks for, the newest where none is named."""
    return _generated(kit, "risk", date, actor=actor, dry_run=dry_run)


def upsert(kit: Kit, record: Mapping[str, Any], *, actor: str, dry_run: bool = False) -> dict[str, Any]:
    """File an entry, or update the one with its key; an owner that is named here goes before the one that is there."""
    now = _now(kit)
    known = _known(kit, str(record.get("dedupe_key", "")))
    if known is None:
        made = {"created_at": now.isoformat(), **record}
        filed = next(iter(intake.file(kit, [("upsert", made)], actor=actor, channel="tool", dry_run=dry_run)))
        if filed.error:
            raise InvalidInputError(filed.error)
        return {"id": filed.entry_id, "created": filed.new or dry_run, "updated": False, "status": filed.status}
    given = {**record, "created_at": known.created_at.isoformat(), "title": record.get("title", known.title)}
    drafts.checked(given)
    changed = _changes(known, given, with_owner="owner" in record)
    why = _refused(known)
    if changed and not why and not dry_run:
        operate.edit(kit, known.id, changed, actor=actor, reason="upsert")
    return {"id": known.id, "created": False, "updated": bool(changed) and not why, "status": known.status, "why": why}


def _generated(kit: Kit, kind: str, period: str, *, actor: str, dry_run: bool) -> Generated:
    with kit.store.read() as unit:
        policy, now = kit.book.policy(unit), unit.now()
    switch = "weekly_from_pressure_digest" if kind == "platform" else "daily_from_risk_digest"
    if not getattr(policy.generation, switch):
        why = [f"generation.{switch} is false in policy {policy.stamp}"]
        return Generated(week=period or digests.week_of(now), dry_run=dry_run, why=why)
    found = kit.reports.read(kind, period)
    if found is None:
        raise ConflictError(digests.MISSING[kind], hint=f"backlog-worker tool run {_MAKER[kind]}")
    digest = digests.checked(found[1], file=found[0])
    if digest.env != kit.env:
        message = f"{found[0]} is a digest of {digest.env}, not of {kit.env}"
        raise ConflictError(message)
    wanted = digests.wanted(digest, policy, now)
    done = Generated(week=digest.period, capped=wanted.capped, dry_run=dry_run, why=list(wanted.passed))
    done.skipped = len(wanted.passed)
    for record in wanted.drafts:
        _one(kit, record, done, actor=actor)
    return done


_MAKER = {
    "platform": "--tool architecture_pressure_tool --action digest",
    "risk": "--tool risk_history_tool --action digest",
}


def _one(kit: Kit, record: dict[str, Any], done: Generated, *, actor: str) -> None:
    known = _known(kit, record["dedupe_key"])
    if known is None:
        records = [(record["dedupe_key"], record)]
        filed = next(iter(intake.file(kit, records, actor=actor, channel="digest", dry_run=done.dry_run)))
        if filed.error:
            done.skipped += 1
            done.why.append(f"{record['dedupe_key']}: {filed.error}")
        elif not filed.new and not done.dry_run:
            done.skipped += 1
            done.why.append(f"{record['dedupe_key']}: {filed.reason}")
        else:
            done.created += 1
            done.entries += [filed.entry_id] if filed.new else []
        return
    changed = _changes(known, record, with_owner=False)
    why = _refused(known) or ("" if changed else "nothing changed")
    if why:
        done.skipped += 1
        done.why.append(f"{known.id}: {why}")
        return
    done.updated += 1
    done.entries.append(known.id)
    if not done.dry_run:
        operate.edit(kit, known.id, changed, actor=actor, reason=f"digest {done.week}")


def _refused(known: Entry) -> str:
    if known.status in FINAL:
        return f"it is {known.status}"
    return "it is under way" if known.status in UNDER_WAY else ""


def _changes(known: Entry, record: Mapping[str, Any], *, with_owner: bool) -> dict[str, Any]:
    """Return what an update writes: title, signals and input; the owner stays as people set it, unless it is named."""
    names = ["title", "signals", *(["owner"] if with_owner else [])]
    changed = {name: record[name] for name in names if name in record and record[name] != getattr(known, name)}
    if "input" in record and digest_of(record["input"]) != known.input_sha256:
        changed["input"] = record["input"]
    return changed


def _known(kit: Kit, key: str) -> Entry | None:
    with kit.store.read() as unit:
        entry_id = unit.with_key(kit.env, [key]).get(key)
        if entry_id is None:
            return None
        found = unit.entry(entry_id)
    if found is None:
        message = f"the key {key} belongs to {entry_id}, which was retired"
        raise NotFoundError(message, hint="name another dedupe_key")
    return found


def _now(kit: Kit) -> datetime:
    with kit.store.read() as unit:
        return unit.now()
