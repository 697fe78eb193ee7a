"""Create the backlog: entries, runs, stages, history, reviews, decisions, definitions, outbox, leases, workers."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None

MOMENT = sa.TIMESTAMP(timezone=True).with_variant(sa.REAL(), "sqlite")
DATA = JSONB().with_variant(sa.JSON(), "sqlite")

# History is insert only, and on PostgreSQL a change without its event is refused at the commit.
POSTGRES_TRIGGERS = """
CREATE FUNCTION backlog_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'the history is insert only'; END $$;
CREATE TRIGGER events_insert_only BEFORE UPDATE OR DELETE ON events FOR EACH ROW EXECUTE FUNCTION backlog_refuse();
CREATE TRIGGER events_no_truncate BEFORE TRUNCATE ON events FOR EACH STATEMENT EXECUTE FUNCTION backlog_refuse();
CREATE FUNCTION backlog_has_event() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NOT EXISTS (SELECT 1 FROM events v WHERE v.entry_id = NEW.id AND v.seq = NEW.seq) THEN
    RAISE EXCEPTION 'entry % changed to % without its event', NEW.id, NEW.status;
  END IF;
  RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER entries_have_events AFTER INSERT OR UPDATE OF status, seq ON entries
  DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION backlog_has_event()
"""
SQLITE_TRIGGERS = """
CREATE TRIGGER events_no_update BEFORE UPDATE ON events BEGIN SELECT RAISE(ABORT, 'the history is insert only'); END
---
CREATE TRIGGER events_no_delete BEFORE DELETE ON events BEGIN SELECT RAISE(ABORT, 'the history is insert only'); END
"""


def upgrade() -> None:
    """Add every table."""
    op.create_table(
        "decisions",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("env", sa.Text(), nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("policy", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("counts", DATA, server_default="{}", nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("decisions_by_time", "decisions", ["env", "at"], unique=False)
    op.create_table(
        "definitions",
        sa.Column("env", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("contracts", DATA, server_default="{}", nullable=False),
        sa.Column("live", sa.Boolean(), nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.CheckConstraint("kind IN ('policy', 'pipeline')", name="definitions_kind_known"),
        sa.PrimaryKeyConstraint("env", "kind", "hash"),
    )
    op.create_index(
        "definitions_live",
        "definitions",
        ["env", "kind", "name"],
        unique=True,
        postgresql_where=sa.text("live"),
        sqlite_where=sa.text("live"),
    )
    op.create_table(
        "entries",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("env", sa.Text(), nullable=False),
        sa.Column("schema_version", sa.Integer(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("dedupe_key", sa.Text(), nullable=False),
        sa.Column("pipeline", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), server_default="", nullable=False),
        sa.Column("source", sa.Text(), server_default="", nullable=False),
        sa.Column("external_ref", sa.Text(), server_default="", nullable=False),
        sa.Column("team", sa.Text(), server_default="", nullable=False),
        sa.Column("owner", sa.Text(), server_default="", nullable=False),
        sa.Column("labels", DATA, server_default="[]", nullable=False),
        sa.Column("priority", sa.Text(), nullable=False),
        sa.Column("signals", DATA, server_default="{}", nullable=False),
        sa.Column("constraints", DATA, server_default="{}", nullable=False),
        sa.Column("provenance", DATA, server_default="{}", nullable=False),
        sa.Column("input_sha256", sa.Text(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("due_date", MOMENT, nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("bars", DATA, server_default="[]", nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("run_id", sa.Text(), nullable=True),
        sa.Column("worker", sa.Text(), nullable=True),
        sa.Column("claimed_at", MOMENT, nullable=True),
        sa.Column("leased_until", MOMENT, nullable=True),
        sa.Column("rung_at", MOMENT, nullable=True),
        sa.Column("rings", sa.Integer(), server_default="0", nullable=False),
        sa.Column("retry_at", MOMENT, nullable=True),
        sa.Column("wake_at", MOMENT, nullable=True),
        sa.Column("attempt", sa.Integer(), server_default="0", nullable=False),
        sa.Column("faults", sa.Integer(), server_default="0", nullable=False),
        sa.Column("expiries", sa.Integer(), server_default="0", nullable=False),
        sa.Column("cleared_at", MOMENT, nullable=True),
        sa.Column("changed_at", MOMENT, nullable=True),
        sa.Column("pipeline_hash", sa.Text(), nullable=True),
        sa.Column("rank_group", sa.Text(), server_default="", nullable=False),
        sa.Column("score", sa.Double(), nullable=True),
        sa.Column("scored_by", sa.Text(), nullable=True),
        sa.CheckConstraint("(status = 'blocked') = (CAST(bars AS text) <> '[]')", name="entries_blocked_has_bars"),
        sa.CheckConstraint("(status = 'in_progress') = (run_id IS NOT NULL)", name="entries_held_by_run"),
        sa.CheckConstraint("(status = 'retrying') = (retry_at IS NOT NULL)", name="entries_retrying_has_date"),
        sa.CheckConstraint(
            "(status IN ('ready', 'in_progress')) = (leased_until IS NOT NULL)", name="entries_held_has_lease"
        ),
        sa.CheckConstraint(
            "status IN ('blocked', 'queued', 'ready', 'in_progress', 'retrying', 'escalated', 'completed', 'failed', 'canceled')",
            name="entries_status_known",
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("env", "dedupe_key", name="entries_dedupe"),
    )
    op.create_index("entries_by_status", "entries", ["env", "status", "id"], unique=False)
    op.create_index(
        "entries_due",
        "entries",
        ["due_date"],
        unique=False,
        postgresql_where=sa.text("due_date IS NOT NULL AND status IN ('queued', 'retrying')"),
        sqlite_where=sa.text("due_date IS NOT NULL AND status IN ('queued', 'retrying')"),
    )
    op.create_index(
        "entries_held",
        "entries",
        ["leased_until"],
        unique=False,
        postgresql_where=sa.text("status IN ('ready', 'in_progress')"),
        sqlite_where=sa.text("status IN ('ready', 'in_progress')"),
    )
    op.create_index(
        "entries_rank",
        "entries",
        ["env", "rank_group", "created_at", "id"],
        unique=False,
        postgresql_where=sa.text("status IN ('queued', 'retrying') AND wake_at IS NULL"),
        sqlite_where=sa.text("status IN ('queued', 'retrying') AND wake_at IS NULL"),
    )
    op.create_index(
        "entries_wake",
        "entries",
        ["wake_at"],
        unique=False,
        postgresql_where=sa.text("status IN ('queued', 'retrying') AND wake_at IS NOT NULL"),
        sqlite_where=sa.text("status IN ('queued', 'retrying') AND wake_at IS NOT NULL"),
    )
    op.create_table(
        "entry_inputs",
        sa.Column("entry_id", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("value", DATA, server_default="{}", nullable=False),
        sa.PrimaryKeyConstraint("entry_id", "sha256"),
    )
    op.create_table(
        "events",
        sa.Column("entry_id", sa.Text(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("change", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=True),
        sa.Column("data", DATA, server_default="{}", nullable=False),
        sa.Column("canonical", sa.Text(), nullable=False),
        sa.Column("prev", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("entry_id", "seq"),
    )
    op.create_index(
        "events_by_run",
        "events",
        ["run_id", "change"],
        unique=False,
        postgresql_where=sa.text("run_id IS NOT NULL"),
        sqlite_where=sa.text("run_id IS NOT NULL"),
    )
    op.create_table(
        "leases",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("until", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "links",
        sa.Column("from_id", sa.Text(), nullable=False),
        sa.Column("to_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.CheckConstraint("kind IN ('depends_on')", name="links_kind_known"),
        sa.CheckConstraint("from_id <> to_id", name="links_to_others"),
        sa.PrimaryKeyConstraint("from_id", "to_id", "kind"),
    )
    op.create_index("links_to", "links", ["to_id"], unique=False)
    op.create_table(
        "outbox",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("entry_id", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=True),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("body", DATA, server_default="{}", nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("leased_until", MOMENT, nullable=True),
        sa.Column("retry_at", MOMENT, nullable=True),
        sa.Column("put_at", MOMENT, nullable=True),
        sa.Column("sent_at", MOMENT, nullable=True),
        sa.Column("remote_id", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.CheckConstraint("status IN ('due', 'sent', 'given_up')", name="outbox_status_known"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("target", "topic", name="outbox_topic"),
    )
    op.create_index(
        "outbox_due",
        "outbox",
        ["id"],
        unique=False,
        postgresql_where=sa.text("status = 'due'"),
        sqlite_where=sa.text("status = 'due'"),
    )
    op.create_table(
        "receipts",
        sa.Column("decision_id", sa.Text(), nullable=False),
        sa.Column("entry_id", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("score", sa.Double(), nullable=True),
        sa.Column("terms", DATA, server_default="{}", nullable=False),
        sa.Column("waits", DATA, server_default="[]", nullable=False),
        sa.PrimaryKeyConstraint("decision_id", "entry_id"),
    )
    op.create_index("receipts_by_entry", "receipts", ["entry_id", "decision_id"], unique=False)
    op.create_table(
        "reviews",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("env", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("entry_id", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=True),
        sa.Column("job_id", sa.Text(), server_default="", nullable=False),
        sa.Column("question", sa.Text(), server_default="", nullable=False),
        sa.Column("role", sa.Text(), server_default="", nullable=False),
        sa.Column("owner", sa.Text(), server_default="", nullable=False),
        sa.Column("failure", sa.Text(), server_default="", nullable=False),
        sa.Column("rule", sa.Text(), server_default="", nullable=False),
        sa.Column("recovery", sa.Text(), server_default="", nullable=False),
        sa.Column("opened_at", MOMENT, nullable=False),
        sa.Column("due_at", MOMENT, nullable=False),
        sa.Column("assigned_at", MOMENT, nullable=True),
        sa.Column("reminded_at", MOMENT, nullable=True),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=True),
        sa.Column("answered_by", sa.Text(), nullable=True),
        sa.Column("answered_at", MOMENT, nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.CheckConstraint("kind IN ('approval', 'dead_letter')", name="reviews_kind_known"),
        sa.CheckConstraint("(answer IS NULL) = (answered_by IS NULL)", name="reviews_answer_has_name"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "reviews_due",
        "reviews",
        ["due_at"],
        unique=False,
        postgresql_where=sa.text("answer IS NULL"),
        sqlite_where=sa.text("answer IS NULL"),
    )
    op.create_index(
        "reviews_open",
        "reviews",
        ["entry_id"],
        unique=True,
        postgresql_where=sa.text("answer IS NULL"),
        sqlite_where=sa.text("answer IS NULL"),
    )
    op.create_table(
        "runs",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("entry_id", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("worker", sa.Text(), nullable=False),
        sa.Column("pipeline_hash", sa.Text(), nullable=False),
        sa.Column("policy_hash", sa.Text(), nullable=False),
        sa.Column("claimed_at", MOMENT, nullable=False),
        sa.Column("ended_at", MOMENT, nullable=True),
        sa.Column("ended_by", sa.Text(), nullable=True),
        sa.Column("kind", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.CheckConstraint("(ended_at IS NULL) = (ended_by IS NULL)", name="runs_end_has_change"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("entry_id", "attempt", name="runs_attempt"),
    )
    op.create_index(
        "runs_live",
        "runs",
        ["entry_id"],
        unique=True,
        postgresql_where=sa.text("ended_at IS NULL"),
        sqlite_where=sa.text("ended_at IS NULL"),
    )
    op.create_table(
        "stages",
        sa.Column("entry_id", sa.Text(), nullable=False),
        sa.Column("pipeline_hash", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=True),
        sa.Column("takes", sa.Integer(), server_default="0", nullable=False),
        sa.Column("worker", sa.Text(), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("tries", DATA, server_default="[]", nullable=False),
        sa.Column("started_at", MOMENT, nullable=True),
        sa.Column("ended_at", MOMENT, nullable=True),
        sa.Column("leased_until", MOMENT, nullable=True),
        sa.Column("rung_at", MOMENT, nullable=True),
        sa.Column("rings", sa.Integer(), server_default="0", nullable=False),
        sa.Column("output", DATA, nullable=True),
        sa.Column("sha256", sa.Text(), nullable=True),
        sa.Column("artifacts", DATA, server_default="[]", nullable=False),
        sa.Column("gates", DATA, server_default="[]", nullable=False),
        sa.Column("approval", DATA, nullable=True),
        sa.Column("reason", DATA, nullable=True),
        sa.CheckConstraint("(status = 'running') = (leased_until IS NOT NULL)", name="stages_running_has_lease"),
        sa.CheckConstraint(
            "status IN ('pending', 'waiting', 'running', 'completed', 'failed', 'canceled')", name="stages_status_known"
        ),
        sa.PrimaryKeyConstraint("entry_id", "pipeline_hash", "job_id"),
    )
    op.create_index(
        "stages_rung",
        "stages",
        ["rung_at"],
        unique=False,
        postgresql_where=sa.text("status = 'pending' AND rung_at IS NOT NULL"),
        sqlite_where=sa.text("status = 'pending' AND rung_at IS NOT NULL"),
    )
    op.create_index(
        "stages_running",
        "stages",
        ["leased_until"],
        unique=False,
        postgresql_where=sa.text("status = 'running'"),
        sqlite_where=sa.text("status = 'running'"),
    )
    op.create_table(
        "workers",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("seen_at", MOMENT, nullable=False),
        sa.Column("queues", DATA, server_default="[]", nullable=False),
        sa.Column("slots", sa.Integer(), server_default="0", nullable=False),
        sa.Column("schema_min", sa.Integer(), nullable=False),
        sa.Column("schema_max", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )

    if op.get_context().dialect.name == "sqlite":
        for text in SQLITE_TRIGGERS.split("---"):
            op.execute(text)
    else:
        op.execute(POSTGRES_TRIGGERS)


def downgrade() -> None:
    """Drop every table; restore a backup instead where the history matters."""
    for name in (
        "workers",
        "stages",
        "runs",
        "reviews",
        "receipts",
        "outbox",
        "links",
        "leases",
        "events",
        "entry_inputs",
        "entries",
        "definitions",
        "decisions",
    ):
        op.drop_table(name)
    if op.get_context().dialect.name == "postgresql":
        op.execute("DROP FUNCTION backlog_refuse; DROP FUNCTION backlog_has_event")
