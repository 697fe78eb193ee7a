"""Find rows by the random part of their ids, which is what people type."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

# The random part of an id begins after its prefix, the underscore and the ten characters of its time.
BEGINS = {
    "entries": ("id", 14),
    "retired": ("entry_id", 14),
    "runs": ("id", 15),
    "reviews": ("id", 15),
    "outbox": ("id", 14),
}


def upgrade() -> None:
    """Add one index a table."""
    for table, (column, place) in BEGINS.items():
        op.create_index(f"{table}_by_random_part", table, [sa.text(f"substr({column}, {place})")])
    op.execute("INSERT INTO schema_revisions (number, works_from) VALUES (9, 8)")


def downgrade() -> None:
    """Take the indexes away."""
    for table in BEGINS:
        op.drop_index(f"{table}_by_random_part", table)
    op.execute("DELETE FROM schema_revisions WHERE number = 9")
