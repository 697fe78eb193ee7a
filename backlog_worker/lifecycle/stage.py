"""Take a stage, do its job, apply its gates, checkpoint; then say what comes next, or settle.

A checkpoint, the next take and the settling of a run share one transaction, and so do all entries of one bell.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from backlog_worker.domain.bell import Bell, stage_bell
from backlog_worker.domain.entry import Change, Entry, Note
from backlog_worker.domain.events import digest
from backlog_worker.domain.frontier import Stage, StageStatus, current, frontier, outcome
from backlog_worker.domain.outcome import Asked, Done, Faulted, Outcome, Refused, Stopped, Throttled
from backlog_worker.domain.pipeline import Job, Pipeline
from backlog_worker.domain.policy import Policy
from backlog_worker.executors import Stop
from backlog_worker.lifecycle import Kit, settle
from backlog_worker.lifecycle.perform import Ended, Taken, perform, watched
from backlog_worker.lifecycle.settle import Ending
from backlog_worker.store import Unit
from backlog_worker.telemetry import emit


def advance(kit: Kit, run_id: str, job_id: str) -> list[Bell]:
    """Take one stage and do it; no bells where it is not ours to take: a doubled, late or forged bell."""
    with kit.store.begin(actor=kit.worker) as unit:
        entries = unit.renew([run_id])
        run = unit.run_of(run_id)
        if run is None or run_id not in entries:
            return []
        pipeline = kit.book.pinned(unit, run["pipeline_hash"])
        if pipeline is None or all(job.id != job_id for job in pipeline.jobs):
            return []
        entry = entries[run_id]
        stages = current(unit.stages({entry.id: pipeline.hash})[entry.id], run_id)
        if job_id not in frontier(pipeline, stages).ready:
            return []
        policy = kit.book.policy_by_hash(unit, run["policy_hash"])
        unit.lease = policy.claims.timeout.total_seconds()
        start = Start(entry=entry, run=run, pipeline=pipeline, policy=policy, stages=stages, input=None)
        taken = take(kit, unit, [(start, pipeline.job(job_id))])
    return work(kit, taken)


def work(kit: Kit, taken: Sequence[Taken]) -> list[Bell]:
    """Do stages one after the other until their runs end or wait for another bell; one never touches its neighbour."""
    bells: list[Bell] = []
    held = {each.run["id"] for each in taken}
    try:
        while taken:
            ended = [perform(kit, watched(kit, each)) for each in taken]
            taken, more = _record(kit, ended)
            bells += more
            held = {each.run["id"] for each in taken}
    except (SystemExit, KeyboardInterrupt):  # a cold stop of the worker: children are dead already
        give_back(kit, sorted(held))
        raise
    finally:
        kit.heart.rest(held)
    return list(dict.fromkeys(bells))


def give_back(kit: Kit, run_ids: Sequence[str]) -> None:
    """Return claims to the queue; nothing is counted, and checkpoints stay."""
    with kit.store.begin(actor=kit.worker) as unit:
        for run_id, entry in unit.renew(run_ids).items():
            unit.untake(entry.id, str(entry.pipeline_hash), run_id)
            unit.move(entry.id, Change.RETURNED, "the worker stopped and gave it back")
            emit("given_back", entry=entry.id, run=run_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """A run at a point where its next stage may begin."""

    entry: Entry
    run: Mapping[str, Any]
    pipeline: Pipeline
    policy: Policy
    stages: Mapping[str, Stage]
    input: Mapping[str, Any] | None
    stop: Stop = field(default_factory=Stop)


def take(kit: Kit, unit: Unit, starts: Sequence[tuple[Start, Job]]) -> list[Taken]:
    """Take one stage of each held run, in one statement; a stage that somebody else has is left out."""
    if not starts:
        return []
    rows = [
        {
            "entry_id": start.entry.id,
            "pipeline_hash": start.pipeline.hash,
            "job_id": job.id,
            "status": StageStatus.RUNNING.value,
            "takes": 1,
            "run_id": start.run["id"],
            "worker": kit.worker,
            "started_at": unit.now(),
            "leased_until": unit.now() + start.policy.claims.timeout,
        }
        for start, job in starts
    ]
    numbers = unit.take(rows)
    unread = [start.entry for start, _ in starts if start.input is None]
    inputs = unit.inputs(unread) if unread else {}
    taken = []
    for start, job in starts:
        if (start.entry.id, job.id) in numbers:
            number, attempts = numbers[(start.entry.id, job.id)]
            data = {"job_id": job.id, "take": number, "pipeline_hash": start.pipeline.hash}
            unit.note(start.entry.id, Note.TAKEN, {**data, "round": start.run["attempt"]})
            given = inputs.get(start.entry.id, {}) if start.input is None else start.input
            taken.append(_taken(start, job, (number, attempts), given))
    return taken


def _taken(start: Start, job: Job, numbers: tuple[int, int], given: Mapping[str, Any]) -> Taken:
    return Taken(
        entry=start.entry,
        run=start.run,
        pipeline=start.pipeline,
        policy=start.policy,
        job=job,
        take=numbers[0],
        attempts=numbers[1],
        input=given,
        previous={job_id: stage.output for job_id, stage in start.stages.items() if stage.sha256},
        stop=start.stop,
    )


def onward(start: Start) -> Job | Outcome:
    """Say what a held run does next: the job that may begin, or how the run ended."""
    ended = outcome(start.pipeline, start.stages)
    if ended is not None:
        return ended
    job = start.pipeline.job(frontier(start.pipeline, start.stages).ready[0])
    signed = job.id in start.entry.constraints.get("sign_off_before", ())
    stage = start.stages.get(job.id)
    if (job.approval or signed) and not (stage and stage.approval):
        who = "the entry" if signed else "the pipeline"
        role = job.approval.roles[0] if job.approval and job.approval.roles else start.policy.dead_letter.role
        within = job.approval.timeout if job.approval else start.policy.dead_letter.answer_within
        question = f'Approve "{job.name}" of "{start.entry.title}": {who} asks for a sign-off before it'
        return Stopped(job_id=job.id, result=Asked(question=question[:500], role=role, within=within))
    return job


def _record(kit: Kit, ended: Sequence[Ended]) -> tuple[list[Taken], list[Bell]]:
    """Checkpoint all that still hold their entry, then take, ring or settle what comes next, in one transaction."""
    with kit.store.begin(actor=kit.worker) as unit:
        unit.lease = max(each.taken.policy.claims.timeout.total_seconds() for each in ended)
        entries = unit.renew([each.taken.run["id"] for each in ended])
        live = [each for each in ended if each.taken.run["id"] in entries]
        rows = [_row(unit, each) for each in live]
        kept = unit.checkpoint(rows)
        live = [each for each in live if (each.taken.entry.id, each.taken.job.id) in kept]
        for each in live:
            _note(unit, each)
        stages = unit.stages({each.taken.entry.id: each.taken.pipeline.hash for each in live})
        taken, bells = _next(kit, unit, [(each, entries[each.taken.run["id"]]) for each in live], stages)
    lost = {each.taken.run["id"] for each in ended} - {each.taken.run["id"] for each in live}
    for run_id in sorted(lost):
        emit("stale_write_refused", run=run_id)
    kit.heart.rest({each.taken.run["id"] for each in ended} - {each.run["id"] for each in taken})
    return taken, bells


def _next(
    kit: Kit, unit: Unit, live: Sequence[tuple[Ended, Entry]], stages: Mapping[str, Mapping[str, Stage]]
) -> tuple[list[Taken], list[Bell]]:
    takes: list[tuple[Start, Job]] = []
    rings: list[tuple[Start, Job]] = []
    ends: list[tuple[Ending, Outcome]] = []
    for each, entry in live:
        old = each.taken
        known = current(stages[entry.id], old.run["id"])
        start = Start(
            entry=entry,
            run=old.run,
            pipeline=old.pipeline,
            policy=old.policy,
            stages=known,
            input=old.input,
            stop=old.stop,
        )
        stopped = _stopped(each)
        step = stopped or onward(start)
        if isinstance(step, Job):
            (takes if step.inline else rings).append((start, step))
        else:
            ending = Ending(entry=entry, run=old.run, pipeline=old.pipeline, stages=known, policy=old.policy)
            ends.append((ending, step))
    taken = take(kit, unit, takes)
    bells = ring(unit, rings)
    return taken, bells + (settle.settle(kit, unit, ends) if ends else [])


def ring(unit: Unit, rings: Sequence[tuple[Start, Job]]) -> list[Bell]:
    """Make stages pending, rung for now; whoever hears the bell takes them."""
    rows = [
        {
            "entry_id": start.entry.id,
            "pipeline_hash": start.pipeline.hash,
            "job_id": job.id,
            "status": StageStatus.PENDING.value,
            "run_id": start.run["id"],
            "rung_at": unit.now(),
        }
        for start, job in rings
    ]
    unit.next(rows)
    takes = [(start.stages[job.id].takes if job.id in start.stages else 0) + 1 for start, job in rings]
    return [stage_bell(start.run["id"], job.id, n) for (start, job), n in zip(rings, takes, strict=True)]


def _stopped(ended: Ended) -> Stopped | None:
    """Say whether a take ends its run: with a question, a quota, a fault or a refusal that nothing tolerates."""
    job, result = ended.taken.job, ended.result
    if isinstance(result, Done):
        if ended.asked is None:
            return None
        question = f"gate {ended.asked.id} asks about the output of {job.id}: {ended.asked.why}"
        return Stopped(job_id=job.id, result=Asked(question=question))
    if isinstance(result, Faulted | Refused) and job.continue_on_error:
        return None
    return Stopped(job_id=job.id, result=result)


_ENDS: Mapping[type, StageStatus] = {
    Asked: StageStatus.WAITING,
    Throttled: StageStatus.PENDING,
    Faulted: StageStatus.PENDING,
    Refused: StageStatus.FAILED,
}


def _row(unit: Unit, ended: Ended) -> dict[str, Any]:
    taken, result = ended.taken, ended.result
    if isinstance(result, Done):
        status = StageStatus.WAITING if ended.asked else StageStatus.COMPLETED
    elif isinstance(result, Faulted) and taken.job.continue_on_error:
        status = StageStatus.FAILED
    else:
        status = _ENDS[type(result)]
    output = result.output if isinstance(result, Done) else None
    failure = (
        {"kind": result.kind.value, "text": result.reason, "rule": result.rule}
        if isinstance(result, Faulted | Refused)
        else None
    )
    attempts = len(ended.tries) + (not isinstance(result, Faulted))
    return {
        "entry_id__": taken.entry.id,
        "pipeline_hash__": taken.pipeline.hash,
        "job_id__": taken.job.id,
        "run_id__": taken.run["id"],
        "takes__": taken.take,
        "status": status.value,
        "leased_until": None,
        "attempts": taken.attempts + attempts,
        "tries": list(ended.tries),
        "ended_at": unit.now(),
        "output": output,
        "sha256": digest(output) if isinstance(result, Done) else None,
        "artifacts": list(ended.artifacts),
        "gates": [each.as_data() for each in ended.gates],
        "reason": failure,
    }


def _note(unit: Unit, ended: Ended) -> None:
    result = ended.result
    data = {
        "job_id": ended.taken.job.id,
        "take": ended.taken.take,
        "result": type(result).__name__.lower(),
        "tries": len(ended.tries),
        "gates": {each.id: each.result.value for each in ended.gates},
        "sha256": digest(result.output) if isinstance(result, Done) else None,
        "artifacts": [each["sha256"] for each in ended.artifacts],
    }
    unit.note(ended.taken.entry.id, Note.CHECKPOINTED, data)
