"""The store: units of work over one database."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from sqlalchemy.engine import Connection

from backlog_worker.store.sql import connection
from backlog_worker.store.sql.connection import Clock
from backlog_worker.store.sql.verify import Verify


class Unit(Verify):
    """One transaction: all verbs of the store. What was decided about held entries is written when it ends."""


class Store:
    """Durable truth. `begin` writes, `read` only looks; both are short, and neither spans a call to another system."""

    def __init__(self, url: str, *, clock: Clock | None = None) -> None:
        self.url = url
        self.engine, self.dialect = connection.made(url, clock=clock)
        # One connection serves every thread of a store in memory; one in a file is never open across a fork.
        memory = threading.RLock() if url in {"sqlite://", "memory://"} else connection.FORKING
        self._alone = memory if self.dialect.name == "sqlite" else nullcontext()
        self.transactions = 0
        self.statements = 0

    @contextmanager
    def begin(self, *, actor: str = "system") -> Iterator[Unit]:
        """Open a transaction that writes, in the name of *actor*; all of it is done, or nothing."""
        with self._alone, connection.opened(self.engine, writes=True) as opened:
            unit = Unit(opened, self.dialect)
            unit.actor = actor
            yield unit
            unit.flush()
            self._counted(unit)

    @contextmanager
    def connected(self) -> Iterator[Connection]:
        """Open a bare connection, for migrations; raises UnreachableError."""
        with self._alone, connection.reached(self.engine) as opened:
            yield opened

    @contextmanager
    def read(self) -> Iterator[Unit]:
        """Open a transaction that only reads."""
        with self._alone, connection.opened(self.engine, writes=False) as opened:
            unit = Unit(opened, self.dialect)
            yield unit
            self._counted(unit)

    def close(self) -> None:
        """Give every connection back."""
        self.engine.dispose()

    def _counted(self, unit: Unit) -> None:
        self.transactions += 1
        self.statements += unit.statements
