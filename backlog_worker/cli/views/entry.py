"""An entry as a person reads it."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from backlog_worker.cli.output import block, facts, following, ids, plain, say, table
from backlog_worker.cli.views.outputs import prose
from backlog_worker.domain.entry import standing
from backlog_worker.domain.handle import named_by, source_names

if TYPE_CHECKING:
    from backlog_worker.domain.entry import Entry


def show_entry(
    entry: "Entry",
    given: object,
    runs: Sequence[Mapping[str, Any]],
    records: Sequence[Mapping[str, Any]],
    *,
    retired: str = "",
) -> None:
    """Print an entry: what is asked, where it stands and why, its runs, and what came of it."""
    short = ids(entry.id, *(str(each["id"]) for each in runs))
    number = source_names([named_by(entry)])[0]
    say(f"{short[entry.id]}  {number + '  ' if number else ''}{standing(entry)}", plain(entry.title), "")
    facts(
        ("id", entry.id),
        ("why", entry.reason),
        ("bars", ", ".join(entry.bars)),
        ("retired", retired),
        ("source", entry.url),
        ("key", entry.dedupe_key),
        ("pipeline", entry.pipeline),
        ("priority", entry.priority),
        ("score", entry.score),
        ("labels", ", ".join(entry.labels)),
        *((name, getattr(entry, name)) for name in ("category", "service", "team", "owner")),
        ("created", entry.created_at),
        ("due", entry.due_date),
        ("constraints", prose(entry.constraints) if entry.constraints else ""),
    )
    if given:
        block("\nThe input", prose(given), most=40)
    _show_runs(runs, short)
    if records:
        facts(("\nrecord", str(records[0].get("status", ""))))
    verb = "writeback show" if records else "explain"
    following(f"backlog-worker {verb} {short[entry.id]}")


def _show_runs(runs: Sequence[Mapping[str, Any]], short: Mapping[str | None, str]) -> None:
    if not runs:
        return
    say("")
    columns = ("run", "attempt", "claimed", "ended by", "worker", "why")
    rows = [
        (
            *(short[str(each["id"])], each["attempt"], each["claimed_at"], _how(each)),
            *(each["worker"], each["reason"]),
        )
        for each in runs
    ]
    table("Runs", columns, rows)


def _how(run: Mapping[str, Any]) -> str:
    return str(run.get("outcome") or "").replace("_", " ") or str(run.get("ended_by") or "live")
