"""Sections of a policy: generation, ownership, budgets, retention and alerts, with names from older runbooks."""

from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from backlog_worker.domain.budget import Mode, Scope
from backlog_worker.domain.document import Model
from backlog_worker.domain.duration import Duration, DurationOrZero

ID = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,63}$")]
PART = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]


class SnakeModel(Model):
    """A part of a file whose keys are in snake_case for compatibility."""

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=None, strict=True)


class DefaultsFile(SnakeModel):
    """How long completed and canceled entries are kept, and how many drafts one generation may file."""

    retention_days: int = Field(default=180, ge=1, le=36_500)
    max_items_per_run: int = Field(default=50, ge=1, le=10_000)


class DedupeFile(SnakeModel):
    """The prefixes of the dedupe keys of generated entries."""

    key_prefix: PART = "platform_backlog"


class CategoryFile(SnakeModel):
    """A kind of generated work: its priority, and the days until it is due."""

    priority: str
    due_days: int = Field(ge=1, le=3650)


class GenerationFile(SnakeModel):
    """What is generated automatically, for which pipeline, and with which labels, which declare it eligible."""

    weekly_from_pressure_digest: bool = True
    daily_from_risk_digest: bool = False
    pipeline: str = "spec"
    labels: list[str] = []


class OwnershipFile(SnakeModel):
    """The owner of generated work: a default, and overrides by service."""

    default_owner: str = "oncall"
    overrides: dict[str, str] = {}

    def owner_of(self, service: str) -> str:
        """Return the owner of a service."""
        return self.overrides.get(service, self.default_owner)


class RetentionFile(Model):
    """How long the bulk of runs is kept, and how long histories outlive their entries."""

    logs: Duration = timedelta(days=30)
    receipts: Duration = timedelta(days=30)
    results: Duration = timedelta(days=30)
    snapshots: Duration = timedelta(days=90)
    artifacts: Duration = timedelta(days=365)
    evidence: Duration = timedelta(days=2555)


class AlertFile(Model):
    """A rule over the dashboard: a CEL condition, its threshold and duration, the recipients, and whether it is on.

    Missing keys are taken from the built-in rule with that id, if there is one.
    """

    id: ID
    when: str = ""
    threshold: float = 0.0
    for_: DurationOrZero = Field(default=timedelta(0), alias="for")
    notify: list[PART] = ["oncall"]
    enabled: bool = True


def _rule(id_: str, when: str, means: str, remedy: str, **more: Any) -> dict[str, Any]:
    return {"id": id_, "when": when, "means": means, "remedy": remedy, "threshold": 0.0, "notify": ["oncall"], **more}


_CHIEFS = ["oncall", "cto"]
# The built-in rules; a policy changes one or switches it off by its id.
ALERTS: tuple[dict[str, Any], ...] = (
    _rule(
        "overdue",
        "dashboard.overdue_count > threshold",
        "More open entries are past their due date than the policy tolerates.",
        "List them with `backlog-worker entry list`; raise their priority, change their due date, or cancel them.",
        threshold=5.0,
    ),
    _rule(
        "top-late",
        "dashboard.top_overdue > threshold",
        "An open entry of the highest priority is past its due date.",
        "`backlog-worker explain ID` shows what it waits for.",
        notify=_CHIEFS,
        **{"for": "10m"},
    ),
    _rule(
        "store-fallback",
        "dashboard.journaled",
        "PostgreSQL is unavailable; new work goes to the journal, and nothing else is processed.",
        "Start PostgreSQL again; the journal is then merged automatically.",
    ),
    _rule(
        "definition-invalid",
        "dashboard.definitions_invalid > threshold",
        "A policy or pipeline file is invalid, or a test of the policy fails; the last good version is in force.",
        "Run `backlog-worker policy validate` and `backlog-worker pipeline validate`.",
    ),
    _rule(
        "invariant-broken",
        "dashboard.invariants_broken > threshold",
        "The last check found a violated invariant.",
        "Run `backlog-worker db verify` and `backlog-worker audit verify`.",
        notify=_CHIEFS,
    ),
    _rule(
        "job-missed",
        "dashboard.jobs_missed > threshold",
        "A scheduled job failed, is late, or never ran.",
        "`backlog-worker schedule list` names the job; `backlog-worker schedule run NAME` runs it now.",
    ),
    _rule(
        "writebacks-given-up",
        "dashboard.writebacks_given_up > threshold",
        "A write-back was given up, so its source does not show the result.",
        "`backlog-worker writeback list` shows the error; `backlog-worker writeback verify --repair` sends it again.",
    ),
    _rule(
        "writebacks-late",
        "dashboard.writebacks_late_seconds > threshold",
        "The oldest write-back in the outbox has been due for longer than the threshold, in seconds.",
        "`backlog-worker writeback list` shows the errors; `backlog-worker writeback send` tries again now.",
        threshold=900.0,
    ),
    _rule(
        "slots-idle",
        "dashboard.stalled > threshold && dashboard.slots_idle > 0.0",
        "Entries without a reason to wait have waited for more than a minute while slots are idle.",
        "`backlog-worker doctor` checks broker, beat and workers; `backlog-worker entry next` lists the entries.",
    ),
    _rule(
        "no-worker",
        "dashboard.moving > threshold && dashboard.slots < 1.0",
        "There is work, but no worker with a slot for stages is alive.",
        "See `backlog-worker worker list`; start one with `backlog-worker up` or `celery -A backlog_worker worker`.",
    ),
    _rule(
        "tick-late",
        "dashboard.tick_late_seconds > threshold",
        "The dispatcher has not run for longer than the threshold, in seconds, or never ran.",
        "Start `celery -A backlog_worker beat` and a worker for the queue `control`.",
        threshold=60.0,
    ),
    _rule(
        "sweep-late",
        "dashboard.sweep_late_seconds > threshold",
        "The sweep, which recovers entries of dead workers, is later than the threshold, in seconds, or never ran.",
        "Start `celery -A backlog_worker beat` and a worker for the queue `control`.",
        threshold=60.0,
    ),
    _rule(
        "entries-faulty",
        "dashboard.faults > threshold",
        "Entries wait for a repair: SCORE_ERROR, DEFINITION_MISSING or INPUT_INVALID.",
        "`backlog-worker status` counts them by reason; `backlog-worker explain-code REASON` gives the remedy.",
    ),
    _rule(
        "reviews-overdue",
        "dashboard.reviews_overdue > threshold",
        "Dead letters or other reviews are overdue.",
        "`backlog-worker review list` shows the one that is due first at the top.",
    ),
)
CATEGORIES: dict[str, CategoryFile] = {
    "reliability": CategoryFile(priority="high", due_days=14),
    "risk": CategoryFile(priority="high", due_days=7),
    "debt": CategoryFile(priority="low", due_days=60),
}


class BudgetRule(Model):
    """A cap on spending: per day, per team or pipeline and day, or per entry or run in total."""

    id: ID
    scope: Annotated[Scope, Field(strict=False)] = Scope.DAY
    usd: float = Field(gt=0)
    on_exceeded: Literal["warn", "ask", "pause"] = "pause"

    def counted_for(self, entry: Any, run: str = "") -> str:  # noqa: ANN401 - an Entry, which knows nothing of policies
        """Return the name under which the spending of an entry, or of its run, is counted."""
        return self.scope.name_of(team=entry.team, pipeline=entry.pipeline, entry=entry.id, run=run)

    @property
    def queues(self) -> bool:
        """Return whether the budget can hold entries in the queue; one per run cannot, as a new run spent nothing."""
        return Mode(self.on_exceeded) == Mode.PAUSE and self.scope != Scope.RUN


class PriceFile(Model):
    """US dollars per million tokens; takes precedence over the public list.

    `cached` is the price of input from the provider's cache and `stored` of input written to it; both default to
    `input`.
    """

    input: float = Field(default=0.0, ge=0)
    output: float = Field(default=0.0, ge=0)
    cached: float | None = Field(default=None, ge=0)
    stored: float | None = Field(default=None, ge=0)
