"""Reuse of stored results: the same job, inputs, agent, context and gate verdicts give the stored result."""

from typing import Any

from backlog_worker.domain.budget import Usage
from backlog_worker.domain.events import digest
from backlog_worker.domain.frontier import Stage, StageStatus, failure, seen
from backlog_worker.lifecycle import Kit
from backlog_worker.lifecycle.held import Ended, Taken
from backlog_worker.lifecycle.money import line
from backlog_worker.lifecycle.prepare import Prepared, public
from backlog_worker.telemetry import emit

# What an agent may read of an entry although it differs between two entries that ask for the same work.
_OWN = frozenset({"id", "attempt", "created_at", "provenance", "url", "external_ref"})


def key(taken: Taken, given: Prepared) -> str:
    """Return the cache key of a piece of work: everything its result may depend on, except which entry it is for."""
    before = set(taken.pipeline.ancestors(taken.job.id))
    return digest(
        {
            "job": taken.job.hash,
            "inputs": given.inputs,
            "prompt": given.prompt,
            "env": sorted(name for name in given.env),
            "input": taken.entry.input_sha256,
            "entry": {name: value for name, value in public(taken.entry).items() if name not in _OWN},
            "previous": {job_id: _left(each) for job_id, each in taken.stages.items() if job_id in before},
        }
    )


def _left(stage: Stage) -> str | None:
    """Return the digest of the output or the failure of an earlier job."""
    if stage.sha256 or stage.status != StageStatus.FAILED:
        return stage.sha256
    return digest([seen(stage)["output"], seen(stage)["reason"], failure(stage).get("log_tail")])


def found(kit: Kit, taken: Taken, given: Prepared) -> dict[str, Any] | None:
    """Return a stored result that has not expired, or None."""
    with kit.store.begin(actor=kit.worker) as unit:
        return unit.result(kit.env, key(taken, given))


def used(kit: Kit, taken: Taken, row: dict[str, Any]) -> None:
    """Record that a stored result was used and what it saved."""
    emit("cache_used", entry=taken.entry.id, job=taken.job.id, run=row["run_id"], saved=row["usd"])
    row_id, saved = kit.new_id("usd"), row["usd"] or 0.0
    with kit.store.begin(actor=kit.worker) as unit:
        unit.spend([{**line(taken, Usage(), 0.0), "id": row_id, "saved_usd": saved}])


def keep(kit: Kit, taken: Taken, given: Prepared, ended: Ended) -> None:
    """Store a result under its key, with what its gates said."""
    ttl = taken.job.cache
    output = getattr(ended.result, "output", None)
    if ttl is None:
        return
    with kit.store.begin(actor=kit.worker) as unit:
        usd = unit.usage(taken.run["id"]).get(taken.job.id, {}).get("usd")
        row = {
            "env": kit.env,
            "key": key(taken, given),
            "pipeline": taken.pipeline.name,
            "job_id": taken.job.id,
            "entry_id": taken.entry.id,
            "run_id": taken.run["id"],
            "sha256": digest(output),
            "output": output,
            "artifacts": list(ended.artifacts),
            "gates": {each.id: [each.rule_sha256, each.result.value] for each in ended.gates},
            "usd": usd,
        }
        unit.keep_result(row, ttl.total_seconds())
