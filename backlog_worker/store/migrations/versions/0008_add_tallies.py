"""Say of each entry what was declared of it, keep tallies of retired ones, and when definitions came into force."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0008"
down_revision = "0007"

MOMENT = sa.TIMESTAMP(timezone=True).with_variant(sa.REAL(), "sqlite")
DATA = JSONB().with_variant(sa.JSON(), "sqlite")
# An entry was declared eligible once it was cleared, or once other bars than the rules alone held it.
DECLARED = """
UPDATE entries SET declared = 'eligible' WHERE EXISTS (SELECT 1 FROM events v WHERE v.entry_id = entries.id
 AND (v.change = 'cleared' OR (v.change IN ('filed', 'blocked') AND {bars} NOT IN ('[]', 'null', '["ON_HOLD"]')
 AND {bars} NOT LIKE '%NOT_ELIGIBLE%')))
"""
BARS = {
    "postgresql": "CAST(coalesce(v.data -> 'set' -> 'bars', v.data -> 'kept' -> 'set' -> 'bars') AS text)",
    "sqlite": "coalesce(v.data -> '$.set.bars', v.data -> '$.kept.set.bars')",
}
# Only of what is in force is it known since when: whatever was enacted before may have been in force twice.
ENACTED = (
    "INSERT INTO enactments (env, kind, name, at, hash, author)"
    " SELECT env, kind, name, at, hash, author FROM definitions WHERE live"
)
POSTGRES_FIXED = (
    "CREATE TRIGGER enactments_insert_only BEFORE UPDATE OR DELETE ON enactments FOR EACH ROW"
    " EXECUTE FUNCTION backlog_refuse()"
)
SQLITE_FIXED = (
    "CREATE TRIGGER enactments_no_{0} BEFORE {0} ON enactments"
    " BEGIN SELECT RAISE(ABORT, 'the table enactments is insert only'); END"
)


def upgrade() -> None:
    """Add columns; the tallies of what was retired before are kept by the next clean-up."""
    op.add_column("entries", sa.Column("declared", sa.Text(), nullable=False, server_default=""))
    op.add_column("retired", sa.Column("tally", DATA, nullable=True))
    op.add_column("retired", sa.Column("cleared_at", MOMENT, nullable=True))
    op.add_column("retired", sa.Column("waited", sa.Double(), nullable=True))
    op.execute(DECLARED.replace("{bars}", BARS[op.get_context().dialect.name]))
    op.create_table(
        "enactments",
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("env", "kind", "name", "hash", "author")),
        sa.Column("at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("env", "kind", "name", "at"),
    )
    op.execute(ENACTED)
    if op.get_context().dialect.name == "sqlite":
        for verb in ("update", "delete"):
            op.execute(SQLITE_FIXED.format(verb))
    else:
        op.execute(POSTGRES_FIXED)
    op.execute("INSERT INTO schema_revisions (number, works_from) VALUES (8, 8)")


def downgrade() -> None:
    """Restore a backup: what was done before it came here has no place in the older tables."""
    message = "revision 0008 is not taken back; restore a backup made before it"
    raise NotImplementedError(message)
