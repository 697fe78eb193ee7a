"""Stages: take, checkpoint, give back. A take is the right to one stage, and a later take makes an earlier one void."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from backlog_worker.domain.attempts import Tried
from backlog_worker.domain.frontier import Stage, StageStatus
from backlog_worker.store.sql.queue import Queue
from backlog_worker.store.sql.statements import HERE, Row

_COLUMNS = tuple(each.name for each in fields(Stage))
_LISTED = ", ".join(_COLUMNS)
_KEY = "stages.entry_id = r.entry_id__ AND stages.pipeline_hash = r.pipeline_hash__ AND stages.job_id = r.job_id__"
# A stage may be taken when nobody took it, when its last take ran out, or when it is left over from an earlier run.
_TAKE = """ON CONFLICT (entry_id, pipeline_hash, job_id) DO UPDATE SET status = 'running', takes = stages.takes + 1,
 run_id = excluded.run_id, worker = excluded.worker, started_at = excluded.started_at, ended_at = NULL, rings = 0,
 expiries = CASE WHEN stages.run_id = excluded.run_id THEN stages.expiries ELSE 0 END,
 leased_until = excluded.leased_until, rung_at = NULL, start_by = NULL, wake_at = NULL, reason = NULL, progress = NULL,
 based_on = excluded.based_on
 WHERE stages.status = 'pending' OR (stages.status = 'running' AND stages.leased_until < {now})
 OR (stages.status = 'waiting' AND stages.wake_at <= {now})
 OR (stages.status <> 'completed' AND coalesce(stages.run_id, '') <> excluded.run_id)
"""
_NEXT = """ON CONFLICT (entry_id, pipeline_hash, job_id) DO UPDATE SET status = excluded.status,
 run_id = excluded.run_id, rung_at = excluded.rung_at, start_by = excluded.start_by, rings = 0, leased_until = NULL,
 ended_at = excluded.ended_at, wake_at = NULL, reason = excluded.reason, based_on = excluded.based_on
 WHERE stages.status <> 'completed' AND (stages.run_id IS NULL OR stages.run_id <> excluded.run_id
 OR stages.status <> 'running')"""
_LIGHT = (
    "entry_id, pipeline_hash, job_id, status, run_id, takes, attempts, used, expiries, tries, rung_at, wake_at, sha256,"
    " approval, reason, based_on"
)
_NO_CALL = "coalesce(reason ->> 'kind', '') <> 'call'"
# The fence of a stage: the run that took it, and the number of the take.
_FENCE = f"{_KEY} AND stages.run_id = r.run_id__ AND stages.takes = r.takes__ AND stages.status = 'running'"


class Stages(Queue):
    """Verbs of stages."""

    def stages(self, keys: Mapping[str, str]) -> dict[str, dict[str, Stage]]:
        """Return the stages of entries, each at the pipeline hash given for it, by entry and job."""
        text = f"SELECT {_LISTED} FROM stages WHERE entry_id {{ids}}"
        found: dict[str, dict[str, Stage]] = {each: {} for each in keys}
        for row in self.select("stages", text, ids=self.dialect.bind(keys)):
            if row["pipeline_hash"] == keys[row["entry_id"]]:
                found[row["entry_id"]][row["job_id"]] = stage(row)
        return found

    def legible_stages(self, entry_id: str, pipeline_hash: str) -> tuple[dict[str, Stage], list[str]]:
        """Return the stages of one entry that can be read, and the jobs of those that cannot."""
        where = "FROM stages WHERE entry_id = :entry AND pipeline_hash = :hash"
        rows = self.legible("stages", f"SELECT {_LISTED} {where}", entry=entry_id, hash=pipeline_hash)
        found = {row["job_id"]: stage(row) for row in rows}
        jobs = self.run(f"SELECT job_id {where} ORDER BY job_id", entry=entry_id, hash=pipeline_hash)
        return found, [job_id for (job_id,) in jobs if job_id not in found]

    def standing(self, entry_id: str, pipeline_hash: str) -> dict[str, Stage]:
        """Return where the stages of one entry stand, for the plan of a large graph.

        What is completed comes as one value of the database for each run, and all jobs that completed in one run share
        one Stage without an output; the others come without outputs, artifacts and gates. So a finished job costs the
        same early and late in a run.
        """
        listed = "json_agg(job_id)" if self.dialect.name == "postgresql" else "json_group_array(job_id)"
        where = "FROM stages WHERE entry_id = :entry AND pipeline_hash = :hash"
        text = f"SELECT run_id, {listed} {where} AND status = 'completed' GROUP BY run_id"
        found: dict[str, Stage] = {}
        key: dict[str, Any] = {"entry_id": entry_id, "pipeline_hash": pipeline_hash, "job_id": ""}
        for run_id, done in self.run(text, entry=entry_id, hash=pipeline_hash):
            shared = Stage(**key, status=StageStatus.COMPLETED, run_id=run_id)
            found |= dict.fromkeys(json.loads(done) if isinstance(done, str) else done, shared)
        text = f"SELECT {_LIGHT} {where} AND status <> 'completed'"
        rows = self.select("stages", text, entry=entry_id, hash=pipeline_hash)
        return {**found, **{row["job_id"]: stage(row) for row in rows}}

    def one_stage(self, entry_id: str, pipeline_hash: str, job_id: str) -> dict[str, Stage]:
        """Return the stage of one job by its id, or nothing."""
        where = "WHERE entry_id = :entry AND pipeline_hash = :hash AND job_id = :job"
        rows = self.select(
            "stages", f"SELECT {_LISTED} FROM stages {where}", entry=entry_id, hash=pipeline_hash, job=job_id
        )
        return {row["job_id"]: stage(row) for row in rows}

    def outputs(self, entry_id: str, pipeline_hash: str, job_ids: Sequence[str]) -> dict[str, list[Any]]:
        """Return (output, digest) of some completed jobs of an entry, in one value; a job without one is left out."""
        pairs = (
            "json_object_agg(job_id, json_build_array(output, sha256))"
            if self.dialect.name == "postgresql"
            else "json_group_object(job_id, json_array(json(output), sha256))"
        )
        text = (
            f"SELECT {pairs} FROM stages WHERE entry_id = :entry AND pipeline_hash = :hash AND job_id {{ids}}"
            " AND sha256 IS NOT NULL"
        )
        found = self.value(text, entry=entry_id, hash=pipeline_hash, ids=self.dialect.bind(job_ids)) or {}
        return dict(json.loads(found) if isinstance(found, str) else found)

    def take(self, rows: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], tuple[int, Tried]]:
        """Take stages, after renew; returns (take, what was tried) by (entry, job). No row: a doubled or late bell."""
        taken = self.insert_bound("stages", rows, _TAKE)
        return {
            (row["entry_id"], row["job_id"]): (row["takes"], Tried(row["attempts"], row["used"], tuple(row["tries"])))
            for row in taken
        }

    def tried(self, row: Mapping[str, Any]) -> bool:
        """Store what was tried so far of a stage that goes on, after renew; false for a void take."""
        return bool(self.update_bound("stages", [row], _FENCE))

    def try_anew(self, entry_id: str) -> None:
        """Give the jobs that failed their attempts again: another run does them."""
        text = "UPDATE stages SET used = 0 WHERE entry_id = :entry AND status = 'failed'"
        self.write_bound("stages", text, entry=entry_id)

    def failures(self, entry_id: str, pipeline_hash: str, job_ids: Sequence[str]) -> dict[str, Stage]:
        """Return the failed stages among some jobs of an entry, without outputs, artifacts and gates."""
        text = (
            f"SELECT {_LIGHT} FROM stages WHERE entry_id = :entry AND pipeline_hash = :hash AND job_id {{ids}}"
            " AND status = 'failed'"
        )
        rows = self.select("stages", text, entry=entry_id, hash=pipeline_hash, ids=self.dialect.bind(job_ids))
        return {row["job_id"]: stage(row) for row in rows}

    def held_stages(self, run_ids: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
        """Return what is being done for some runs, and by whom: by run, the job, the worker and the take of each."""
        text = (
            "SELECT run_id, job_id, worker, takes FROM stages WHERE run_id {ids} AND status = 'running' ORDER BY job_id"
        )
        found: dict[str, list[dict[str, Any]]] = {}
        for row in self.run(text, ids=self.dialect.bind(run_ids)):
            found.setdefault(row[0], []).append({"job": row[1], "worker": row[2], "take": row[3]})
        return found

    def rested(self, most: int) -> list[str]:
        """Return runs in progress that have a stage whose pause is over."""
        text = (
            "SELECT DISTINCT e.run_id FROM stages s JOIN entries e ON e.id = s.entry_id"
            " AND e.pipeline_hash = s.pipeline_hash WHERE s.status = 'waiting' AND s.wake_at <= {now}"
            f" AND e.status = 'in_progress' AND e.{HERE} LIMIT :most"
        )
        return [row[0] for row in self.run(text, most=most, env=self.env)]

    def next(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write where stages stand that nobody runs: rung for, waiting for somebody, or decided without beginning."""
        usual = {"rung_at": None, "start_by": None, "ended_at": None, "reason": None}
        self.insert_bound("stages", [{**usual, **row} for row in rows], _NEXT)

    def checkpoint(self, rows: Sequence[Mapping[str, Any]]) -> set[tuple[str, str]]:
        """Store how takes ended, after renew; a (entry, job) that is missing was a void take and wrote nothing."""
        return {(row["entry_id"], row["job_id"]) for row in self.update_bound("stages", rows, _FENCE)}

    def untake(self, entry_id: str, pipeline_hash: str, run_id: str) -> None:
        """Make what a run was at pending again: it was given back, and nothing is counted."""
        text = (
            "UPDATE stages SET status = 'pending', leased_until = NULL, rung_at = NULL, start_by = NULL"
            " WHERE entry_id = :entry AND pipeline_hash = :hash AND run_id = :run AND status IN ('running', 'pending')"
        )
        self.write_bound("stages", text, entry=entry_id, hash=pipeline_hash, run=run_id)

    def unwait(self, entry_id: str) -> None:
        """Make what waited for a person pending again: the question was withdrawn. A call and a pause go on waiting."""
        text = (
            "UPDATE stages SET status = 'pending', reason = NULL WHERE entry_id = :entry AND status = 'waiting'"
            " AND wake_at IS NULL"
        )
        self.write_bound("stages", f"{text} AND {_NO_CALL}", entry=entry_id)

    def hand_over(self, run_id: str, worker: str) -> int:
        """Ring again for the stages of a worker that stops while others keep the run; returns how many others do."""
        text = (
            "UPDATE stages SET status = 'pending', rung_at = {now}, rings = 0, leased_until = NULL"
            " WHERE run_id = :run AND worker = :worker AND status = 'running'"
        )
        others = "SELECT count(*) FROM stages WHERE run_id = :run AND worker <> :worker AND status = 'running'"
        number = int(self.value(others, run=run_id, worker=worker))
        if number:
            self.write_bound("stages", text, run=run_id, worker=worker)
        return number

    def try_again(self, entry_id: str, tolerated: Collection[str]) -> None:
        """Make what failed, was canceled or waited pending again, with all its attempts; its count goes on.

        What is *tolerated* stays as it failed, unless a person refused it. What else is done again follows from that,
        when the next run begins.
        """
        text = (
            "UPDATE stages SET status = 'pending', reason = NULL, approval = NULL, sha256 = NULL, output = NULL,"
            " used = 0, wake_at = NULL, rung_at = NULL"
            " WHERE entry_id = :entry AND status IN ('failed', 'canceled', 'waiting')"
            " AND NOT (status = 'failed' AND job_id {ids} AND coalesce(reason ->> 'kind', '') <> 'rejected')"
        )
        self.write_bound("stages", f"{text} AND {_NO_CALL}", entry=entry_id, ids=self.dialect.bind(tolerated))

    def fall(self, again: Iterable[Stage], void: Iterable[Stage]) -> None:
        """Write which stages do not stand for the run that begins now; of what is *void* nothing is left to read."""
        nothing: dict[str, Any] = {"output": None, "sha256": None, "artifacts": [], "gates": [], "reason": None}
        nothing |= {"worker": None, "started_at": None}
        self.update_bound("stages", [_pending(each) for each in again], _KEY)
        self.update_bound("stages", [{**_pending(each), **nothing} for each in void], _KEY)

    def losing(self, older: float, most: int) -> dict[str, str]:
        """Return runs, with their entries, of which a worker died with a stage while another one keeps the run."""
        text = (
            "SELECT s.run_id, s.entry_id FROM stages s JOIN entries e ON e.id = s.entry_id AND e.run_id = s.run_id"
            f" WHERE s.status = 'running' AND s.leased_until < {self.past('older')} AND e.status = 'in_progress'"
            f" AND e.leased_until >= {{now}} AND e.{HERE} LIMIT :most"
        )
        return {row[0]: row[1] for row in self.run(text, older=older, most=most, env=self.env)}

    def lost(self, run_ids: Sequence[str], older: float) -> list[Row]:
        """Take back stages of held runs whose worker died: run, entry, job, worker, take, expiries of each."""
        text = (
            "UPDATE stages SET status = 'pending', expiries = expiries + 1, leased_until = NULL, rung_at = {now},"
            f" rings = 0 WHERE run_id {{ids}} AND status = 'running' AND leased_until < {self.past('older')}"
        )
        return self.write_bound("stages", text, ids=self.dialect.bind(run_ids), older=older)

    def unstarted(self, most: int) -> list[tuple[str, str]]:
        """Return (run, job) of stages that no worker began in the time that their pipeline allows."""
        text = (
            "SELECT s.run_id, s.job_id FROM stages s JOIN entries e ON e.id = s.entry_id AND e.run_id = s.run_id"
            " WHERE s.status = 'pending' AND s.rung_at IS NOT NULL AND s.start_by < {now}"
            f" AND e.{HERE} LIMIT :most"
        )
        return [(row[0], row[1]) for row in self.run(text, most=most, env=self.env)]

    def answered(self, entry_id: str, pipeline_hash: str, job_id: str, values: Mapping[str, Any]) -> None:
        """Write what a person's word makes of a waiting stage."""
        row = {"entry_id__": entry_id, "pipeline_hash__": pipeline_hash, "job_id__": job_id, **values}
        self.update_bound(
            "stages", [{**row, "rung_at": None, "leased_until": None}], f"{_KEY} AND stages.status <> 'running'"
        )

    def progress(self, run_id: str, job_id: str, take: int, percent: int) -> None:
        """Say how far a running stage is, in percent."""
        text = (
            "UPDATE stages SET progress = :percent WHERE run_id = :run AND job_id = :job AND takes = :take"
            " AND status = 'running'"
        )
        self.count(text, run=run_id, job=job_id, take=take, percent=percent)

    def begin_again(self, entry_id: str, pipeline_hash: str, job_ids: Sequence[str]) -> None:
        """Drop the stages of some jobs: they are done anew, with counters that begin at nothing."""
        text = "DELETE FROM stages WHERE entry_id = :entry AND pipeline_hash = :hash AND job_id {ids}"
        ids = self.dialect.bind(job_ids)
        self.remove_bound("stages", text, entry=entry_id, hash=pipeline_hash, ids=ids)

    def copy(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Put checkpoints of another entry in place, for a fork."""
        self.insert_bound("stages", rows)

    def forget(self, entry_id: str) -> None:
        """Drop the checkpoints of an entry whose input was replaced: they belong to other work."""
        self.remove_bound("stages", "DELETE FROM stages WHERE entry_id = :entry", entry=entry_id)


def _pending(stage: Stage) -> dict[str, Any]:
    key = {"entry_id__": stage.entry_id, "pipeline_hash__": stage.pipeline_hash, "job_id__": stage.job_id}
    again = {"status": "pending", "approval": stage.approval, "used": stage.used}
    return {**key, **again, "rung_at": None, "leased_until": None, "wake_at": None}


def stage(row: Mapping[str, Any]) -> Stage:
    """Make a Stage of a decoded row."""
    return Stage(**{**row, "status": StageStatus(row["status"])})
