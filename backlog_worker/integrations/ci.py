"""What the three CI exports share: the command of a job, its environment, and the parts that cannot be expressed."""

import io
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from ruamel.yaml import YAML

from backlog_worker.domain import template
from backlog_worker.domain.handling import handles
from backlog_worker.domain.pipeline import Job, Pipeline

FOLDER = ".backlog-outputs"
INSTALL = "python -m pip install backlog-worker"  # for whoever has published it; the command line asks


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """An exported CI file: its path, its content, and the parts of the pipeline that it cannot express."""

    path: str
    text: str
    missing: tuple[str, ...]


def command(pipeline: Pipeline, job: Job) -> str:
    """Return the command of a job: it reads earlier results, evaluates `when`, retries, checks gates, writes its own.

    The language restricts names to letters, digits, `_` and `-`.
    """
    return f"backlog-worker pipeline run {pipeline.name} --job {job.id} --outputs {FOLDER} --no-setup"


def secrets(job: Job) -> list[str]:
    """Return the names of the secrets that a job declares."""
    return sorted({name for text in job.env.values() for name in template.secrets_in(text)})


def minutes(length: timedelta) -> int:
    """Return a length of time in whole minutes, rounded up."""
    return max(1, math.ceil(length.total_seconds() / 60))


def waits_for_end(pipeline: Pipeline, job: Job) -> bool:
    """Return whether a job may run after a failure: its `when` reads failures, or it depends on a job that may.

    Then its command must be called to decide.
    """
    jobs = (job, *(pipeline.job(each) for each in pipeline.ancestors(job.id)))
    return any(each.when is not None and (each.when.asks_all or bool(each.when.reads)) for each in jobs)


def required(pipeline: Pipeline, job: Job) -> list[str]:
    """Return the dependencies that must complete: `when` does not read them, and no job overcomes their failure."""
    if job.when is not None and job.when.asks_all:
        return []
    read = job.when.reads if job.when is not None else frozenset()
    return [each for each in job.depends_on if each not in read and not _bridged(pipeline, job, each)]


def _bridged(pipeline: Pipeline, job: Job, failed: str) -> bool:
    return any(each != failed and handles(pipeline, pipeline.job(each), failed) for each in job.depends_on)


MARK = "Made from the pipeline "


def maker(text: str) -> str | None:
    """Return the pipeline that a file was exported from, or None if the file is not an export of ours."""
    first = text.partition("\n")[0].lstrip("#/ ")
    return first.removeprefix(MARK).partition(" ")[0] if first.startswith(MARK) else None


def header(pipeline: Pipeline, system: str) -> list[str]:
    """Return the comment at the head of a file, which pins the exported pipeline version."""
    return [
        f"{MARK}{pipeline.name} {pipeline.version} ({pipeline.hash[:12]}); edit that, then run",
        f"`backlog-worker pipeline export {pipeline.name} --to {system}`; `--check` finds what drifted.",
        "Conditions, retries, contracts, gates and fallbacks are applied by the command of each job.",
    ]


def missing(pipeline: Pipeline) -> Iterator[str]:
    """Yield the parts of a pipeline that none of the three CI systems can express."""
    if len(pipeline.jobs) > pipeline.concurrency.max_concurrent_jobs:
        most = pipeline.concurrency.max_concurrent_jobs
        yield f"concurrency.maxConcurrentJobs {most}: the CI system has its own limit"
    if pipeline.concurrency.group:
        yield "concurrency.group: the CI system does not know entries"
    for name, said in (("budget", pipeline.budget), ("retryRuns", pipeline.retry_runs)):
        if said:
            yield f"{name}: only the fleet does that"
    for job in pipeline.jobs:
        yield from _missing_of(pipeline, job)


def _missing_of(pipeline: Pipeline, job: Job) -> Iterator[str]:
    for name, said in (("cache", job.cache), ("budget", job.budget), ("writeBack", job.write_back)):
        if said is not None:
            yield f"{job.id}.{name}: only the fleet does that"
    if bridged := [each for each in job.depends_on if _bridged(pipeline, job, each)]:
        yield f"{job.id}.dependsOn: a failure of {', '.join(bridged)} that is overcome fails the build there"
    if job.kind == "call":
        yield f"{job.id}.pipeline: calling {job.target} needs the fleet"
    for gate in job.gates:
        if gate.on_fail == "ask":
            yield f"{job.id}.gates.{gate.id}.onFail ask: no person is asked there; the job fails"


def dumped(value: Mapping[str, Any], comment: list[str]) -> str:
    """Return a value as readable YAML under a comment."""
    yaml = YAML()
    yaml.width = 120
    yaml.indent(mapping=2, sequence=4, offset=2)
    out = io.StringIO()
    yaml.dump(dict(value), out)
    return "".join(f"# {line}\n" for line in comment) + out.getvalue()
