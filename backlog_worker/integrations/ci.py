"""What the three CI systems share: the command of a job, what its environment needs, what cannot be expressed."""

import io
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from ruamel.yaml import YAML

from backlog_worker.domain import template
from backlog_worker.domain.pipeline import Job, Pipeline

FOLDER = ".backlog-outputs"
INSTALL = "python -m pip install backlog-worker"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """A file of a CI system, where it belongs, and what of the pipeline it cannot say."""

    path: str
    text: str
    missing: tuple[str, ...]


def command(pipeline: Pipeline, job: Job) -> str:
    """Return the command of a job: it reads the results before it, asks `when`, retries, checks gates, writes its own.

    Names were checked by the language: letters, digits, `_` and `-` only.
    """
    return f"backlog-worker pipeline run {pipeline.name} --job {job.id} --outputs {FOLDER} --no-setup"


def secrets(job: Job) -> list[str]:
    """Return the names of the secrets that a job declares."""
    return sorted({name for text in job.env.values() for name in template.secrets_in(text)})


def minutes(length: timedelta) -> int:
    """Return a length of time in whole minutes, rounded up."""
    return max(1, math.ceil(length.total_seconds() / 60))


def waits_for_end(job: Job) -> bool:
    """Return whether a job may begin after a failure: its `when` reads how others ended, so the command must ask it."""
    return job.when is not None and (job.when.asks_all or bool(job.when.reads))


def required(job: Job) -> list[str]:
    """Return the dependencies that must have completed: those whose end the `when` does not read."""
    if job.when is None or job.when.asks_all:
        return list(job.depends_on) if job.when is None else []
    return [each for each in job.depends_on if each not in job.when.reads]


def header(pipeline: Pipeline, system: str) -> list[str]:
    """Return the comment at the head of a file, which pins the pipeline that it was made from."""
    return [
        f"Made from the pipeline {pipeline.name} {pipeline.version} ({pipeline.hash[:12]}); edit that, then run",
        f"`backlog-worker pipeline export {pipeline.name} --to {system}`; `--check` finds what drifted.",
        "Conditions, retries, contracts, gates and fallbacks are applied by the command of each job.",
    ]


def missing(pipeline: Pipeline) -> Iterator[str]:
    """Say what no CI system of the three expresses."""
    if len(pipeline.jobs) > pipeline.concurrency.max_concurrent_jobs:
        most = pipeline.concurrency.max_concurrent_jobs
        yield f"concurrency.maxConcurrentJobs {most}: the CI system has its own limit"
    if pipeline.concurrency.group:
        yield "concurrency.group: entries are not known there"
    for name, said in (("budget", pipeline.budget), ("retryRuns", pipeline.retry_runs)):
        if said:
            yield f"{name}: only the fleet does that"
    for job in pipeline.jobs:
        yield from _missing_of(job)


def _missing_of(job: Job) -> Iterator[str]:
    for name, said in (("cache", job.cache), ("budget", job.budget), ("writeBack", job.write_back)):
        if said is not None:
            yield f"{job.id}.{name}: only the fleet does that"
    if job.kind == "call":
        yield f"{job.id}.pipeline: calling {job.target} needs the fleet"
    for gate in job.gates:
        if gate.on_fail == "ask":
            yield f"{job.id}.gates.{gate.id}.onFail ask: nobody is asked there, the job fails"


def dumped(value: Mapping[str, Any], comment: list[str]) -> str:
    """Write YAML as people write it, under a comment."""
    yaml = YAML()
    yaml.width = 120
    yaml.indent(mapping=2, sequence=4, offset=2)
    out = io.StringIO()
    yaml.dump(dict(value), out)
    return "".join(f"# {line}\n" for line in comment) + out.getvalue()
