"""Add what governed backlogs need: retirement, redaction, seals, operations, tokens, alerts, snapshots, services."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0003"
down_revision = "0002"

MOMENT = sa.TIMESTAMP(timezone=True).with_variant(sa.REAL(), "sqlite")
DATA = JSONB().with_variant(sa.JSON(), "sqlite")
# name: columns and the rows that it holds
INDEXES = {
    "entries_by_service": (["service", "env"], "service <> ''"),
    "entries_by_owner": (["owner", "env"], "owner <> ''"),
    "entries_by_category": (["category", "env"], "category <> ''"),
    "entries_by_due_date": (["due_date", "env"], "due_date IS NOT NULL"),
    "entries_final": (["env", "changed_at"], "status IN ('completed', 'failed', 'canceled')"),
}
FIXED = ("redactions", "operations", "seals", "seal_heads")

# An event may only lose texts whose redaction is on record, and go when its evidence is past its time.
POSTGRES = """
DROP TRIGGER events_insert_only ON events;
CREATE FUNCTION backlog_event_fixed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'DELETE' THEN
    IF EXISTS (SELECT 1 FROM retired r WHERE r.entry_id = OLD.entry_id AND r.legal_hold = ''
               AND r.evidence_until < clock_timestamp()) THEN RETURN OLD; END IF;
  ELSIF to_jsonb(NEW) - 'data' = to_jsonb(OLD) - 'data' AND NEW.data::text LIKE '%"$redacted"%'
    AND EXISTS (SELECT 1 FROM redactions r WHERE r.entry_id = OLD.entry_id AND r.seq = OLD.seq) THEN
    RETURN NEW;
  END IF;
  RAISE EXCEPTION 'the history is insert only';
END $$;
CREATE TRIGGER events_insert_only BEFORE UPDATE OR DELETE ON events FOR EACH ROW EXECUTE FUNCTION backlog_event_fixed();
CREATE FUNCTION backlog_entry_retired() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NOT EXISTS (SELECT 1 FROM retired r WHERE r.entry_id = OLD.id) THEN
    RAISE EXCEPTION 'entry % cannot be deleted; it can be retired', OLD.id;
  END IF;
  RETURN OLD;
END $$;
CREATE TRIGGER entries_leave_retired BEFORE DELETE ON entries FOR EACH ROW EXECUTE FUNCTION backlog_entry_retired()
"""
POSTGRES_FIXED = (
    "CREATE TRIGGER {0}_insert_only BEFORE UPDATE OR DELETE ON {0} FOR EACH ROW EXECUTE FUNCTION backlog_refuse()"
)
SQLITE = """
DROP TRIGGER events_no_update
---
DROP TRIGGER events_no_delete
---
CREATE TRIGGER events_no_update BEFORE UPDATE ON events
WHEN NOT (NEW.entry_id = OLD.entry_id AND NEW.seq = OLD.seq AND NEW.at = OLD.at AND NEW.change = OLD.change
 AND NEW.version = OLD.version AND NEW.actor = OLD.actor AND NEW.run_id IS OLD.run_id AND NEW.canonical = OLD.canonical
 AND NEW.prev = OLD.prev AND NEW.hash = OLD.hash AND instr(NEW.data, '"$redacted"') > 0
 AND EXISTS (SELECT 1 FROM redactions r WHERE r.entry_id = OLD.entry_id AND r.seq = OLD.seq))
BEGIN SELECT RAISE(ABORT, 'the history is insert only'); END
---
CREATE TRIGGER events_no_delete BEFORE DELETE ON events
WHEN NOT EXISTS (SELECT 1 FROM retired r WHERE r.entry_id = OLD.entry_id AND r.legal_hold = ''
 AND r.evidence_until < backlog_now())
BEGIN SELECT RAISE(ABORT, 'the history is insert only'); END
---
CREATE TRIGGER entries_leave_retired BEFORE DELETE ON entries
WHEN NOT EXISTS (SELECT 1 FROM retired r WHERE r.entry_id = OLD.id)
BEGIN SELECT RAISE(ABORT, 'an entry cannot be deleted; it can be retired'); END
"""
SQLITE_FIXED = (
    "CREATE TRIGGER {0}_no_{1} BEFORE {1} ON {0} BEGIN SELECT RAISE(ABORT, 'the table {0} is insert only'); END"
)


def upgrade() -> None:
    """Add columns, tables and triggers; a release that knows revision 3 works with it."""
    for name in ("service", "category", "legal_hold"):
        op.add_column("entries", sa.Column(name, sa.Text(), nullable=False, server_default=""))
    for name, (columns, where) in INDEXES.items():
        rows = sa.text(where)
        op.create_index(name, "entries", columns, postgresql_where=rows, sqlite_where=rows)
    op.create_index("events_by_time", "events", ["at"], postgresql_using="brin")
    _evidence()
    _people()
    op.execute("INSERT INTO schema_revisions (number, works_from) VALUES (3, 3)")
    if op.get_context().dialect.name == "sqlite":
        for text in SQLITE.split("---"):
            op.execute(text)
        for table in FIXED:
            for verb in ("update", "delete"):
                op.execute(SQLITE_FIXED.format(table, verb))
    else:
        op.execute(POSTGRES)
        for table in FIXED:
            op.execute(POSTGRES_FIXED.format(table))


def downgrade() -> None:
    """Restore a backup: events of version 2 and retired entries have no place in the older tables."""
    message = "revision 0003 is not taken back; restore a backup made before it"
    raise NotImplementedError(message)


def _evidence() -> None:
    op.create_table(
        "retired",
        *_texts("env", "dedupe_key", "entry_id", "status", "hash"),
        sa.Column("seq", sa.Integer(), nullable=False),
        *_moments("at", "evidence_until"),
        sa.Column("legal_hold", sa.Text(), nullable=False, server_default=""),
        sa.PrimaryKeyConstraint("env", "dedupe_key"),
    )
    op.create_index("retired_by_entry", "retired", ["entry_id"], unique=True)
    op.create_index("retired_by_end", "retired", ["evidence_until"])
    op.create_table(
        "redactions",
        *_texts("entry_id", "actor", "reason"),
        sa.Column("seq", sa.Integer(), nullable=False),
        *_moments("at"),
        sa.Column("fields", DATA, nullable=False, server_default="[]"),
        sa.PrimaryKeyConstraint("entry_id", "seq"),
    )
    op.create_table(
        "seals",
        *_texts("id", "root", "prev", "hash"),
        *_moments("at", "since"),
        *(sa.Column(name, sa.Integer(), nullable=False) for name in ("entries", "events")),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("seals_by_time", "seals", ["at"], unique=True)
    op.create_table(
        "seal_heads",
        *_texts("seal_id", "entry_id", "hash"),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("seal_id", "entry_id"),
    )
    op.create_table(
        "snapshots",
        *_texts("env", "kind"),
        *_moments("at"),
        sa.Column("data", DATA, nullable=False, server_default="{}"),
        sa.PrimaryKeyConstraint("env", "kind", "at"),
    )
    op.create_table(
        "schema_revisions",
        sa.Column("number", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("works_from", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("number"),
    )


def _people() -> None:
    op.create_table(
        "operations",
        *_texts("id", "env", "actor", "action", "result"),
        *_moments("at"),
        *(sa.Column(name, sa.Text(), nullable=False, server_default="") for name in ("subject", "reason")),
        sa.Column("detail", DATA, nullable=False, server_default="{}"),
        sa.CheckConstraint("result IN ('done', 'failed', 'denied')", name="operations_result_known"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("operations_by_time", "operations", ["env", "at"])
    op.create_index("operations_by_action", "operations", ["env", "action", "at"])
    op.create_table(
        "tokens",
        *_texts("id", "env", "name", "role", "hash", "created_by"),
        sa.Column("scopes", DATA, nullable=False, server_default="[]"),
        *_moments("created_at"),
        *(sa.Column(name, MOMENT, nullable=True) for name in ("expires_at", "used_at", "revoked_at")),
        sa.Column("revoked_by", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "alerts",
        *_texts("id", "env", "rule"),
        sa.Column("words", sa.Text(), nullable=False, server_default=""),
        sa.Column("notify", DATA, nullable=False, server_default="[]"),
        *_moments("since"),
        *(sa.Column(name, MOMENT, nullable=True) for name in ("fired_at", "resolved_at", "acked_at")),
        *(sa.Column(name, sa.Text(), nullable=True) for name in ("acked_by", "reason")),
        sa.PrimaryKeyConstraint("id"),
    )
    is_open = sa.text("resolved_at IS NULL")
    op.create_index(
        "alerts_open", "alerts", ["env", "rule"], unique=True, postgresql_where=is_open, sqlite_where=is_open
    )


def _texts(*names: str) -> list[sa.Column]:
    return [sa.Column(name, sa.Text(), nullable=False) for name in names]


def _moments(*names: str) -> list[sa.Column]:
    return [sa.Column(name, MOMENT, nullable=False) for name in names]
