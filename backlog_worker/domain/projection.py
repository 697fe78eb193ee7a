"""What a history tells of runs and outputs: the rows of other tables that must be what it gives."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from backlog_worker.domain.entry import ENDS, Change, Note
from backlog_worker.domain.events import Event, upcast

# What a row of `runs` must say as its history does.
RUN_COLUMNS = ("attempt", "worker", "pipeline_hash", "policy_hash", "ended_by")


def runs(events: Iterable[Event]) -> dict[str, dict[str, Any]]:
    """Return the runs of one entry by id, as its history gives them."""
    found: dict[str, dict[str, Any]] = {}
    for event in events:
        data = upcast(event)
        if event.change == Change.CLAIMED and event.run_id:
            said = data.get("set", {})
            found[event.run_id] = {
                "id": event.run_id,
                "entry_id": event.entry_id,
                **{name: said.get(name) for name in ("attempt", "worker", "pipeline_hash")},
                "policy_hash": data.get("policy_hash"),
                "claimed_at": datetime.fromisoformat(str(said.get("claimed_at"))),
                "ended_at": None,
                "ended_by": None,
                "kind": None,
            }
        elif event.run_id in found and event.change in ENDS and found[event.run_id]["ended_by"] is None:
            end = {"ended_at": event.at, "ended_by": event.change, "kind": data.get("kind")}
            found[event.run_id] |= end
    return found


def wrong_runs(events: Sequence[Event], rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the runs that are missing, not told of, or not as told, each with what differs."""
    told, found = runs(events), []
    for row in rows:
        wanted = told.pop(row["id"], None)
        if wanted is None:
            found.append(f"{row['id']} is not told of")
        elif differing := [name for name in RUN_COLUMNS if row[name] != wanted[name]]:
            found.append(f"{row['id']}: {', '.join(differing)}")
    return found + [f"{run_id} is missing" for run_id in told]


def wrong_outputs(events: Iterable[Event], rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the jobs whose stored output is not one that the history tells of."""
    told = {str(upcast(event).get("sha256")) for event in events if event.change == Note.CHECKPOINTED}
    return sorted({str(row["job_id"]) for row in rows if row["sha256"] not in told})
