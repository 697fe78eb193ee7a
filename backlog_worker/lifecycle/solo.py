"""Run one job of a pipeline here, without a backlog: for exported CI files and for authors of pipelines.

The results of jobs are in a folder, one JSON file per job, which CI systems pass on as artifacts.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from backlog_worker.domain import draft as drafts
from backlog_worker.domain import expression
from backlog_worker.domain.attempts import Tried
from backlog_worker.domain.entry import FOLDED, Entry
from backlog_worker.domain.errors import ConflictError, InvalidInputError, NotFoundError
from backlog_worker.domain.events import digest
from backlog_worker.domain.frontier import Stage, StageStatus, plan
from backlog_worker.domain.masking import cut
from backlog_worker.domain.outcome import Done
from backlog_worker.domain.pipeline import Pipeline, violation
from backlog_worker.domain.policy import Policy
from backlog_worker.lifecycle import Kit
from backlog_worker.lifecycle.held import Ended, Taken
from backlog_worker.lifecycle.perform import perform

RUN_ID = "run_solo"


def perform_one(
    kit: Kit, pipeline: Pipeline, policy: Policy, job_id: str, given: Mapping[str, Any], folder: Path
) -> tuple[str, str]:
    """Perform one job and write its result into *folder*; returns its status and the reason.

    The results of earlier jobs are read from there; a job whose condition is false is skipped. Raises NotFoundError for
    an unknown job, and ConflictError if an earlier job has no result yet.
    """
    if job_id not in pipeline.index:
        message = f"pipeline {pipeline.name} has no job {job_id}"
        raise NotFoundError(message, hint=f"one of: {', '.join(pipeline.order)}")
    stages = {each: _read(folder, pipeline, each) for each in pipeline.ancestors(job_id)}
    known = {each: stage for each, stage in stages.items() if stage is not None}
    entry = _entry(pipeline, given)
    now = plan(pipeline, known, lambda: _values(entry, given))
    if job_id in now.decided:
        status, why, kind = now.decided[job_id]
        _write(folder, job_id, {"status": status.value, "reason": why, "kind": kind})
        return status.value, why
    if job_id not in now.ready:
        missing = [each for each in pipeline.job(job_id).after if stages.get(each) is None]
        message = f"{job_id} waits for {', '.join(missing) or 'a job before it'}, which has no result in {folder}"
        raise ConflictError(message)
    ended = perform(kit, _take_of(pipeline, policy, entry, job_id, given, known))
    return _write_result(folder, job_id, ended)


def _take_of(
    pipeline: Pipeline, policy: Policy, entry: Entry, job_id: str, given: Mapping[str, Any], known: Mapping[str, Stage]
) -> Taken:
    run = {"id": RUN_ID, "attempt": 1, "pipeline_hash": pipeline.hash}
    job = pipeline.job(job_id)
    return Taken(
        entry=entry,
        run=run,
        pipeline=pipeline,
        policy=policy,
        job=job,
        take=1,
        tried=Tried(),
        input=given,
        stages=known,
        alone=True,
    )


def _values(entry: Entry, given: Mapping[str, Any]) -> dict[str, Any]:
    context = expression.plain(given)
    values = drafts.rule_values({name: getattr(entry, name) for name in FOLDED})
    return {**values, "context": context, "input": context, "run": {"id": RUN_ID}, "now": datetime.now(UTC).isoformat()}


def _entry(pipeline: Pipeline, given: Mapping[str, Any]) -> Entry:
    record = {
        "title": cut(str(given.get("title") or pipeline.name), 200),
        "dedupe_key": "solo",
        "pipeline": pipeline.name,
        "created_at": datetime.fromtimestamp(0, UTC),
        "input": dict(given),
    }
    draft = drafts.checked(record)
    return Entry(**drafts.fields(draft, env="ci", entry_id="bl_solo", actor="ci", channel="ci"))


def _write_result(folder: Path, job_id: str, ended: Ended) -> tuple[str, str]:
    gates = {each.id: each.result.value for each in ended.gates}
    attempts = ended.tried.attempts
    if isinstance(ended.result, Done):
        waits = ended.asked is not None
        status = StageStatus.WAITING if waits else StageStatus.COMPLETED
        why = f"gate {ended.asked.id} asks: {ended.asked.why}" if ended.asked else ""
        value = {"output": ended.result.output, "gates": gates, "attempts": attempts, "reason": why}
        _write(folder, job_id, {"status": status.value, **value})
        return status.value, why
    why = str(getattr(ended.result, "reason", getattr(ended.result, "question", "")))
    _write(
        folder,
        job_id,
        {
            "status": StageStatus.FAILED.value,
            "gates": gates,
            "attempts": attempts,
            "reason": why,
            "tries": list(ended.tried.failed),
        },
    )
    return StageStatus.FAILED.value, why


def _read(folder: Path, pipeline: Pipeline, job_id: str) -> Stage | None:
    path = folder / f"{job_id}.json"
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        status = StageStatus(value["status"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        message = f"{path} is not a job result: {error}"
        raise InvalidInputError(message) from None
    output = value.get("output")
    if status == StageStatus.COMPLETED and (why := violation(pipeline.job(job_id).output, output)):
        message = f"{path} breaks the contract of {job_id}: {why}"
        raise InvalidInputError(message)
    return Stage(
        entry_id="bl_solo",
        pipeline_hash=pipeline.hash,
        job_id=job_id,
        status=status,
        run_id=RUN_ID,
        takes=1,
        attempts=int(value.get("attempts", 0)),
        tries=value.get("tries", ()),
        output=output,
        sha256=digest(output) if status == StageStatus.COMPLETED else None,
        reason={"kind": value.get("kind"), "text": value.get("reason", "")},
    )


def _write(folder: Path, job_id: str, value: Mapping[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{job_id}.json").write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
