"""Named leases, so that one tick works at a time, and the workers that were seen."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from backlog_worker.store.sql.versions import Versions


class Limits(Versions):
    """Verbs of leases and workers."""

    def take_lease(self, name: str, holder: str, seconds: float) -> bool:
        """Take a named lease, or renew our own; locks its row, so of two transactions one waits and then gets no."""
        text = (
            "INSERT INTO leases (name, holder, until) VALUES (:name, :holder, {later}) ON CONFLICT (name)"
            " DO UPDATE SET holder = excluded.holder, until = excluded.until"
            " WHERE leases.until < {now} OR leases.holder = excluded.holder RETURNING name"
        )
        return bool(self.run(text, name=name, holder=holder, lease=seconds))

    def late_by(self, name: str) -> float | None:
        """Return for how many seconds a lease has been over (negative while it lasts); None where nobody had it."""
        seconds = "extract(epoch FROM {now} - until)" if self.dialect.name == "postgresql" else "{now} - until"
        value = self.value("SELECT " + seconds + " FROM leases WHERE name = :name", name=name)
        return None if value is None else float(value)

    def take_slot(self, name: str, slot: datetime) -> bool:
        """Take one slot of a schedule; of several beats exactly one gets it."""
        moment = "to_timestamp(:slot)" if self.dialect.name == "postgresql" else ":slot"
        text = (
            "INSERT INTO leases (name, holder, until) VALUES (:name, 'beat', {m}) ON CONFLICT (name) DO UPDATE"
            " SET until = excluded.until WHERE leases.until < excluded.until RETURNING name"
        ).replace("{m}", moment)
        return bool(self.run(text, name=name, slot=slot.timestamp()))

    def leases(self) -> list[dict[str, Any]]:
        """Return every named lease."""
        return self.select("leases", "SELECT name, holder, until FROM leases ORDER BY name")

    def see_worker(self, row: Mapping[str, Any]) -> None:
        """Record that a worker lives, and what it can take."""
        tail = (
            "ON CONFLICT (name) DO UPDATE SET seen_at = excluded.seen_at, queues = excluded.queues,"
            " slots = excluded.slots, schema_min = excluded.schema_min, schema_max = excluded.schema_max"
        )
        self.insert("workers", [{**row, "seen_at": self.now()}], tail)

    def lose_worker(self, name: str) -> None:
        """Record that a worker ended in good order."""
        self.count("DELETE FROM workers WHERE name = :name", name=name)

    def workers(self) -> list[dict[str, Any]]:
        """Return the workers that were seen, the last one first."""
        text = "SELECT name, seen_at, queues, slots, schema_min, schema_max FROM workers ORDER BY seen_at DESC"
        return self.select("workers", text)

    def slots(self, queue: str, within: float) -> int:
        """Count the slots of workers that consume *queue* and were seen within so many seconds."""
        rows: Sequence[dict[str, Any]] = self.workers()
        now = self.now()
        alive = [row for row in rows if (now - row["seen_at"]).total_seconds() <= within]
        return sum(row["slots"] for row in alive if queue in row["queues"])
