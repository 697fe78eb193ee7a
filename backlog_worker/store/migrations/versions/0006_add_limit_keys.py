"""Add what a waiting entry is limited by, and when bells of write-backs and dead letters were rung."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

MOMENT = sa.TIMESTAMP(timezone=True).with_variant(sa.REAL(), "sqlite")
LIMITED = "status IN ('queued', 'retrying') AND limit_key <> ''"


def upgrade() -> None:
    """Add the columns and an index; the rank groups of older rows are made anew by the first ticks."""
    op.add_column("entries", sa.Column("limit_key", sa.Text(), nullable=False, server_default=""))
    rows = sa.text(LIMITED)
    columns = ["env", "limit_key", "rank_group"]
    op.create_index("entries_limit", "entries", columns, postgresql_where=rows, sqlite_where=rows)
    for table in ("outbox", "reviews"):
        op.add_column(table, sa.Column("rung_at", MOMENT, nullable=True))
    op.execute("INSERT INTO schema_revisions (number, works_from) VALUES (6, 5)")


def downgrade() -> None:
    """Restore a backup: an older release places entries by fewer fields."""
    message = "revision 0006 is not taken back; restore a backup made before it"
    raise NotImplementedError(message)
