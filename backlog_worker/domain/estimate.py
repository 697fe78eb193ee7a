"""Estimates of the duration and cost of a run from past runs, with jobs in sequence and in parallel."""

import heapq
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from backlog_worker.domain.pipeline import Pipeline


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEstimate:
    """One job: the median and the ninth decile of its seconds, the number of runs, and its mean price."""

    job_id: str
    runs: int
    seconds: float | None
    seconds_p90: float | None
    usd: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A whole run; `unknown` jobs never ran, and `unpriced` jobs ran with calls without a price.

    Neither is guessed: `usd` is the total of the priced jobs, and None if a job that ran has no price.
    """

    jobs: tuple[JobEstimate, ...]
    sequential_seconds: float
    parallel_seconds: float
    usd: float | None
    unknown: tuple[str, ...]
    unpriced: tuple[str, ...]


def estimated(
    pipeline: Pipeline, durations: Iterable[tuple[str, float]], prices: Mapping[str, tuple[int, float | None]]
) -> Estimate:
    """Estimate a run of *pipeline* from (job, seconds) and (runs, mean US dollars) of past ones.

    In parallel means list scheduling with `maxConcurrentJobs` slots, as on an idle fleet.
    """
    seen: dict[str, list[float]] = {}
    for job_id, seconds in durations:
        seen.setdefault(job_id, []).append(seconds)
    jobs = tuple(_job(job.id, seen.get(job.id, []), prices.get(job.id)) for job in pipeline.jobs)
    usual = {each.job_id: each.seconds or 0.0 for each in jobs}
    unpriced = tuple(each.job_id for each in jobs if each.runs and each.usd is None)
    known = [each.usd for each in jobs if each.usd is not None]
    return Estimate(
        jobs=jobs,
        sequential_seconds=sum(usual.values()),
        parallel_seconds=makespan(pipeline, usual),
        usd=sum(known) if known and not unpriced else None,
        unknown=tuple(each.job_id for each in jobs if not each.runs),
        unpriced=unpriced,
    )


def makespan(pipeline: Pipeline, seconds: Mapping[str, float]) -> float:
    """Return when the last job ends if every job begins as soon as its dependencies and a slot allow."""
    left = {job.id: len(job.after) for job in pipeline.jobs}
    behind: dict[str, list[str]] = {job.id: [] for job in pipeline.jobs}
    for job in pipeline.jobs:
        for each in job.after:
            behind[each].append(job.id)
    ready = [job.id for job in pipeline.jobs if not left[job.id]]
    running: list[tuple[float, int, str]] = []
    now, slots = 0.0, pipeline.concurrency.max_concurrent_jobs
    while ready or running:
        while ready and len(running) < slots:
            job_id = ready.pop(0)
            heapq.heappush(running, (now + seconds.get(job_id, 0.0), pipeline.index[job_id], job_id))
        now, _, ended = heapq.heappop(running)
        for each in behind[ended]:
            left[each] -= 1
            if not left[each]:
                ready.append(each)
    return now


def _job(job_id: str, seconds: list[float], price: tuple[int, float | None] | None) -> JobEstimate:
    """Estimate one job; one that ran and called no model costs nothing."""
    ordered = sorted(seconds)
    free = 0.0 if ordered else None
    return JobEstimate(
        job_id=job_id,
        runs=len(ordered),
        seconds=statistics.median(ordered) if ordered else None,
        seconds_p90=ordered[min(len(ordered) - 1, int(len(ordered) * 0.9))] if ordered else None,
        usd=price[1] if price else free,
    )
