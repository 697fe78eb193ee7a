"""What still stands of earlier runs when a run begins: each stage knows from which takes it was decided.

A run *goes on* from those before it that were lost, given back, parked or out of quota: what had ended in them stays as
it ended, so a worker that dies changes nothing. Every other run is a new try, for which

1. what a fault ended or was canceled is pending again; other failures stand, unless a person sends the entry round:
   then they are pending before the run begins;
2. what a completed handler `undoes` is void, and so on with all that was decided from it;
3. a stage stands if all that it was decided from stands, and has not been done again since; skips and handlers too.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace

from backlog_worker.domain.pipeline import Job, Pipeline
from backlog_worker.domain.stages import ENDED, Stage, StageStatus

VOIDED = frozenset({StageStatus.COMPLETED, StageStatus.SKIPPED})


def basis(stages: Mapping[str, Stage], job: Job) -> dict[str, str]:
    """Return from which takes a job is decided now: the run in which each job that it reads has ended."""
    read = job.after if job.undoes is None else dict.fromkeys((*job.after, job.undoes))
    known = ((each, stages.get(each)) for each in read)
    return {each: str(stage.run_id) for each, stage in known if stage is not None and stage.status in ENDED}


def standing(pipeline: Pipeline, stages: Mapping[str, Stage], goes_on: Collection[str]) -> dict[str, Stage]:
    """Return the stages as a run finds them that begins now and *goes on* from these runs; what is void is pending."""
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
    """Return the jobs that had completed and do not stand any more, in the order of the file."""
    done = [job.id for job in pipeline.jobs if job.id in found and stages[job.id].status == StageStatus.COMPLETED]
    return [job_id for job_id in done if found[job_id].status != StageStatus.COMPLETED]


def taken_back(pipeline: Pipeline, stages: Mapping[str, Stage]) -> list[str]:
    """Return the completed jobs that a handler has taken back, with what was built on them before it did."""
    undone = _undone(pipeline, stages, ())
    if not undone:
        return []
    back = {job.id for job in pipeline.jobs if job.undoes in undone and _completed(stages, job.id)}
    after = {each for job_id in back for each in (job_id, *pipeline.descendants(job_id))}
    built = {each for job_id in undone for each in (job_id, *pipeline.descendants(job_id))} - after
    return [job.id for job in pipeline.jobs if job.id in built and _completed(stages, job.id)]


def _undone(pipeline: Pipeline, stages: Mapping[str, Stage], goes_on: Collection[str]) -> set[str]:
    """Return what handlers of earlier tries took back, as it stood when they did."""
    found = set()
    for job in pipeline.jobs:
        by, target = stages.get(job.id), stages.get(job.undoes or "")
        if by is None or target is None or by.status != StageStatus.COMPLETED or by.run_id in goes_on:
            continue
        if (by.based_on or {}).get(str(job.undoes)) == target.run_id:
            found.add(str(job.undoes))
    return found


def _pending(stage: Stage, *, approved: bool) -> Stage:
    """Return a stage that is to be done again; of one that is void nothing is left that others could read."""
    again = replace(stage, status=StageStatus.PENDING, rung_at=None, leased_until=None)
    if not approved:
        again = replace(again, approval=None)
    if stage.status in VOIDED:
        again = replace(again, output=None, sha256=None, artifacts=(), gates=(), reason=None)
        again = replace(again, worker=None, started_at=None, used=0)
    return again


def _kept(stage: Stage, *, same: bool) -> bool:
    """Return whether a stage may stand, apart from what it was decided from."""
    match stage.status:
        case StageStatus.COMPLETED | StageStatus.WAITING:  # a pause too, until it is over
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
    """Return whether all that a stage was decided from stands as it was then; of an older release that is not known."""
    return all(_stands(found.get(job_id), run_id) for job_id, run_id in (stage.based_on or {}).items())


def _stands(stage: Stage | None, run_id: str) -> bool:
    return stage is not None and stage.status in ENDED and stage.run_id == run_id


def _completed(stages: Mapping[str, Stage], job_id: str) -> bool:
    return job_id in stages and stages[job_id].status == StageStatus.COMPLETED
