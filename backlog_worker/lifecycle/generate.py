"""Generate entries from a digest, once per period, service and category; existing ones are updated.

While PostgreSQL is unavailable the journal stores new entries, and nothing is updated.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from backlog_worker.domain import digest as digests
from backlog_worker.domain import draft as drafts
from backlog_worker.domain import refiled
from backlog_worker.domain.entry import FINAL, Entry, Status
from backlog_worker.domain.errors import ConflictError, InvalidInputError, NotFoundError
from backlog_worker.domain.events import digest as digest_of
from backlog_worker.domain.policy import Policy
from backlog_worker.lifecycle import Kit, intake, journal, operate
from backlog_worker.lifecycle.digests import newest
from backlog_worker.store import Unit

AWAY = "PostgreSQL is unavailable, and entries in the journal cannot be edited; try again later"
UNDER_WAY = frozenset({Status.READY, Status.IN_PROGRESS})


@dataclass(slots=True, kw_only=True)
class Generated:
    """The result of one generation: how many entries were created, updated, skipped or left out by the cap, and why.

    Entries left out by the cap are filed by the next runs of the same period. `journaled` counts the created ones that
    wait for PostgreSQL.
    """

    week: str
    created: int = 0
    updated: int = 0
    skipped: int = 0
    capped: int = 0
    journaled: int = 0
    summary: str = ""
    dry_run: bool = False
    why: list[str] = field(default_factory=list)
    entries: list[str] = field(default_factory=list)

    def as_data(self) -> dict[str, Any]:
        """Return the answer for callers."""
        return asdict(self)


def weekly(kit: Kit, *, actor: str, week: str = "", dry_run: bool = False) -> Generated:
    """File the entries that the platform digest of a week calls for; by default the newest digest.

    Raises ConflictError with the text of the runbook if there is no digest.
    """
    return _generated(kit, "platform", week, actor=actor, dry_run=dry_run)


def daily(kit: Kit, *, actor: str, date: str = "", dry_run: bool = False) -> Generated:
    """File the entries that the risk digest of a day calls for; by default the newest digest."""
    return _generated(kit, "risk", date, actor=actor, dry_run=dry_run)


def upsert(kit: Kit, record: Mapping[str, Any], *, actor: str, dry_run: bool = False) -> dict[str, Any]:
    """File an entry, or update the one with its key; the fields given here replace the stored ones.

    Returns which fields `changed`, and `why` one did not: the entry ended, or the field belongs to its provenance.
    """
    key = str(record.get("dedupe_key", ""))
    now, known = intake.within(kit, actor, lambda unit: (unit.now(), _known(kit, unit, key)), dry_run=dry_run)
    if known is None:
        return _inserted(kit, {"created_at": now.isoformat(), **record}, actor=actor, dry_run=dry_run)
    given = {"created_at": known.created_at.isoformat(), "title": known.title, **record}
    draft = drafts.checked(given)
    changed = refiled.changes(known, draft, record)
    why = _refused(kit, known) if changed else ""
    if changed and not why and not dry_run:
        operate.edit(kit, known.id, changed, actor=actor, reason="upsert")
    left = refiled.kept(known, draft, record)
    words = [f"{why}, so {', '.join(changed)} cannot be changed"] if why else []
    words += [f"{', '.join(left)} belong to its provenance and stay"] if left else []
    words += ["no given field differs"] if not changed and not left else []
    done = {} if why else changed
    said = {"id": known.id, "created": False, "updated": bool(done), "status": known.status}
    return {**said, "changed": sorted(done), "why": "; ".join(words)}


def _inserted(kit: Kit, record: Mapping[str, Any], *, actor: str, dry_run: bool) -> dict[str, Any]:
    filed = next(iter(intake.file(kit, [("upsert", record)], actor=actor, channel="tool", dry_run=dry_run)))
    if filed.error:
        raise InvalidInputError(filed.error)
    new = filed.new or dry_run
    said = {"id": filed.entry_id, "created": new, "updated": False, "status": filed.status, "why": filed.reason}
    return said | ({"journaled": True} if new and journal.takes_in(kit) else {})


def _generated(kit: Kit, kind: str, period: str, *, actor: str, dry_run: bool) -> Generated:
    def _read(unit: Unit) -> tuple[Policy, datetime]:
        return kit.book.policy(unit), unit.now()

    policy, now = intake.within(kit, actor, _read, dry_run=dry_run)
    switch = "weekly_from_pressure_digest" if kind == "platform" else "daily_from_risk_digest"
    if not getattr(policy.generation, switch):
        why = [f"generation.{switch} is false in policy {policy.stamp}"]
        return Generated(week=period or digests.week_of(now), dry_run=dry_run, why=why)
    digest = intake.within(kit, actor, lambda unit: newest(kit, unit, kind, period, keep=not dry_run), dry_run=dry_run)
    if digest is None:
        raise ConflictError(digests.MISSING[kind], hint=f"backlog-worker tool run {_MAKER[kind]}")
    wanted = digests.wanted(digest, policy, now)
    done = Generated(week=digest.period, dry_run=dry_run, why=list(wanted.passed))
    done.skipped = len(wanted.passed)
    for record in wanted.drafts:
        _upsert_one(
            kit, record, done, actor=actor, room=policy.defaults.max_items_per_run > done.created + done.updated
        )
    done.summary = f"{done.capped} are left for the next run" if done.capped else f"all of {digest.period} is filed"
    return done


_MAKER = {
    "platform": "--tool architecture_pressure_tool --action digest",
    "risk": "--tool risk_history_tool --action digest",
}


def _upsert_one(kit: Kit, record: dict[str, Any], done: Generated, *, actor: str, room: bool) -> None:
    """File or update one entry if the run has *room*; an entry without changes needs none."""
    key = record["dedupe_key"]
    try:
        known = intake.within(kit, actor, lambda unit: _known(kit, unit, key), dry_run=done.dry_run)
    except NotFoundError as error:  # it was retired: work done in this period is not repeated
        _skipped(done, str(error))
        return
    if known is None:
        if room:
            _filed(kit, record, done, actor=actor)
        else:
            done.capped += 1
        return
    changed = _changes(known, record)
    why = _refused(kit, known) or ("" if changed else "nothing changed")
    if why:
        _skipped(done, f"{known.id}: {why}")
    elif not room:
        done.capped += 1
    else:
        done.updated += 1
        done.entries.append(known.id)
        if not done.dry_run:
            operate.edit(kit, known.id, changed, actor=actor, reason=f"digest {done.week}")


def _filed(kit: Kit, record: Mapping[str, Any], done: Generated, *, actor: str) -> None:
    records = [(record["dedupe_key"], record)]
    filed = next(iter(intake.file(kit, records, actor=actor, channel="digest", dry_run=done.dry_run)))
    if filed.error or not (filed.new or done.dry_run):
        _skipped(done, f"{record['dedupe_key']}: {filed.error or filed.reason}")
        return
    done.created += 1
    done.journaled += journal.takes_in(kit)
    done.entries += [filed.entry_id] if filed.new else []


def _skipped(done: Generated, why: str) -> None:
    done.skipped += 1
    done.why.append(why)


def _refused(kit: Kit, known: Entry) -> str:
    if known.status in FINAL:
        return f"it is {known.status}"
    if known.status in UNDER_WAY:
        return "it is in progress"
    return AWAY if journal.takes_in(kit) else ""


def _changes(known: Entry, record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that a later digest updates: title, signals and input; people's changes to others stay."""
    names = ("title", "signals")
    changed = {name: record[name] for name in names if name in record and record[name] != getattr(known, name)}
    if "input" in record and digest_of(record["input"]) != known.input_sha256:
        changed["input"] = record["input"]
    return changed


def _known(kit: Kit, unit: Unit, key: str) -> Entry | None:
    entry_id = unit.with_key(kit.env, [key]).get(key)
    found = unit.entry(entry_id) if entry_id else None
    if entry_id and found is None:
        message = f"the key {key} belongs to {entry_id}, which was retired"
        raise NotFoundError(message, hint="name another dedupe_key")
    return found
