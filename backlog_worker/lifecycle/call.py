"""Call a pipeline as a job: the called entry has its own run, gates and record; the caller waits without a slot."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from backlog_worker.domain import template
from backlog_worker.domain.draft import Draft
from backlog_worker.domain.entry import FINAL, NOTHING_TO_DO, Entry, Note, Status, standing
from backlog_worker.domain.errors import InvalidInputError
from backlog_worker.domain.frontier import Ruling, StageStatus, Unbegun
from backlog_worker.domain.masking import cut
from backlog_worker.domain.outcome import CALL, FailureKind
from backlog_worker.domain.pipeline import Job
from backlog_worker.lifecycle import Kit, intake
from backlog_worker.lifecycle.given import GIVEN, Given, pending
from backlog_worker.lifecycle.held import Start
from backlog_worker.lifecycle.prepare import scope
from backlog_worker.store import Unit

DEPTH = 8


def made(kit: Kit, unit: Unit, start: Start, job: Job) -> dict[str, Any]:
    """File the called entry and return the reason for which the stage waits.

    The called entry inherits the caller's labels, priority, team and owner; eligibility is judged as for any other
    entry. Raises InvalidInputError if its input cannot be built, or if calls are nested too deep.
    """
    caller = start.entry
    depth = int(caller.provenance.get("call_depth") or 0) + 1
    if depth > DEPTH:
        message = f"calls are nested more than {DEPTH} deep; does {job.target} call itself?"
        raise InvalidInputError(message)
    earlier = [unit.entry(each) for each in unit.linked(caller.id, "calls")]
    number = 1 + sum(each is not None and each.external_ref == f"{caller.id}/{job.id}" for each in earlier)
    given = start.input if start.input is not None else unit.inputs([caller]).get(caller.id, {})
    values = scope(caller, given, job, start.stages, start.run)
    draft = Draft(
        title=f"{cut(caller.title, 100)}: {cut(job.name, 100)}",
        dedupe_key=f"call:{caller.id}:{job.id}:{number}",
        source=caller.source,
        url=caller.url,
        external_ref=f"{caller.id}/{job.id}",
        pipeline=job.target,
        team=caller.team,
        owner=caller.owner,
        labels=list(caller.labels),
        priority=caller.priority,
        signals=dict(caller.signals),
        created_at=caller.created_at,
        input=template.filled(dict(job.inputs), values, job.names),
    )
    extra = {"call_depth": depth, "called_by": caller.id, "author": caller.provenance.get("author", "")}
    child = intake.file_within(kit, unit, draft, channel=str(caller.provenance.get("channel", "call")), extra=extra)
    unit.link([(caller.id, child)], "calls")
    return {"kind": CALL, "text": f"calls pipeline {job.target} as {child}", "entry": child}


def returned(kit: Kit, unit: Unit, start: Start, end: Callable[..., Start]) -> Start:
    """Store the outputs of called entries that ended; the job fails if its called entry did not complete.

    If the called entry had nothing to do, so had the job.
    """
    for job_id, stage in start.stages.items():
        reason: Mapping[str, Any] = stage.reason or {}
        if stage.status != StageStatus.WAITING or reason.get("kind") != CALL:
            continue
        child = unit.entry(str(reason.get("entry")))
        if child is None or child.status not in FINAL:
            continue
        if child.outcome == NOTHING_TO_DO:
            ruling = Ruling(StageStatus.SKIPPED, f"{child.id} had {standing(child)}", Unbegun.CONDITION)
            start = end(unit, start, {job_id: ruling})
        elif child.status == Status.COMPLETED:
            given = Given(output=_output(kit, unit, child), by=child.id, at=unit.now(), why="completed")
            start = _store_output(unit, start, job_id, given)
        else:
            text = f"called {child.id}, which is {child.status}: {child.reason}"
            start = end(unit, start, {job_id: Ruling(StageStatus.FAILED, text, FailureKind.EXECUTION)})
    return start


def _store_output(unit: Unit, start: Start, job_id: str, given: Given) -> Start:
    """Store what a called entry returned; the worker that takes the stage checks it."""
    old = start.stages[job_id]
    values = pending(old.approval, given)
    unit.answered(start.entry.id, start.pipeline.hash, job_id, values)
    said = {job_id: [GIVEN, f"{given.by} completed"]}
    unit.note(start.entry.id, Note.DECIDED, {"jobs": said, "pipeline_hash": start.pipeline.hash})
    new = replace(old, status=StageStatus.PENDING, reason=None, rung_at=None, approval=values["approval"])
    return replace(start, stages={**start.stages, job_id: new})


def _output(kit: Kit, unit: Unit, child: Entry) -> Any:  # noqa: ANN401 - free JSON
    """Return the output of a completed entry: that of its last job, or of its last jobs by id."""
    pipeline = kit.book.pinned(unit, str(child.pipeline_hash))
    last = pipeline.last() if pipeline else []
    outputs = {each: pair[0] for each, pair in unit.outputs(child.id, str(child.pipeline_hash), last).items()}
    return outputs.get(last[0]) if len(last) == 1 else outputs
