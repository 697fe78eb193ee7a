"""Alembic over our own engine: upgrade, dry run as SQL, and where a database stands."""

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
# The range of revisions that this release works with; workers outside of it neither start nor claim.
SCHEMA_MIN = 8
SCHEMA_MAX = 8


def revision(store: Store) -> int:
    """Return the number of the revision that the database is at; 0 for an empty one."""
    with store.connected() as connection:
        head = MigrationContext.configure(connection).get_current_revision()
    return int(head) if head else 0


def head() -> int:
    """Return the number of the newest revision of this release."""
    return int(ScriptDirectory.from_config(_config()).get_current_head() or 0)


def upgrade(store: Store) -> tuple[int, int]:
    """Bring the database to the newest revision; doing it again changes nothing. Returns (from, to)."""
    before = revision(store)
    if before < head():
        with store.connected() as connection, _alone(connection):
            config = _config()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            connection.commit()
    return before, revision(store)


def build(connection: sa.Connection, number: int) -> None:
    """Make the tables of revision *number* in an empty database."""
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, f"{number:04d}")
    connection.commit()


def dry_run(store: Store) -> str:
    """Return the SQL that `upgrade` would run; nothing is changed."""
    text = io.StringIO()
    config = _config()
    config.output_buffer = text
    config.attributes["dialect"] = store.engine.dialect.name
    before, newest = revision(store), head()
    if before < newest:
        command.upgrade(config, f"{before:04d}:{newest:04d}" if before else "head", sql=True)
    return text.getvalue()


def fitting(store: Store) -> None:
    """Make sure that this release can work on the schema; raises ConflictError that says what to do.

    A newer schema is served where it says that releases of our newest revision still can: so a fleet is upgraded
    worker by worker.
    """
    found = revision(store)
    if found < SCHEMA_MIN or (found > SCHEMA_MAX and works_from(store, found) > SCHEMA_MAX):
        message = f"the database is at revision {found}, this release works with {SCHEMA_MIN} to {SCHEMA_MAX}"
        older = found < SCHEMA_MIN
        raise ConflictError(message, hint="backlog-worker db migrate" if older else "install a newer backlog-worker")


def works_from(store: Store, number: int) -> int:
    """Return the oldest revision whose release can still work on revision *number*; that itself where nothing is said.

    The revision before it must be known here, or nothing could be read.
    """
    with store.read() as unit:
        found = unit.value("SELECT works_from FROM schema_revisions WHERE number = :number", number=number)
    return int(found) if found is not None else number


@contextmanager
def _alone(connection: sa.Connection) -> Iterator[None]:
    """Let one process migrate at a time; the second finds the work done."""
    if connection.dialect.name != "postgresql":
        yield
        return
    # All of it lies in one transaction: behind a pooler the next one may be another session.
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
    logging.getLogger("alembic").setLevel(logging.WARNING)  # what it did is said by whoever asked for it
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    config.set_main_option("version_path_separator", "os")
    return config
