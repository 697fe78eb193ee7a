"""Add what graphs of jobs need: skipped stages, several open questions, logs, spending, stored results, groups."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0002"
down_revision = "0001"

MOMENT = sa.TIMESTAMP(timezone=True).with_variant(sa.REAL(), "sqlite")
DATA = JSONB().with_variant(sa.JSON(), "sqlite")
HELD = "status IN ('ready', 'in_progress') AND group_key IS NOT NULL"
COLUMNS = {
    "entries": [("group_key", sa.Text()), ("reserved_usd", sa.Double())],
    "runs": [("ends_by", MOMENT)],
    "stages": [("start_by", MOMENT), ("progress", sa.Integer()), ("cost", DATA)],
    "reviews": [("form", DATA), ("value", DATA)],
}
FILLED = {
    "stages": [("expiries", sa.Integer(), "0")],
    "reviews": [("detail", sa.Text(), ""), ("on_timeout", sa.Text(), "escalate")],
}
# table: the name of its CHECK, its column, the words before, the words after
CHECKS = {
    "stages": (
        "stages_status_known",
        "status",
        "'pending', 'waiting', 'running', 'completed', 'failed', 'canceled'",
        "'pending', 'waiting', 'running', 'completed', 'failed', 'skipped', 'canceled'",
    ),
    "reviews": (
        "reviews_kind_known",
        "kind",
        "'approval', 'dead_letter'",
        "'approval', 'question', 'permission', 'budget', 'dead_letter'",
    ),
    "links": ("links_kind_known", "kind", "'depends_on'", "'depends_on', 'calls', 'fork_of'"),
}


def upgrade() -> None:
    """Add columns and tables, and widen three closed lists."""
    for table, columns in COLUMNS.items():
        for name, kind in columns:
            op.add_column(table, sa.Column(name, kind, nullable=True))
    for table, filled in FILLED.items():
        for name, kind, default in filled:
            op.add_column(table, sa.Column(name, kind, nullable=False, server_default=default))
    op.drop_index("reviews_open", "reviews")
    for table in CHECKS:
        _widen(table)
    _partial("reviews_open", "reviews", ["entry_id", "job_id"], "answer IS NULL", unique=True)
    _partial("reviews_dead_letter", "reviews", ["entry_id"], "answer IS NULL AND kind = 'dead_letter'", unique=True)
    _partial("entries_group", "entries", ["env", "group_key"], HELD)
    _partial(
        "entries_waits", "entries", ["env", "id"], "status = 'blocked' AND CAST(bars AS text) LIKE '%WAITS_ON_ENTRY%'"
    )
    _partial("runs_ends_by", "runs", ["ends_by"], "ended_at IS NULL AND ends_by IS NOT NULL")
    op.create_table(
        "log_chunks",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("take", sa.Integer(), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "job_id", "take", "n"),
    )
    op.create_table(
        "spending",
        sa.Column("id", sa.Text(), nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("env", "entry_id", "run_id", "job_id", "pipeline")),
        *(sa.Column(name, sa.Text(), nullable=False, server_default="") for name in ("team", "agent", "model")),
        sa.Column("at", MOMENT, nullable=False),
        *(
            sa.Column(name, sa.Integer(), nullable=False, server_default="0")
            for name in ("take", "input_tokens", "output_tokens")
        ),
        sa.Column("usd", sa.Double(), nullable=True),
        sa.Column("saved_usd", sa.Double(), nullable=False, server_default="0"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("spending_by_time", "spending", ["env", "at"])
    op.create_index("spending_by_entry", "spending", ["entry_id", "run_id"])
    op.create_table(
        "results",
        sa.Column("env", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        *(
            sa.Column(name, sa.Text(), nullable=False)
            for name in ("pipeline", "job_id", "entry_id", "run_id", "sha256")
        ),
        sa.Column("output", DATA, nullable=True),
        sa.Column("artifacts", DATA, nullable=False, server_default="[]"),
        sa.Column("gates", DATA, nullable=False, server_default="{}"),
        sa.Column("usd", sa.Double(), nullable=True),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("until", MOMENT, nullable=False),
        sa.Column("hits", sa.Integer(), nullable=False, server_default="0"),
        sa.PrimaryKeyConstraint("env", "key"),
    )
    op.create_index("results_by_end", "results", ["env", "until"])


def downgrade() -> None:
    """Restore a backup: rows that use the wider lists have no place in the older tables."""
    message = "revision 0002 is not taken back; restore a backup made before it"
    raise NotImplementedError(message)


def _partial(name: str, table: str, columns: list[str], where: str, *, unique: bool = False) -> None:
    condition = sa.text(where)
    op.create_index(name, table, columns, unique=unique, postgresql_where=condition, sqlite_where=condition)


def _widen(table: str) -> None:
    """Replace a CHECK; SQLite keeps it in the text of its table, which is the only place where it can be changed."""
    name, column, before, after = CHECKS[table]
    if op.get_context().dialect.name != "sqlite":
        op.drop_constraint(name, table, type_="check")
        op.create_check_constraint(name, table, f"{column} IN ({after})")
        return
    op.execute("PRAGMA writable_schema = ON")
    op.execute(
        f"UPDATE sqlite_master SET sql = replace(sql, {_quoted(f'IN ({before})')}, {_quoted(f'IN ({after})')})"
        f" WHERE type = 'table' AND name = '{table}'"
    )
    op.execute("PRAGMA writable_schema = RESET")


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
