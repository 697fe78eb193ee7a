"""The tables, and what must never be: CHECKs, unique keys and the indexes that the hot statements need.

Moments are `timestamptz` in PostgreSQL and seconds since 1970 in SQLite; both are written by the database's clock.
"""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from backlog_worker.domain.entry import Status
from backlog_worker.domain.frontier import StageStatus
from backlog_worker.domain.review import ReviewKind

METADATA = sa.MetaData()
MOMENT = sa.TIMESTAMP(timezone=True).with_variant(sa.REAL(), "sqlite")
DATA = JSONB().with_variant(sa.JSON(), "sqlite")
NUMBER: sa.Double[float] = sa.Double()
WAITING_SQL = "status IN ('queued', 'retrying')"
HELD_SQL = "status IN ('ready', 'in_progress')"
WAITS_SQL = "status = 'blocked' AND CAST(bars AS text) LIKE '%WAITS_ON_ENTRY%'"
_REVIEWS = ", ".join(f"'{kind}'" for kind in ReviewKind)


def _text(name: str, *, default: str | None = None, nullable: bool = False) -> "sa.Column[str]":
    return sa.Column(name, sa.Text, nullable=nullable, server_default=default)


def _moment(name: str, *, nullable: bool = True) -> "sa.Column[object]":
    return sa.Column(name, MOMENT, nullable=nullable)


def _count(name: str) -> "sa.Column[int]":
    return sa.Column(name, sa.Integer, nullable=False, server_default="0")


def _data(name: str, default: str | None = None) -> "sa.Column[object]":
    return sa.Column(name, DATA, nullable=default is None, server_default=default)


def _known(column: str, words: type[Status] | type[StageStatus], name: str) -> sa.CheckConstraint:
    listed = ", ".join(f"'{word}'" for word in words)
    return sa.CheckConstraint(f"{column} IN ({listed})", name=name)


def _partial(name: str, *columns: str, where: str, unique: bool = False) -> sa.Index:
    condition = sa.text(where)
    return sa.Index(name, *columns, unique=unique, postgresql_where=condition, sqlite_where=condition)


entries = sa.Table(
    "entries",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    _text("env"),
    sa.Column("schema_version", sa.Integer, nullable=False),
    *(_text(name) for name in ("title", "dedupe_key", "pipeline")),
    *(_text(name, default="") for name in ("url", "source", "external_ref", "team", "owner")),
    _data("labels", "[]"),
    _text("priority"),
    _data("signals", "{}"),
    _data("constraints", "{}"),
    _data("provenance", "{}"),
    _text("input_sha256"),
    _moment("created_at", nullable=False),
    _moment("due_date"),
    _text("status"),
    _data("bars", "[]"),
    sa.Column("seq", sa.Integer, nullable=False),
    _text("reason", default=""),
    _text("run_id", nullable=True),
    _text("worker", nullable=True),
    *(_moment(name) for name in ("claimed_at", "leased_until", "rung_at")),
    _count("rings"),
    *(_moment(name) for name in ("retry_at", "wake_at")),
    *(_count(name) for name in ("attempt", "faults", "expiries")),
    *(_moment(name) for name in ("cleared_at", "changed_at")),
    _text("pipeline_hash", nullable=True),
    _text("rank_group", default=""),
    sa.Column("score", NUMBER),
    _text("scored_by", nullable=True),
    _text("group_key", nullable=True),
    sa.Column("reserved_usd", NUMBER),
    sa.UniqueConstraint("env", "dedupe_key", name="entries_dedupe"),
    _known("status", Status, "entries_status_known"),
    sa.CheckConstraint("(status = 'in_progress') = (run_id IS NOT NULL)", name="entries_held_by_run"),
    sa.CheckConstraint(f"({HELD_SQL}) = (leased_until IS NOT NULL)", name="entries_held_has_lease"),
    sa.CheckConstraint("(status = 'retrying') = (retry_at IS NOT NULL)", name="entries_retrying_has_date"),
    sa.CheckConstraint("(status = 'blocked') = (CAST(bars AS text) <> '[]')", name="entries_blocked_has_bars"),
    _partial("entries_rank", "env", "rank_group", "created_at", "id", where=f"{WAITING_SQL} AND wake_at IS NULL"),
    _partial("entries_wake", "wake_at", where=f"{WAITING_SQL} AND wake_at IS NOT NULL"),
    _partial("entries_held", "leased_until", where=HELD_SQL),
    _partial("entries_waits", "env", "id", where=WAITS_SQL),
    _partial("entries_group", "env", "group_key", where=f"{HELD_SQL} AND group_key IS NOT NULL"),
    _partial("entries_due", "due_date", where="due_date IS NOT NULL AND status IN ('queued', 'retrying')"),
    sa.Index("entries_by_status", "env", "status", "id"),
)

entry_inputs = sa.Table(
    "entry_inputs",
    METADATA,
    sa.Column("entry_id", sa.Text, primary_key=True),
    sa.Column("sha256", sa.Text, primary_key=True),
    _data("value", "{}"),
)

links = sa.Table(
    "links",
    METADATA,
    sa.Column("from_id", sa.Text, primary_key=True),
    sa.Column("to_id", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, primary_key=True),
    sa.CheckConstraint("from_id <> to_id", name="links_to_others"),
    sa.CheckConstraint("kind IN ('depends_on', 'calls', 'fork_of')", name="links_kind_known"),
    sa.Index("links_to", "to_id"),
)

runs = sa.Table(
    "runs",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    _text("entry_id"),
    sa.Column("attempt", sa.Integer, nullable=False),
    *(_text(name) for name in ("worker", "pipeline_hash", "policy_hash")),
    _moment("claimed_at", nullable=False),
    _moment("ended_at"),
    *(_text(name, nullable=True) for name in ("ended_by", "kind", "reason")),
    _moment("ends_by"),
    sa.UniqueConstraint("entry_id", "attempt", name="runs_attempt"),
    sa.CheckConstraint("(ended_at IS NULL) = (ended_by IS NULL)", name="runs_end_has_change"),
    _partial("runs_live", "entry_id", where="ended_at IS NULL", unique=True),
    _partial("runs_ends_by", "ends_by", where="ended_at IS NULL AND ends_by IS NOT NULL"),
)

stages = sa.Table(
    "stages",
    METADATA,
    sa.Column("entry_id", sa.Text, primary_key=True),
    sa.Column("pipeline_hash", sa.Text, primary_key=True),
    sa.Column("job_id", sa.Text, primary_key=True),
    _text("status"),
    _text("run_id", nullable=True),
    _count("takes"),
    _text("worker", nullable=True),
    _count("attempts"),
    _count("expiries"),
    _data("tries", "[]"),
    *(_moment(name) for name in ("started_at", "ended_at", "leased_until", "rung_at", "start_by")),
    _count("rings"),
    sa.Column("progress", sa.Integer),
    _data("output"),
    _text("sha256", nullable=True),
    _data("artifacts", "[]"),
    _data("gates", "[]"),
    _data("approval"),
    _data("reason"),
    _data("cost"),
    _known("status", StageStatus, "stages_status_known"),
    sa.CheckConstraint("(status = 'running') = (leased_until IS NOT NULL)", name="stages_running_has_lease"),
    _partial("stages_rung", "rung_at", where="status = 'pending' AND rung_at IS NOT NULL"),
    _partial("stages_running", "leased_until", where="status = 'running'"),
)

log_chunks = sa.Table(
    "log_chunks",
    METADATA,
    sa.Column("run_id", sa.Text, primary_key=True),
    sa.Column("job_id", sa.Text, primary_key=True),
    sa.Column("take", sa.Integer, primary_key=True),
    sa.Column("n", sa.Integer, primary_key=True),
    _moment("at", nullable=False),
    _text("text"),
)

spending = sa.Table(
    "spending",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    *(_text(name) for name in ("env", "entry_id", "run_id", "job_id", "pipeline")),
    *(_text(name, default="") for name in ("team", "agent", "model")),
    _moment("at", nullable=False),
    *(_count(name) for name in ("take", "input_tokens", "output_tokens")),
    sa.Column("usd", NUMBER),
    sa.Column("saved_usd", NUMBER, nullable=False, server_default="0"),
    sa.Index("spending_by_time", "env", "at"),
    sa.Index("spending_by_entry", "entry_id", "run_id"),
)

results = sa.Table(
    "results",
    METADATA,
    sa.Column("env", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    *(_text(name) for name in ("pipeline", "job_id", "entry_id", "run_id", "sha256")),
    _data("output"),
    _data("artifacts", "[]"),
    _data("gates", "{}"),
    sa.Column("usd", NUMBER),
    _moment("at", nullable=False),
    _moment("until", nullable=False),
    _count("hits"),
    sa.Index("results_by_end", "env", "until"),
)

events = sa.Table(
    "events",
    METADATA,
    sa.Column("entry_id", sa.Text, primary_key=True),
    sa.Column("seq", sa.Integer, primary_key=True),
    _moment("at", nullable=False),
    _text("change"),
    sa.Column("version", sa.Integer, nullable=False),
    _text("actor"),
    _text("run_id", nullable=True),
    _data("data", "{}"),
    *(_text(name) for name in ("canonical", "prev", "hash")),
    _partial("events_by_run", "run_id", "change", where="run_id IS NOT NULL"),
)

reviews = sa.Table(
    "reviews",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    *(_text(name) for name in ("env", "kind", "entry_id")),
    _text("run_id", nullable=True),
    *(_text(name, default="") for name in ("job_id", "question", "role", "owner", "failure", "rule", "recovery")),
    _text("detail", default=""),
    _text("on_timeout", default="escalate"),
    _data("form"),
    _moment("opened_at", nullable=False),
    _moment("due_at", nullable=False),
    *(_moment(name) for name in ("assigned_at", "reminded_at")),
    sa.Column("seq", sa.Integer, nullable=False),
    *(_text(name, nullable=True) for name in ("answer", "answered_by")),
    _moment("answered_at"),
    _text("reason", nullable=True),
    _data("value"),
    sa.CheckConstraint("(answer IS NULL) = (answered_by IS NULL)", name="reviews_answer_has_name"),
    sa.CheckConstraint(f"kind IN ({_REVIEWS})", name="reviews_kind_known"),
    _partial("reviews_open", "entry_id", "job_id", where="answer IS NULL", unique=True),
    _partial("reviews_dead_letter", "entry_id", where="answer IS NULL AND kind = 'dead_letter'", unique=True),
    _partial("reviews_due", "due_at", where="answer IS NULL"),
)

decisions = sa.Table(
    "decisions",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    _text("env"),
    _moment("at", nullable=False),
    _text("policy"),
    _text("digest"),
    _data("counts", "{}"),
    sa.Index("decisions_by_time", "env", "at"),
)

receipts = sa.Table(
    "receipts",
    METADATA,
    sa.Column("decision_id", sa.Text, primary_key=True),
    sa.Column("entry_id", sa.Text, primary_key=True),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("score", NUMBER),
    _data("terms", "{}"),
    _data("waits", "[]"),
    sa.Index("receipts_by_entry", "entry_id", "decision_id"),
)

definitions = sa.Table(
    "definitions",
    METADATA,
    sa.Column("env", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("hash", sa.Text, primary_key=True),
    *(_text(name) for name in ("name", "version", "body")),
    _data("contracts", "{}"),
    sa.Column("live", sa.Boolean, nullable=False),
    _moment("at", nullable=False),
    _text("author"),
    sa.CheckConstraint("kind IN ('policy', 'pipeline')", name="definitions_kind_known"),
    _partial("definitions_live", "env", "kind", "name", where="live", unique=True),
)

outbox = sa.Table(
    "outbox",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    *(_text(name) for name in ("target", "topic", "entry_id")),
    _text("run_id", nullable=True),
    sa.Column("seq", sa.Integer, nullable=False),
    _data("body", "{}"),
    *(_text(name) for name in ("sha256", "status")),
    _count("attempts"),
    *(_moment(name) for name in ("leased_until", "retry_at", "put_at", "sent_at")),
    *(_text(name, nullable=True) for name in ("remote_id", "error")),
    sa.UniqueConstraint("target", "topic", name="outbox_topic"),
    sa.CheckConstraint("status IN ('due', 'sent', 'given_up')", name="outbox_status_known"),
    _partial("outbox_due", "id", where="status = 'due'"),
)

leases = sa.Table(
    "leases",
    METADATA,
    sa.Column("name", sa.Text, primary_key=True),
    _text("holder"),
    _moment("until", nullable=False),
)

workers = sa.Table(
    "workers",
    METADATA,
    sa.Column("name", sa.Text, primary_key=True),
    _moment("seen_at", nullable=False),
    _data("queues", "[]"),
    _count("slots"),
    sa.Column("schema_min", sa.Integer, nullable=False),
    sa.Column("schema_max", sa.Integer, nullable=False),
)
