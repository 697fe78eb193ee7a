"""entry list: what a filter finds, retired entries too."""

from typing import Annotated

import typer

from backlog_worker.cli.access import Limit, kit
from backlog_worker.cli.entries import entry
from backlog_worker.cli.output import shown, table, talk


def register(_app: typer.Typer) -> None:
    """Add the command of this module to those of entries."""
    entry.command("list")(list_entries)


def list_entries(
    query: Annotated[str, typer.Argument(help="A filter, such as 'status:queued -label:wip'.")] = "",
    limit: Limit = 50,
    retired: Annotated[bool, typer.Option("--retired", help="Those that were retired; as is:retired does.")] = False,
) -> None:
    """List entries that match a filter; retired ones with is:retired, both with is:live,retired."""
    from backlog_worker.domain.entry import standing
    from backlog_worker.domain.search import parsed
    from backlog_worker.lifecycle import lookup

    with_kit, _ = kit()
    listed = lookup.listed(with_kit, parsed(f"{query} is:retired" if retired else query), most=limit)

    def _human() -> None:
        rows = [
            (
                e.id,
                f"{standing(e)}{', retired' if gone else ''}",
                e.priority,
                e.score,
                e.team,
                e.title[:60],
                e.reason[:60],
            )
            for e, gone in ((each.entry, each.retired_at) for each in listed)
        ]
        table("", ("id", "status", "priority", "score", "team", "title", "why"), rows)
        if len(listed) == limit:
            talk(f"the first {limit}; more with --limit")

    columns = tuple(listed[0].entry.__dataclass_fields__) if listed else ()
    data = [{**{name: getattr(each.entry, name) for name in columns}, "retired_at": each.retired_at} for each in listed]
    shown("backlog-worker/entries", data, _human)
