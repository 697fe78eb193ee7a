"""The queue: the best candidates of a tick, the load of the fleet, and expired work.

The queue is read group by group: entries of a rank group differ in score only by age, so the oldest is the best, and
the exact top of a million is found by walking over the heads of the groups.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from backlog_worker.domain.entry import Entry
from backlog_worker.store.sql.dialect import moment
from backlog_worker.store.sql.entries import LISTED, Entries, entry
from backlog_worker.store.sql.statements import HERE

_WAITING = "env = :env AND status IN ('queued', 'retrying') AND wake_at IS NULL"
# Loose index scans: one index probe per group, regardless of its size.
_GROUPS = f"""
WITH RECURSIVE g(rank_group) AS (
  SELECT (SELECT rank_group FROM entries WHERE {_WAITING} ORDER BY rank_group LIMIT 1)
  UNION ALL
  SELECT (SELECT e.rank_group FROM entries e WHERE e.env = :env AND e.status IN ('queued', 'retrying')
    AND e.wake_at IS NULL AND e.rank_group > g.rank_group ORDER BY e.rank_group LIMIT 1)
  FROM g WHERE g.rank_group IS NOT NULL)
SELECT g.rank_group, (SELECT h.created_at FROM entries h WHERE h.env = :env AND h.status IN ('queued', 'retrying')
  AND h.wake_at IS NULL AND h.rank_group = g.rank_group ORDER BY h.created_at, h.id LIMIT 1)
FROM g WHERE g.rank_group IS NOT NULL"""
_GROUP = (
    f"SELECT {LISTED} FROM entries WHERE {_WAITING} AND rank_group = :group AND (created_at, id) > (:at, :id)"
    " AND NOT (limit_key {ids}) ORDER BY created_at, id LIMIT :most"
)
_BETTER = f"SELECT count(*) FROM entries WHERE {_WAITING} AND rank_group = :group AND (created_at, id) < (:at, :id)"
_MOVED = (
    "UPDATE entries SET rank_group = :lane WHERE id IN (SELECT id FROM entries WHERE env = :env"
    " AND status IN ('queued', 'retrying') AND limit_key <> '' AND limit_key = :key AND rank_group = :group"
    " LIMIT :most {skip_locked})"
)
_NEXT = "CASE WHEN rings < 0 THEN 1 ELSE rings + 1 END"  # below 0: the last bell was never sent
BEGIN = (datetime.fromtimestamp(0, UTC), "")  # before every entry
_LAPSED = f"FROM entries WHERE status IN ('ready', 'in_progress') AND {HERE} AND leased_until < {{now}}"
_EXPIRED = f"SELECT id {_LAPSED} ORDER BY leased_until LIMIT :most {{skip_locked}}"
_OVERDUE = (
    "FROM entries WHERE due_date IS NOT NULL AND status IN ('queued', 'retrying') AND env = :env AND due_date <= {now}"
)


@dataclass(frozen=True, slots=True)
class Group:
    """A rank group with waiting entries, and the creation time of its oldest entry."""

    key: str
    oldest: datetime


class Queue(Entries):
    """Methods for the queue."""

    def groups(self, env: str) -> list[Group]:
        """Return every rank group with waiting entries."""
        return [Group(row[0], moment(row[1])) for row in self.run(_GROUPS, env=env)]

    def oldest(
        self, env: str, group: str, most: int, *, after: tuple[datetime, str] = BEGIN, without: Sequence[str] = ()
    ) -> list[Entry]:
        """Return the oldest waiting entries of one group, best first, *after* a position and *without* some keys."""
        ids = self.dialect.bind(without)
        values = {"env": env, "group": group, "id": after[1], "ids": ids, "most": most}
        return [entry(row) for row in self.legible("entries", self._at(_GROUP), at=after[0].timestamp(), **values)]

    def better(self, env: str, group: str, before: tuple[datetime, str]) -> int:
        """Count the waiting entries of a group before a position."""
        return int(self.value(self._at(_BETTER), env=env, group=group, at=before[0].timestamp(), id=before[1]))

    def into_lane(self, env: str, group: str, key: str, lane: str, most: int) -> int:
        """Move up to *most* entries of one concurrency key from their rank group into a lane."""
        return self.count(_MOVED, env=env, group=group, key=key, lane=lane, most=most)

    def wake(self, env: str) -> int:
        """Return sleeping entries to the queue once their time has come."""
        text = (
            "UPDATE entries SET wake_at = NULL WHERE env = :env AND status IN ('queued', 'retrying')"
            " AND wake_at IS NOT NULL AND wake_at <= {now}"
        )
        return self.count(text, env=env)

    def sleep(self, until: dict[str, datetime]) -> None:
        """Hide entries from the queue until a moment, so that an entry waiting for a time is read once."""
        rows = [{"id__": each, "wake_at": moment} for each, moment in until.items()]
        self.update("entries", rows, "entries.id = r.id__ AND entries.status IN ('queued', 'retrying')")

    def regroup(self, env: str, groups: Sequence[str], lane: Callable[[Entry], Mapping[str, str]], most: int) -> int:
        """Assign up to *most* entries of *groups* to the groups of the live policy."""
        changed = 0
        for group in groups:
            rows = [{"id__": each.id, **lane(each)} for each in self.oldest(env, group, most - changed)]
            changed += len(self.update("entries", rows, "entries.id = r.id__ RETURNING entries.id"))
            if changed >= most:
                break
        return changed

    def rouse(self, env: str) -> int:
        """Return entries to the queue whose wait may change with a new policy: a budget or a due date."""
        text = (
            "UPDATE entries SET wake_at = NULL WHERE env = :env AND status IN ('queued', 'retrying')"
            " AND wake_at > {now} AND (attempt > 0 OR due_date < {now}) AND (retry_at IS NULL OR retry_at <= {now})"
        )
        return self.count(text, env=env)

    def held_by_pipeline(self, env: str) -> dict[str, int]:
        """Count the ready and in-progress entries by pipeline."""
        text = (
            "SELECT pipeline, count(*) FROM entries WHERE env = :env AND status IN ('ready', 'in_progress')"
            " GROUP BY pipeline"
        )
        return {row[0]: row[1] for row in self.run(text, env=env)}

    def expired_ids(self, most: int) -> list[str]:
        """Return entries whose lease expired, oldest first; rows locked by others are skipped."""
        return [row[0] for row in self.run(_EXPIRED, env=self.env, most=most)]

    def expired(self, entry_ids: Sequence[str]) -> dict[str, Entry]:
        """Lock the entries whose lease expired, out of *entry_ids*."""
        text = f"SELECT id {_LAPSED} AND id {{ids}} {{skip_locked}}"
        return self.hold([row[0] for row in self.run(text, env=self.env, ids=self.dialect.bind(entry_ids))])

    def overdue_ids(self, env: str, most: int) -> list[str]:
        """Return waiting entries whose due date has passed."""
        text = f"SELECT id {_OVERDUE} ORDER BY due_date LIMIT :most {{skip_locked}}"
        return [row[0] for row in self.run(text, env=env, most=most)]

    def overdue(self, env: str, entry_ids: Sequence[str]) -> dict[str, Entry]:
        """Lock the waiting entries whose due date has passed, out of *entry_ids*."""
        text = f"SELECT id {_OVERDUE} AND id {{ids}} {{skip_locked}}"
        return self.hold([row[0] for row in self.run(text, env=env, ids=self.dialect.bind(entry_ids))])

    def grace(self, seconds: float) -> None:
        """Extend leases that expired or soon will by *seconds*, after an outage in which none could be renewed."""
        mine = {
            "entries": HERE,
            "stages": f"EXISTS (SELECT 1 FROM entries e WHERE e.id = stages.entry_id AND e.{HERE})",
        }
        for table, status in (("entries", "in_progress"), ("stages", "running")):
            text = "UPDATE " + table + " SET leased_until = {later} WHERE status = :status AND leased_until < {later}"
            self.count(f"{text} AND {mine[table]}", lease=seconds, status=status, env=self.env)

    def keep_ready(self, env: str, seconds: float) -> None:
        """Renew ready entries whose lease is half over; their bells wait for a slot."""
        half = "{now} + " + self._seconds_of(":half")
        text = (
            "UPDATE entries SET leased_until = {later} WHERE env = :env AND status = 'ready' AND leased_until < " + half
        )
        self.count(text, env=env, lease=seconds, half=seconds / 2)

    def keep_pending(self, seconds: float) -> None:
        """Renew runs whose next stage waits for a slot; no worker holds them, so none can have died."""
        text = (
            "UPDATE entries SET leased_until = {later} WHERE status = 'in_progress' AND leased_until < {later}"
            f" AND {HERE}"
            " AND EXISTS (SELECT 1 FROM stages s WHERE s.entry_id = entries.id AND s.run_id = entries.run_id"
            " AND s.status = 'pending' AND s.rung_at IS NOT NULL) AND NOT EXISTS (SELECT 1 FROM stages s"
            " WHERE s.entry_id = entries.id AND s.run_id = entries.run_id AND s.status = 'running')"
        )
        self.count(text, lease=seconds, env=self.env)

    def heartbeat(self, takes: Sequence[tuple[str, str, int]], lease: float) -> set[tuple[str, str, int]]:
        """Renew the leases of stages (run, job, take) and of their runs; returns those that are still held."""
        text = (
            "UPDATE entries SET leased_until = {later} WHERE run_id {ids} AND status = 'in_progress' RETURNING run_id"
        )
        runs = sorted({run for run, _, _ in takes})
        kept = {row[0] for row in self.run(text, ids=self.dialect.bind(runs), lease=lease)}
        rows = [{"run_id__": run, "job_id__": job, "takes__": take} for run, job, take in takes if run in kept]
        guard = (
            "stages.run_id = r.run_id__ AND stages.job_id = r.job_id__ AND stages.takes = r.takes__"
            " AND stages.status = 'running' RETURNING stages.run_id, stages.job_id, stages.takes"
        )
        return {(row[0], row[1], row[2]) for row in self.update("stages", rows, guard, lease=lease)}

    def still_held(self, takes: Sequence[tuple[str, str, int]]) -> set[tuple[str, str, int]]:
        """Return which takes are still held, without writing, so that canceled work is detected in seconds."""
        text = (
            "SELECT s.run_id, s.job_id, s.takes FROM stages s JOIN entries e ON e.id = s.entry_id"
            " AND e.run_id = s.run_id WHERE s.run_id {ids} AND s.status = 'running' AND e.status = 'in_progress'"
        )
        found = {
            (row[0], row[1], row[2]) for row in self.run(text, ids=self.dialect.bind([run for run, _, _ in takes]))
        }
        return found & set(takes)

    def late_runs(self, most: int) -> list[str]:
        """Return the runs that exceeded the maximum duration of their pipeline."""
        text = (
            f"SELECT id FROM runs WHERE ended_at IS NULL AND ends_by IS NOT NULL AND ends_by < {{now}} AND {HERE}"
            " LIMIT :most"
        )
        return [row[0] for row in self.run(text, most=most, env=self.env)]

    def group_keys(self, env: str) -> dict[str, list[str]]:
        """Return the holders of each concurrency group, oldest first."""
        text = (
            "SELECT group_key, id FROM entries WHERE env = :env AND status IN ('ready', 'in_progress')"
            " AND group_key IS NOT NULL ORDER BY changed_at, id"
        )
        found: dict[str, list[str]] = {}
        for row in self.run(text, env=env):
            found.setdefault(row[0], []).append(row[1])
        return found

    def ring_again(self, env: str, most: int) -> list[tuple[str, int, int]]:
        """Return (id, attempt, ring) of unclaimed ready entries; the wait doubles with each ring, up to 60 s."""
        return self._ring_entries(env, _backoff(self.dialect.name, ""), most)

    def ring_unsent(self, env: str, most: int) -> list[tuple[str, int, int]]:
        """Return (id, attempt, ring) of ready entries whose last bell was never sent."""
        return self._ring_entries(env, "rings < 0", most)

    def ring_stages_again(self, most: int) -> list[tuple[str, str, int, int]]:
        """Return (run, job, take, ring) of pending stages whose bell nobody took."""
        return self._ring_stages(_backoff(self.dialect.name, "s."), most)

    def ring_stages_unsent(self, most: int) -> list[tuple[str, str, int, int]]:
        """Return (run, job, take, ring) of pending stages whose last bell was never sent."""
        return self._ring_stages("s.rings < 0", most)

    def unheard(self, entry_ids: Sequence[str], stages: Sequence[tuple[str, str]]) -> None:
        """Record that bells for ready entries and pending stages (run, job) were never sent."""
        text = f"UPDATE entries SET rings = -1 WHERE id {{ids}} AND status = 'ready' AND {HERE}"
        self.count(text, ids=self.dialect.bind(entry_ids), env=self.env)
        rows = [{"run_id__": run, "job_id__": job, "rings": -1} for run, job in dict.fromkeys(stages)]
        guard = (
            "stages.run_id = r.run_id__ AND stages.job_id = r.job_id__ AND status = 'pending'"
            f" AND EXISTS (SELECT 1 FROM runs WHERE runs.id = stages.run_id AND runs.{HERE})"
        )
        self.update("stages", rows, guard, env=self.env)

    def at_work(self) -> list[tuple[str, str, str]]:
        """Return the (worker, run, pipeline) of every running stage."""
        text = (
            "SELECT DISTINCT s.worker, s.run_id, e.pipeline FROM stages s JOIN entries e ON e.id = s.entry_id"
            f" WHERE s.status = 'running' AND e.{HERE} AND s.leased_until > {{now}}"
        )
        return [(row[0], row[1], row[2]) for row in self.run(text, env=self.env)]

    def _ring_entries(self, env: str, due: str, most: int) -> list[tuple[str, int, int]]:
        text = (
            f"UPDATE entries SET rung_at = {{now}}, rings = {_NEXT} WHERE id IN (SELECT id FROM entries"
            f" WHERE env = :env AND status = 'ready' AND {due} ORDER BY rung_at LIMIT :most {{skip_locked}})"
            " RETURNING id, attempt, rings"
        )
        return [(row[0], row[1] + 1, row[2]) for row in self.run(text, env=env, most=max(0, most))]

    def _ring_stages(self, due: str, most: int) -> list[tuple[str, str, int, int]]:
        text = (
            f"UPDATE stages SET rung_at = {{now}}, rings = {_NEXT} WHERE (entry_id, pipeline_hash, job_id) IN (SELECT"
            " s.entry_id, s.pipeline_hash, s.job_id FROM stages s JOIN entries e ON e.id = s.entry_id"
            " AND e.run_id = s.run_id WHERE s.status = 'pending' AND s.rung_at IS NOT NULL AND e.status = 'in_progress'"
            f" AND e.{HERE} AND {due} LIMIT :most) RETURNING run_id, job_id, takes, rings"
        )
        rows: Sequence[Any] = self.run(text, most=max(0, most), env=self.env)
        return [(row[0], row[1], row[2] + 1, row[3]) for row in rows]

    def _at(self, text: str) -> str:
        return text.replace(":at", self._moment("at"))


def _backoff(dialect: str, prefix: str) -> str:
    """Return the SQL for when a bell is due again: 2 s, 4 s, 8 s ... at most 60 s after the last."""
    if dialect == "postgresql":
        pause = f"make_interval(secs => least(60, 2 * power(2, least({prefix}rings, 6))))"
    else:
        pause = f"min(60, 2 << min({prefix}rings, 6))"
    return f"{prefix}rung_at < {{now}} - {pause}"
