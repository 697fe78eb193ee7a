"""Run again: start by hand, resume an interrupted run, retry failed jobs, fork from a stage, compare two runs."""

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from backlog_worker.domain import causes
from backlog_worker.domain import draft as drafts
from backlog_worker.domain.bell import Bell
from backlog_worker.domain.causes import VOIDED
from backlog_worker.domain.entry import FINAL, Entry, Note, Status
from backlog_worker.domain.errors import ConflictError, InvalidInputError, NotFoundError, RefusedError
from backlog_worker.domain.frontier import Stage, StageStatus
from backlog_worker.domain.language import TriggerFile
from backlog_worker.domain.output import as_json
from backlog_worker.domain.pipeline import Pipeline, violation
from backlog_worker.lifecycle import Kit, dispatch, enact, intake, journal, named, operate, operation, settle
from backlog_worker.lifecycle.given import GIVEN, Given, pending
from backlog_worker.store import Unit

KEPT = frozenset({StageStatus.COMPLETED, StageStatus.SKIPPED, StageStatus.FAILED})
STOPPED = (Status.ESCALATED, Status.FAILED, Status.CANCELED)
DIFF_LINES = 200
UNCHANGED: Any = object()  # no output was passed; null is a valid output


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The differences of one job between two runs, including a line-by-line difference of the outputs."""

    job_id: str
    first: Mapping[str, Any]
    second: Mapping[str, Any]
    output: tuple[str, ...]


def start(
    kit: Kit, pipeline: str, given: Mapping[str, Any], *, actor: str, title: str = "", labels: Sequence[str] = ()
) -> tuple[str, list[Bell]]:
    """File an entry for a pipeline in a person's name; it is dispatched as soon as there is room.

    The person who starts it declares it eligible. If the policy refuses it anyway, RefusedError names the rule. While
    PostgreSQL is unavailable the journal stores the entry, and it is dispatched after the merge.
    """

    def _filed(unit: Unit) -> tuple[str, Entry | None]:
        found = kit.book.pipeline(unit, pipeline)
        if found is None:
            raise enact.missing(kit, unit, pipeline)
        by = _manual_trigger(found)
        now = unit.now().isoformat()
        record = {
            "title": title or f"{pipeline} by {actor}",
            "dedupe_key": f"manual:{kit.new_id('start')}",
            "pipeline": pipeline,
            "labels": [*labels, *(by.labels if by else ())],
            "source": "manual",
            "author": actor,
            "created_at": now,
            "eligible_by": actor,
            "eligible_at": now,
            "input": {**(by.input if by else {}), **given},
        }
        filed = intake.file_within(kit, unit, drafts.checked(record), channel="manual", extra={})
        return filed, unit.entry(filed)

    entry_id, entry = intake.within(kit, actor, _filed)
    if entry is not None and entry.status == Status.BLOCKED:
        message = f"{entry_id} was filed and is blocked: {entry.reason}"
        raise RefusedError(message, hint=f"backlog-worker explain {entry_id}")
    return entry_id, [] if journal.takes_in(kit) else dispatch.tick(kit)


def _manual_trigger(pipeline: Pipeline) -> TriggerFile | None:
    """Return the pipeline's `manual` trigger, or None if it has no triggers; raises RefusedError if it has only
    others.
    """
    found = next((each for each in pipeline.triggers if each.type == "manual"), None)
    if pipeline.triggers and found is None:
        kinds = ", ".join(dict.fromkeys(each.type for each in pipeline.triggers))
        message = f"pipeline {pipeline.name} cannot be started by hand: its triggers are {kinds}"
        raise RefusedError(message, hint="add `- { type: manual }` to its triggers")
    return found


def resume(kit: Kit, run_id: str, *, actor: str, reason: str) -> Entry:
    """Resume a stopped run after its completed stages; its pipeline version stays pinned and its counters continue.

    Raises ConflictError if the pinned version is gone, or if the entry is still in progress.
    """
    run_id = named.run_of(kit, run_id)
    with kit.store.begin(actor=actor) as unit:
        run, entry = _stopped_run(unit, run_id, reason)
        if kit.book.pinned(unit, run["pipeline_hash"]) is None:
            message = f"the pipeline of {run_id} ({run['pipeline_hash'][:12]}) is gone; a run never changes its version"
            raise ConflictError(message, hint=f"backlog-worker run retry {run_id} uses the version in force")
        settle.withdraw(unit, entry.id, actor, f"resumed: {reason}")
        return operate.requeued(kit, unit, entry, f"resumed by {actor}: {reason}", None, keep=run["pipeline_hash"])


def retry(kit: Kit, run_id: str, *, actor: str, reason: str) -> Entry:
    """Redo the failed stages of a run and the stages that depended on them, with new attempts.

    The version of the pipeline in force is used.
    """
    run_id = named.run_of(kit, run_id)
    with kit.store.begin(actor=actor) as unit:
        run, entry = _stopped_run(unit, run_id, reason)
        stages = unit.stages({entry.id: run["pipeline_hash"]})[entry.id]
        unit.begin_again(entry.id, run["pipeline_hash"], _jobs_to_redo(kit, unit, run["pipeline_hash"], stages))
        settle.withdraw(unit, entry.id, actor, f"retried: {reason}")
        return operate.requeued(kit, unit, entry, f"retried by {actor}: {reason}", None)


def fork(kit: Kit, run_id: str, stage: str, *, actor: str, reason: str, output: Any = UNCHANGED) -> str:  # noqa: ANN401 - free JSON
    """Repeat a run from a stage as a new entry linked to the first; the results of earlier stages are copied.

    With *output* the stage itself is not run: its contract and gates check that output, and only later stages run.
    """
    run_id = named.run_of(kit, run_id)
    with kit.store.begin(actor=actor) as unit:
        _, entry, pipeline = _run_entry_pipeline(kit, unit, run_id)
        operation.reasoned(reason)
        if stage not in pipeline.index:
            hint = f"one of: {', '.join(pipeline.order)}"
            message = f"pipeline {pipeline.name} has no job {stage}"
            raise NotFoundError(message, hint=hint)
        job = pipeline.job(stage)
        if output is not UNCHANGED:
            output = as_json(output, most=job.execution.output_bytes)
        if output is not UNCHANGED and (why := violation(job.output, output)):
            message = f"the output breaks the contract of {stage}: {why}"
            raise InvalidInputError(message)
        given = unit.input(entry.id, entry.input_sha256) or {}
        record = _fork_columns(entry, given, f"fork:{run_id}:{kit.new_id('f')}", unit.now().isoformat())
        extra = {"forked_from": run_id, "eligible_by": entry.provenance.get("eligible_by") or actor}
        new = intake.file_within(
            kit, unit, drafts.checked(record), channel=str(entry.provenance.get("channel", "fork")), extra=extra,
            pipeline_hash=pipeline.hash,
        )  # fmt: skip
        unit.link([(new, entry.id)], "fork_of")
        _take_over(unit, (entry.id, new), pipeline, {stage, *pipeline.descendants(stage)})
        if output is not UNCHANGED:
            _store_edited_output(
                unit, new, (pipeline.hash, stage), Given(output=output, by=actor, at=unit.now(), why=reason)
            )
        return new


def compare(kit: Kit, first: str, second: str) -> list[Difference]:
    """Compare two runs job by job: status, attempts, cost, gates, and what they returned."""
    first, second = named.run_of(kit, first), named.run_of(kit, second)
    with kit.store.read() as unit:
        _, one, pipeline = _run_entry_pipeline(kit, unit, first)
        _, other, theirs = _run_entry_pipeline(kit, unit, second)
        mine = unit.stages({one.id: pipeline.hash})[one.id]
        yours = unit.stages({other.id: theirs.hash})[other.id]
    found = []
    for job_id in dict.fromkeys([*pipeline.order, *theirs.order]):
        a, b = _stage_summary(mine.get(job_id)), _stage_summary(yours.get(job_id))
        lines = _diff(mine.get(job_id), yours.get(job_id)) if a["sha256"] != b["sha256"] else ()
        if a != b:
            found.append(Difference(job_id=job_id, first=a, second=b, output=lines))
    return found


def entry_of(kit: Kit, run_id: str) -> tuple[dict[str, Any], Entry, Pipeline | None, dict[str, Stage]]:
    """Return a run with its entry, its pipeline (None if it is unknown), and its stages; raises NotFoundError."""
    run_id = named.run_of(kit, run_id)
    with kit.store.read() as unit:
        run = _run(unit, run_id)
        entry = unit.entry(run["entry_id"])
        if entry is None:
            raise NotFoundError
        stages = unit.stages({entry.id: run["pipeline_hash"]})[entry.id]
        return run, entry, kit.book.pinned(unit, run["pipeline_hash"]), stages


def _run(unit: Unit, run_id: str) -> dict[str, Any]:
    run = unit.run_of(run_id)
    if run is None:
        message = f"there is no run {run_id}"
        raise NotFoundError(message, hint="backlog-worker run list")
    return run


def _run_entry_pipeline(kit: Kit, unit: Unit, run_id: str) -> tuple[dict[str, Any], Entry, Pipeline]:
    run = _run(unit, run_id)
    entry, pipeline = unit.entry(run["entry_id"]), kit.book.pinned(unit, run["pipeline_hash"])
    if entry is None or pipeline is None:
        message = f"the pipeline of {run_id} ({run['pipeline_hash'][:12]}) is gone; a run never changes its version"
        raise ConflictError(message)
    return run, entry, pipeline


def _stopped_run(unit: Unit, run_id: str, reason: str) -> tuple[dict[str, Any], Entry]:
    run = _run(unit, run_id)
    operation.reasoned(reason)
    entry = unit.hold([run["entry_id"]])[run["entry_id"]]
    if entry.status not in STOPPED:
        way = "fork it: `run fork RUN --from STAGE`" if entry.status in FINAL else "wait for it, or cancel it"
        message = f"{entry.id} is {entry.status}"
        raise ConflictError(message, hint=way)
    return run, entry


def _fork_columns(entry: Entry, given: Mapping[str, Any], key: str, now: str) -> dict[str, Any]:
    names = ("title", "url", "source", "external_ref", "pipeline", "team", "owner", "labels", "priority", "signals")
    values = {name: getattr(entry, name) for name in names}
    author = str(entry.provenance.get("author", ""))
    return {**values, "constraints": dict(entry.constraints), "author": author, "dedupe_key": key, "created_at": now,
            "input": dict(given)}  # fmt: skip


def _take_over(unit: Unit, ids: tuple[str, str], pipeline: Pipeline, again: set[str]) -> None:
    """Copy the valid checkpoints of the first run that a fork keeps."""
    old, new = ids
    rows = []
    stages = unit.stages({old: pipeline.hash})[old]
    for job_id, stage in causes.standing(pipeline, stages, ()).items():
        failed = stage.status == StageStatus.FAILED and not pipeline.job(job_id).continue_on_error
        if job_id in again or failed or stage.status not in KEPT:
            continue
        rows.append(
            {
                "entry_id": new,
                "pipeline_hash": pipeline.hash,
                "job_id": job_id,
                "status": stage.status.value,
                "run_id": stage.run_id,
                "started_at": stage.started_at,
                "ended_at": stage.ended_at,
                "output": stage.output,
                "sha256": stage.sha256 if stage.status == StageStatus.COMPLETED else None,
                "artifacts": list(stage.artifacts),
                "gates": list(stage.gates),
                "reason": stage.reason,
                "based_on": stage.based_on,
            }
        )
    if rows:
        unit.copy(rows)


def _store_edited_output(unit: Unit, entry_id: str, of: tuple[str, str], given: Given) -> None:
    """Store the edited output of a stage; the worker that takes the stage checks it."""
    pipeline_hash, job_id = of
    unit.copy([{"entry_id": entry_id, "pipeline_hash": pipeline_hash, "job_id": job_id, **pending(None, given)}])
    unit.hold([entry_id])
    said = {job_id: [GIVEN, f"by {given.by}: {given.why}"]}
    unit.note(entry_id, Note.DECIDED, {"jobs": said, "pipeline_hash": pipeline_hash})


def _jobs_to_redo(kit: Kit, unit: Unit, pipeline_hash: str, stages: Mapping[str, Stage]) -> list[str]:
    """Return the jobs that did not complete, and the jobs whose checkpoints are void because of them."""
    pipeline = kit.book.pinned(unit, pipeline_hash)
    left = {job_id: stage for job_id, stage in stages.items() if stage.status in VOIDED}
    found = causes.standing(pipeline, left, ()) if pipeline else left
    return [job_id for job_id in stages if job_id not in found or found[job_id].status not in VOIDED]


def _stage_summary(stage: Stage | None) -> dict[str, Any]:
    if stage is None:
        return {"status": "not reached", "attempts": 0, "seconds": None, "usd": None, "gates": {}, "sha256": None}
    seconds = (stage.ended_at - stage.started_at).total_seconds() if stage.ended_at and stage.started_at else None
    return {
        "status": str(stage.status),
        "attempts": stage.attempts,
        "seconds": round(seconds, 1) if seconds is not None else None,
        "usd": (stage.cost or {}).get("usd"),
        "gates": {each["id"]: each["result"] for each in stage.gates},
        "sha256": stage.sha256,
    }


def _diff(one: Stage | None, other: Stage | None) -> tuple[str, ...]:
    texts = [
        json.dumps(each.output if each else None, indent=1, sort_keys=True, ensure_ascii=False) for each in (one, other)
    ]
    lines = difflib.unified_diff(texts[0].splitlines(), texts[1].splitlines(), lineterm="", n=1)
    return tuple(lines)[2 : DIFF_LINES + 2]
