"""Digests of our own history: the load on each service and how its risk changed, from which new entries are
generated.
"""

from datetime import timedelta
from typing import Any

from backlog_worker.domain import digest as digests
from backlog_worker.domain.digest import DigestFile, ServiceFile
from backlog_worker.domain.errors import ConflictError
from backlog_worker.domain.events import digest as digest_of
from backlog_worker.lifecycle import Kit
from backlog_worker.store import Unit

DAYS = 7.0
RISK = "risk"


def platform(kit: Kit, *, days: float = DAYS, dry_run: bool = False) -> dict[str, Any]:
    """Write the platform digest of this week from the entries of each service."""
    with kit.store.read() as unit:
        now = unit.now()
        services = digests.pressure(unit.pressure(kit.env, days), now)
    digest = DigestFile(kind="platform", env=kit.env, period=digests.week_of(now), generated_at=now, services=services)
    return _store_and_write(kit, digest, dry_run=dry_run)


def snapshot(kit: Kit, *, dry_run: bool = False) -> dict[str, Any]:
    """Store the current risk score of each service; the daily digest is made from these hourly snapshots."""
    with kit.store.begin(actor=kit.worker) as unit:
        now = unit.now().replace(microsecond=0)
        services = digests.pressure(unit.pressure(kit.env, DAYS), unit.now())
        scores = {each.service: each.score for each in services}
        if not dry_run:
            unit.keep_snapshot(kit.env, RISK, now, {"scores": scores})
    return {"at": now.isoformat(), "services": len(scores), "scores": scores, "dry_run": dry_run}


def risk(kit: Kit, *, dry_run: bool = False) -> dict[str, Any]:
    """Write the risk digest of today from the snapshots of the last day."""
    with kit.store.read() as unit:
        now = unit.now()
        services: list[ServiceFile] = digests.risen(unit.snapshots(kit.env, RISK, now - timedelta(days=1)))
    digest = DigestFile(kind="risk", env=kit.env, period=f"{now:%Y-%m-%d}", generated_at=now, services=services)
    return _store_and_write(kit, digest, dry_run=dry_run)


def cleanup(kit: Kit, *, days: int = 0, dry_run: bool = False) -> dict[str, Any]:
    """Remove snapshots older than *days*, or than `retention.snapshots` of the policy; digests are kept."""
    with kit.store.begin(actor=kit.worker) as unit:
        length = timedelta(days=days) if days else kit.book.policy(unit).retention.snapshots
        seconds = length.total_seconds()
        old = unit.old_bulk("snapshots", kit.env, seconds)
        removed = 0 if dry_run else unit.forget_bulk("snapshots", kit.env, seconds, old)
    return {"found": old, "removed": removed, "dry_run": dry_run}


def newest(kit: Kit, unit: Unit, kind: str, period: str, *, keep: bool) -> DigestFile | None:
    """Return the digest of a period, or the newest, from the database and the files.

    With *keep*, a digest read from a file is stored in the database. Raises InvalidFileError for an invalid file, and
    ConflictError for one of another environment.
    """
    row = unit.digest(kit.env, kind, period)
    stored = digests.checked(row["body"], file=f"the digest {kind} {row['period']} of the database") if row else None
    found = kit.reports.read(kind, period)
    file = digests.checked(found[1], file=found[0]) if found else None
    if found and file and file.env != kit.env:
        message = f"{found[0]} is a digest of {file.env}, not of {kit.env}"
        raise ConflictError(message)
    chosen = digests.newer(stored, file)
    if keep and chosen is not None and chosen is file and file != stored:
        _kept(kit, unit, file)
    return chosen


def _kept(kit: Kit, unit: Unit, digest: DigestFile) -> None:
    body = digest.model_dump(mode="json", by_alias=True)
    row = {"kind": digest.kind, "period": digest.period, "sha256": digest_of(body), "body": body}
    unit.keep_digest(kit.env, row)


def _store_and_write(kit: Kit, digest: DigestFile, *, dry_run: bool) -> dict[str, Any]:
    """Store a digest in the database, then write it as a file; if the file is lost, the row remains."""
    value = digest.model_dump(mode="json", by_alias=True)
    if not dry_run:
        with kit.store.begin(actor=kit.worker) as unit:
            _kept(kit, unit, digest)
    paths = [] if dry_run else kit.reports.write(digest.kind, digest.period, value, digests.markdown(digest))
    findings = sum(len(each.findings) for each in digest.services)
    return {
        "period": digest.period,
        "services": len(digest.services),
        "findings": findings,
        "files": paths,
        "dry_run": dry_run,
    }
