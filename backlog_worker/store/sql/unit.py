"""The store: units of work over one database."""

import copy
import hashlib
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from sqlalchemy.engine import Connection

from backlog_worker.domain.errors import UsageError
from backlog_worker.store import disk
from backlog_worker.store.sql import connection
from backlog_worker.store.sql.connection import Clock
from backlog_worker.store.sql.verify import Verify

ENV = "prod"  # of everybody who names no other


class Unit(Verify):
    """One transaction: all verbs of the store, on one environment.

    What was decided about held entries is written when it ends.
    """


class Store:
    """Durable truth of one environment: what belongs to another is not there.

    `begin` writes, `read` only looks; both are short, and neither spans a call to another system.
    """

    def __init__(self, url: str, *, clock: Clock | None = None, env: str = ENV) -> None:
        self.url = url
        self.env = env
        self.engine, self.dialect = connection.made(url, clock=clock)
        # One connection serves every thread of a store in memory; one in a file is never open across a fork.
        memory = threading.RLock() if url in {"sqlite://", "memory://"} else connection.FORKING
        self._alone = memory if self.dialect.name == "sqlite" else nullcontext()
        self._fingerprints: dict[str, str] = {}
        self.transactions = 0
        self.statements = 0

    @contextmanager
    def begin(self, *, actor: str = "system") -> Iterator[Unit]:
        """Open a transaction that writes, in the name of *actor*; all of it is done, or nothing."""
        with self._alone, connection.opened(self.engine, writes=True) as opened:
            unit = Unit(opened, self.dialect, self.env)
            unit.actor = actor
            yield unit
            unit.flush()
            self._counted(unit)

    @contextmanager
    def intake(self, *, actor: str = "system") -> Iterator[Unit]:
        """Open a transaction that takes in new work; a store with a journal does so while its database is away."""
        with self.begin(actor=actor) as unit:
            yield unit

    @contextmanager
    def connected(self) -> Iterator[Connection]:
        """Open a bare connection, for migrations; raises UnreachableError."""
        with self._alone, connection.reached(self.engine) as opened:
            yield opened

    @contextmanager
    def read(self) -> Iterator[Unit]:
        """Open a transaction that only reads."""
        with self._alone, connection.opened(self.engine, writes=False) as opened:
            unit = Unit(opened, self.dialect, self.env)
            yield unit
            self._counted(unit)

    def of(self, env: str) -> "Store":
        """Return the same store for another environment, over the same connections."""
        other = copy.copy(self)
        other.env = env
        return other

    def fingerprint(self) -> str:
        """Return what tells this backlog from every other: a digest of its environment and the id of its database."""
        if self.env not in self._fingerprints:
            with self.begin() as unit:
                told = f"{unit.identity(secrets.token_hex(16))} {self.env}"
            self._fingerprints[self.env] = hashlib.sha256(told.encode()).hexdigest()[:16]
        return self._fingerprints[self.env]

    def backup(self, path: Path) -> None:
        """Copy the whole database into a new file while it is in use.

        Raises UsageError for PostgreSQL, whose own tools do that, and where something stands at *path*.
        """
        if self.dialect.name == "postgresql":
            message = "PostgreSQL is backed up by its own tools"
            raise UsageError(message, hint=f'pg_dump --format=custom --file={path} "$BACKLOG_DATABASE_URL"')
        try:
            path.touch(mode=0o600, exist_ok=False)  # VACUUM INTO fills an empty file, and says little of a bad place
        except FileExistsError:
            message = f"{path} is there already"
            raise UsageError(message, hint="name a new file") from None
        except OSError as error:
            raise disk.own(error, path.parent) from None
        with self.connected() as opened:
            opened.execution_options(begin="").exec_driver_sql("VACUUM INTO :path", {"path": str(path)})

    def compact(self) -> tuple[int, int]:
        """Give space back to the disk; returns the size before and after, in bytes. PostgreSQL does that by itself."""
        if self.dialect.name == "postgresql":
            message = "PostgreSQL is vacuumed by its own autovacuum"
            raise UsageError(message)
        with self.connected() as opened:
            opened.execution_options(begin="")
            before = self._pages(opened)
            opened.exec_driver_sql("VACUUM")
            return before, self._pages(opened)

    def close(self) -> None:
        """Give every connection back."""
        self.engine.dispose()

    def _pages(self, opened: Connection) -> int:
        sizes = [opened.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("page_count", "page_size")]
        opened.commit()
        return int(sizes[0] or 0) * int(sizes[1] or 0)

    def _counted(self, unit: Unit) -> None:
        self.transactions += 1
        self.statements += unit.statements
