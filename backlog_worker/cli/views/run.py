"""A run as a person reads it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backlog_worker.cli.output import facts, following, ids, plain, say, table
from backlog_worker.cli.views.outputs import show_gates, show_output

if TYPE_CHECKING:
    from backlog_worker.domain.entry import Entry
    from backlog_worker.domain.frontier import Stage

COLUMNS = ("job", "status", "attempts", "took", "usd", "why")


def show_run(
    run: Mapping[str, Any], entry: "Entry", rows: Sequence[Sequence[object]], stages: "Sequence[Stage]", folder: Path
) -> None:
    """Print a run: its stages, the output of the last that returned something, and the gates of the others."""
    short = ids(str(run["id"]), entry.id)
    say(f"{short[str(run['id'])]}  attempt {run['attempt']} of {short[entry.id]}  {run['how']}", plain(entry.title), "")
    costs = [each.cost["usd"] for each in stages if each.cost]
    usd = "not known" if None in costs else f"{float(sum(costs)):.2f} USD"
    facts(
        ("id", run["id"]),
        ("why", run["reason"]),
        ("worker", run["worker"]),
        ("claimed", run["claimed_at"]),
        ("ended", run["ended_at"]),
        ("cost", usd if costs else ""),
    )
    say("")
    table("", COLUMNS, rows)
    with_output = [each for each in stages if each.output is not None or each.tries or each.artifacts]
    for each in stages:
        if each.gates and each not in with_output[-1:]:
            show_gates(each.gates)
    if with_output:
        say("")
        show_output(with_output[-1], folder)
    following(f"backlog-worker run logs {short[str(run['id'])]}")
