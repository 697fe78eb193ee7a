"""Durable truth: a Store opens Units, and a Unit's verbs say what they guarantee.

PostgreSQL and SQLite run the same statements, and a store in memory is SQLite in memory: the conformance suite in
`tests/store` defines what they must do alike.
"""

from backlog_worker.store.sql.unit import Store, Unit
from backlog_worker.store.sql.verify import INVARIANTS, Violation
from backlog_worker.store.sql.versions import PIPELINE, POLICY

__all__ = ["INVARIANTS", "PIPELINE", "POLICY", "Store", "Unit", "Violation"]
