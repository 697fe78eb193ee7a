"""Count what was tried: attempts used of a job, runs ended from outside, and when a stage that pauses goes on."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

MOMENT = sa.TIMESTAMP(timezone=True).with_variant(sa.REAL(), "sqlite")


def upgrade() -> None:
    """Add the columns; what was counted before stays where it was counted."""
    op.add_column("entries", sa.Column("outages", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("stages", sa.Column("used", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("stages", sa.Column("wake_at", MOMENT, nullable=True))
    waits = sa.text("status = 'waiting' AND wake_at IS NOT NULL")
    op.create_index("stages_wake", "stages", ["wake_at"], postgresql_where=waits, sqlite_where=waits)
    op.execute("INSERT INTO schema_revisions (number, works_from) VALUES (7, 7)")


def downgrade() -> None:
    """Drop them again."""
    op.drop_index("stages_wake", "stages")
    op.drop_column("stages", "wake_at")
    op.drop_column("stages", "used")
    op.drop_column("entries", "outages")
    op.execute("DELETE FROM schema_revisions WHERE number = 7")
