"""Queries on the health of the backlog: groups of waiting entries, late work, and jobs that never ran."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from backlog_worker.domain.entry import Entry
from backlog_worker.store.sql.counting import Counting
from backlog_worker.store.sql.dialect import moment
from backlog_worker.store.sql.entries import LISTED, entry

_WAITS = "env = :env AND status IN ('queued', 'retrying')"
WOKEN_MAX = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Alike:
    """Waiting entries that differ only in age: an example, their number, and the range of ages."""

    entry: Entry
    number: int
    oldest: datetime
    youngest: datetime


class Health(Counting):
    """Methods that check whether the backlog moves."""

    def queue_length(self, env: str) -> int:
        """Count the waiting entries, including sleeping ones."""
        return int(self.value(f"SELECT count(*) FROM entries WHERE {_WAITS}", env=env))

    def alike(
        self, env: str, fields: Sequence[str], without: Sequence[str], *, spends: bool = False, one_by_one: bool = False
    ) -> list[Alike]:
        """Return the waiting entries except *without*, grouped by *fields*, backing off, sleep and lateness.

        *fields* are column names. With *spends* each entry that ever ran is a group of its own; with *one_by_one* each
        entry is.
        """
        self.plan_freely()
        now = self._moment("now")
        off = f"CASE WHEN status = 'retrying' AND retry_at > {now} THEN 1 ELSE 0 END"
        off += f", CASE WHEN due_date <= {now} THEN 1 ELSE 0 END, CASE WHEN wake_at > {now} THEN 1 ELSE 0 END"
        apart = ["id"] if one_by_one else ["CASE WHEN attempt > 0 THEN id ELSE '' END"] if spends else []
        same = ", ".join([*fields, off, *apart])
        key = 'id COLLATE "C"' if self.dialect.name == "postgresql" else "id"
        text = (
            f"SELECT min({key}), count(*), min(created_at), max(created_at) FROM entries WHERE {_WAITS}"
            f" AND NOT (id {{ids}}) GROUP BY {same}"
        )
        rows = self.run(text, env=env, ids=self.dialect.bind(without), now=self.now().timestamp())
        found = {row[0]: (int(row[1]), moment(row[2]), moment(row[3])) for row in rows}
        listed = self.select("entries", f"SELECT {LISTED} FROM entries WHERE id {{ids}}", ids=self.dialect.bind(found))
        made = [(entry(row), *found[row["id"]]) for row in listed]
        return [Alike(entry=each, number=n, oldest=old, youngest=young) for each, n, old, young in made]

    def woken(self, env: str) -> list[Entry]:
        """Return sleeping entries whose time has come; the next tick wakes them."""
        text = f"SELECT {LISTED} FROM entries WHERE {_WAITS} AND wake_at IS NOT NULL AND wake_at <= {{now}} LIMIT :most"
        return [entry(row) for row in self.select("entries", text, env=env, most=WOKEN_MAX)]

    def barred_by(self, env: str) -> list[tuple[list[str], int, str]]:
        """Count blocked entries by their bars, with one example each."""
        named = "bars, count(*) AS seq, min(id) AS id"
        text = f"SELECT {named} FROM entries WHERE env = :env AND status = 'blocked' GROUP BY bars"
        return [(row["bars"], row["seq"], row["id"]) for row in self.select("entries", text, env=env)]

    def unclaimed(self, env: str, seconds: float) -> int:
        """Count entries dispatched more than *seconds* ago that no worker claimed."""
        where = f"env = :env AND status = 'ready' AND changed_at < {self.past()}"
        return int(self.value(f"SELECT count(*) FROM entries WHERE {where}", env=env, seconds=seconds))

    def stages_running(self, env: str) -> int:
        """Count the running stages."""
        text = "SELECT count(*) FROM stages s JOIN entries e ON e.id = s.entry_id WHERE s.status = 'running'"
        return int(self.value(f"{text} AND e.env = :env", env=env))

    def reviews_overdue(self, env: str) -> tuple[int, float]:
        """Return the number of overdue reviews, and the seconds since the oldest became overdue."""
        late = self._age("min(due_at)")
        text = f"SELECT count(*), {late} FROM reviews WHERE env = :env AND answer IS NULL AND due_at < {{now}}"
        row = self.run(text, env=env)[0]
        return int(row[0]), float(row[1] or 0.0)

    def wishes_late(self) -> float:
        """Return for how many seconds the oldest write-back has been due; 0 if none is."""
        text = f"SELECT {self._age('min(put_at)')} FROM outbox WHERE env = :env AND status = 'due'"
        value = self.value(text, env=self.env)
        return max(0.0, float(value or 0.0))

    def last_successes(self, env: str) -> dict[str, datetime]:
        """Return when each action last succeeded."""
        text = "SELECT action, max(at) FROM operations WHERE env = :env AND result = 'done' GROUP BY action"
        return {str(row[0]): moment(row[1]) for row in self.run(text, env=env)}

    def last_results(self, env: str) -> dict[str, tuple[str, datetime]]:
        """Return the result and the time of the last attempt at each action."""
        text = (
            "SELECT o.action, o.result, o.at FROM operations o JOIN (SELECT action, max(at) AS at FROM operations"
            " WHERE env = :env GROUP BY action) l ON l.action = o.action AND l.at = o.at WHERE o.env = :env"
        )
        return {str(row[0]): (str(row[1]), moment(row[2])) for row in self.run(text, env=env)}

    def born_at(self, env: str) -> datetime:
        """Return when the first definition of an environment came into force; the current time if none did."""
        value = self.value("SELECT min(at) FROM definitions WHERE env = :env", env=env)
        return self.now() if value is None else moment(value)

    def forget_snapshots(self, env: str, kind: str, seconds: float) -> int:
        """Delete measurements older than *seconds*."""
        text = f"DELETE FROM snapshots WHERE env = :env AND kind = :kind AND at < {self.past()}"
        return self.count(text, env=env, kind=kind, seconds=seconds)

    def _age(self, earlier: str) -> str:
        return (
            f"extract(epoch FROM {{now}} - {earlier})" if self.dialect.name == "postgresql" else f"{{now}} - {earlier}"
        )
