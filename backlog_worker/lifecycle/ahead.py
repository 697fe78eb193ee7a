"""Plan a held run: read its stages, write the stages that end without work, and open the questions of the others."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from backlog_worker.domain import draft as drafts
from backlog_worker.domain import expression, gates, template
from backlog_worker.domain.budget import Mode
from backlog_worker.domain.causes import basis
from backlog_worker.domain.entry import FOLDED, Entry, Note
from backlog_worker.domain.errors import InvalidInputError
from backlog_worker.domain.frontier import Plan, Ruling, Stage, StageStatus, current, plan
from backlog_worker.domain.masking import cut
from backlog_worker.domain.outcome import CALL, Asked, FailureKind
from backlog_worker.domain.pipeline import Job, Pipeline
from backlog_worker.lifecycle import Kit, call, money
from backlog_worker.lifecycle.ask import About, ask
from backlog_worker.lifecycle.given import GIVEN
from backlog_worker.lifecycle.held import Ended, Start
from backlog_worker.lifecycle.prepare import prompt, scope
from backlog_worker.store import Unit

LARGE = 60  # larger pipelines are planned from rows without outputs
APPROVAL, BUDGET = "approval", "budget"


def stages_of(unit: Unit, entry: Entry, pipeline: Pipeline, run_id: str) -> dict[str, Stage]:
    """Return the stages of a held run that count for it."""
    return stages_of_many(unit, [(entry, pipeline, run_id)])[run_id]


def stages_of_many(unit: Unit, wanted: Sequence[tuple[Entry, Pipeline, str]]) -> dict[str, dict[str, Stage]]:
    """Return the stages of several held runs, reading all small pipelines in one statement."""
    small = {entry.id: pipeline.hash for entry, pipeline, _ in wanted if len(pipeline.jobs) <= LARGE}
    read = unit.stages(small) if small else {}
    found = {}
    for entry, pipeline, run_id in wanted:
        stages = read[entry.id] if entry.id in small else _light(unit, entry, pipeline)
        found[run_id] = current(pipeline, stages, unit.now())
    return found


def with_outputs(unit: Unit, start: Start, job: Job) -> Mapping[str, Stage]:
    """Return the stages with the outputs and failures of all jobs that *job* depends on."""
    if len(start.pipeline.jobs) <= LARGE:
        return start.stages
    before = start.pipeline.ancestors(job.id)
    done = [each for each in before if _is_completed(start.stages, each)]
    failed = unit.failures(start.entry.id, start.pipeline.hash, before)
    return {**start.stages, **failed, **_completed(unit, start.entry, start.stages, done)}


def _completed(unit: Unit, entry: Entry, stages: Mapping[str, Stage], job_ids: Sequence[str]) -> dict[str, Stage]:
    outputs = unit.outputs(entry.id, stages[job_ids[0]].pipeline_hash, job_ids) if job_ids else {}
    return {
        job_id: replace(stages[job_id], job_id=job_id, output=output, sha256=sha256)
        for job_id, (output, sha256) in outputs.items()
    }


def _is_completed(stages: Mapping[str, Stage], job_id: str) -> bool:
    return job_id in stages and stages[job_id].status == StageStatus.COMPLETED


def values(unit: Unit, start: Start) -> Callable[[], Mapping[str, Any]]:
    """Return a function that reads the entry, input, environment and run for conditions, only when a condition needs
    them.
    """
    found: dict[str, Any] = {}

    def _values() -> Mapping[str, Any]:
        if not found:
            given = start.input if start.input is not None else unit.inputs([start.entry]).get(start.entry.id, {})
            context = expression.plain(given)
            found.update(drafts.rule_values({name: getattr(start.entry, name) for name in FOLDED}))
            found.update(context=context, input=context, now=unit.now().isoformat())
            found["run"] = expression.plain({"id": start.run["id"], "attempt": start.run["attempt"]})
        return found

    return _values


def planned(kit: Kit, unit: Unit, start: Start) -> tuple[Start, Plan]:
    """Plan a held run until the plan is stable: write skips, open questions, file calls."""
    while True:
        start = call.returned(kit, unit, start, without_work)
        now = plan(start.pipeline, start.stages, values(unit, start))
        if now.decided:
            start = without_work(unit, start, now.decided)
            continue
        held = [job for job in map(start.pipeline.job, now.ready) if _held_back(kit, unit, start, job)]
        if not held:
            return start, now
        run_id = start.run["id"]
        start = replace(start, stages=stages_of(unit, start.entry, start.pipeline, run_id))


def without_work(
    unit: Unit,
    start: Start,
    decided: Mapping[str, Ruling],
) -> Start:
    """Write stages that end without being performed: skipped, canceled or failed.

    They are passed in the order in which they were decided, so that each is based on stages that ended before it.
    """
    stages, rows = dict(start.stages), []
    for job_id, (status, why, kind) in decided.items():
        end: dict[str, Any] = {
            "run_id": start.run["id"],
            "reason": {"kind": kind, "text": why} if kind else {"text": why},
            "ended_at": unit.now(),
            "based_on": basis(stages, start.pipeline.job(job_id)),
        }
        rows.append({**_key(start, job_id), "status": status.value, **end})
        old = stages.get(job_id) or Stage(
            entry_id=start.entry.id, pipeline_hash=start.pipeline.hash, job_id=job_id, status=status
        )
        stages[job_id] = replace(old, job_id=job_id, status=status, **end)
    unit.next(rows)
    said = {job_id: [str(status), why] for job_id, (status, why, _) in decided.items()}
    unit.note(start.entry.id, Note.DECIDED, {"jobs": said, "pipeline_hash": start.pipeline.hash})
    return replace(start, stages=stages)


def asked_by(kit: Kit, unit: Unit, start: Start, ended: Ended) -> None:
    """Open the review requested by a job or one of its gates; the stage is already waiting."""
    job = ended.taken.job
    if isinstance(ended.result, Asked):
        on_timeout = job.approval.on_timeout if job.approval else "escalate"
        _open_review(kit, unit, start, job, ended.result, on_timeout=on_timeout)
    elif ended.asked is not None:
        asked = gates.asks(ended.asked.id, ended.asked.words, job.id)
        _open_review(kit, unit, start, job, asked, on_timeout="escalate")


def _light(unit: Unit, entry: Entry, pipeline: Pipeline) -> dict[str, Stage]:
    stages = unit.standing(entry.id, pipeline.hash)
    read = {each for job in pipeline.jobs if job.when for each in (job.when.mentions or ())}
    done = [each for each in sorted(read) if _is_completed(stages, each)]
    return {**stages, **_completed(unit, entry, stages, done)}


def _held_back(kit: Kit, unit: Unit, start: Start, job: Job) -> bool:
    """Set a ready job to waiting if a person, a budget or another entry must come first; returns whether it did."""
    stage = start.stages.get(job.id)
    granted = set((stage.approval or {}).get("kinds", ())) if stage and stage.approval else set()
    if (asked := _approval(start, job)) and APPROVAL not in granted:
        on_timeout = job.approval.on_timeout if job.approval else "escalate"
        return _waits(kit, unit, start, job, asked, on_timeout=on_timeout)
    if stage is not None and GIVEN in (stage.approval or {}):
        return False  # no executor runs it: its output exists and only needs to be checked
    if over := money.exceeded(unit, start, job):
        if over.mode == Mode.ASK:
            asked = Asked(question=f'{over.words} before "{job.name}". Continue?', kind=BUDGET, role="operator")
            return _waits(kit, unit, start, job, asked, on_timeout="escalate")
        if over.mode == Mode.STOP:
            without_work(unit, start, {job.id: Ruling(StageStatus.FAILED, over.words, FailureKind.BUDGET)})
            return True
    return _handed_over(kit, unit, start, job)


def _handed_over(kit: Kit, unit: Unit, start: Start, job: Job) -> bool:
    """Open the question or file the called entry if the job consists of that; returns whether the stage now waits."""
    if job.kind == "ask":
        return _waits(kit, unit, start, job, _question(unit, start, job), on_timeout="escalate")
    if job.kind == "call":
        try:
            child = call.made(kit, unit, replace(start, stages=with_outputs(unit, start, job)), job)
        except InvalidInputError as error:
            without_work(unit, start, {job.id: Ruling(StageStatus.FAILED, str(error), FailureKind.VALIDATION)})
        else:
            unit.next([_waiting(start, job, child)])
        return True
    return False


def _approval(start: Start, job: Job) -> Asked | None:
    signed = job.id in start.entry.constraints.get("sign_off_before", ())
    if not job.approval and not signed:
        return None
    who = "the entry" if signed else "the pipeline"
    role = ", ".join(job.approval.roles) if job.approval else start.policy.dead_letter.role
    within = job.approval.timeout if job.approval else start.policy.dead_letter.answer_within
    question = f'Approve "{job.name}" of "{start.entry.title}": {who} requires a sign-off before it'
    return Asked(question=cut(question, 500), role=role, within=within)


def _question(unit: Unit, start: Start, job: Job) -> Asked:
    given = start.input if start.input is not None else unit.inputs([start.entry]).get(start.entry.id, {})
    stages = with_outputs(unit, start, job)
    try:
        text = prompt(job, None, scope(start.entry, given, job, stages, start.run))
    except template.TemplateError as error:
        text = f"{job.name} ({error})"
    within: timedelta = job.timeout
    return Asked(question=text or job.name, kind="question", form=job.output, within=within)


def _waits(kit: Kit, unit: Unit, start: Start, job: Job, asked: Asked, *, on_timeout: str) -> bool:
    reason = {"kind": "review", "text": cut(asked.question, 400)}
    unit.next([_waiting(start, job, reason)])
    _open_review(kit, unit, start, job, asked, on_timeout=on_timeout)
    return True


def _open_review(kit: Kit, unit: Unit, start: Start, job: Job, asked: Asked, *, on_timeout: str) -> None:
    if asked.kind != CALL:
        about = About(entry=start.entry, run_id=start.run["id"], policy=start.policy)
        ask(kit, unit, about, job.id, asked, on_timeout=on_timeout)


def _waiting(start: Start, job: Job, reason: Mapping[str, Any]) -> dict[str, Any]:
    found = {"run_id": start.run["id"], "reason": reason, "based_on": basis(start.stages, job)}
    return {**_key(start, job.id), "status": StageStatus.WAITING.value, **found}


def _key(start: Start, job_id: str) -> dict[str, str]:
    return {"entry_id": start.entry.id, "pipeline_hash": start.pipeline.hash, "job_id": job_id}
