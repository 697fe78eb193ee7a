"""A pipeline as a file of GitLab CI."""

import re
from collections.abc import Iterator
from typing import Any

from backlog_worker.domain import globs
from backlog_worker.domain.errors import RefusedError
from backlog_worker.domain.pipeline import Job, Pipeline
from backlog_worker.integrations import ci
from backlog_worker.integrations.ci import Exported

SYSTEM = "gitlab-ci"


def exported(pipeline: Pipeline, install: str = ci.INSTALL) -> Exported:
    """Return the pipeline as `.gitlab-ci.yml`."""
    stages = list(dict.fromkeys(_stage(job) for job in pipeline.jobs))
    value: dict[str, Any] = {
        "stages": stages,
        "workflow": _workflow(pipeline),
        "default": {"image": "python:3.12", "before_script": [install]},
        **{_name(job): _job(pipeline, job) for job in pipeline.jobs},
    }
    text = ci.dumped(value, ci.header(pipeline, SYSTEM))
    return Exported(path=".gitlab-ci.yml", text=text, missing=tuple(_missing(pipeline)))


def _workflow(pipeline: Pipeline) -> dict[str, Any]:
    rules: list[dict[str, Any]] = []
    for trigger in pipeline.triggers:
        match trigger.type:
            case "push":
                rules.append(
                    _changes({"if": f'$CI_PIPELINE_SOURCE == "push"{_branches(trigger.branches)}'}, trigger.paths)
                )
            case "pull_request":
                target = _branches(trigger.branches, "CI_MERGE_REQUEST_TARGET_BRANCH_NAME")
                rules.append(_changes({"if": f'$CI_PIPELINE_SOURCE == "merge_request_event"{target}'}, trigger.paths))
            case "schedule":
                rules.append({"if": '$CI_PIPELINE_SOURCE == "schedule"'})
            case "webhook":
                rules.append({"if": '$CI_PIPELINE_SOURCE == "trigger" || $CI_PIPELINE_SOURCE == "api"'})
            case _:
                pass
    rules.append({"if": '$CI_PIPELINE_SOURCE == "web"'})
    unique = [rule for at, rule in enumerate(rules) if rule not in rules[:at]]
    cancel = "interruptible" if pipeline.concurrency.cancel_in_progress else "none"
    return {"auto_cancel": {"on_new_commit": cancel}, "rules": unique}


def _changes(rule: dict[str, Any], paths: list[str]) -> dict[str, Any]:
    return {**rule, "changes": [_changed(each) for each in paths]} if paths else rule


def _changed(pattern: str) -> str:
    """Return a path pattern for `changes`, where `**` must be a whole segment; raises RefusedError."""
    found = _LAST.sub("**/*", _FIRST.sub(r"**/*\1", pattern))
    if _UNSAID.search(found) or "**" in _SEGMENTS.sub("", found):
        message = f"`changes` of GitLab cannot express the pattern {pattern!r} of `paths`"
        raise RefusedError(message, hint="use *, [] and ** as a whole segment, or omit `paths`")
    return found


_FIRST = re.compile(r"^\*\*([^/*]+)$")  # **.js is **/*.js
_LAST = re.compile(r"(?<![^/])\*\*$")  # and docs/** is docs/**/*
_SEGMENTS = re.compile(r"(?<![^/])\*\*/")
_UNSAID = re.compile(r"[!?+{}\\]")


def _branches(branches: list[str], variable: str = "CI_COMMIT_BRANCH") -> str:
    """Return a GitLab condition under which the last pattern that matches a branch includes it."""
    said = ""
    for glob in map(globs.read, branches):
        sign, joined = ("!~", "&&") if glob.negative else ("=~", "||")
        regex = glob.regex.replace("/", "\\/")
        one = f"${variable} {sign} /^{regex}$/"
        said = f"({said} {joined} {one})" if said else "" if glob.negative else one
    return f" && {said}" if said else ""


def _job(pipeline: Pipeline, job: Job) -> dict[str, Any]:
    value: dict[str, Any] = {
        "stage": _stage(job),
        "needs": [{"job": _name(pipeline.job(each))} for each in job.after],
    }
    if job.runs_on:
        value["tags"] = [job.runs_on]
    if ci.waits_for_end(pipeline, job):
        value["when"] = "always"
    if job.approval:
        value |= {"when": "manual", "allow_failure": False}
    if job.continue_on_error:
        value["allow_failure"] = True
    value["timeout"] = f"{ci.minutes(job.timeout * job.retry.max_attempts)} minutes"
    value["interruptible"] = pipeline.concurrency.cancel_in_progress
    value["script"] = [*(each.command for each in job.setup), ci.command(pipeline, job)]
    value["artifacts"] = {"when": "always", "paths": [f"{ci.FOLDER}/"], "expire_in": "30 days"}
    return value


def _name(job: Job) -> str:
    """Return a job's id, changed if it is a reserved word of GitLab."""
    return f"job-{job.id}" if job.id in _KEYWORDS else job.id


def _stage(job: Job) -> str:
    return job.stage or "run"


_KEYWORDS = frozenset(
    {"after_script", "before_script", "cache", "default", "image", "include", "nil", "pages", "services", "spec"}
    | {"stages", "types", "variables", "workflow"}
)


def _missing(pipeline: Pipeline) -> Iterator[str]:
    yield from ci.missing(pipeline)
    yield from _missing_triggers(pipeline)
    for job in pipeline.jobs:
        if names := ci.secrets(job):
            yield f"{job.id}.env: set {', '.join(names)} as masked variables of the project"
        if job.kind == "ask":
            yield f"{job.id}.interactive: a pipeline cannot take a typed answer"
        if job.approval:
            yield f"{job.id}.approval: a manual job; protect its environment for {', '.join(job.approval.roles)}"
        if ci.waits_for_end(pipeline, job) and job.approval:
            yield f"{job.id}.when: a manual job begins by hand only"


def _missing_triggers(pipeline: Pipeline) -> Iterator[str]:
    for trigger in pipeline.triggers:
        if trigger.type == "schedule":
            yield f"triggers.schedule {trigger.cron} {trigger.timezone}: make it under Build > Pipeline schedules"
        if trigger.type == "webhook":
            yield "triggers.webhook: use a pipeline trigger token; filters are not evaluated there"
        if trigger.type == "push" and trigger.paths:
            yield "triggers.push.paths: GitLab treats every file of a new branch as changed"
        if trigger.types:
            yield "triggers.pull_request.types: a merge request event has no types there"
