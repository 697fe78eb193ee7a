"""Pipelines: DAGs of jobs, each pinned by the hash of its text and of every file that it reads."""

import hashlib
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from graphlib import CycleError, TopologicalSorter
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError

from backlog_worker.domain import agent as agents
from backlog_worker.domain import condition, document, filling, include, lint, template
from backlog_worker.domain.agent import Agent
from backlog_worker.domain.condition import Condition
from backlog_worker.domain.document import Document
from backlog_worker.domain.errors import Finding, InvalidFileError
from backlog_worker.domain.gates import Gate, gates_of
from backlog_worker.domain.include import Placed
from backlog_worker.domain.language import (
    ApprovalFile,
    BudgetFile,
    CacheFile,
    ClocksFile,
    ConcurrencyFile,
    Contract,
    ExecutionFile,
    FallbackFile,
    PipelineFile,
    RetryFile,
    SetupFile,
    TriggerFile,
    WriteBackFile,
)
from backlog_worker.domain.masking import cut

GROUP = "2"
NOTHING: dict[str, Any] = {}
NO_FILES: Callable[[str], Any] = NOTHING.__getitem__


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A validated job: `kind` names its executor and `target` tells the executor what to do.

    It waits for the end of all jobs in `after`: its dependencies and the other jobs that its `when` reads.
    """

    id: str
    name: str
    kind: str
    target: str
    agent: Agent | None
    task: str
    prompt: str
    depends_on: tuple[str, ...]
    after: tuple[str, ...]
    when: Condition | None
    undoes: str | None
    inputs: Mapping[str, Any]
    env: Mapping[str, str]
    params: Mapping[str, Any]
    names: Mapping[str, str]
    timeout: timedelta
    silence: timedelta | None
    retry: RetryFile
    continue_on_error: bool
    execution: ExecutionFile
    setup: tuple[SetupFile, ...]
    artifacts: tuple[str, ...]
    output: Mapping[str, Any] | None
    gates: tuple[Gate, ...]
    approval: ApprovalFile | None
    cache: timedelta | None
    fallback: FallbackFile | None
    fallback_agent: Agent | None
    budget: BudgetFile | None
    write_back: WriteBackFile | None
    inline: bool
    runs_on: str
    stage: str
    hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """A validated pipeline, pinned by its hash for as long as an entry uses it."""

    name: str
    version: str
    description: str
    hash: str
    body: str
    used: Mapping[str, Any] = field(repr=False)
    accepts: Mapping[str, Any] | None
    triggers: tuple[TriggerFile, ...]
    concurrency: ConcurrencyFile
    clocks: ClocksFile
    retry_runs: int
    budget: BudgetFile | None
    jobs: tuple[Job, ...]
    index: Mapping[str, int] = field(repr=False)
    order: tuple[str, ...] = field(repr=False)
    masks: tuple[int, ...] = field(repr=False)
    warnings: tuple[Finding, ...] = field(repr=False)

    @property
    def light(self) -> bool:
        """Return whether every job is inline and none waits for a person, so that entries may share a bell."""
        return all(job.inline and not job.approval for job in self.jobs)

    def job(self, job_id: str) -> Job:
        """Return one job; raises KeyError."""
        return self.jobs[self.index[job_id]]

    def ancestors(self, job_id: str) -> list[str]:
        """Return the jobs before one, in file order."""
        mask = self.masks[self.index[job_id]]
        return [job.id for at, job in enumerate(self.jobs) if mask >> at & 1]

    def descendants(self, job_id: str) -> list[str]:
        """Return the jobs after one, in file order."""
        at = self.index[job_id]
        return [job.id for job in self.jobs if self.masks[self.index[job.id]] >> at & 1]

    def precedes(self, before: str, job_id: str) -> bool:
        """Return whether one job comes before another."""
        return bool(self.masks[self.index[job_id]] >> self.index[before] & 1)

    def last(self) -> list[str]:
        """Return the jobs that no job waits for; their outputs are the output of the pipeline."""
        before = {each for job in self.jobs for each in job.after}
        return [job.id for job in self.jobs if job.id not in before]


def load(
    body: str,
    *,
    file: str = "pipeline.yml",
    contract: Callable[[str], Any] = NO_FILES,
    people: Collection[str] | None = None,
) -> Pipeline:
    """Load and validate a pipeline; *contract* reads a schema, an agent or an included file by its path.

    *people* are the roles of the policy, if known. Raises InvalidFileError with all findings of all files.
    """
    source, reader = document.read(body, file=file, group=GROUP), _Reader(contract)
    checked = source.checked(PipelineFile)
    findings: list[Finding] = list(lint.of_pipeline(source, checked))
    placed = include.placed(source, checked, reader, findings)
    if not placed and not findings:
        findings.append(source.finding(("jobs",), "07", "the pipeline has no job"))
    order, masks, unnamed = _linted(placed, people, findings)
    accepts = _schema(source, ("accepts",), checked.accepts, reader, findings)
    made = [_Made(each, reader, findings) for each in placed]
    holes = [each for job in made for each in (*filling.unfilled(job, accepts), *lint.apart(job))]
    if findings := [*findings, *(each for each in holes if each.level == "error")]:
        found = sorted(set(findings), key=lambda each: (each.file != file, each.file, each.line, each.column))
        raise InvalidFileError(found)
    ancestors = {each.id: _unmasked(placed, mask) for each, mask in zip(placed, masks, strict=True)}
    return Pipeline(
        name=checked.name,
        version=checked.version,
        description=checked.description,
        hash=hashlib.sha256((body + _canonical(reader.used)).encode()).hexdigest(),
        body=body,
        used=reader.used,
        accepts=accepts,
        triggers=tuple(checked.triggers),
        concurrency=checked.concurrency,
        clocks=checked.clocks,
        retry_runs=checked.retry_runs,
        budget=checked.budget,
        jobs=tuple(each.job(unnamed[each.placed.id]) for each in made),
        index={each.id: at for at, each in enumerate(placed)},
        order=order,
        masks=masks,
        warnings=(*lint.warnings(placed, ancestors, unnamed), *lint.lengths(source, checked, made), *holes),
    )


def _linted(
    placed: Sequence[Placed], people: Collection[str] | None, findings: list[Finding]
) -> tuple[tuple[str, ...], tuple[int, ...], dict[str, tuple[str, ...]]]:
    """Add the findings for all jobs, and return the result of `_ordered`."""
    known = {each.id for each in placed}
    for each in placed:
        findings += lint.of_job(each, known)
        findings += lint.of_roles(each, people) if people is not None else ()
    order, masks, unnamed = _ordered(placed, findings)
    for each, mask in zip(placed, masks, strict=bool(order)):  # jobs in a cycle have neither
        findings += lint.of_texts(each, _unmasked(placed, mask))
    return order, masks, unnamed


def violation(contract: Mapping[str, Any] | None, value: object) -> str:
    """Return how *value* violates a JSON Schema, or ""; remote references are never followed."""
    if contract is None:
        return ""
    error = next(iter(Draft202012Validator(contract).iter_errors(value)), None)
    if error is None:
        return ""
    where = "/".join(str(part) for part in error.absolute_path) or "the value"
    return f"{where}: {cut(error.message, 300)}"


class _Reader:
    """Reads files by name and records their content, which is part of the pipeline's hash."""

    def __init__(self, reader: Callable[[str], Any]) -> None:
        self._reader = reader
        self.used: dict[str, Any] = {}

    def __call__(self, name: str) -> Any:  # noqa: ANN401 - a schema or a text
        value = self._reader(name)
        self.used[name] = value
        return value


class _Made:
    """The parts of one job that are read from other files, before any job is built."""

    def __init__(self, placed: Placed, reader: _Reader, findings: list[Finding]) -> None:
        self.placed = placed
        job = placed.file
        self.agent = _agent(placed, ("agent",), job.agent, reader, findings)
        other = job.fallback.agent if job.fallback else None
        self.fallback = _agent(placed, ("fallback", "agent"), other, reader, findings)
        self.output = _schema(placed.source, (*placed.path, "output"), job.output, reader, findings)

    def job(self, unnamed: Sequence[str]) -> Job:
        """Build the job, which also waits for *unnamed*."""
        placed, file = self.placed, self.placed.file
        kind, target = _does(file)
        setup = tuple(each if isinstance(each, SetupFile) else SetupFile(command=each) for each in file.setup)
        return Job(
            id=placed.id,
            name=file.name or placed.id,
            kind=kind,
            target=target,
            agent=self.agent,
            task=file.task,
            prompt=file.prompt,
            depends_on=(wanted := tuple(dict.fromkeys(lint.wanted(placed)))),
            after=(*wanted, *unnamed),
            when=condition.compiled(file.when, placed.names) if file.when is not None else None,
            undoes=placed.names[file.undoes] if file.undoes is not None else None,
            inputs=file.inputs,
            env={**placed.env, **(self.agent.env if self.agent else {}), **file.env},
            params=placed.params,
            names=dict(placed.names),
            timeout=min([placed.timeout, *([self.agent.timeout] if self.agent and self.agent.timeout else [])]),
            silence=file.silence,
            retry=file.retry,
            continue_on_error=file.continue_on_error,
            execution=file.execution,
            setup=setup,
            artifacts=tuple(file.artifacts),
            output=self.output,
            gates=gates_of(file.gates),
            approval=file.approval,
            cache=_ttl(file.cache),
            fallback=file.fallback,
            fallback_agent=self.fallback,
            budget=file.budget,
            write_back=placed.write_back,
            inline=file.inline,
            runs_on=file.runs_on or "",
            stage=file.stage or "",
            hash=self._hash(),
        )

    def _hash(self) -> str:
        """Return a digest of everything that determines what the job does."""
        said = [self.placed.file.model_dump_json(by_alias=True), sorted(self.placed.params.items()), self.output]
        said += [each.hash for each in (self.agent, self.fallback) if each]
        return hashlib.sha256(_canonical(said).encode()).hexdigest()


def _ttl(cache: CacheFile | bool) -> timedelta | None:
    if isinstance(cache, bool):
        return CacheFile().ttl if cache else None
    return cache.ttl


def _does(file: Any) -> tuple[str, str]:  # noqa: ANN401 - a JobFile
    if file.interactive:
        return "ask", ""
    for name, kind in (("run", "command"), ("python", "python"), ("template", "template"), ("pipeline", "call")):
        if getattr(file, name):
            return kind, getattr(file, name)
    return "agent", file.agent or ""


def _ordered(
    placed: Sequence[Placed], findings: list[Finding]
) -> tuple[tuple[str, ...], tuple[int, ...], dict[str, tuple[str, ...]]]:
    """Return the jobs in topological order, each with a bit mask of all its ancestors.

    The last value are the jobs that each `when` reads without a path through `dependsOn`; the job waits for them too.
    """
    at = {each.id: index for index, each in enumerate(placed)}
    named = {each.id: [name for name in lint.wanted(each) if name in at and name != each.id] for each in placed}
    read = {each.id: lint.awaited(each, at) for each in placed}
    try:
        order = tuple(TopologicalSorter({each: [*named[each], *read[each]] for each in at}).static_order())
    except CycleError as error:
        findings.append(lint.cycle(placed, [str(each) for each in reversed(error.args[1])]))
        return (), (), {}
    led = _masks(order, at, named)
    unnamed = {each: tuple(name for name in read[each] if not led[at[each]] >> at[name] & 1) for each in at}
    masks = _masks(order, at, {each: [*named[each], *unnamed[each]] for each in at}) if any(unnamed.values()) else led
    return order, tuple(masks), unnamed


def _masks(order: Sequence[str], at: Mapping[str, int], before: Mapping[str, Sequence[str]]) -> list[int]:
    masks = [0] * (1 + max(at.values(), default=0))
    for name in order:
        for each in before[name]:
            masks[at[name]] |= masks[at[each]] | 1 << at[each]
    return masks


def _unmasked(placed: Sequence[Placed], mask: int) -> frozenset[str]:
    return frozenset(each.id for at, each in enumerate(placed) if mask >> at & 1)


def _agent(
    placed: Placed, path: document.Path, name: str | None, reader: _Reader, findings: list[Finding]
) -> Agent | None:
    if name is None or placed.file.interactive:
        return None
    try:
        text = str(reader(f"agents/{name}.md"))
    except (KeyError, OSError) as error:
        hint = f"write .backlog-worker/agents/{name}.md" if isinstance(error, KeyError) else ""
        findings.append(placed.finding(path, "17", f'the agent "{name}" {include.absent(error)}', hint=hint))
        return None
    try:
        found = agents.load(text, name=name, file=f"agents/{name}.md")
    except InvalidFileError as error:
        findings.extend(error.findings)
        return None
    if any(hole.path and hole.path[0] == "secrets" for hole in template.holes(found.prompt)):
        findings.append(placed.finding(path, "15", f'the text of agent "{name}" names a secret; they go into env only'))
    return found


_REMOTE = re.compile(r"^(?!#)")


def _schema(
    source: Document, path: document.Path, wanted: Contract | None, reader: _Reader, findings: list[Finding]
) -> Mapping[str, Any] | None:
    if wanted is None:
        return None
    try:
        return _checked(wanted, reader)
    except (ValueError, SchemaError) as error:
        findings.append(source.finding(path, "09", cut((str(error).splitlines() or ["it is invalid"])[0], 200)))
        return None


def _checked(wanted: Contract, reader: _Reader) -> Mapping[str, Any]:
    if isinstance(wanted, str):
        try:
            schema = reader(wanted)
        except (KeyError, OSError) as error:
            message = f'the schema "{wanted}" {include.absent(error)}'
            raise ValueError(message) from None
    else:
        schema = wanted
    if not isinstance(schema, dict):
        message = "a JSON Schema must be an object"
        raise ValueError(message)  # noqa: TRY004 - it becomes a finding with its place
    Draft202012Validator.check_schema(schema)
    for reference in _references(schema):
        if _REMOTE.match(reference):
            message = f'the schema refers to "{reference}"; only references inside the file (#/...) are allowed'
            raise ValueError(message)
    return dict(schema)


def _references(schema: object) -> Iterator[str]:
    if isinstance(schema, dict):
        for key, each in schema.items():
            if key in {"$ref", "$dynamicRef"} and isinstance(each, str):
                yield each
            yield from _references(each)
    elif isinstance(schema, list):
        for each in schema:
            yield from _references(each)


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, default=str) if value else ""
