"""A pipeline as a declarative Jenkinsfile: one stage per layer of the graph, whose jobs run in parallel."""

from collections.abc import Iterator, Sequence

from backlog_worker.domain import globs
from backlog_worker.domain.drawing import layers
from backlog_worker.domain.handling import handles
from backlog_worker.domain.language import TriggerFile
from backlog_worker.domain.pipeline import Job, Pipeline
from backlog_worker.integrations import ci
from backlog_worker.integrations.ci import Exported

SYSTEM = "jenkins"


def exported(pipeline: Pipeline, install: str = ci.INSTALL) -> Exported:
    """Return the pipeline as a `Jenkinsfile`."""
    inner = [f"  {row}" for row in _stages(pipeline, install)] if _filters(pipeline) else _stages(pipeline, install)
    rows = [
        *(f"// {line}" for line in ci.header(pipeline, SYSTEM)),
        "pipeline {",
        "  agent any",
        "  options {",
        f"    disableConcurrentBuilds(abortPrevious: {_bool(pipeline.concurrency.cancel_in_progress)})",
        "  }",
        *_triggers(pipeline),
        "  stages {",
        *_filters(pipeline),
        *inner,
        *["    } }"] * bool(_filters(pipeline)),
        "  }",
        "}",
        "",
    ]
    return Exported(path="Jenkinsfile", text="\n".join(rows), missing=tuple(_missing(pipeline)))


def _stages(pipeline: Pipeline, install: str) -> list[str]:
    rows = ["    stage('Install backlog-worker') {", f"      steps {{ sh {_quoted(install)} }}", "    }"]
    for number, column in enumerate(layers(pipeline), start=1):
        rows += _column(pipeline, number, column)
    return rows


def _filters(pipeline: Pipeline) -> list[str]:
    """Return the head of a stage around all others that applies branch and path filters, if there are any."""
    events = [each for each in pipeline.triggers if each.type in {"push", "pull_request"}]
    if not any(each.branches or each.paths for each in events):
        return []
    by_hand = ["triggeredBy 'TimerTrigger'", "triggeredBy cause: 'UserIdCause'"]
    said = [f"        {each}" for each in [*by_hand, *(_event(each) for each in events)]]
    head = [f"    stage({_quoted(pipeline.name)}) {{", "      when { beforeAgent true; anyOf {"]
    return [*head, *said, "      } }", "      stages {"]


def _event(trigger: TriggerFile) -> str:
    """Return which builds a trigger selects: a multibranch project names their branch and the changes of each."""
    pull = trigger.type == "pull_request"
    said = ["changeRequest()" if pull else "not { changeRequest() }"]
    if trigger.branches:
        pattern = _quoted(_regex(trigger.branches))
        said.append(f"{'changeRequest target' if pull else 'branch pattern'}: {pattern}, comparator: 'REGEXP'")
    if trigger.paths:
        said.append(f"changeset pattern: {_quoted(_regex(trigger.paths))}, comparator: 'REGEXP'")
    return f"allOf {{ {'; '.join(said)} }}"


def _regex(patterns: Sequence[str]) -> str:
    """Return one Java regular expression that matches what the last matching pattern includes."""
    found = ""
    for glob in map(globs.read, patterns):
        if glob.negative:
            found = f"(?!(?:{glob.regex})$)(?:{found})" if found else ""
        else:
            found = f"(?:{found}|{glob.regex})" if found else glob.regex
    return found


def _triggers(pipeline: Pipeline) -> list[str]:
    lines = []
    for trigger in pipeline.triggers:
        if trigger.type == "schedule":
            zone = f"TZ={trigger.timezone}\n" if trigger.timezone != "UTC" else ""
            lines.append(f"    cron({_quoted(zone + str(trigger.cron))})")
        if trigger.type == "push":
            lines.append("    pollSCM('H/5 * * * *')")
    return ["  triggers {", *dict.fromkeys(lines), "  }"] if lines else []


def _column(pipeline: Pipeline, number: int, column: Sequence[Job]) -> list[str]:
    if len(column) == 1:
        return _stage(pipeline, column[0], "    ")
    rows = [f"    stage({_quoted(f'Layer {number}')}) {{", "      parallel {"]
    for job in column:
        rows += _stage(pipeline, job, "        ")
    return [*rows, "      }", "    }"]


def _stage(pipeline: Pipeline, job: Job, pad: str) -> list[str]:
    """Return one stage; it unstashes the results of the stages that it depends on, whichever machine they ran on."""
    rows = [f"{pad}stage({_quoted(job.name)}) {{"]
    if job.runs_on:
        rows.append(f"{pad}  agent {{ label {_quoted(job.runs_on)} }}")
    rows.append(
        f"{pad}  options {{ timeout(time: {ci.minutes(job.timeout * job.retry.max_attempts)}, unit: 'MINUTES') }}"
    )
    if names := ci.secrets(job):
        given = [f"{pad}    {name} = credentials({_quoted(name)})" for name in names]
        rows += [f"{pad}  environment {{", *given, f"{pad}  }}"]
    if job.approval:
        roles = ",".join(job.approval.roles)
        message = f"{pad}    message {_quoted(f'Approve {job.name}?')}"
        rows += [f"{pad}  input {{", message, f"{pad}    submitter {_quoted(roles)}", f"{pad}  }}"]
    rows.append(f"{pad}  steps {{")
    steps = [f"// needs: {', '.join(job.after)}"] if job.after else []
    steps += [f"unstash {_quoted(f'backlog-{each}')}" for each in job.after]
    steps += [f"sh {_quoted(each.command)}" for each in job.setup]
    run = f"sh {_quoted(ci.command(pipeline, job))}"
    if job.continue_on_error:
        run = f"catchError(buildResult: 'SUCCESS', stageResult: 'UNSTABLE') {{ {run} }}"
    elif _read_later(pipeline, job):  # a later job reads this failure: the build fails but continues
        run = f"catchError(buildResult: 'FAILURE', stageResult: 'FAILURE') {{ {run} }}"
    steps.append(run)
    rows += [f"{pad}    {step}" for step in steps]
    rows += [f"{pad}  }}", f"{pad}  post {{", f"{pad}    always {{"]
    stashed, folder = _quoted(f"backlog-{job.id}"), _quoted(f"{ci.FOLDER}/**")
    rows.append(f"{pad}      stash name: {stashed}, includes: {folder}, allowEmpty: true")
    kept = _quoted(f"{ci.FOLDER}/{job.id}.json")
    rows.append(f"{pad}      archiveArtifacts artifacts: {kept}, allowEmptyArchive: true")
    return [*rows, f"{pad}    }}", f"{pad}  }}", f"{pad}}}"]


def _read_later(pipeline: Pipeline, job: Job) -> bool:
    return any(handles(pipeline, each, job.id) for each in pipeline.jobs)


def _missing(pipeline: Pipeline) -> Iterator[str]:
    yield from ci.missing(pipeline)
    for trigger in pipeline.triggers:
        if trigger.type in {"pull_request", "webhook"}:
            yield f"triggers.{trigger.type}: set it up in a multibranch project or the Generic Webhook Trigger plugin"
        if trigger.branches or trigger.paths:
            yield f"triggers.{trigger.type}: branches and paths are evaluated in a multibranch project only"
    for job in pipeline.jobs:
        if job.kind == "ask":
            yield f"{job.id}.interactive: the answer of an input step does not reach the output"
        for each in job.after:
            if pipeline.precedes(each, job.id) and _skips_layer(pipeline, each, job.id):
                yield f"{job.id}.dependsOn {each}: a layer begins when the whole layer before it has ended"
                break


def _skips_layer(pipeline: Pipeline, before: str, job_id: str) -> bool:
    depth = {job.id: at for at, column in enumerate(layers(pipeline)) for job in column}
    return depth[job_id] - depth[before] > 1


def _quoted(words: str) -> str:
    """Return a Groovy string in single quotes: nothing inside is interpolated."""
    escaped = words.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n").replace("\r", " ")
    return f"'{escaped}'"


def _bool(value: object) -> str:
    return "true" if value else "false"
