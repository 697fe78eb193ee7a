"""Migrations with Alembic on our own engine: upgrade, dry run as SQL, and the revision of a database."""

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from backlog_worker.domain.errors import ConflictError
from backlog_worker.store.sql.deadline import patiently
from backlog_worker.store.sql.unit import Store

FOLDER = Path(__file__).parent / "migrations"
# The range of revisions that this release supports; outside of it workers neither start nor claim.
SCHEMA_MIN = 8
SCHEMA_MAX = 9


def revision(store: Store) -> int:
    """Return the revision of the database; 0 for an empty one."""
    with store.connected() as connection:
        head = MigrationContext.configure(connection).get_current_revision()
    return int(head) if head else 0


def head() -> int:
    """Return the newest revision of this release."""
    return int(ScriptDirectory.from_config(_config()).get_current_head() or 0)


def upgrade(store: Store) -> tuple[int, int]:
    """Upgrade the database to the newest revision; idempotent. Returns (from, to)."""
    before = revision(store)
    if before < head():
        with store.connected() as connection, _alone(connection):
            config = _config()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            connection.commit()
    return before, revision(store)


def build(connection: sa.Connection, number: int) -> None:
    """Create the tables of revision *number* in an empty database."""
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, f"{number:04d}")
    connection.commit()


def dry_run(store: Store) -> str:
    """Return the SQL that `upgrade` would run, without running it."""
    text = io.StringIO()
    config = _config()
    config.output_buffer = text
    config.attributes["dialect"] = store.engine.dialect.name
    before, newest = revision(store), head()
    if before < newest:
        command.upgrade(config, f"{before:04d}:{newest:04d}" if before else "head", sql=True)
    return text.getvalue()


def fitting(store: Store) -> None:
    """Check that this release supports the schema; raises ConflictError with the remedy.

    A newer schema is accepted if it declares that releases of our newest revision can still use it, so a fleet can be
    upgraded worker by worker.
    """
    found = revision(store)
    if found < SCHEMA_MIN or (found > SCHEMA_MAX and works_from(store, found) > SCHEMA_MAX):
        message = f"the database is at revision {found}, this release supports {SCHEMA_MIN} to {SCHEMA_MAX}"
        older = found < SCHEMA_MIN
        raise ConflictError(message, hint="backlog-worker db migrate" if older else "install a newer backlog-worker")


def works_from(store: Store, number: int) -> int:
    """Return the oldest revision whose release can use revision *number*; *number* itself if none is recorded.

    The table that records this must exist, so an unknown older schema cannot be read.
    """
    with store.read() as unit:
        found = unit.value("SELECT works_from FROM schema_revisions WHERE number = :number", number=number)
    return int(found) if found is not None else number


@contextmanager
def _alone(connection: sa.Connection) -> Iterator[None]:
    """Lock the database so that one process migrates at a time; a second one finds nothing to do."""
    if connection.dialect.name != "postgresql":
        yield
        return
    # One transaction for everything: behind a pooler the next transaction may use another session.
    words = (
        "SET LOCAL lock_timeout = '30s'",
        "SET LOCAL statement_timeout = 0",
        "SELECT pg_advisory_xact_lock(872304551)",
    )
    with patiently(connection):
        for text in words:
            connection.execute(sa.text(text))
        yield


def _config() -> Config:
    logging.getLogger("alembic").setLevel(logging.WARNING)  # the caller reports what was done
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    config.set_main_option("version_path_separator", "os")
    return config
