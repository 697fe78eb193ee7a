"""Stages: take, checkpoint, give back. A take is the right to one stage, and a later take makes an earlier one void."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from backlog_worker.domain.frontier import Stage, StageStatus
from backlog_worker.store.sql.queue import Queue

_COLUMNS = tuple(each.name for each in fields(Stage))
_LISTED = ", ".join(_COLUMNS)
_KEY = "stages.entry_id = r.entry_id__ AND stages.pipeline_hash = r.pipeline_hash__ AND stages.job_id = r.job_id__"
# A stage may be taken when nobody took it, when its last take ran out, or when it is left over from an earlier run.
_TAKE = """ON CONFLICT (entry_id, pipeline_hash, job_id) DO UPDATE SET status = 'running', takes = stages.takes + 1,
 run_id = excluded.run_id, worker = excluded.worker, started_at = excluded.started_at, ended_at = NULL, rings = 0,
 leased_until = excluded.leased_until, rung_at = NULL, reason = NULL
 WHERE stages.status = 'pending' OR (stages.status = 'running' AND stages.leased_until < {now})
 OR (stages.status <> 'completed' AND coalesce(stages.run_id, '') <> excluded.run_id)
 RETURNING entry_id, job_id, takes, attempts"""
_NEXT = """ON CONFLICT (entry_id, pipeline_hash, job_id) DO UPDATE SET status = 'pending', run_id = excluded.run_id,
 rung_at = excluded.rung_at, rings = 0, leased_until = NULL, ended_at = NULL
 WHERE stages.status <> 'completed' AND (stages.run_id IS NULL OR stages.run_id <> excluded.run_id
 OR stages.status <> 'running')"""
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

    def take(self, rows: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], tuple[int, int]]:
        """Take stages, after renew; returns (take, attempts so far) by (entry, job). No row: a doubled or late bell."""
        taken = self.insert("stages", rows, _TAKE)
        return {(row[0], row[1]): (row[2], row[3]) for row in taken}

    def next(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Make the stages that come next pending, rung for at this moment."""
        self.insert("stages", rows, _NEXT)

    def checkpoint(self, rows: Sequence[Mapping[str, Any]]) -> set[tuple[str, str]]:
        """Store how takes ended, after renew; a (entry, job) that is missing was a void take and wrote nothing."""
        ended = self.update("stages", rows, f"{_FENCE} RETURNING stages.entry_id, stages.job_id")
        return {(row[0], row[1]) for row in ended}

    def untake(self, entry_id: str, pipeline_hash: str, run_id: str) -> None:
        """Make what a run was at pending again: it was given back, and nothing is counted."""
        text = (
            "UPDATE stages SET status = 'pending', leased_until = NULL, rung_at = NULL WHERE entry_id = :entry"
            " AND pipeline_hash = :hash AND run_id = :run AND status = 'running'"
        )
        self.count(text, entry=entry_id, hash=pipeline_hash, run=run_id)

    def approve(self, entry_id: str, pipeline_hash: str, job_id: str, approval: Mapping[str, Any]) -> None:
        """Keep a person's word on a stage: before its start, or over the gates of its stored output."""
        row = {
            "entry_id": entry_id,
            "pipeline_hash": pipeline_hash,
            "job_id": job_id,
            "status": StageStatus.PENDING,
            "approval": approval,
        }
        tail = (
            "ON CONFLICT (entry_id, pipeline_hash, job_id) DO UPDATE SET approval = excluded.approval, reason = NULL,"
            " status = CASE WHEN stages.sha256 IS NOT NULL AND stages.status = 'waiting' THEN 'completed'"
            " WHEN stages.status = 'completed' THEN 'completed' ELSE 'pending' END, leased_until = NULL"
        )
        self.insert("stages", [row], tail)

    def forget(self, entry_id: str) -> None:
        """Drop the checkpoints of an entry whose input was replaced: they belong to other work."""
        self.count("DELETE FROM stages WHERE entry_id = :entry", entry=entry_id)


def stage(row: Mapping[str, Any]) -> Stage:
    """Make a Stage of a decoded row."""
    return Stage(**{**row, "status": StageStatus(row["status"])})
