"""A pipeline as a workflow of GitHub Actions."""

from collections.abc import Iterator
from typing import Any

from backlog_worker.domain.errors import RefusedError
from backlog_worker.domain.language import TriggerFile
from backlog_worker.domain.pipeline import Job, Pipeline
from backlog_worker.integrations import ci
from backlog_worker.integrations.ci import Exported

SYSTEM = "github-actions"


def exported(pipeline: Pipeline, install: str = ci.INSTALL) -> Exported:
    """Return the pipeline as `.github/workflows/NAME.yml`."""
    workflow = {
        "name": _text(pipeline.name),
        "on": _triggers(pipeline),
        "permissions": {"contents": "read"},
        "concurrency": {
            "group": f"{pipeline.name}-${{{{ github.ref }}}}",
            "cancel-in-progress": pipeline.concurrency.cancel_in_progress,
        },
        "jobs": {job.id: _job(pipeline, job, install) for job in pipeline.jobs},
    }
    return Exported(
        path=f".github/workflows/{pipeline.name}.yml",
        text=ci.dumped(workflow, ci.header(pipeline, SYSTEM)),
        missing=tuple(_missing(pipeline)),
    )


def _triggers(pipeline: Pipeline) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for trigger in pipeline.triggers:
        if trigger.type in {"push", "pull_request"}:
            given = {"branches": trigger.branches, "paths": trigger.paths}
            given |= {"types": trigger.types} if trigger.type == "pull_request" else {}
            said = {name: each for name, each in given.items() if each} or None
            if found.setdefault(trigger.type, said) != said:
                message = f"two triggers of type {trigger.type} with different filters: a workflow supports one"
                raise RefusedError(message, hint="use one trigger, or two pipelines")
        elif trigger.type == "schedule":
            found.setdefault("schedule", []).append({"cron": trigger.cron})
        elif trigger.type == "webhook":
            found.setdefault("repository_dispatch", {}).setdefault("types", []).append(_event(trigger, pipeline))
    return {**found, "workflow_dispatch": None}


def _event(trigger: TriggerFile, pipeline: Pipeline) -> str:
    return str(trigger.filters.get("event_type") or pipeline.name)


def _job(pipeline: Pipeline, job: Job, install: str) -> dict[str, Any]:
    value: dict[str, Any] = {"name": _text(job.name), "runs-on": job.runs_on or "ubuntu-latest"}
    if job.after:
        value["needs"] = list(job.after)
    if ci.waits_for_end(pipeline, job):
        done = [f"needs.{each}.result == 'success'" for each in ci.required(pipeline, job)]
        value["if"] = " && ".join(["!cancelled()", *done])
    value["timeout-minutes"] = ci.minutes(job.timeout * job.retry.max_attempts)
    if job.continue_on_error:
        value["continue-on-error"] = True
    if job.approval:
        value["environment"] = f"approve-{job.id}"
    if names := ci.secrets(job):
        value["env"] = {name: f"${{{{ secrets.{name} }}}}" for name in names}
    return {**value, "steps": _steps(pipeline, job, install)}


def _steps(pipeline: Pipeline, job: Job, install: str) -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = [
        {"uses": "actions/checkout@v4"},
        {"uses": "actions/setup-python@v5", "with": {"python-version": "3.12"}},
        {"name": "Install backlog-worker", "run": install},
    ]
    if job.after:
        given = {"pattern": "backlog-*", "path": ci.FOLDER, "merge-multiple": True}
        steps.append({"uses": "actions/download-artifact@v4", "with": given})
    steps += [{"name": _text(each.name or "Set up"), "run": _text(each.command)} for each in job.setup]
    steps.append({"name": _text(job.name), "run": ci.command(pipeline, job)})
    kept = "\n".join([f"{ci.FOLDER}/{job.id}.json", *(f"{ci.FOLDER}/{each}" for each in job.artifacts)])
    given = {"name": f"backlog-{job.id}", "path": kept, "include-hidden-files": True}
    steps.append({"uses": "actions/upload-artifact@v4", "if": "always()", "with": given})
    return steps


def _missing(pipeline: Pipeline) -> Iterator[str]:
    yield from ci.missing(pipeline)
    for trigger in pipeline.triggers:
        if trigger.type == "schedule" and trigger.timezone != "UTC":
            yield f"triggers.schedule.timezone {trigger.timezone}: GitHub reads cron lines in UTC"
        if trigger.type == "pull_request" and not trigger.types:
            yield "triggers.pull_request.types: without any, GitHub takes opened, synchronize and reopened only"
        if trigger.type == "webhook" and set(trigger.filters) - {"event_type"}:
            yield "triggers.webhook.filters: only event_type becomes the type of a repository_dispatch"
    for job in pipeline.jobs:
        if job.kind == "ask":
            yield f"{job.id}.interactive: a workflow cannot take a typed answer"
        if job.approval:
            yield f"{job.id}.approval: protect the environment approve-{job.id} with {', '.join(job.approval.roles)}"


def _text(words: str) -> str:
    """Return a text in which GitHub finds no expression."""
    return words.replace("${{", "$ {{")
