"""Make the environment part of every key: outbox, leases, workers, runs; keep digests and the id of the database."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0004"
down_revision = "0003"

MOMENT = sa.TIMESTAMP(timezone=True).with_variant(sa.REAL(), "sqlite")
DATA = JSONB().with_variant(sa.JSON(), "sqlite")

# A row that belongs to an entry is of that entry's environment; a lease that carries a name is of that one; what is
# left is of `prod`, the environment of everybody who never named another.
FROM_ENTRY = """UPDATE {table} SET env = coalesce((SELECT e.env FROM entries e WHERE e.id = {table}.entry_id),
 (SELECT r.env FROM retired r WHERE r.entry_id = {table}.entry_id), env)"""
FROM_ALERT = """UPDATE outbox SET env = coalesce((SELECT a.env FROM alerts a
 WHERE outbox.topic IN (a.id || '\\:alert.fired', a.id || '\\:alert.resolved')), env) WHERE entry_id = ''"""
POSTGRES_LEASES = """UPDATE leases SET env = substr(name, strpos(name, ':') + 1)
 WHERE split_part(name, ':', 1) IN ('dispatch', 'sweep', 'alerts')"""
SQLITE_LEASES = """UPDATE leases SET env = substr(name, instr(name, ':') + 1)
 WHERE substr(name, 1, instr(name, ':') - 1) IN ('dispatch', 'sweep', 'alerts')"""
POSTGRES = """
ALTER TABLE leases DROP CONSTRAINT leases_pkey, ADD PRIMARY KEY (env, name);
ALTER TABLE workers DROP CONSTRAINT workers_pkey, ADD PRIMARY KEY (env, name);
ALTER TABLE outbox DROP CONSTRAINT outbox_topic, ADD CONSTRAINT outbox_topic UNIQUE (env, target, topic)
"""
SQLITE = """
CREATE TABLE made_leases (env TEXT NOT NULL DEFAULT 'prod', name TEXT NOT NULL, holder TEXT NOT NULL, until REAL NOT NULL,
 PRIMARY KEY (env, name))
---
INSERT INTO made_leases (env, name, holder, until) SELECT env, name, holder, until FROM leases
---
DROP TABLE leases
---
ALTER TABLE made_leases RENAME TO leases
---
CREATE TABLE made_workers (env TEXT NOT NULL DEFAULT 'prod', name TEXT NOT NULL, seen_at REAL NOT NULL,
 queues JSON NOT NULL DEFAULT '[]', slots INTEGER NOT NULL DEFAULT '0', schema_min INTEGER NOT NULL,
 schema_max INTEGER NOT NULL, PRIMARY KEY (env, name))
---
INSERT INTO made_workers (env, name, seen_at, queues, slots, schema_min, schema_max)
 SELECT env, name, seen_at, queues, slots, schema_min, schema_max FROM workers
---
DROP TABLE workers
---
ALTER TABLE made_workers RENAME TO workers
---
DROP INDEX outbox_due
---
ALTER TABLE outbox RENAME TO old_outbox
---
CREATE TABLE outbox (id TEXT NOT NULL, env TEXT NOT NULL DEFAULT 'prod', target TEXT NOT NULL, topic TEXT NOT NULL,
 entry_id TEXT NOT NULL, run_id TEXT, seq INTEGER NOT NULL, body JSON NOT NULL DEFAULT '{}', sha256 TEXT NOT NULL,
 status TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT '0', leased_until REAL, retry_at REAL, put_at REAL,
 sent_at REAL, remote_id TEXT, error TEXT, PRIMARY KEY (id),
 CONSTRAINT outbox_topic UNIQUE (env, target, topic),
 CONSTRAINT outbox_status_known CHECK (status IN ('due', 'sent', 'given_up')))
---
INSERT INTO outbox (id, env, target, topic, entry_id, run_id, seq, body, sha256, status, attempts, leased_until,
 retry_at, put_at, sent_at, remote_id, error) SELECT id, env, target, topic, entry_id, run_id, seq, body, sha256,
 status, attempts, leased_until, retry_at, put_at, sent_at, remote_id, error FROM old_outbox
---
DROP TABLE old_outbox
"""


def upgrade() -> None:
    """Add the environment to keys; an older release does not know them, so its workers stop first."""
    for table in ("runs", "outbox", "leases", "workers"):
        op.add_column(table, sa.Column("env", sa.Text(), nullable=False, server_default="prod"))
    for table in ("runs", "outbox"):
        op.execute(FROM_ENTRY.format(table=table))
    op.execute(FROM_ALERT)
    sqlite = op.get_context().dialect.name == "sqlite"
    op.execute(SQLITE_LEASES if sqlite else POSTGRES_LEASES)
    if not sqlite:
        op.drop_index("outbox_due", "outbox")
    for text in SQLITE.split("---") if sqlite else (POSTGRES,):
        op.execute(text)
    _indexes()
    _tables()
    op.execute("INSERT INTO schema_revisions (number, works_from) VALUES (4, 4)")


def downgrade() -> None:
    """Restore a backup: rows of two environments have no place under one key."""
    message = "revision 0004 is not taken back; restore a backup made before it"
    raise NotImplementedError(message)


def _indexes() -> None:
    due, live = sa.text("status = 'due'"), sa.text("ended_at IS NULL")
    op.create_index("outbox_due", "outbox", ["env", "id"], postgresql_where=due, sqlite_where=due)
    op.create_index("runs_by_env", "runs", ["env", "claimed_at", "id"])
    op.create_index("runs_live_by_env", "runs", ["env", "id"], postgresql_where=live, sqlite_where=live)


def _tables() -> None:
    op.create_table(
        "digests",
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("env", "kind", "period", "sha256")),
        sa.Column("body", DATA, nullable=False, server_default="{}"),
        sa.Column("at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("env", "kind", "period"),
    )
    op.create_table(
        "identity",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
