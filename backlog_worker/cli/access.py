"""What commands share: the kit of this process, and common options."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from backlog_worker.lifecycle import Kit
    from backlog_worker.settings import Settings

Reason = Annotated[str, typer.Option("--reason", help="The reason; recorded in the history.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and change nothing.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]
Where = Annotated[str, typer.Option("--where", help="A filter, such as 'status:escalated failure:timeout'.")]
Limit = Annotated[int, typer.Option("--limit", min=1, help="The maximum number.")]


def kit(*, migrate: bool = False) -> "tuple[Kit, Settings]":
    """Build the kit of a command; logs below warnings are dropped, since the command reports what happens."""
    from backlog_worker import settings, telemetry, wiring
    from backlog_worker.store import migrate as migrations

    given = settings.load()
    given.must_have_begun()
    telemetry.configure(level="WARNING" if given.log_level == "INFO" else given.log_level)
    if given.keeps == "memory":
        store = wiring.store_of(given)
        migrations.upgrade(store)
        return wiring.kit_of(given, worker=given.who, store=store), given
    if migrate or given.keeps in {"sqlite", "jsonl"}:
        store = wiring.store_of(given)
        migrations.upgrade(store)
        store.close()
    return wiring.kit_of(given, worker=given.who), given
