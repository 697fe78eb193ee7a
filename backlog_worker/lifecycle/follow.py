"""The events of an entry's runs as they happen, in the format of seed 003, read from history, stages and logs."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from backlog_worker.domain.entry import Change, Note
from backlog_worker.domain.events import Event
from backlog_worker.lifecycle import Kit
from backlog_worker.store import Unit

NAMES = (
    *("pipeline:started", "pipeline:completed", "pipeline:failed", "job:started", "job:completed", "job:failed"),
    *("job:progress", "job:log"),
)
_ENDS = {
    Change.COMPLETED: "pipeline:completed",
    Change.FAILED: "pipeline:failed",
    Change.ESCALATED: "pipeline:failed",
    Change.CANCELED: "pipeline:failed",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEvent:
    """One event of a run; `data` holds its details, such as progress or a line of the log."""

    name: str
    at: datetime
    entry_id: str
    run_id: str | None
    job_id: str = ""
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Cursor:
    """The position of a reader: in the history, in the log of each run, in the progress of each job."""

    seq: int = 0
    logs: dict[str, tuple[str, int, int]] = field(default_factory=dict)
    progress: dict[tuple[str, str], int] = field(default_factory=dict)


def news(kit: Kit, entry_id: str, cursor: Cursor) -> list[RunEvent]:
    """Return the events since the cursor was last used, in the order of time, and advance the cursor."""
    with kit.store.read() as unit:
        if unit.entry(entry_id) is None:  # retired, or of another environment
            return []
        found = [each for event in unit.history(entry_id) if event.seq > cursor.seq for each in _of(event, cursor)]
        runs = unit.runs(entry_id, most=3)
        for run in runs:
            found += _logged(unit, entry_id, run["id"], cursor)
        for pipeline_hash in {run["pipeline_hash"] for run in runs}:
            found += _progressed(unit, entry_id, pipeline_hash, cursor)
    return sorted(found, key=lambda each: each.at)


def _of(event: Event, cursor: Cursor) -> Iterator[RunEvent]:
    cursor.seq = event.seq
    job_id = str(event.data.get("job_id", ""))
    made: dict[str, Any] = {"at": event.at, "entry_id": event.entry_id, "run_id": event.run_id}
    if event.change == Change.CLAIMED:
        yield RunEvent(name="pipeline:started", **made)
    elif event.change == Note.TAKEN:
        yield RunEvent(name="job:started", job_id=job_id, **made)
    elif event.change == Note.CHECKPOINTED:
        result = event.data.get("result")
        failed = result in {"faulted", "refused"} and "pause_seconds" not in event.data
        if failed or result == "done":  # a stage that waits for a time or a person has not ended
            name = "job:failed" if failed else "job:completed"
            yield RunEvent(name=name, job_id=job_id, data={"result": result}, **made)
    elif event.change in set(_ENDS):
        said = event.data.get("set") or {}
        data = {"status": event.change, "outcome": said.get("outcome", ""), "reason": str(said.get("reason", ""))}
        yield RunEvent(name=_ENDS[Change(event.change)], data=data, **made)


def _logged(unit: Unit, entry_id: str, run_id: str, cursor: Cursor) -> Iterator[RunEvent]:
    for chunk in unit.log(run_id, after=cursor.logs.get(run_id, ("", 0, -1))):
        cursor.logs[run_id] = (chunk["job_id"], chunk["take"], chunk["n"])
        for line in chunk["text"].split("\n"):
            data = {"message": line, "take": chunk["take"]}
            yield RunEvent(
                name="job:log", at=chunk["at"], entry_id=entry_id, run_id=run_id, job_id=chunk["job_id"], data=data
            )


def _progressed(unit: Unit, entry_id: str, pipeline_hash: str, cursor: Cursor) -> Iterator[RunEvent]:
    for job_id, stage in unit.stages({entry_id: pipeline_hash})[entry_id].items():
        key, said = (str(stage.run_id), job_id), stage.progress
        if said is not None and said != cursor.progress.get(key):
            cursor.progress[key] = said
            at, data = stage.ended_at or unit.now(), {"progress": said}
            yield RunEvent(name="job:progress", at=at, entry_id=entry_id, run_id=key[0], job_id=job_id, data=data)
