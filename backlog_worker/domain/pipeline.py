"""The pipeline language: jobs in order, each with its retries, gates and contract; or every mistake with its line."""

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Literal

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from pydantic import Field

from backlog_worker.domain import document, expression
from backlog_worker.domain.document import Document, Model
from backlog_worker.domain.duration import Duration
from backlog_worker.domain.errors import Finding, InvalidFileError
from backlog_worker.domain.expression import ExpressionError
from backlog_worker.domain.gates import GATE_NAMES, Gate

GROUP = "2"
JOB_ID = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,63}$")]
RESERVED = frozenset({"entry", "run", "env", "inputs", "output", "jobs"})
Contract = dict[str, Any] | str
NOTHING: dict[str, Any] = {}
NO_FILES: Callable[[str], Any] = NOTHING.__getitem__


class RetryFile(Model):
    """Attempts in all, and the pause between them; jitter always."""

    max_attempts: int = Field(default=2, ge=1, le=20)
    backoff: Literal["exponential", "linear", "fixed"] = "exponential"
    delay_ms: int = Field(default=2000, ge=0, le=3_600_000)
    delay_max_ms: int = Field(default=60_000, ge=0, le=3_600_000)


class GateFile(Model):
    """A check after a job: an expression over `output`, or a command that ends with status 0."""

    id: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,63}$")]
    check: str | None = None
    run: str | None = None
    on_fail: Literal["escalate", "retry", "ask"] = "escalate"


class ApprovalFile(Model):
    """A person's word before the job starts; waiting burns no timeout and holds no slot."""

    roles: list[str] = ["reviewer"]
    timeout: Duration = timedelta(hours=24)


class JobFile(Model):
    """One job."""

    id: JOB_ID
    name: str = ""
    run: str | None = None
    python: Annotated[str, Field(pattern=r"^[\w.]+:[\w.]+$")] | None = None
    template: Literal["specification"] | None = None
    depends_on: list[str] | str = []
    inputs: dict[str, Any] = {}
    env: dict[str, str] = {}
    timeout: Duration | None = None
    retry: RetryFile = RetryFile(maxAttempts=1)
    output: Contract | None = None
    gates: list[GateFile] = []
    approval: ApprovalFile | None = None
    inline: bool = False
    continue_on_error: bool = False


class PipelineFile(Model):
    """`.backlog-worker/pipelines/*.yml`."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,63}$")]
    version: str = "1"
    description: str = ""
    accepts: Contract | None = None
    env: dict[str, str] = {}
    timeout: Duration = timedelta(minutes=30)
    jobs: list[JobFile] = Field(min_length=1, max_length=1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job, checked: `kind` names its executor and `target` what that executor is told to do."""

    id: str
    name: str
    kind: str
    target: str
    inputs: Mapping[str, Any]
    env: Mapping[str, str]
    timeout: timedelta
    retry: RetryFile
    output: Mapping[str, Any] | None
    gates: tuple[Gate, ...]
    approval: ApprovalFile | None
    inline: bool
    continue_on_error: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """A checked pipeline, pinned by the hash of its body for as long as an entry uses it."""

    name: str
    version: str
    description: str
    hash: str
    body: str
    accepts: Mapping[str, Any] | None
    jobs: tuple[Job, ...]

    @property
    def light(self) -> bool:
        """Return whether every job is inline and none waits for a person, so that entries may share a bell."""
        return all(job.inline and not job.approval for job in self.jobs)

    def job(self, job_id: str) -> Job:
        """Return one job; raises KeyError."""
        return next(job for job in self.jobs if job.id == job_id)


def load(body: str, *, file: str = "pipeline.yml", contract: Callable[[str], Any] = NO_FILES) -> Pipeline:
    """Check a pipeline; *contract* reads a schema named by path. Raises InvalidFileError with all findings."""
    source = document.read(body, file=file, group=GROUP)
    checked = source.checked(PipelineFile)
    findings = [finding for index in range(len(checked.jobs)) for finding in _job_findings(source, checked, index)]
    contracts: dict[document.Path, Mapping[str, Any] | None] = {("accepts",): None}
    for path, wanted in (
        (("accepts",), checked.accepts),
        *((("jobs", index, "output"), job.output) for index, job in enumerate(checked.jobs)),
    ):
        try:
            contracts[path] = _schema(wanted, contract)
        except (ValueError, SchemaError) as error:
            findings.append(source.finding(path, "09", str(error).splitlines()[0][:200]))
    if findings:
        raise InvalidFileError(sorted(findings, key=lambda finding: (finding.line, finding.column)))
    jobs = tuple(_job(checked, job, contracts[("jobs", index, "output")]) for index, job in enumerate(checked.jobs))
    pinned = body + "".join(sorted(repr(each) for each in contracts.values() if each))
    return Pipeline(
        name=checked.name,
        version=checked.version,
        description=checked.description,
        hash=hashlib.sha256(pinned.encode()).hexdigest(),
        body=body,
        accepts=contracts[("accepts",)],
        jobs=jobs,
    )


def violation(contract: Mapping[str, Any] | None, value: object) -> str:
    """Say how *value* breaks a JSON Schema, or nothing; remote references are never followed."""
    if contract is None:
        return ""
    error = next(iter(Draft202012Validator(contract).iter_errors(value)), None)
    if error is None:
        return ""
    where = "/".join(str(part) for part in error.absolute_path) or "the value"
    return f"{where}: {error.message[:300]}"


def _job_findings(source: Document, checked: PipelineFile, index: int) -> Iterator[Finding]:
    job, path = checked.jobs[index], ("jobs", index)
    earlier = [each.id for each in checked.jobs[:index]]
    if job.id in earlier:
        yield source.finding((*path, "id"), "05", f'the job "{job.id}" stands twice')
    if job.id in RESERVED:
        yield source.finding((*path, "id"), "05", f'"{job.id}" is a reserved name')
    if sum(each is not None for each in (job.run, job.python, job.template)) != 1:
        yield source.finding((*path, "id"), "07", f'the job "{job.id}" must have one of run, python, template')
    wanted = [job.depends_on] if isinstance(job.depends_on, str) else job.depends_on
    for place, name in enumerate(wanted):
        if name not in earlier:
            exists = name in [each.id for each in checked.jobs]
            text = f'job "{job.id}" depends on "{name}", which ' + ("comes later" if exists else "does not exist")
            spot = (*path, "dependsOn", place) if isinstance(job.depends_on, list) else (*path, "dependsOn")
            yield source.finding(spot, "06", text, hint=document.suggestion(name, earlier))
    if job.run and "${{" in job.run:
        yield source.finding((*path, "run"), "10", f'the command of job "{job.id}" contains ${{{{ }}}}')
    for place, gate in enumerate(job.gates):
        yield from _gate_findings(source, (*path, "gates", place), gate, [each.id for each in job.gates[:place]])


def _gate_findings(source: Document, path: document.Path, gate: GateFile, earlier: list[str]) -> Iterator[Finding]:
    if gate.id in earlier:
        yield source.finding((*path, "id"), "05", f'the gate "{gate.id}" stands twice')
    if (gate.check is None) == (gate.run is None):
        yield source.finding((*path, "id"), "07", f'the gate "{gate.id}" must have one of check, run')
    elif gate.run and "${{" in gate.run:
        yield source.finding((*path, "run"), "10", f'the command of gate "{gate.id}" contains ${{{{ }}}}')
    if gate.check is not None:
        try:
            expression.compiled(gate.check, GATE_NAMES)
        except ExpressionError as error:
            yield source.finding((*path, "check"), "04", str(error), shift=error.column)


_REMOTE = re.compile(r"^(?!#)")


def _schema(wanted: Contract | None, contract: Callable[[str], Any]) -> Mapping[str, Any] | None:
    if wanted is None:
        return None
    if isinstance(wanted, str):
        try:
            schema = contract(wanted)
        except (KeyError, OSError):
            message = f'the schema "{wanted}" cannot be read'
            raise ValueError(message) from None
    else:
        schema = wanted
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


def _job(checked: PipelineFile, job: JobFile, output: Mapping[str, Any] | None) -> Job:
    kind = "command" if job.run is not None else "python" if job.python is not None else "template"
    return Job(
        id=job.id,
        name=job.name or job.id,
        kind=kind,
        target=job.run or job.python or job.template or "",
        inputs=job.inputs,
        env={**checked.env, **job.env},
        timeout=job.timeout or checked.timeout,
        retry=job.retry,
        output=output,
        gates=tuple(Gate.made(gate.id, gate.check, gate.run, gate.on_fail) for gate in job.gates),
        approval=job.approval,
        inline=job.inline,
        continue_on_error=job.continue_on_error,
    )
