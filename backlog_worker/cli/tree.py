"""A run as a tree: each job under its latest dependency, with status, progress and gates."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.tree import Tree

from backlog_worker.cli.output import money, plain
from backlog_worker.domain.drawing import SIGNS
from backlog_worker.domain.entry import Entry, standing
from backlog_worker.domain.frontier import Stage
from backlog_worker.domain.masking import cut
from backlog_worker.domain.pipeline import Job, Pipeline
from backlog_worker.domain.review import Review

BAR = 12
STYLES: Mapping[str, str] = {
    "completed": "green",
    "failed": "red",
    "running": "blue",
    "waiting": "yellow",
    "skipped": "dim",
    "canceled": "dim",
}


def run_tree(
    entry: Entry,
    run: Mapping[str, Any],
    pipeline: Pipeline | None,
    stages: Mapping[str, Stage],
    asked: Sequence[Review],
) -> Tree:
    """Draw a run; each job is placed under the last of its dependencies."""
    name = f"{pipeline.name} {pipeline.version}" if pipeline else "a removed version"
    root = Tree(plain(f"{run['id']}  {name}  attempt {run['attempt']}  {standing(entry)}  {entry.title}"))
    nodes: dict[str, Tree] = {}
    for job_id in pipeline.order if pipeline else ():
        job = pipeline.job(job_id) if pipeline else None
        if job is None:
            continue
        above = nodes[job.after[-1]] if job.after else root
        status = str(stages[job_id].status) if job_id in stages else "pending"
        nodes[job_id] = above.add(_line(job, stages.get(job_id), status), style=STYLES.get(status, ""))
    for review in asked:
        root.add(plain(f"? {review.kind}: {review.question}  (review decide {review.id})"), style="yellow")
    return root


def _line(job: Job, stage: Stage | None, status: str) -> str:
    parts = [SIGNS.get(status, "·"), job.id, status]
    if stage is not None and status == "running":
        percent = stage.progress or 0
        full = percent * BAR // 100
        parts += [f"[{'#' * full}{'.' * (BAR - full)}] {percent} %", str(stage.worker)]
    if stage is not None and stage.ended_at and stage.started_at and status in {"completed", "failed"}:
        parts.append(f"{(stage.ended_at - stage.started_at).total_seconds():.1f} s")
    if stage is not None:
        parts += [f"{gate['id']} {gate['result']}" for gate in stage.gates]
        if stage.attempts > 1:
            parts.append(f"{stage.attempts} attempts")
        if stage.cost and stage.cost.get("usd") != 0:
            parts.append(f"{money(stage.cost.get('usd'))} USD")
        if (stage.cost or {}).get("cached_from"):
            parts.append("from the cache")
        if status in {"failed", "waiting", "skipped"}:
            parts.append(cut(str((stage.reason or {}).get("text", "")), 100))
    return plain("  ".join(parts))
