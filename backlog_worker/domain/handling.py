"""Failures and their handlers: which failures stand, which were overcome, and which still can be.

A *handler* of a failure is a job whose `when` reads it, by name or with `always()` or `failure()`. A failure is
*overcome* when a job went on that depends on the failed job and on a completed handler, and does not read the failure
itself. A handler that `undoes` a job does not overcome anything.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from backlog_worker.domain.pipeline import Job, Pipeline
from backlog_worker.domain.stages import ENDED, StageStatus

NOBODY: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Failures:
    """The untolerated failures of a run: those that *stand*, the *final* among them, and the *overcome* ones.

    A standing failure is final once no later job can overcome it.
    """

    standing: frozenset[str] = NOBODY
    final: frozenset[str] = NOBODY
    overcome: frozenset[str] = NOBODY


def failures(pipeline: Pipeline, status: Callable[[str], StageStatus]) -> Failures:
    """Return the failures of a run; *status* returns the status of a job."""
    failed = {job.id for job in pipeline.jobs if status(job.id) == StageStatus.FAILED and not job.continue_on_error}
    overcome: set[str] = set()
    hopeful: set[str] = set()
    for job_id in reversed(pipeline.order) if failed else ():  # a job that overcomes a failure comes after it
        if job_id not in failed:
            continue
        for job, handler in _bridges(pipeline, job_id):
            done = status(handler.id) == StageStatus.COMPLETED
            went_on = _went_on(job, status(job.id)) or job.id in overcome
            if done and went_on:
                overcome.add(job_id)
            elif (done or status(handler.id) not in ENDED) and (
                went_on or status(job.id) not in ENDED or job.id in hopeful
            ):
                hopeful.add(job_id)
    standing = frozenset(failed - overcome)
    return Failures(standing=standing, final=standing - hopeful, overcome=frozenset(overcome))


def handles(pipeline: Pipeline, job: Job, failed: str) -> bool:
    """Return whether a job handles the failure of another job."""
    if job.when is None:
        return False
    return failed in job.when.reads or (job.when.asks_all and pipeline.precedes(failed, job.id))


def handlers(pipeline: Pipeline, failed: Iterable[str], status: Callable[[str], StageStatus]) -> list[str]:
    """Return the jobs that completed as handlers of failures, in file order."""
    listed = list(failed)
    done = [job for job in pipeline.jobs if status(job.id) == StageStatus.COMPLETED]
    return [job.id for job in done if any(handles(pipeline, job, each) for each in listed)]


def bridged(pipeline: Pipeline, job: Job, failed: str, status: Callable[[str], StageStatus]) -> bool:
    """Return whether a failed dependency is met: the job also depends on a handler of it that completed."""
    others = (pipeline.job(each) for each in job.depends_on if each != failed)
    return any(status(each.id) == StageStatus.COMPLETED and handles(pipeline, each, failed) for each in others)


def _bridges(pipeline: Pipeline, failed: str) -> Iterator[tuple[Job, Job]]:
    """Yield each job that can overcome a failure, with the handler that allows it."""
    for job in pipeline.jobs:
        if failed in job.depends_on and not handles(pipeline, job, failed):
            for each in job.depends_on:
                handler = pipeline.job(each)
                if each != failed and handler.undoes is None and handles(pipeline, handler, failed):
                    yield job, handler


def _went_on(job: Job, status: StageStatus) -> bool:
    return status == StageStatus.COMPLETED or (status == StageStatus.FAILED and job.continue_on_error)
