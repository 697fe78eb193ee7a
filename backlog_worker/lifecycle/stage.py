"""Take a stage, perform its job, store the checkpoint; then plan the next step: take, ring, ask, or settle.

A checkpoint, the next takes and the settling of a run share one transaction, also for several entries of one bell. The
entry's row is locked before its stages are read, so that of two last jobs that end together exactly one sees the join.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

from backlog_worker.domain import draft as drafts
from backlog_worker.domain.attempts import Tried
from backlog_worker.domain.bell import Bell, stage_bell
from backlog_worker.domain.causes import basis
from backlog_worker.domain.entry import FOLDED, Change, Entry, Note
from backlog_worker.domain.frontier import Ruling, Stage, StageStatus, current, outcome
from backlog_worker.domain.legible import error_words, legible
from backlog_worker.domain.masking import cut, masked
from backlog_worker.domain.outcome import FailureKind, Outcome, Refused, Verdict
from backlog_worker.domain.pipeline import Job
from backlog_worker.domain.reasons import Bar
from backlog_worker.lifecycle import Kit, ahead, checkpoint, settle
from backlog_worker.lifecycle.ahead import planned, stages_of
from backlog_worker.lifecycle.held import Ended, Start, Taken
from backlog_worker.lifecycle.loops import attempt, insist
from backlog_worker.lifecycle.perform import done, watched
from backlog_worker.lifecycle.settle import Ending
from backlog_worker.store import Unit
from backlog_worker.telemetry import emit


def advance(kit: Kit, run_id: str, job_id: str) -> list[Bell]:
    """Take one stage and perform it; returns no bells if it cannot be taken: a repeated, late or forged bell.

    Only stages that a plan rang for are begun, and canceled ones are no longer pending: so nothing is planned here, and
    only this stage of a large graph is read.
    """
    begun = attempt("stage", lambda: insist(lambda: _take_stage(kit, run_id, job_id)), run=run_id, job=job_id)
    if begun.error is None:
        return work(kit, begun.value or [], [])
    if begun.elsewhere:
        raise begun.error
    text = cut(f"it cannot begin: {masked(error_words(begun.error))}", 400)
    failed = attempt("stage", lambda: fail(kit, run_id, job_id, FailureKind.EXECUTION, text), run=run_id, job=job_id)
    if failed.error is None or failed.elsewhere:
        return failed.value or []
    return break_off(kit, run_id, text)


def work(kit: Kit, taken: Sequence[Taken], bells: list[Bell]) -> list[Bell]:
    """Perform stages one after the other until their runs end or wait; a failing run never affects the others.

    Bells for other workers are rung before this process continues; the caller rings the last ones.
    """
    held = {each.key for each in taken}
    try:
        while taken:
            if bells:
                kit.ring(list(dict.fromkeys(bells)))
            ended = [done(kit, each) for each in [watched(kit, each, among=len(taken)) for each in taken]]
            taken, bells = _write_results(kit, ended)
            held = {each.key for each in taken}
    except (SystemExit, KeyboardInterrupt):  # a cold stop of the worker: children are already dead
        attempt("give_back", lambda: insist(lambda: give_back(kit, sorted({run_id for run_id, _, _ in held}))))
        raise
    finally:
        kit.heart.rest(held)
    return list(dict.fromkeys(bells))


def give_back(kit: Kit, run_ids: Sequence[str]) -> None:
    """Return claims to the queue without counting an attempt; checkpoints stay.

    A run whose other stages are performed elsewhere continues; only the stages of this worker are rung for again.
    """
    with kit.store.begin(actor=kit.worker) as unit:
        for run_id, entry in unit.renew(run_ids).items():
            if unit.hand_over(run_id, kit.worker):
                emit("given_back", entry=entry.id, run=run_id, kept=True)
                continue
            unit.untake(entry.id, str(entry.pipeline_hash), run_id)
            unit.move(entry.id, Change.RETURNED, "the worker stopped and returned the entry")
            emit("given_back", entry=entry.id, run=run_id)


def fail(kit: Kit, run_id: str, job_id: str, kind: FailureKind, text: str) -> list[Bell]:
    """Fail a stage that no worker performs any more, and continue its run."""
    with kit.store.begin(actor="sweep") as unit:
        start = started(kit, unit, run_id)
        if start is None or job_id not in start.stages:
            return []
        unit.lease = start.policy.claims.timeout.total_seconds()
        stage = start.stages[job_id]
        if stage.status != StageStatus.PENDING:
            return []
        failed = ahead.without_work(unit, start, {job_id: Ruling(StageStatus.FAILED, text, kind)})
        _, bells = onward(kit, unit, [failed], takes="nothing")
    return bells


def go_on(kit: Kit, run_id: str) -> list[Bell]:
    """Ring for the stages of a run in progress whose pause is over."""
    with kit.store.begin(actor="sweep") as unit:
        start = started(kit, unit, run_id)
        if start is None:
            return []
        unit.lease = start.policy.claims.timeout.total_seconds()
        return onward(kit, unit, [start], takes="nothing")[1]


def started(kit: Kit, unit: Unit, run_id: str, job_id: str = "") -> Start | None:
    """Lock the entry of a run and read the state of the run; None if the run holds it no longer.

    With *job_id* only the stage of that job is read of a large graph.
    """
    entries = unit.renew([run_id])
    run = unit.run_of(run_id)
    pipeline = kit.book.pinned(unit, run["pipeline_hash"]) if run else None
    if run is None or run_id not in entries or pipeline is None:
        return None
    entry = entries[run_id]
    policy = kit.book.policy_by_hash(unit, run["policy_hash"])
    if job_id and len(pipeline.jobs) > ahead.LARGE:
        known = current(pipeline, unit.one_stage(entry.id, pipeline.hash, job_id), unit.now())
    else:
        known = stages_of(unit, entry, pipeline, run_id)
    return Start(entry=entry, run=run, pipeline=pipeline, policy=policy, stages=known, input=None)


def onward(
    kit: Kit, unit: Unit, starts: Sequence[Start], *, takes: Literal["nothing", "light", "first"]
) -> tuple[list[Taken], list[Bell]]:
    """Plan held runs: write stages that end without work, open questions, then take, ring or settle.

    This process takes *nothing*, the light stages, or these and the *first* of each run; it rings for the others.
    """
    mine: list[tuple[Start, Job]] = []
    rings: list[tuple[Start, Job]] = []
    ends: list[tuple[Ending, Outcome]] = []
    for each in starts:
        start, now = planned(kit, unit, each)
        ended = outcome(start.pipeline, start.stages, now)
        if ended is not None:
            ends.append((ending(unit, start), ended))
            continue
        room = start.pipeline.concurrency.max_concurrent_jobs - now.active
        jobs = [start.pipeline.job(job_id) for job_id in now.ready[: max(0, room)]]
        light = {job.id for job in jobs if job.inline and takes != "nothing"}
        first = light or {job.id for job in jobs[:1] if takes == "first"}
        mine += [(start, job) for job in jobs if job.id in first]
        rings += [(start, job) for job in jobs if job.id not in first]
    taken = take(kit, unit, mine)
    bells = ring(unit, rings)
    return taken, bells + (settle.settle(kit, unit, ends) if ends else [])


def take(kit: Kit, unit: Unit, starts: Sequence[tuple[Start, Job]]) -> list[Taken]:
    """Take stages of held runs, in one statement; stages taken by another worker are skipped."""
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
            "based_on": _basis(start, job),
        }
        for start, job in starts
    ]
    numbers = unit.take(rows)
    unread = [start.entry for start, _ in starts if start.input is None]
    inputs = unit.inputs(unread) if unread else {}
    taken = []
    for start, job in starts:
        if (start.entry.id, job.id) in numbers:
            number, tried = numbers[(start.entry.id, job.id)]
            data = {"job_id": job.id, "take": number, "pipeline_hash": start.pipeline.hash}
            unit.note(start.entry.id, Note.TAKEN, {**data, "round": start.run["attempt"]})
            context = inputs.get(start.entry.id, {}) if start.input is None else start.input
            taken.append(_taken(unit, start, job, (number, tried), context))
    return taken


def ring(unit: Unit, rings: Sequence[tuple[Start, Job]]) -> list[Bell]:
    """Make stages pending and ring for them now; any worker that hears the bell takes them."""
    rows = [
        {
            "entry_id": start.entry.id,
            "pipeline_hash": start.pipeline.hash,
            "job_id": job.id,
            "status": StageStatus.PENDING.value,
            "run_id": start.run["id"],
            "rung_at": unit.now(),
            "start_by": unit.now() + start.pipeline.clocks.queue if start.pipeline.clocks.queue else None,
            "based_on": basis(start.stages, job),
        }
        for start, job in rings
    ]
    unit.next(rows)
    takes = [(start.stages[job.id].takes if job.id in start.stages else 0) + 1 for start, job in rings]
    return [stage_bell(start.run["id"], job.id, n) for (start, job), n in zip(rings, takes, strict=True)]


def ending(unit: Unit, start: Start) -> Ending:
    """Return what settling a run needs: its complete stored stages."""
    entry, pipeline, stages = start.entry, start.pipeline, start.stages
    if len(pipeline.jobs) > ahead.LARGE:  # a large graph was planned from partial stages
        stages = current(pipeline, unit.stages({entry.id: pipeline.hash})[entry.id])
    return Ending(entry=entry, run=start.run, pipeline=pipeline, stages=stages, policy=start.policy)


def _basis(start: Start, job: Job) -> Mapping[str, str] | None:
    """Return the takes that a job is based on; for a rung stage, those of the plan that rang."""
    stage = start.stages.get(job.id)
    return stage.based_on if stage is not None and _rung(stage) else basis(start.stages, job)


def _take_stage(kit: Kit, run_id: str, job_id: str) -> list[Taken]:
    with kit.store.begin(actor=kit.worker) as unit:
        start = started(kit, unit, run_id, job_id)
        stage = start.stages.get(job_id) if start else None
        if start is None or not _rung(stage):
            return []
        unit.lease = start.policy.claims.timeout.total_seconds()
        if not _eligible(kit, unit, start):
            return []
        return take(kit, unit, [(start, start.pipeline.job(job_id))])


def _write_results(kit: Kit, ended: Sequence[Ended]) -> tuple[list[Taken], list[Bell]]:
    """Write results until they are written or their claims are lost.

    A result that cannot be written is tried alone, then replaced by a failure with details, then by one without. If
    that fails too, the run is broken off, so that no error leaves a run waiting for its lease to expire.
    """
    tried = attempt(
        "stage", lambda: insist(partial(_checkpoint_all, kit, ended), given_up=partial(_claims_lost, ended))
    )
    if tried.error is None and tried.value is not None:
        return tried.value
    if tried.elsewhere and tried.error is not None:
        raise tried.error
    if len(ended) > 1:
        alone = [_write_results(kit, [each]) for each in ended]
        return [each for taken, _ in alone for each in taken], [bell for _, bells in alone for bell in bells]
    (one,) = ended
    why = cut(error_words(tried.error), 300) if tried.error else ""
    for instead in _failures(one, f"its result cannot be stored: {why}"):
        again = attempt("stage", lambda: insist(partial(_checkpoint_all, kit, [instead])))  # noqa: B023 - done before the next
        if again.value is not None:
            return again.value
    return [], insist(partial(break_off, kit, one.taken.run["id"], why))


def _failures(ended: Ended, reason: str) -> Iterator[Ended]:
    """Yield the replacements of a result: a refusal, and one without its attempts and spending."""
    result = Refused(kind=FailureKind.VALIDATION, reason=cut(reason, 400))
    yield Ended(taken=ended.taken, result=result, tried=ended.tried)
    plain = legible(reason).encode("ascii", "replace").decode()[:400]
    bare = replace(ended.tried, failed=())
    yield Ended(taken=replace(ended.taken, approval=None), result=replace(result, reason=plain), tried=bare)


def break_off(kit: Kit, run_id: str, why: str) -> list[Bell]:
    """End a run that cannot continue: its entry is escalated with the reason, without its jobs."""
    with kit.store.begin(actor=kit.worker) as unit:
        entries, run = unit.renew([run_id]), unit.run_of(run_id)
        if run is None or run_id not in entries:
            return []
        entry = entries[run_id]
        unit.untake(entry.id, str(entry.pipeline_hash), run_id)
        reason = cut(f"its run cannot continue: {legible(why)}", 400)
        verdict = Verdict(change=Change.ESCALATED, reason=reason, kind=FailureKind.EXECUTION, role="operator", faults=1)
        policy = kit.book.policy_by_hash(unit, run["policy_hash"])
        broken = Ending(entry=entry, run=run, pipeline=None, stages={}, policy=policy)
        return settle.conclude(kit, unit, [(broken, verdict)])


def _claims_lost(ended: Sequence[Ended]) -> bool:
    """Return whether every claim is lost by now; until then a result is written again and again."""
    return all(each.taken.stop.gone for each in ended)


def _rung(stage: Stage | None) -> bool:
    return stage is not None and stage.status == StageStatus.PENDING and stage.rung_at is not None


def _eligible(kit: Kit, unit: Unit, start: Start) -> bool:
    """Judge eligibility by the policy in force before each stage; an entry that is no longer eligible is blocked."""
    policy = kit.book.policy(unit)
    said = policy.eligibility(drafts.rule_values({name: getattr(start.entry, name) for name in FOLDED}))
    if all(said.values()):
        return True
    unit.untake(start.entry.id, start.pipeline.hash, start.run["id"])
    no = ", ".join(rule for rule, yes in said.items() if not yes)
    bars = [Bar.NOT_ELIGIBLE.value]
    unit.move(start.entry.id, Change.BLOCKED, f"refused before a stage: {no}", {"eligibility": said}, bars=bars)
    emit("claim_refused", entry=start.entry.id, bars=bars)
    return False


def _taken(unit: Unit, start: Start, job: Job, numbers: tuple[int, Tried], context: Mapping[str, Any]) -> Taken:
    stage, (take, tried) = start.stages.get(job.id), numbers
    return Taken(
        entry=start.entry,
        run=start.run,
        pipeline=start.pipeline,
        policy=start.policy,
        job=job,
        take=take,
        tried=tried,
        trying=unit.now() - (tried.began or unit.now()),
        input=context,
        stages=ahead.with_outputs(unit, start, job),
        granted=tuple((stage.approval or {}).get("granted", ())) if stage else (),
        approval=stage.approval if stage else None,
        since=unit.began,
    )


def _checkpoint_all(kit: Kit, ended: Sequence[Ended]) -> tuple[list[Taken], list[Bell]]:
    """Store the checkpoints of all stages still held, then plan the next step, in one transaction."""
    with kit.store.begin(actor=kit.worker) as unit:
        unit.lease = max(each.taken.policy.claims.timeout.total_seconds() for each in ended)
        entries = unit.renew([each.taken.run["id"] for each in ended])
        live = [each for each in ended if each.taken.run["id"] in entries]
        kept = unit.checkpoint([checkpoint.row(unit, each) for each in live])
        live = [each for each in live if (each.taken.entry.id, each.taken.job.id) in kept]
        for each in live:
            checkpoint.note(unit, each)
        starts = _starts(unit, live, entries)
        for each in live:
            ahead.asked_by(kit, unit, starts[each.taken.run["id"]], each)
        taken, bells = onward(kit, unit, list(starts.values()), takes="light")
    lost = {each.taken.key for each in ended} - {each.taken.key for each in live}
    for run_id, job_id, _ in sorted(lost):
        emit("stale_write_refused", run=run_id, job=job_id)
    kit.heart.rest({each.taken.key for each in ended} - {each.key for each in taken})
    return taken, bells


def _starts(unit: Unit, live: Sequence[Ended], entries: Mapping[str, Entry]) -> dict[str, Start]:
    """Read the state of the runs just written; several stages of one run give one start."""
    olds = {each.taken.run["id"]: each.taken for each in live}
    read = ahead.stages_of_many(unit, [(entries[run_id], old.pipeline, run_id) for run_id, old in olds.items()])
    return {
        run_id: Start(
            entry=entries[run_id],
            run=old.run,
            pipeline=old.pipeline,
            policy=old.policy,
            stages=read[run_id],
            input=old.input,
        )
        for run_id, old in olds.items()
    }
