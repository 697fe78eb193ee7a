"""Named leases (one tick at a time), schedule slots, known workers, and the id of the database."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from backlog_worker.store.sql.versions import Versions


class Limits(Versions):
    """Methods for leases and workers."""

    def take_lease(self, name: str, holder: str, seconds: float) -> bool:
        """Take a named lease, or renew our own; the row is locked, so the second of two transactions gets False.

        A lease that ends later than possible was given before the database's clock was set back, and counts as expired.
        """
        text = (
            "INSERT INTO leases (env, name, holder, until) VALUES (:env, :name, :holder, {later})"
            " ON CONFLICT (env, name) DO UPDATE SET holder = excluded.holder, until = excluded.until"
            " WHERE leases.until < {now} OR leases.until > {later} OR leases.holder = excluded.holder RETURNING name"
        )
        return bool(self.run(text, env=self.env, name=name, holder=holder, lease=seconds))

    def late_by(self, name: str) -> float | None:
        """Return for how many seconds a lease has been expired (negative while it lasts); None if it never existed."""
        seconds = "extract(epoch FROM {now} - until)" if self.dialect.name == "postgresql" else "{now} - until"
        text = "SELECT " + seconds + " FROM leases WHERE env = :env AND name = :name"
        value = self.value(text, env=self.env, name=name)
        return None if value is None else float(value)

    def take_slot(self, name: str, slot: datetime) -> bool:
        """Take one slot of a schedule; exactly one of several beats gets it."""
        text = (
            f"INSERT INTO leases (env, name, holder, until) VALUES (:env, :name, 'beat', {self._moment('slot')})"
            " ON CONFLICT (env, name) DO UPDATE SET until = excluded.until"
            " WHERE leases.until < excluded.until RETURNING name"
        )
        return bool(self.run(text, env=self.env, name=name, slot=slot.timestamp()))

    def move_slot(self, name: str, slot: datetime, before: datetime | None) -> bool:
        """Advance a schedule from the slot *before* (None at first) to another; exactly one of several beats does."""
        text = (
            f"INSERT INTO leases (env, name, holder, until) VALUES (:env, :name, 'beat', {self._moment('slot')})"
            " ON CONFLICT (env, name) DO UPDATE SET until = excluded.until"
            f" WHERE leases.until = {self._moment('before')} RETURNING name"
        )
        was = before.timestamp() if before is not None else None
        return bool(self.run(text, env=self.env, name=name, slot=slot.timestamp(), before=was))

    def hear(self, name: str) -> None:
        """Record that a worker received the job of a schedule."""
        text = (
            "INSERT INTO leases (env, name, holder, until) VALUES (:env, :name, 'worker', {now})"
            " ON CONFLICT (env, name) DO UPDATE SET until = excluded.until"
        )
        self.count(text, env=self.env, name=f"heard:{name}")

    def identity(self, new: str) -> str:
        """Return the id of this database; if it has none yet, it gets *new*.

        A copy of a PostgreSQL database in the same server gets an id of its own.
        """
        row = {"name": "database", "value": new}
        self.insert("identity", [row], "ON CONFLICT DO NOTHING")
        found = str(self.value("SELECT value FROM identity WHERE name = 'database'"))
        if self.dialect.name == "postgresql":
            oid = self.value("SELECT CAST(oid AS bigint) FROM pg_database WHERE datname = current_database()")
            return f"{found}.{oid}"
        return found

    def slot(self, name: str) -> datetime | None:
        """Return the last slot of a schedule that was taken, or None."""
        text = "SELECT until FROM leases WHERE env = :env AND name = :name"
        rows = self.select("leases", text, env=self.env, name=name)
        return rows[0]["until"] if rows else None

    def leave_slot(self, name: str, slot: datetime, before: datetime) -> bool:
        """Return a slot whose work could not be started, unless a later one was taken meanwhile."""
        text = (
            f"UPDATE leases SET until = {self._moment('before')}"
            f" WHERE env = :env AND name = :name AND until = {self._moment('slot')}"
        )
        return bool(self.count(text, env=self.env, name=name, slot=slot.timestamp(), before=before.timestamp()))

    def forget_slots(self, names: Sequence[str]) -> int:
        """Delete schedules that are no longer in force; a schedule that returns has no missed slots."""
        text = "DELETE FROM leases WHERE env = :env AND name {ids}"
        return self.count(text, env=self.env, ids=self.dialect.bind(names))

    def forget_messages(self) -> None:
        """Delete messages that are too old for a replay."""
        text = "DELETE FROM leases WHERE env = :env AND name LIKE 'message:%' AND until < {now}"
        self.count(text, env=self.env)

    def leases(self) -> list[dict[str, Any]]:
        """Return every named lease."""
        text = "SELECT name, holder, until FROM leases WHERE env = :env ORDER BY name"
        return self.select("leases", text, env=self.env)

    def see_worker(self, row: Mapping[str, Any]) -> None:
        """Record that a worker is alive, and its capacity."""
        tail = (
            "ON CONFLICT (env, name) DO UPDATE SET seen_at = excluded.seen_at, queues = excluded.queues,"
            " slots = excluded.slots, schema_min = excluded.schema_min, schema_max = excluded.schema_max"
        )
        self.insert("workers", [{**row, "env": self.env, "seen_at": self.now()}], tail)

    def lose_worker(self, name: str) -> None:
        """Record that a worker shut down properly."""
        self.count("DELETE FROM workers WHERE env = :env AND name = :name", env=self.env, name=name)

    def workers(self) -> list[dict[str, Any]]:
        """Return the known workers, the most recently seen first."""
        text = (
            "SELECT name, seen_at, queues, slots, schema_min, schema_max FROM workers WHERE env = :env"
            " ORDER BY seen_at DESC"
        )
        return self.select("workers", text, env=self.env)

    def slots(self, queue: str, within: float) -> int:
        """Count the slots of workers that consume *queue* and were seen within *within* seconds."""
        rows, now = self.workers(), self.now()
        alive = [row for row in rows if (now - row["seen_at"]).total_seconds() <= within]
        return sum(row["slots"] for row in alive if queue in row["queues"])
