"""entry list: what a filter finds, retired entries too."""

from typing import Annotated

import typer

from backlog_worker.cli.access import Limit, kit
from backlog_worker.cli.entries import entry
from backlog_worker.cli.output import ids, shown, table, talk


def register(_app: typer.Typer) -> None:
    """Add the command of this module to those of entries."""
    entry.command("list")(list_entries)


def list_entries(
    query: Annotated[str, typer.Argument(help="A filter, such as 'status:queued -label:wip'.")] = "",
    limit: Limit = 50,
    retired: Annotated[bool, typer.Option("--retired", help="List retired entries; the same as is:retired.")] = False,
) -> None:
    """List entries that match a filter; retired ones with is:retired, both with is:live,retired."""
    from backlog_worker.domain.entry import Entry, standing
    from backlog_worker.domain.handle import named_by, source_names
    from backlog_worker.domain.search import parsed
    from backlog_worker.lifecycle import lookup

    with_kit, _ = kit()
    listed = lookup.listed(with_kit, parsed(f"{query} is:retired" if retired else query), most=limit)

    def _human() -> None:
        named = ids(*(each.entry.id for each in listed))
        numbers = source_names([named_by(each.entry) for each in listed])
        rows = [
            (
                named[e.id],
                number,
                f"{standing(e)}{', retired' if gone else ''}",
                e.priority,
                e.score,
                e.title,
                "" if e.reason == "eligible" else e.reason,
            )
            for (e, gone), number in zip(((each.entry, each.retired_at) for each in listed), numbers, strict=True)
        ]
        table("", ("id", "issue", "status", "priority", "score", "title", "why"), rows)
        if len(listed) == limit:
            talk(f"the first {limit}; more with --limit")

    columns = tuple(Entry.__dataclass_fields__)
    data = [{**{name: getattr(each.entry, name) for name in columns}, "retired_at": each.retired_at} for each in listed]
    shown("backlog-worker/entries", data, _human, known=(*columns, "retired_at"))
