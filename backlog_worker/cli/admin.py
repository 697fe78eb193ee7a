"""worker, db, audit, schedule: the machines and the database."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backlog_worker.cli.access import DryRun, kit
from backlog_worker.cli.output import FINDINGS, plain, say, shown, table, talk
from backlog_worker.domain.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

worker = typer.Typer(help="The fleet.", no_args_is_help=True)
db = typer.Typer(help="The database.", no_args_is_help=True)
audit = typer.Typer(help="History and evidence.", no_args_is_help=True)
schedule = typer.Typer(help="The beat schedule.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(worker, name="worker")
    app.add_typer(db, name="db")
    app.add_typer(audit, name="audit")
    app.add_typer(schedule, name="schedule")


@worker.command("list")
def list_workers() -> None:
    """List the workers that were seen."""
    with_kit, _ = kit()
    with with_kit.store.read() as unit:
        found, now = unit.workers(), unit.now()
    rows = [(w["name"], w["slots"], w["queues"], f"{(now - w['seen_at']).total_seconds():.0f} s ago") for w in found]
    shown("backlog-worker/workers", found, lambda: table("", ("name", "slots", "queues", "seen"), rows))


@schedule.command("list")
def list_schedule() -> None:
    """List the schedule, and the slot that was last taken of each entry."""
    from beat_schedule import BEAT_SCHEDULE

    with_kit, _ = kit()
    with with_kit.store.read() as unit:
        taken = {lease["name"]: lease["until"] for lease in unit.leases()}
    data = [
        {"name": name, "task": entry["task"], "schedule": str(entry["schedule"]), "last": taken.get(f"beat:{name}")}
        for name, entry in BEAT_SCHEDULE.items()
    ]
    rows = [tuple(each.values()) for each in data]
    shown("backlog-worker/schedule", data, lambda: table("", ("name", "task", "schedule", "last slot"), rows))


@db.command("migrate")
def migrate(dry_run: DryRun = False) -> None:
    """Bring the database to this release's schema; doing it again changes nothing."""
    from backlog_worker import settings, wiring
    from backlog_worker.store import migrate as migrations

    store = wiring.store_of(settings.load())
    if dry_run:
        text = migrations.dry_run(store)
        say(text.rstrip() or "-- nothing to do: the database is at the newest revision")
        return
    before, now = migrations.upgrade(store)
    shown("backlog-worker/migrated", {"from": before, "to": now}, lambda: say(f"revision {before} -> {now}"))


@db.command("status")
def status() -> None:
    """Say at which revision the database is, and what this release needs."""
    from backlog_worker import settings, wiring
    from backlog_worker.domain.masking import masked
    from backlog_worker.store import migrate as migrations

    given = settings.load()
    found = migrations.revision(wiring.store_of(given))
    data = {"database": masked(given.database), "revision": found, "newest": migrations.head()}
    shown("backlog-worker/database", data, lambda: say(f"{data['database']}  revision {found} of {data['newest']}"))
    if found != data["newest"]:
        talk("help: backlog-worker db migrate")
        raise SystemExit(FINDINGS)


@db.command("verify")
def verify() -> None:
    """Look for what must never be: every invariant has a query."""
    from backlog_worker.lifecycle import watch
    from backlog_worker.store import INVARIANTS

    with_kit, _ = kit()
    _findings(watch.verify(with_kit), f"{len(INVARIANTS) + 2} invariants hold")


@audit.command("verify")
def audit_verify(
    bundle: Annotated[Path | None, typer.Argument(help="A bundle of `audit export`; none: the whole history.")] = None,
) -> None:
    """Verify every chain of the history, and fold it: it must give the tables. A bundle needs no database."""
    from backlog_worker.lifecycle import audit as auditing
    from backlog_worker.lifecycle import watch

    if bundle is None:
        with_kit, _ = kit()
        _findings(watch.audit(with_kit), "every history is whole and gives its row")
        return
    try:
        value = json.loads(bundle.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        message = f"{bundle} cannot be read: {error}"
        raise UsageError(message) from None
    faults = auditing.verify(value) if isinstance(value, dict) else ["it is no bundle of evidence"]
    shown("backlog-worker/evidence-faults", faults, lambda: say(*faults or [f"{bundle} is whole"]))
    if faults:
        raise SystemExit(FINDINGS)


@audit.command("export")
def audit_export(
    entry: Annotated[str, typer.Argument(help="The id of an entry.")],
    out: Annotated[Path | None, typer.Option("--out", help="Where to write; none: standard output.")] = None,
) -> None:
    """Write the evidence of one entry as one file that `audit verify FILE` checks without the database."""
    from backlog_worker.lifecycle import audit as auditing

    text = json.dumps(auditing.export(kit()[0], entry), ensure_ascii=False, indent=1)
    if out is None:
        print(text)  # noqa: T201 - the bundle is the output
    else:
        out.write_text(text + "\n", encoding="utf-8")
        say(f"wrote {out}")


@audit.command("at")
def audit_at(moment: Annotated[str, typer.Argument(help="Such as 2026-11-20T02:14:00Z.")]) -> None:
    """Say how the backlog stood at a moment, from the history alone."""
    from backlog_worker.lifecycle import audit as auditing
    from backlog_worker.lifecycle import operate

    found = auditing.at(kit()[0], operate.moment(moment))
    rows = list(found.counts.items())
    shown("backlog-worker/past", found, lambda: table(plain(found.at), ("status", "entries"), rows))


@audit.command("diff")
def audit_diff(
    first: Annotated[str, typer.Argument(help="A moment.")], second: Annotated[str, typer.Argument(help="A later one.")]
) -> None:
    """Say which entries stood elsewhere at two moments."""
    from backlog_worker.lifecycle import audit as auditing
    from backlog_worker.lifecycle import operate

    found = auditing.diff(kit()[0], operate.moment(first), operate.moment(second))
    shown("backlog-worker/past-diff", found, lambda: table("", ("entry", "then", "later"), found))


def _findings(found: "Sequence[object]", fine: str) -> None:
    def _human() -> None:
        if not found:
            say(fine)
        rows = [(getattr(v, "invariant", ""), getattr(v, "subject", ""), getattr(v, "text", "")) for v in found]
        if rows:
            table("", ("invariant", "subject", "why"), rows)

    shown("backlog-worker/violations", found, _human)
    if found:
        raise SystemExit(FINDINGS)
