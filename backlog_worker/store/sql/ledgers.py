"""The tables of retirement, seals, operations, tokens, alerts and digests."""

import sqlalchemy as sa

from backlog_worker.store.sql.columns import METADATA, MOMENT, NUMBER, data, moment, partial, random_part, text

# What left the backlog: its key stays taken, and its history is kept until `evidence_until`.
retired = sa.Table(
    "retired",
    METADATA,
    sa.Column("env", sa.Text, primary_key=True),
    sa.Column("dedupe_key", sa.Text, primary_key=True),
    *(text(name) for name in ("entry_id", "status", "hash")),
    sa.Column("seq", sa.Integer, nullable=False),
    moment("at", nullable=False),
    moment("evidence_until", nullable=False),
    text("legal_hold", default=""),
    data("tally"),
    moment("cleared_at"),
    sa.Column("waited", NUMBER),
    sa.Index("retired_by_entry", "entry_id", unique=True),
    sa.Index("retired_by_end", "evidence_until"),
    random_part("retired", "entry_id", 14),
)

redactions = sa.Table(
    "redactions",
    METADATA,
    sa.Column("entry_id", sa.Text, primary_key=True),
    sa.Column("seq", sa.Integer, primary_key=True),
    moment("at", nullable=False),
    *(text(name) for name in ("actor", "reason")),
    data("fields", "[]"),
)

seals = sa.Table(
    "seals",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    moment("at", nullable=False),
    moment("since", nullable=False),
    *(sa.Column(name, sa.Integer, nullable=False) for name in ("entries", "events")),
    *(text(name) for name in ("root", "prev", "hash")),
    sa.Index("seals_by_time", "at", unique=True),
)

seal_heads = sa.Table(
    "seal_heads",
    METADATA,
    sa.Column("seal_id", sa.Text, primary_key=True),
    sa.Column("entry_id", sa.Text, primary_key=True),
    sa.Column("seq", sa.Integer, nullable=False),
    text("hash"),
)

# When which definition came into force; what is in force now is the last of its name.
enactments = sa.Table(
    "enactments",
    METADATA,
    *(sa.Column(name, sa.Text, primary_key=True) for name in ("env", "kind", "name")),
    sa.Column("at", MOMENT, primary_key=True),
    *(text(name) for name in ("hash", "author")),
)

# Acts that are no change of one entry, and every attempt that was refused.
operations = sa.Table(
    "operations",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    text("env"),
    moment("at", nullable=False),
    *(text(name) for name in ("actor", "action", "result")),
    *(text(name, default="") for name in ("subject", "reason")),
    data("detail", "{}"),
    sa.CheckConstraint("result IN ('done', 'failed', 'denied')", name="operations_result_known"),
    sa.Index("operations_by_time", "env", "at"),
    sa.Index("operations_by_action", "env", "action", "at"),
)

tokens = sa.Table(
    "tokens",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    *(text(name) for name in ("env", "name", "role", "hash", "created_by")),
    data("scopes", "[]"),
    moment("created_at", nullable=False),
    *(moment(name) for name in ("expires_at", "used_at", "revoked_at")),
    text("revoked_by", nullable=True),
)

alerts = sa.Table(
    "alerts",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    *(text(name) for name in ("env", "rule")),
    text("words", default=""),
    data("notify", "[]"),
    moment("since", nullable=False),
    *(moment(name) for name in ("fired_at", "resolved_at", "acked_at")),
    *(text(name, nullable=True) for name in ("acked_by", "reason")),
    partial("alerts_open", "env", "rule", where="resolved_at IS NULL", unique=True),
)

snapshots = sa.Table(
    "snapshots",
    METADATA,
    sa.Column("env", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("at", MOMENT, primary_key=True),
    data("data", "{}"),
)

# What the tools of the clock found out about services, once for each period; also written as files.
digests = sa.Table(
    "digests",
    METADATA,
    *(sa.Column(name, sa.Text, primary_key=True) for name in ("env", "kind", "period")),
    text("sha256"),
    data("body", "{}"),
    moment("at", nullable=False),
)

# What tells this database from every other: a random id, made once.
identity = sa.Table(
    "identity",
    METADATA,
    sa.Column("name", sa.Text, primary_key=True),
    text("value"),
)

# The schema's own history: the lowest revision whose release can still work on this schema.
schema_revisions = sa.Table(
    "schema_revisions",
    METADATA,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("works_from", sa.Integer, nullable=False),
)
