"""The `auto` store: PostgreSQL and, while that is unreachable, a journal that accepts new work only.

The journal is not a second database: nothing is dispatched, claimed, answered or settled from it. Its content is merged
by dedupe key and event id as soon as PostgreSQL answers again.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy.engine import Connection

from backlog_worker.domain.errors import UnreachableError
from backlog_worker.domain.masking import masked
from backlog_worker.store import migrate
from backlog_worker.store.jsonl import JsonlStore
from backlog_worker.store.sql.connection import Clock
from backlog_worker.store.sql.unit import ENV, Store, Unit
from backlog_worker.telemetry import emit


class AutoStore(Store):
    """A PostgreSQL store with a journal; `away_since` is the time since which the database does not answer."""

    def __init__(
        self,
        url: str,
        journal: Path,
        *,
        retry_seconds: float = 300.0,
        prepare: Callable[[Store], object] = migrate.upgrade,
        clock: Clock | None = None,
        env: str = ENV,
    ) -> None:
        super().__init__(url, clock=clock, env=env)
        self.away_since: datetime | None = None
        self.away_told: datetime | None = None  # the start of the outage that people were notified about
        self._journal = JsonlStore(journal, env=env)
        self._prepare = prepare
        self._retry_seconds = retry_seconds
        self._retry_at = 0.0
        self._fits = self._prepared = False

    @contextmanager
    def begin(self, *, actor: str = "system") -> Iterator[Unit]:
        """Open a transaction on PostgreSQL; raises UnreachableError during an outage."""
        with self._reached(), super().begin(actor=actor) as unit:
            yield unit

    @contextmanager
    def read(self) -> Iterator[Unit]:
        """Open a read-only transaction on PostgreSQL; raises UnreachableError during an outage."""
        with self._reached(), super().read() as unit:
            yield unit

    @contextmanager
    def connected(self) -> Iterator[Connection]:
        """Open a bare connection to PostgreSQL; raises UnreachableError during an outage."""
        try:
            with super().connected() as opened:
                yield opened
        except UnreachableError as error:
            self._lost(error)
            raise

    @contextmanager
    def intake(self, *, actor: str = "system") -> Iterator[Unit]:
        """Open a transaction for new work: on PostgreSQL, or on the journal during an outage.

        A process that only accepts work retries PostgreSQL every five minutes; a worker retries at its next tick.
        """
        with ExitStack() as stack:
            unit = None
            if self.away_since is None or time.monotonic() >= self._retry_at:
                with suppress(UnreachableError):
                    unit = stack.enter_context(self.begin(actor=actor))
            if unit is None:  # a merge must not move the journal between the check and the write
                stack.enter_context(self.exclusively())
                unit = stack.enter_context(self.journal().begin(actor=actor))
            yield unit

    @property
    def journal_folder(self) -> Path:
        """Return the folder of the journal."""
        return self._journal.folder

    def journal(self) -> JsonlStore:
        """Return the journal with its schema and the project's definitions in force."""
        if not self._prepared or self._journal.empty():
            self._prepare(self._journal)
            self._prepared = True
        return self._journal

    def journaled(self) -> bool:
        """Return whether the journal contains unmerged work; an empty journal is not opened."""
        if self._journal.empty():
            return False
        with self._journal.read() as unit:
            return bool(unit.value("SELECT (SELECT count(*) FROM entries) + (SELECT count(*) FROM operations)"))

    def of(self, env: str) -> Store:
        """Return the store of another environment of the same database, with its own journal."""
        folder = self._journal.folder.parent / env
        return AutoStore(self.url, folder, retry_seconds=self._retry_seconds, prepare=self._prepare, env=env)

    def exclusively(self) -> AbstractContextManager[None]:
        """Lock the journal exclusively, over several transactions."""
        return self._journal.exclusively()

    def close(self) -> None:
        """Close all connections."""
        super().close()
        self._journal.close()

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            if not self._fits:
                self._check()
            yield
        except UnreachableError as error:
            self._lost(error)
            raise
        if self.away_since is not None:
            emit("store_returned", seconds=round((datetime.now(UTC) - self.away_since).total_seconds(), 1))
            self.away_since = None

    def _check(self) -> None:
        """Check that this release supports the schema, before the first statement after an outage."""
        plain = Store(self.url)
        try:
            migrate.fitting(plain)
        finally:
            plain.close()
        self._fits = True

    def _lost(self, error: UnreachableError) -> None:
        if self.away_since is None:
            self.away_since = datetime.now(UTC)
            emit("store_fallback", database=masked(self.url), journal=str(self._journal.folder), error=str(error))
        self._retry_at = time.monotonic() + self._retry_seconds
