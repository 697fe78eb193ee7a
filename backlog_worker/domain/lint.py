"""Lint of pipelines: errors in jobs and triggers, each at its position, and warnings for what is allowed but unwise."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Protocol

from backlog_worker.domain import condition, document, expression, globs, template
from backlog_worker.domain.agent import Agent
from backlog_worker.domain.document import Document, Path
from backlog_worker.domain.errors import Finding
from backlog_worker.domain.expression import ExpressionError
from backlog_worker.domain.gates import GATE_NAMES, message_faults
from backlog_worker.domain.include import Placed
from backlog_worker.domain.known import role as known_role
from backlog_worker.domain.language import RESERVED, GateFile, PipelineFile, SetupFile, TriggerFile
from backlog_worker.domain.masking import cut
from backlog_worker.domain.policy import ENTRY_NAMES
from backlog_worker.domain.slots import Slots, zone

DOES = ("agent", "run", "python", "template", "pipeline", "interactive")
EVENT_NAMES: expression.Names = (("event", "any"),)
# The keys without effect in a trigger of each type; the keys of time have checks of their own.
_OF_MESSAGES = frozenset({"branches", "paths", "types", "secret", "filters", "transform"})
UNUSED = {
    "schedule": _OF_MESSAGES,
    "manual": _OF_MESSAGES | {"timezone"},
    "backlog": _OF_MESSAGES | {"timezone", "input", "labels"},
    **dict.fromkeys(("push", "pull_request", "webhook"), frozenset({"timezone"})),
}
_WAY_BACK = re.compile(r"roll-?_?back|revert|undo", re.IGNORECASE)


def of_job(placed: Placed, known: Collection[str]) -> Iterator[Finding]:
    """Yield findings for one job by itself; *known* are the ids of all jobs."""
    job = placed.file
    if job.id in RESERVED:
        yield placed.finding(("id",), "05", f'"{job.id}" is a reserved name')
    given = [name for name in DOES if getattr(job, name)]
    if len(given) != 1 and given != ["agent", "interactive"]:
        said = f"has {' and '.join(given)}" if given else "has no action"
        yield placed.finding(("id",), "07", f'the job "{job.id}" {said}')
    yield from _dependencies(placed, known)
    for name, text in (("run", job.run), *(("setup", _command(each)) for each in job.setup)):
        if text and (hole := template.in_command(text)):
            yield placed.finding((name,), "31", f'the command of job "{job.id}" contains {hole}')
    for place, gate in enumerate(job.gates):
        yield from _of_gate(placed, ("gates", place), gate, [each.id for each in job.gates[:place]])
    if job.fallback is not None:
        wanted = [job.fallback.agent is not None, job.fallback.value is not None, job.fallback.escalate]
        if sum(wanted) != 1:
            yield placed.finding(("fallback",), "07", "a fallback has one of agent, value, escalate")


def of_roles(placed: Placed, people: Collection[str]) -> Iterator[Finding]:
    """Yield findings for approvals that nobody can give; *people* are the roles of the policy."""
    for place, role in enumerate(placed.file.approval.roles if placed.file.approval else ()):
        yield from known_role(placed.source, (*placed.path, "approval", "roles", place), role, people)


def of_texts(placed: Placed, ancestors: frozenset[str]) -> Iterator[Finding]:
    """Yield findings for placeholders and conditions with unknown names; *ancestors* are the earlier jobs."""
    job = placed.file
    names = placed.names
    params = frozenset(placed.params)
    for path, text in (("task",), job.task), (("prompt",), job.prompt), *_texts(("inputs",), job.inputs):
        yield from _of_text(placed, path, text, ancestors, params)
    for name, text in job.env.items():
        for column, words in template.faults(text, names, ancestors, params):
            yield placed.finding(("env", name), "13", words, shift=column)
    if job.when is not None:
        try:
            found = condition.compiled(job.when, names)
        except ExpressionError as error:
            quoted = _quoted(placed, ("when",))
            yield placed.finding(("when",), "04", str(error), shift=error.column + quoted)
        else:
            for each in sorted(found.awaits - ancestors):
                said = "is the job itself" if each == placed.id else "does not exist"
                yield placed.finding(("when",), "04", f'`when` reads the job "{each}", which {said}')
    if job.undoes is not None and names.get(job.undoes, "") not in ancestors:
        text = f'"{job.undoes}", which the job "{job.id}" undoes, does not come before it'
        local = [name for name, each in names.items() if each in ancestors]
        yield placed.finding(("undoes",), "14", text, hint=document.suggestion(job.undoes, local))


def of_pipeline(source: Document, checked: PipelineFile) -> Iterator[Finding]:
    """Yield findings for triggers and the concurrency group."""
    for place, trigger in enumerate(checked.triggers):
        yield from _of_trigger(source, ("triggers", place), trigger)
    group = checked.concurrency.group
    if group is not None:
        try:
            expression.compiled(group.key, ENTRY_NAMES, "any")
        except ExpressionError as error:
            yield source.finding(("concurrency", "group", "key"), "04", str(error), shift=error.column)


def warnings(
    jobs: Sequence[Placed], ancestors: Mapping[str, frozenset[str]], unnamed: Mapping[str, Sequence[str]]
) -> Iterator[Finding]:
    """Yield warnings; *unnamed* are the jobs that each `when` waits for without `dependsOn`.

    They report a job that runs even if an approval before it is refused (`always()` or `failure()` without reading the
    approved job), a job that waits for one that it does not name, and a compensation without `undoes`.
    """
    approved = {each.id for each in jobs if each.file.approval is not None}
    for each in jobs:
        if each.file.runs_on is not None:
            yield _warning(each, ("runsOn",), "36", f'"runsOn" of "{each.id}" has an effect in exported CI files only')
        if each.file.when is None:
            continue
        found = condition.rewritten(each.file.when, each.names)
        unread = sorted((ancestors[each.id] & approved) - found.reads)
        if found.asks_all and unread:
            text = f'"{each.id}" also runs when the approval of "{unread[0]}" is refused'
            yield _warning(each, ("when",), "29", text)
        if unnamed[each.id]:
            yield _unnamed(each, unnamed[each.id])
        if _WAY_BACK.search(each.file.id) and each.file.undoes is None and (found.asks_all or found.reads):
            text = f'"{each.id}" does not say what it undoes, so a resumed run would not repeat that'
            yield _warning(each, ("id",), "33", text, hint="write `undoes: JOB`")


class Made(Protocol):
    """A job with its agents."""

    placed: Placed
    agent: Agent | None
    fallback: Agent | None


INSIDE = frozenset({"python", "template", "openai"})  # executors without a process of their own for a job


def apart(made: Made) -> Iterator[Finding]:
    """Find a job that must be kept apart by what cannot keep it so; `isolation: strict` would have no effect."""
    job = made.placed.file
    if job.execution.isolation != "strict":
        return
    path = ("execution", "isolation")
    if kind := next((name for name in ("python", "template", "pipeline", "interactive") if getattr(job, name)), ""):
        yield made.placed.finding(path, "37", f'nothing keeps a `{kind}` job apart from its worker, as "{job.id}" asks')
    for agent in (each for each in (made.agent, made.fallback) if each):
        executor = "openai" if job.execution.method == "api" and agent.executor == "auto" else agent.executor
        if executor in INSIDE:
            text = f'the executor {executor} of agent "{agent.name}" runs inside its worker, "{job.id}" wants strict'
            yield made.placed.finding(path, "37", text)


def lengths(source: Document, checked: PipelineFile, jobs: Sequence[Made]) -> Iterator[Finding]:
    """Yield warnings for durations as bare numbers in a pipeline, its included files and its agents."""
    yield from source.lengths(checked)
    agents: dict[str, Agent] = {}
    for each in jobs:
        if each.placed.source is not source:
            yield from each.placed.source.lengths(each.placed.file, each.placed.path)
        agents |= {agent.name: agent for agent in (each.agent, each.fallback) if agent}
    for agent in agents.values():
        yield from agent.warnings


def _unnamed(placed: Placed, jobs: Sequence[str]) -> Finding:
    """Return the warning that a `when` waits for jobs missing in `dependsOn`, with the corrected line."""
    local = {each: name for name, each in placed.names.items()}
    given = placed.file.depends_on
    line = ", ".join(dict.fromkeys([*([given] if isinstance(given, str) else given), *(local[each] for each in jobs)]))
    text = f'"{placed.id}" waits for {_listed(jobs)}, which its `when` reads and `dependsOn` does not name'
    return _warning(placed, ("when",), "32", text, hint=f"write `dependsOn: [{line}]`")


def _listed(jobs: Sequence[str]) -> str:
    return ", ".join(f'"{each}"' for each in jobs)


def _warning(placed: Placed, path: Path, number: str, text: str, *, hint: str = "") -> Finding:
    finding = placed.finding(path, number, text, hint=hint)
    return Finding(**{name: getattr(finding, name) for name in finding.__slots__} | {"level": "warning"})


def cycle(placed: Sequence[Placed], path: Sequence[str]) -> Finding:
    """Return the finding for a cycle of jobs, at the `when` or the `dependsOn` that closes it."""
    words = " -> ".join(path)
    found = {each.id: each for each in placed if each.id in path}
    reader = next((at for at, before in pairwise(path) if before not in wanted(found[at])), None)
    at, key = (found[reader], "when") if reader else (found[path[0]], "dependsOn")
    hint = "Take that name out of the `when`." if reader else ""
    return at.finding((key,), "12", f"these jobs wait for each other: {words}", hint=hint)


def wanted(placed: Placed) -> list[str]:
    """Return the ids in the pipeline of the jobs that a job depends on."""
    named = placed.file.depends_on
    return [placed.names.get(each, each) for each in ([named] if isinstance(named, str) else named)]


def awaited(placed: Placed, known: Collection[str]) -> list[str]:
    """Return the other jobs that the `when` of a job names, ordered by id."""
    if placed.file.when is None:
        return []
    named = condition.rewritten(placed.file.when, placed.names).awaits
    return sorted(each for each in named if each in known and each != placed.id)


def _dependencies(placed: Placed, known: Collection[str]) -> Iterator[Finding]:
    named = placed.file.depends_on
    listed = [named] if isinstance(named, str) else named
    for place, name in enumerate(listed):
        spot = ("dependsOn", place) if isinstance(named, list) else ("dependsOn",)
        if placed.names.get(name, "") not in known:
            text = f'job "{placed.file.id}" depends on "{name}", which does not exist'
            yield placed.finding(spot, "14", text, hint=document.suggestion(name, list(placed.names)))
        elif name == placed.file.id:
            yield placed.finding(spot, "12", f"these jobs wait for each other: {name} -> {name}")


def _of_text(
    placed: Placed, path: Path, text: str, ancestors: frozenset[str], params: frozenset[str]
) -> Iterator[Finding]:
    quoted = _quoted(placed, path)
    for column, words in template.faults(text, placed.names, ancestors, params):
        yield placed.finding(path, "13", words, shift=column + quoted)
    for hole in template.holes(text, placed.names):
        if hole.path and hole.path[0] == "secrets":
            words = f"the secret {'.'.join(map(str, hole.path))} may be used in `env` only"
            yield placed.finding(path, "15", words, shift=hole.start + quoted)


def _of_gate(placed: Placed, path: Path, gate: GateFile, earlier: list[str]) -> Iterator[Finding]:
    if gate.id in earlier:
        yield placed.finding((*path, "id"), "05", f'the gate "{gate.id}" stands twice')
    if (gate.check is None) == (gate.run is None):
        yield placed.finding((*path, "id"), "07", f'the gate "{gate.id}" must have one of check, run')
    elif gate.run and (hole := template.in_command(gate.run)):
        yield placed.finding((*path, "run"), "31", f'the command of gate "{gate.id}" contains {hole}')
    for fault in message_faults(gate.message):
        yield placed.finding((*path, "message"), "04", f'the message of gate "{gate.id}": {fault}')
    if gate.check is not None:
        try:
            expression.compiled(gate.check, GATE_NAMES)
        except ExpressionError as error:
            shift = error.column + _quoted(placed, (*path, "check"))
            yield placed.finding((*path, "check"), "04", str(error), shift=shift)


def _of_trigger(source: Document, path: Path, trigger: TriggerFile) -> Iterator[Finding]:
    if trigger.type == "schedule":
        yield from _of_cron(source, (*path, "cron"), trigger)
    elif trigger.cron is not None:
        yield source.finding((*path, "cron"), "16", f"`cron` has no effect in a trigger of type {trigger.type}")
    elif trigger.catch_up is not None:
        yield source.finding((*path, "catchUp"), "16", f"`catchUp` has no effect in a trigger of type {trigger.type}")
    unused = sorted(trigger.model_fields_set & UNUSED.get(trigger.type, frozenset()))
    yield from (
        source.finding((*path, each), "16", f"`{each}` has no effect in a trigger of type {trigger.type}")
        for each in unused
    )
    for name in ("branches", "paths"):
        yield from _of_patterns(source, (*path, name), getattr(trigger, name))
    if trigger.type == "pull_request" and trigger.paths and trigger.secret:
        text = "a pull request event contains no file names, so this trigger would never start anything"
        yield source.finding((*path, "paths"), "16", text, hint="remove `paths`, or export the pipeline")
    if trigger.type == "webhook" and not trigger.secret:
        yield source.finding((*path, "type"), "16", "a webhook needs a secret, such as ${{ secrets.WEBHOOK_SECRET }}")
    if trigger.secret and not template.secrets_in(trigger.secret):
        yield source.finding((*path, "secret"), "15", "name the secret, such as ${{ secrets.WEBHOOK_SECRET }}")
    for name, text in trigger.transform.items():
        try:
            expression.compiled(text, EVENT_NAMES, "any")
        except ExpressionError as error:
            yield source.finding((*path, "transform", name), "04", str(error), shift=error.column)


def _of_patterns(source: Document, path: Path, patterns: Sequence[str]) -> Iterator[Finding]:
    for place, pattern in enumerate(patterns):
        try:
            globs.read(pattern)
        except ValueError as error:
            yield source.finding((*path, place), "16", f'the pattern "{cut(pattern, 80)}": {error}')
    if patterns and all(each.startswith("!") for each in patterns):
        hint = "begin with a pattern that includes files, such as '**'"
        yield source.finding(path, "16", "patterns that only exclude match nothing", hint=hint)


def _of_cron(source: Document, path: Path, trigger: TriggerFile) -> Iterator[Finding]:
    try:
        zone(trigger.timezone)
    except ValueError as error:
        yield source.finding((*path[:-1], "timezone"), "16", str(error))
        return
    try:
        Slots.of(trigger.cron or "", trigger.timezone)
    except ValueError as error:
        yield source.finding(path, "16", str(error))


def _texts(path: Path, value: Any) -> Iterator[tuple[Path, str]]:  # noqa: ANN401 - free JSON
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield from _texts((*path, key), each)
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from _texts((*path, index), each)


def _command(step: SetupFile | str) -> str:
    return step if isinstance(step, str) else step.command


def _quoted(placed: Placed, path: Path) -> int:
    """Return 1 if the value is quoted, the shift from a column in the value to a column in the file."""
    line, column = placed.source.places.get((*placed.path, *path), (1, 1))
    rows = placed.source.text.splitlines()
    return int(line <= len(rows) and rows[line - 1][column - 1 : column] in {"'", '"'})
