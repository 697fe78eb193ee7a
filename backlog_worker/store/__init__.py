"""Durable storage: a Store opens Units of work, whose methods document their guarantees.

PostgreSQL and SQLite run the same statements. The memory store is SQLite in memory, and the file store is the memory
store persisted in two files. The conformance suite in `tests/store` defines their common behaviour.
"""

import tempfile
from pathlib import Path

from backlog_worker.domain.merkle import seal_hash
from backlog_worker.store.auto import AutoStore
from backlog_worker.store.jsonl import JsonlStore
from backlog_worker.store.sql.connection import Clock
from backlog_worker.store.sql.health import Alike
from backlog_worker.store.sql.retired import BULK
from backlog_worker.store.sql.unit import ENV, Store, Unit
from backlog_worker.store.sql.verify import INVARIANTS, Violation
from backlog_worker.store.sql.versions import PIPELINE, POLICY

__all__ = [
    "BULK",
    "ENV",
    "INVARIANTS",
    "PIPELINE",
    "POLICY",
    "Alike",
    "AutoStore",
    "JsonlStore",
    "Store",
    "Unit",
    "Violation",
    "opened",
    "seal_hash",
]


def opened(url: str, *, clock: Clock | None = None, env: str = ENV) -> Store:
    """Open the store at an address: postgresql://, sqlite:///, memory://, or jsonl:// and a folder.

    `auto+postgresql://` keeps its journal in a folder of its own, for tests; `wiring` makes the real ones.
    """
    if url.startswith("auto+"):
        return AutoStore(url.removeprefix("auto+"), Path(tempfile.mkdtemp(prefix="journal-")) / env, env=env)
    if url.startswith("jsonl://"):
        return JsonlStore(Path(url.removeprefix("jsonl://")), clock=clock, env=env)
    return Store(url, clock=clock, env=env)
