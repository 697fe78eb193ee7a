"""The pipeline language: every key that a pipeline file may hold, with its type and default."""

from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from backlog_worker.domain.document import Model
from backlog_worker.domain.duration import Duration

JOB_ID = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,63}$")]
NAME = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,63}$")]
RULE_ID = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,63}$")]
# Names with a meaning in conditions, templates and contexts; a job id must not be one of them.
RESERVED = frozenset(
    {"always", "context", "entry", "env", "event", "failure", "input", "inputs", "jobs", "now", "output", "params"}
    | {"run", "secrets", "success", "upstream", "labels", "math", "true", "false", "null", "in"}
)
Contract = dict[str, Any] | str


class RetryFile(Model):
    """The total number of attempts (0 means 1) and the delay between them, always with jitter."""

    max_attempts: int = Field(default=2, ge=0, le=20)
    backoff: Literal["exponential", "linear", "fixed"] = "exponential"
    delay_ms: int = Field(default=2000, ge=0, le=3_600_000)
    delay_max_ms: int = Field(default=60_000, ge=0, le=3_600_000)


class GateFile(Model):
    """A check after a job: an expression over `output`, or a command that must exit with status 0."""

    id: RULE_ID
    check: str | None = None
    run: str | None = None
    on_fail: Literal["escalate", "retry", "ask", "fail"] = "escalate"
    message: str = Field(default="", max_length=500)


class ApprovalFile(Model):
    """An approval before the job starts; waiting for it consumes no timeout and holds no slot."""

    roles: list[str] = Field(default=["reviewer"], min_length=1)
    timeout: Duration = timedelta(hours=24)
    on_timeout: Literal["escalate", "reject"] = "escalate"


class BudgetFile(Model):
    """The maximum spending, and what happens beyond it."""

    usd: float = Field(gt=0)
    on_exceeded: Literal["warn", "ask", "stop"] = "stop"


class FallbackFile(Model):
    """The alternative if the agent of a job fails or is too slow: another agent, a fixed value, or a person."""

    agent: NAME | None = None
    value: Any = None
    escalate: bool = False
    after: Duration | None = None


class CacheFile(Model):
    """Reuse the stored result of the same work while it is younger than `ttl`; gates are evaluated again."""

    ttl: Duration = timedelta(days=7)


class ExecutionFile(Model):
    """How a job is executed, and what it shares with the other jobs of its run."""

    method: Literal["subprocess", "api"] = "subprocess"
    isolation: Literal["project", "shared", "isolated", "strict"] = "project"
    memory_mb: int | None = Field(default=None, ge=16, le=1_048_576)
    cpu_seconds: int | None = Field(default=None, ge=1, le=86_400)
    output_bytes: int = Field(default=1_000_000, ge=1, le=16_000_000)


class SetupFile(Model):
    """A command that runs before the job, in the same workspace."""

    name: str = ""
    command: str


class LabelsFile(Model):
    """The labels that a run may change at its source."""

    add: list[str] = []
    remove: list[str] = []


class WriteBackFile(Model):
    """Everything that a run may change at the source of its entry."""

    comment: bool = True
    labels: LabelsFile = LabelsFile()


class JobFile(Model):
    """One job."""

    id: JOB_ID
    name: str = ""
    description: str = ""
    agent: NAME | None = None
    run: str | None = None
    python: Annotated[str, Field(pattern=r"^[\w.]+:[\w.]+$")] | None = None
    template: Literal["specification"] | None = None
    pipeline: NAME | None = None
    interactive: bool = False
    task: str = ""
    prompt: str = ""
    depends_on: list[str] | str = []
    when: str | None = None
    undoes: JOB_ID | None = None
    inputs: dict[str, Any] = {}
    env: dict[str, str] = {}
    timeout: Duration | None = None
    silence: Duration | None = None
    retry: RetryFile = RetryFile(maxAttempts=1)
    continue_on_error: bool = False
    execution: ExecutionFile = ExecutionFile()
    setup: list[SetupFile | str] = []
    artifacts: list[str] = []
    output: Contract | None = None
    gates: list[GateFile] = []
    approval: ApprovalFile | None = None
    cache: CacheFile | bool = False
    fallback: FallbackFile | None = None
    budget: BudgetFile | None = None
    write_back: WriteBackFile | None = None
    inline: bool = False
    runs_on: str | None = None
    stage: str | None = None


class TriggerFile(Model):
    """What starts the pipeline: a push, a pull request, a schedule, a person, a signed message, or the backlog."""

    type: Literal["backlog", "push", "pull_request", "schedule", "manual", "webhook"]
    branches: list[str] = []
    paths: list[str] = []
    types: list[str] = []
    cron: str | None = None
    timezone: str = "UTC"
    catch_up: Literal["once", "all", "none"] | None = None
    secret: str | None = None
    filters: dict[str, Any] = {}
    transform: dict[str, str] = {}
    input: dict[str, Any] = {}
    labels: list[str] = []


class GroupFile(Model):
    """Entries with the same `key` share `limit` slots in the whole fleet."""

    key: str
    limit: int = Field(default=1, ge=1)
    on_conflict: Literal["wait", "replace", "cancelNewest"] = "wait"


class ConcurrencyFile(Model):
    """How many jobs of one run may run at once, on any machine, and which runs exclude each other."""

    max_concurrent_jobs: int = Field(default=3, ge=1, le=1000)
    cancel_in_progress: bool = False
    group: GroupFile | None = None


class ClocksFile(Model):
    """How long a stage may wait for a worker and a run may last; waiting for people counts for neither."""

    queue: Duration | None = None
    total: Duration | None = None


class IncludeFile(Model):
    """The jobs of another file: prefixed with `as` if given, with the parameters that the file declares."""

    file: str
    prefix: JOB_ID | None = Field(default=None, alias="as")
    parameters: dict[str, Any] = Field(default={}, alias="with")


class PipelineFile(Model):
    """`.backlog-worker/pipelines/*.yml`."""

    name: NAME
    version: str = "1"
    description: str = ""
    triggers: list[TriggerFile] = []
    includes: list[IncludeFile | str] = Field(default=[], max_length=50)
    parameters: dict[str, Any] = {}
    accepts: Contract | None = None
    env: dict[str, str] = {}
    concurrency: ConcurrencyFile = ConcurrencyFile()
    timeout: Duration = timedelta(minutes=30)
    clocks: ClocksFile = ClocksFile()
    retry_runs: int = Field(default=0, ge=0, le=20)
    budget: BudgetFile | None = None
    write_back: WriteBackFile | None = None
    jobs: list[JobFile] = Field(default=[], max_length=1000)

    @field_validator("version", mode="before")
    @classmethod
    def _as_written(cls, value: object) -> object:
        return value if isinstance(value, str) else str(value)
