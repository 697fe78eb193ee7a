"""Add what tells how runs ended and what they rest on: outcomes, the runs a run goes on from, the base of a stage."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0005"
down_revision = "0004"

DATA = JSONB().with_variant(sa.JSON(), "sqlite")
ENDED = sa.text("outcome <> ''")


def upgrade() -> None:
    """Add columns; a release that knows revision 5 works with it. Of older stages the base is not known: it is null."""
    for table in ("entries", "runs"):
        op.add_column(table, sa.Column("outcome", sa.Text(), nullable=False, server_default=""))
    op.add_column("runs", sa.Column("goes_on", DATA, nullable=False, server_default="[]"))
    op.add_column("stages", sa.Column("based_on", DATA, nullable=True))
    op.create_index("entries_by_outcome", "entries", ["outcome", "env"], postgresql_where=ENDED, sqlite_where=ENDED)
    op.execute("INSERT INTO schema_revisions (number, works_from) VALUES (5, 5)")


def downgrade() -> None:
    """Restore a backup: a run that was decided from what stood has no place in the older tables."""
    message = "revision 0005 is not taken back; restore a backup made before it"
    raise NotImplementedError(message)
