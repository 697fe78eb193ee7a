"""Which stages of earlier runs still count when a run begins: each stage records the takes it was decided from.

A run *goes on* from earlier runs that were lost, given back, parked or out of quota. Stages that ended in those keep
their state, so the death of a worker changes nothing. Every other run is a new try, with these rules:

1. A stage that ended with a fault or was canceled is pending again. Other failures stand, unless a person requeues the
   entry: then they become pending before the run begins.
2. A stage that a completed handler `undoes` is void, and so is every stage decided from it.
3. A stage stands if all takes that it was decided from stand and were not repeated since. This holds for skipped
   stages and handlers too.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace

from backlog_worker.domain.pipeline import Job, Pipeline
from backlog_worker.domain.stages import ENDED, Stage, StageStatus

VOIDED = frozenset({StageStatus.COMPLETED, StageStatus.SKIPPED})


def basis(stages: Mapping[str, Stage], job: Job) -> dict[str, str]:
    """Return the takes that decide a job now: for each job that it reads, the run in which that job ended."""
    read = job.after if job.undoes is None else dict.fromkeys((*job.after, job.undoes))
    known = ((each, stages.get(each)) for each in read)
    return {each: str(stage.run_id) for each, stage in known if stage is not None and stage.status in ENDED}


def standing(pipeline: Pipeline, stages: Mapping[str, Stage], goes_on: Collection[str]) -> dict[str, Stage]:
    """Return the initial stages of a run that *goes on* from the given runs; void stages are pending."""
    undone = _undone(pipeline, stages, goes_on)
    found: dict[str, Stage] = {}
    for job_id in pipeline.order:
        stage = stages.get(job_id)
        if stage is None:
            continue
        same = stage.run_id in goes_on
        based = same or _based(found, stage)
        if _kept(stage, same=same) and based and job_id not in undone:
            found[job_id] = stage
        else:
            found[job_id] = _pending(stage, approved=based and job_id not in undone)
    return found


def void(pipeline: Pipeline, stages: Mapping[str, Stage], found: Mapping[str, Stage]) -> list[str]:
    """Return the jobs that had completed but no longer stand, in file order."""
    done = [job.id for job in pipeline.jobs if job.id in found and stages[job.id].status == StageStatus.COMPLETED]
    return [job_id for job_id in done if found[job_id].status != StageStatus.COMPLETED]


def taken_back(pipeline: Pipeline, stages: Mapping[str, Stage]) -> list[str]:
    """Return the completed jobs that a handler has undone, and the jobs that were built on them before that."""
    undone = _undone(pipeline, stages, ())
    if not undone:
        return []
    back = {job.id for job in pipeline.jobs if job.undoes in undone and _completed(stages, job.id)}
    after = {each for job_id in back for each in (job_id, *pipeline.descendants(job_id))}
    built = {each for job_id in undone for each in (job_id, *pipeline.descendants(job_id))} - after
    return [job.id for job in pipeline.jobs if job.id in built and _completed(stages, job.id)]


def _undone(pipeline: Pipeline, stages: Mapping[str, Stage], goes_on: Collection[str]) -> set[str]:
    """Return the jobs that handlers of earlier tries undid, as they were at that time."""
    found = set()
    for job in pipeline.jobs:
        by, target = stages.get(job.id), stages.get(job.undoes or "")
        if by is None or target is None or by.status != StageStatus.COMPLETED or by.run_id in goes_on:
            continue
        if (by.based_on or {}).get(str(job.undoes)) == target.run_id:
            found.add(str(job.undoes))
    return found


def _pending(stage: Stage, *, approved: bool) -> Stage:
    """Return a stage to be done again; its results are removed, so no other job can read them."""
    again = replace(stage, status=StageStatus.PENDING, rung_at=None, leased_until=None)
    if not approved:
        again = replace(again, approval=None)
    if stage.status in VOIDED:
        again = replace(again, output=None, sha256=None, artifacts=(), gates=(), reason=None)
        again = replace(again, worker=None, started_at=None, used=0)
    return again


def _kept(stage: Stage, *, same: bool) -> bool:
    """Return whether a stage may stand, regardless of the takes it was decided from."""
    match stage.status:
        case StageStatus.COMPLETED | StageStatus.WAITING:  # a paused stage too, until its pause is over
            return True
        case StageStatus.SKIPPED:
            return same or stage.based_on is not None
        case StageStatus.FAILED:
            return same or not (stage.reason or {}).get("fault")
        case StageStatus.CANCELED:
            return same
        case _:
            return False


def _based(found: Mapping[str, Stage], stage: Stage) -> bool:
    """Return whether all takes that a stage was decided from still stand; older releases did not record them."""
    return all(_stands(found.get(job_id), run_id) for job_id, run_id in (stage.based_on or {}).items())


def _stands(stage: Stage | None, run_id: str) -> bool:
    return stage is not None and stage.status in ENDED and stage.run_id == run_id


def _completed(stages: Mapping[str, Stage], job_id: str) -> bool:
    return job_id in stages and stages[job_id].status == StageStatus.COMPLETED
