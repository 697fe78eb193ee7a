"""worker, db: the machines and the database."""

from pathlib import Path
from typing import Annotated

import typer

from backlog_worker.cli.access import DryRun, kit
from backlog_worker.cli.output import FINDINGS, say, shown, table, talk, violations

worker = typer.Typer(help="The workers of the fleet.", no_args_is_help=True)
db = typer.Typer(help="The database.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(worker, name="worker")
    app.add_typer(db, name="db")


@worker.command("list")
def list_workers() -> None:
    """List the known workers."""
    with_kit, _ = kit()
    with with_kit.store.read() as unit:
        found, now = unit.workers(), unit.now()
    rows = [(w["name"], w["slots"], w["queues"], f"{(now - w['seen_at']).total_seconds():.0f} s ago") for w in found]
    shown("backlog-worker/workers", found, lambda: table("", ("name", "slots", "queues", "seen"), rows))


@worker.command("healthy")
def healthy(
    name: Annotated[
        str, typer.Argument(help="The name of a worker, or the end of it; default: the workers of this host.")
    ] = "",
) -> None:
    """Check, for probes, that the database has heard from the workers of this host; exit with 7 if not."""
    from backlog_worker.lifecycle import watch

    with_kit, given = kit()
    seen, silent = watch.healthy(with_kit, name or f"@{given.host}")
    shown(
        "backlog-worker/healthy",
        {"seen": seen, "silent": silent},
        lambda: say(*(f"{each}  seen" for each in seen), *(f"{each}  silent" for each in silent)),
    )
    if not seen and not silent:
        talk(f"no worker was ever seen with a name that ends with {name or given.host!r}")
    if silent or not seen:
        raise SystemExit(FINDINGS)


@db.command("migrate")
def migrate(dry_run: DryRun = False) -> None:
    """Migrate the database to the schema of this release; a second run changes nothing."""
    from backlog_worker import settings, wiring
    from backlog_worker.store import migrate as migrations

    store = wiring.plain_store_of(settings.load())
    if dry_run:
        text = migrations.dry_run(store)
        say(text.rstrip() or "-- nothing to do: the database is at the newest revision")
        return
    before, now = migrations.upgrade(store)
    shown("backlog-worker/migrated", {"from": before, "to": now}, lambda: say(f"revision {before} -> {now}"))


@db.command("status")
def status() -> None:
    """Show the schema revision of the database and the one that this release needs."""
    from backlog_worker import settings, wiring
    from backlog_worker.domain.masking import masked
    from backlog_worker.store import migrate as migrations

    given = settings.load()
    found = migrations.revision(wiring.plain_store_of(given))
    data = {"database": masked(given.database), "revision": found, "newest": migrations.head()}
    shown("backlog-worker/database", data, lambda: say(f"{data['database']}  revision {found} of {data['newest']}"))
    if found != data["newest"]:
        talk("help: backlog-worker db migrate")
        raise SystemExit(FINDINGS)


@db.command("verify")
def verify() -> None:
    """Check the invariants of the database; each has a query."""
    from backlog_worker.lifecycle import watch
    from backlog_worker.store import INVARIANTS

    with_kit, _ = kit()
    violations(watch.verify(with_kit), f"{len(INVARIANTS) + 2} invariants hold")


@db.command("merge")
def merge() -> None:
    """Merge the journal that was written while PostgreSQL was unavailable; the sweep of a worker does this too."""
    from backlog_worker.lifecycle import journal

    with_kit, given = kit()
    done = journal.merge(with_kit, given.reports / "merges")

    def _human() -> None:
        if done is None:
            say("the journal is empty")
            return
        say(f"{len(done.added)} entries brought in, {len(done.known)} known before, {done.waiting} not due yet")
        if done.report:
            say(f"report: {done.report}")

    shown("backlog-worker/merged", done, _human)


@db.command("backup")
def backup(
    path: Annotated[Path, typer.Argument(help="The new file, or the new directory for the jsonl backend.")],
) -> None:
    """Back up an embedded database, even while it is in use; for PostgreSQL, show the command to use."""
    from backlog_worker import settings, wiring

    wiring.store_of(settings.load()).backup(path)
    say(f"wrote {path}")


@db.command("compact")
def compact() -> None:
    """Rewrite the files of an embedded database without obsolete data."""
    from backlog_worker import settings, wiring

    before, after = wiring.store_of(settings.load()).compact()
    shown("backlog-worker/compacted", {"before": before, "after": after}, lambda: say(f"{before} -> {after} bytes"))


@db.command("retain")
def retain(
    days: Annotated[int, typer.Option("--days", min=0, help="Days to keep final entries; 0: as the policy says.")] = 0,
    dry_run: DryRun = False,
) -> None:
    """Apply the retention rules of the policy, class by class; histories and records outlive the rows."""
    from backlog_worker.domain.roles import everything
    from backlog_worker.lifecycle import tools

    with_kit, given = kit()
    params = {"retention_days": days}
    done = tools.execute(with_kit, everything(given.who), "backlog_tool", "cleanup", params, dry_run=dry_run)
    rows = list(done["removed"].items())
    shown("backlog-worker/retained", done, lambda: table("would go" if dry_run else "gone", ("class", "number"), rows))
