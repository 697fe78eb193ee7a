"""The tables of the backlog, and what must never be: CHECKs, unique keys and the indexes that hot statements need."""

import sqlalchemy as sa

from backlog_worker.domain.entry import Status
from backlog_worker.domain.frontier import StageStatus
from backlog_worker.domain.review import ReviewKind
from backlog_worker.store.sql.columns import METADATA, NUMBER, count, data, known, moment, partial, random_part, text

WAITING_SQL = "status IN ('queued', 'retrying')"
FINAL_SQL = "status IN ('completed', 'failed', 'canceled')"
HELD_SQL = "status IN ('ready', 'in_progress')"
WAITS_SQL = "status = 'blocked' AND CAST(bars AS text) LIKE '%WAITS_ON_ENTRY%'"
_REVIEWS = ", ".join(f"'{kind}'" for kind in ReviewKind)

entries = sa.Table(
    "entries",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    text("env"),
    sa.Column("schema_version", sa.Integer, nullable=False),
    *(text(name) for name in ("title", "dedupe_key", "pipeline")),
    *(text(name, default="") for name in ("url", "source", "external_ref", "team", "owner")),
    data("labels", "[]"),
    text("priority"),
    data("signals", "{}"),
    data("constraints", "{}"),
    data("provenance", "{}"),
    text("input_sha256"),
    moment("created_at", nullable=False),
    moment("due_date"),
    text("status"),
    data("bars", "[]"),
    sa.Column("seq", sa.Integer, nullable=False),
    text("reason", default=""),
    text("run_id", nullable=True),
    text("worker", nullable=True),
    *(moment(name) for name in ("claimed_at", "leased_until", "rung_at")),
    count("rings"),
    *(moment(name) for name in ("retry_at", "wake_at")),
    *(count(name) for name in ("attempt", "faults", "outages", "expiries")),
    *(moment(name) for name in ("cleared_at", "changed_at")),
    text("pipeline_hash", nullable=True),
    text("rank_group", default=""),
    sa.Column("score", NUMBER),
    text("scored_by", nullable=True),
    text("group_key", nullable=True),
    sa.Column("reserved_usd", NUMBER),
    *(text(name, default="") for name in ("service", "category", "legal_hold", "outcome", "limit_key", "declared")),
    sa.UniqueConstraint("env", "dedupe_key", name="entries_dedupe"),
    known("status", Status, "entries_status_known"),
    sa.CheckConstraint("(status = 'in_progress') = (run_id IS NOT NULL)", name="entries_held_by_run"),
    sa.CheckConstraint(f"({HELD_SQL}) = (leased_until IS NOT NULL)", name="entries_held_has_lease"),
    sa.CheckConstraint("(status = 'retrying') = (retry_at IS NOT NULL)", name="entries_retrying_has_date"),
    sa.CheckConstraint("(status = 'blocked') = (CAST(bars AS text) <> '[]')", name="entries_blocked_has_bars"),
    partial("entries_rank", "env", "rank_group", "created_at", "id", where=f"{WAITING_SQL} AND wake_at IS NULL"),
    partial("entries_limit", "env", "limit_key", "rank_group", where=f"{WAITING_SQL} AND limit_key <> ''"),
    partial("entries_wake", "wake_at", where=f"{WAITING_SQL} AND wake_at IS NOT NULL"),
    partial("entries_held", "leased_until", where=HELD_SQL),
    partial("entries_waits", "env", "id", where=WAITS_SQL),
    partial("entries_group", "env", "group_key", where=f"{HELD_SQL} AND group_key IS NOT NULL"),
    partial("entries_due", "due_date", where="due_date IS NOT NULL AND status IN ('queued', 'retrying')"),
    sa.Index("entries_by_status", "env", "status", "id"),
    # They do not begin with env: one that did would tempt the planner wherever a statement names the environment.
    *(partial(f"entries_by_{name}", name, "env", where=f"{name} <> ''") for name in ("service", "owner", "category")),
    partial("entries_by_due_date", "due_date", "env", where="due_date IS NOT NULL"),
    partial("entries_final", "env", "changed_at", where=FINAL_SQL),
    partial("entries_by_outcome", "outcome", "env", where="outcome <> ''"),
    random_part("entries", "id", 14),
)

entry_inputs = sa.Table(
    "entry_inputs",
    METADATA,
    sa.Column("entry_id", sa.Text, primary_key=True),
    sa.Column("sha256", sa.Text, primary_key=True),
    data("value", "{}"),
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
    text("entry_id"),
    sa.Column("attempt", sa.Integer, nullable=False),
    *(text(name) for name in ("worker", "pipeline_hash", "policy_hash")),
    moment("claimed_at", nullable=False),
    moment("ended_at"),
    *(text(name, nullable=True) for name in ("ended_by", "kind", "reason")),
    moment("ends_by"),
    text("env", default="prod"),
    text("outcome", default=""),
    data("goes_on", "[]"),
    sa.UniqueConstraint("entry_id", "attempt", name="runs_attempt"),
    sa.CheckConstraint("(ended_at IS NULL) = (ended_by IS NULL)", name="runs_end_has_change"),
    partial("runs_live", "entry_id", where="ended_at IS NULL", unique=True),
    partial("runs_ends_by", "ends_by", where="ended_at IS NULL AND ends_by IS NOT NULL"),
    sa.Index("runs_by_env", "env", "claimed_at", "id"),
    partial("runs_live_by_env", "env", "id", where="ended_at IS NULL"),
    random_part("runs", "id", 15),
)

stages = sa.Table(
    "stages",
    METADATA,
    sa.Column("entry_id", sa.Text, primary_key=True),
    sa.Column("pipeline_hash", sa.Text, primary_key=True),
    sa.Column("job_id", sa.Text, primary_key=True),
    text("status"),
    text("run_id", nullable=True),
    count("takes"),
    text("worker", nullable=True),
    *(count(name) for name in ("attempts", "used", "expiries")),
    data("tries", "[]"),
    *(moment(name) for name in ("started_at", "ended_at", "leased_until", "rung_at", "start_by", "wake_at")),
    count("rings"),
    sa.Column("progress", sa.Integer),
    data("output"),
    text("sha256", nullable=True),
    data("artifacts", "[]"),
    data("gates", "[]"),
    data("approval"),
    data("reason"),
    data("cost"),
    data("based_on"),
    known("status", StageStatus, "stages_status_known"),
    sa.CheckConstraint("(status = 'running') = (leased_until IS NOT NULL)", name="stages_running_has_lease"),
    partial("stages_rung", "rung_at", where="status = 'pending' AND rung_at IS NOT NULL"),
    partial("stages_wake", "wake_at", where="status = 'waiting' AND wake_at IS NOT NULL"),
    partial("stages_running", "leased_until", where="status = 'running'"),
)

log_chunks = sa.Table(
    "log_chunks",
    METADATA,
    sa.Column("run_id", sa.Text, primary_key=True),
    sa.Column("job_id", sa.Text, primary_key=True),
    sa.Column("take", sa.Integer, primary_key=True),
    sa.Column("n", sa.Integer, primary_key=True),
    moment("at", nullable=False),
    text("text"),
)

spending = sa.Table(
    "spending",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    *(text(name) for name in ("env", "entry_id", "run_id", "job_id", "pipeline")),
    *(text(name, default="") for name in ("team", "agent", "model")),
    moment("at", nullable=False),
    *(count(name) for name in ("take", "input_tokens", "output_tokens")),
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
    *(text(name) for name in ("pipeline", "job_id", "entry_id", "run_id", "sha256")),
    data("output"),
    data("artifacts", "[]"),
    data("gates", "{}"),
    sa.Column("usd", NUMBER),
    moment("at", nullable=False),
    moment("until", nullable=False),
    count("hits"),
    sa.Index("results_by_end", "env", "until"),
)

events = sa.Table(
    "events",
    METADATA,
    sa.Column("entry_id", sa.Text, primary_key=True),
    sa.Column("seq", sa.Integer, primary_key=True),
    moment("at", nullable=False),
    text("change"),
    sa.Column("version", sa.Integer, nullable=False),
    text("actor"),
    text("run_id", nullable=True),
    data("data", "{}"),
    *(text(name) for name in ("canonical", "prev", "hash")),
    partial("events_by_run", "run_id", "change", where="run_id IS NOT NULL"),
    sa.Index("events_by_time", "at", postgresql_using="brin"),
)

reviews = sa.Table(
    "reviews",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    *(text(name) for name in ("env", "kind", "entry_id")),
    text("run_id", nullable=True),
    *(text(name, default="") for name in ("job_id", "question", "role", "owner", "failure", "rule", "recovery")),
    text("detail", default=""),
    text("on_timeout", default="escalate"),
    data("form"),
    moment("opened_at", nullable=False),
    moment("due_at", nullable=False),
    *(moment(name) for name in ("assigned_at", "reminded_at", "rung_at")),
    sa.Column("seq", sa.Integer, nullable=False),
    *(text(name, nullable=True) for name in ("answer", "answered_by")),
    moment("answered_at"),
    text("reason", nullable=True),
    data("value"),
    sa.CheckConstraint("(answer IS NULL) = (answered_by IS NULL)", name="reviews_answer_has_name"),
    sa.CheckConstraint(f"kind IN ({_REVIEWS})", name="reviews_kind_known"),
    partial("reviews_open", "entry_id", "job_id", where="answer IS NULL", unique=True),
    partial("reviews_dead_letter", "entry_id", where="answer IS NULL AND kind = 'dead_letter'", unique=True),
    partial("reviews_due", "due_at", where="answer IS NULL"),
    random_part("reviews", "id", 15),
)

decisions = sa.Table(
    "decisions",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    text("env"),
    moment("at", nullable=False),
    text("policy"),
    text("digest"),
    data("counts", "{}"),
    sa.Index("decisions_by_time", "env", "at"),
)

receipts = sa.Table(
    "receipts",
    METADATA,
    sa.Column("decision_id", sa.Text, primary_key=True),
    sa.Column("entry_id", sa.Text, primary_key=True),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("score", NUMBER),
    data("terms", "{}"),
    data("waits", "[]"),
    sa.Index("receipts_by_entry", "entry_id", "decision_id"),
)

definitions = sa.Table(
    "definitions",
    METADATA,
    sa.Column("env", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("hash", sa.Text, primary_key=True),
    *(text(name) for name in ("name", "version", "body")),
    data("contracts", "{}"),
    sa.Column("live", sa.Boolean, nullable=False),
    moment("at", nullable=False),
    text("author"),
    sa.CheckConstraint("kind IN ('policy', 'pipeline')", name="definitions_kind_known"),
    partial("definitions_live", "env", "kind", "name", where="live", unique=True),
)

outbox = sa.Table(
    "outbox",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    *(text(name) for name in ("target", "topic", "entry_id")),
    text("run_id", nullable=True),
    sa.Column("seq", sa.Integer, nullable=False),
    data("body", "{}"),
    *(text(name) for name in ("sha256", "status")),
    count("attempts"),
    *(moment(name) for name in ("leased_until", "retry_at", "put_at", "sent_at")),
    *(text(name, nullable=True) for name in ("remote_id", "error")),
    moment("rung_at"),
    text("env", default="prod"),
    sa.UniqueConstraint("env", "target", "topic", name="outbox_topic"),
    sa.CheckConstraint("status IN ('due', 'sent', 'given_up')", name="outbox_status_known"),
    partial("outbox_due", "env", "id", where="status = 'due'"),
    random_part("outbox", "id", 14),
)

leases = sa.Table(
    "leases",
    METADATA,
    sa.Column("env", sa.Text, primary_key=True, server_default="prod"),
    sa.Column("name", sa.Text, primary_key=True),
    text("holder"),
    moment("until", nullable=False),
)

workers = sa.Table(
    "workers",
    METADATA,
    sa.Column("env", sa.Text, primary_key=True, server_default="prod"),
    sa.Column("name", sa.Text, primary_key=True),
    moment("seen_at", nullable=False),
    data("queues", "[]"),
    count("slots"),
    sa.Column("schema_min", sa.Integer, nullable=False),
    sa.Column("schema_max", sa.Integer, nullable=False),
)
