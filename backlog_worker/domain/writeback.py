"""The accountability record of a run: versioned JSON that is sufficient to reconstruct the run, and its Markdown.

Within a version, fields are only added. Stored records never change; older versions are read through `newest`.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from backlog_worker.domain import ends
from backlog_worker.domain.attempts import plain
from backlog_worker.domain.entry import Change, Entry
from backlog_worker.domain.errors import InvalidInputError
from backlog_worker.domain.frontier import Stage, StageStatus, Unbegun
from backlog_worker.domain.markdown import code, comment, escaped
from backlog_worker.domain.masking import masked_value
from backlog_worker.domain.outcome import Verdict
from backlog_worker.domain.pipeline import Pipeline

SCHEMA = "backlog-worker/writeback@2"
NEVER = frozenset({StageStatus.PENDING, StageStatus.CANCELED})


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """The facts of the run in its record."""

    run_id: str
    attempt: int
    worker: str
    policy_version: int
    policy_sha256: str
    claimed_at: datetime
    ended_at: datetime
    score: float | None
    terms: Mapping[str, float]
    rank: int | None
    tick: datetime | None
    eligibility: Mapping[str, bool]
    void: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """A decision of a person that the run depends on."""

    name: str
    at: datetime
    answer: str
    reason: str
    job: str

    def as_data(self) -> dict[str, str]:
        """Return the form that is stored."""
        at = _moment(self.at) or ""
        return {"name": self.name, "at": at, "answer": self.answer, "reason": self.reason, "job": self.job}


def record(
    entry: Entry, run: RunFacts | None, pipeline: Pipeline | None, stages: Mapping[str, Stage], end: "End"
) -> dict[str, Any]:
    """Return the record of an ended run, or of an entry that ended without one; secrets are masked, moments are UTC."""
    verdict = end.verdict
    jobs = [job.id for job in pipeline.jobs] if pipeline else []
    reached = [stages[job] for job in jobs if job in stages and _begun(stages[job])]
    failed = verdict.job_id if verdict.change in {Change.ESCALATED, Change.FAILED} else None
    costs = [stage.cost for stage in reached if stage.cost]
    value = {
        "schema": SCHEMA,
        "entry": _entry(entry),
        "decision": _decision(run) if run else None,
        "run": {**_run(run), **_pinned(pipeline)} if run else None,
        "stages": [_stage(stage) for stage in reached],
        "not_reached": [job for job in jobs if job not in stages or not _begun(stages[job])],
        "status": _STATUS[verdict.change],
        "outcome": verdict.outcome,
        "jobs": _jobs(run, pipeline, stages),
        "failed_stage": failed or None,
        "reason": {"kind": verdict.kind.value if verdict.kind else None, "rule": verdict.rule, "text": verdict.reason},
        "deadline": _deadline(entry.due_date, verdict.change, end.at),
        "recovery": _recovered(entry, stages, end),
        "output": {
            "sha256": reached[-1].sha256 if reached else None,
            "artifacts": [dict(artifact) for stage in reached for artifact in stage.artifacts],
        },
        "model": next((cost["model"] for cost in costs if cost.get("model")), None),
        "cost_usd": _cost(costs),
        "effects": _effects(pipeline, stages),
        "people": [person.as_data() for person in end.people],
        "chain": {"event": end.event, "sha256": end.sha256},
    }
    return {key: masked_value(each) for key, each in value.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How the run ended, the decisions of people, lost stages, and the head of the history."""

    verdict: Verdict
    review_id: str | None
    people: Sequence[Person]
    event: int
    sha256: str
    at: datetime | None = None
    lost: Sequence[Mapping[str, Any]] = ()


_STATUS = {
    Change.COMPLETED: "completed",
    Change.FAILED: "failed",
    Change.ESCALATED: "escalated",
    Change.CANCELED: "canceled",
    Change.BLOCKED: "waiting for a person",
    Change.RETRIED: "retrying",
}


def newest(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record of any version in the newest format; raises InvalidInputError for an unknown version."""
    found = dict(value)
    while found.get("schema") != SCHEMA:
        step = _UPCASTS.get(str(found.get("schema")))
        if step is None:
            message = f"a record of schema {found.get('schema')!r} cannot be read here; the newest is {SCHEMA}"
            raise InvalidInputError(message, hint="install a newer backlog-worker")
        found = step(found)
    return found


def markdown(given: Mapping[str, Any]) -> str:
    """Render a record for people; text from entries and models is escaped and cannot mention or link."""
    value = newest(given)
    run, entry, reason = value["run"] or {}, value["entry"], value["reason"]
    lines = [
        f"<!-- backlog-worker:v1 entry={comment(entry['id'])} pipeline={comment(run.get('pipeline'))} -->",
        f"# {escaped(entry['title'])}",
        "",
        _head(value),
        "",
        "| Stage | Result | Finished (UTC) | Gates |",
        "|---|---|---|---|",
        *(_row(stage) for stage in value["stages"]),
        *(f"| {escaped(job)} | not reached | | |" for job in value["not_reached"]),
        "",
        f"**Why:** {escaped(reason['text'])}",
        *_named(value.get("jobs") or {}),
        f"**Done about it:** {_recovery(value)}",
        *_due(value.get("deadline")),
        f"**Output:** {_output(value)}",
        *(
            f"**{escaped(p['answer']).capitalize()}** by {escaped(p['name'])}: {escaped(p['reason'])}"
            for p in value["people"]
        ),
        "",
        f"<details><summary>Record: {given['schema']}</summary>",
        "",
        "~~~~json",
        json.dumps(given, indent=1, ensure_ascii=True).replace("~~~~", "~ ~ ~ ~"),
        "~~~~",
        "</details>",
        "",
    ]
    return "\n".join(lines)


def _head(value: Mapping[str, Any]) -> str:
    at = f" at {code(value['failed_stage'])}" if value["failed_stage"] else ""
    said = (value.get("outcome") or value["status"]).replace("_", " ")
    parts = [f"**{escaped(said).capitalize()}{at}**"]
    if value["run"]:
        parts.append(f"run {code(value['run']['id'])}, attempt {value['run']['attempt']}")
    if value["decision"]:
        score = value["decision"]["score"]
        parts.append(
            f"policy {value['decision']['policy_version']}" + (f", score {score:.2f}" if score is not None else "")
        )
    return " · ".join(parts)


def _entry(entry: Entry) -> dict[str, Any]:
    return {
        "id": entry.id,
        "env": entry.env,
        "dedupe_key": entry.dedupe_key,
        "title": entry.title,
        "source": entry.url or entry.source,
        "priority": entry.priority,
        "owner": entry.owner,
        "service": entry.service,
        "category": entry.category,
        "due_date": _moment(entry.due_date),
        "input_sha256": entry.input_sha256,
        "constraints": dict(entry.constraints),
        "provenance": dict(entry.provenance),
    }


def _decision(run: RunFacts) -> dict[str, Any]:
    return {
        "policy_version": run.policy_version,
        "policy_sha256": run.policy_sha256,
        "tick": _moment(run.tick),
        "score": run.score,
        "rank": run.rank,
        "terms": dict(run.terms),
        "eligibility": dict(run.eligibility),
    }


def _run(run: RunFacts) -> dict[str, Any]:
    return {
        "id": run.run_id,
        "attempt": run.attempt,
        "worker": run.worker,
        "claimed_at": _moment(run.claimed_at),
        "finished_at": _moment(run.ended_at),
    }


def _pinned(pipeline: Pipeline | None) -> dict[str, Any]:
    return {
        "pipeline": pipeline.name if pipeline else None,
        "pipeline_version": pipeline.version if pipeline else None,
        "pipeline_sha256": pipeline.hash if pipeline else None,
    }


def _recovered(entry: Entry, stages: Mapping[str, Stage], end: "End") -> dict[str, Any]:
    """Return what was repeated, and why.

    `retries` counts attempts beyond the first of each job, and `runs` all runs of the entry. Since a person last
    requeued it, `faults` ended by a job's own fault, `outages` by an outage, and `expiries` by the loss of the worker.
    `lost` names every stage that was lost with its worker, from the history.
    """
    return {
        "retries": sum(max(0, stage.attempts - 1) for stage in stages.values()),
        "runs": entry.attempt,
        "faults": entry.faults,
        "outages": entry.outages,
        "expiries": entry.expiries,
        "lost": [{**each, "at": _moment(each["at"])} for each in end.lost],
        "action": _STATUS[end.verdict.change],
        "role": end.verdict.role or None,
        "review": end.review_id,
    }


def _stage(stage: Stage) -> dict[str, Any]:
    return {
        "job": stage.job_id,
        "status": stage.status.value,
        "started_at": _moment(stage.started_at),
        "completed_at": _moment(stage.ended_at),
        "takes": stage.takes,
        "attempts": stage.attempts,
        "tries": [plain(each) for each in stage.tries],
        "worker": stage.worker,
        "output": {"sha256": stage.sha256, "artifacts": [dict(each) for each in stage.artifacts]},
        "gates": [dict(each) for each in stage.gates],
        "approval": dict(stage.approval) if stage.approval else None,
        "reason": dict(stage.reason) if stage.reason else None,
        "cost": dict(stage.cost) if stage.cost else None,
    }


def _jobs(run: RunFacts | None, pipeline: Pipeline | None, stages: Mapping[str, Stage]) -> dict[str, list[str]]:
    found = ends.of(pipeline, stages) if pipeline else ends.Ends(total=0)
    return found.as_data(run.void if run else ())


def _effects(pipeline: Pipeline | None, stages: Mapping[str, Stage]) -> dict[str, Any]:
    """Return the permitted effects of completed jobs at the source: labels to add and remove, and a comment."""
    done = [job for job in (pipeline.jobs if pipeline else ()) if _completed(stages.get(job.id)) and job.write_back]
    allowed = [job.write_back for job in done if job.write_back]
    return {
        "comment": all(each.comment for each in allowed),
        "labels_added": sorted({label for each in allowed for label in each.labels.add}),
        "labels_removed": sorted({label for each in allowed for label in each.labels.remove}),
    }


def _begun(stage: Stage) -> bool:
    """Return whether a stage ended, waits or runs, or was started and interrupted."""
    return stage.status not in NEVER or stage.takes > 0


def _completed(stage: Stage | None) -> bool:
    return stage is not None and stage.status == StageStatus.COMPLETED


def _row(stage: Mapping[str, Any]) -> str:
    gates = " · ".join(_gate(gate) for gate in stage["gates"])
    times = f", {stage['attempts']} attempts" if stage["attempts"] > 1 else ""
    return f"| {escaped(stage['job'])} | {_stood(stage)}{times} | {(stage['completed_at'] or '')[:19]} | {gates} |"


def _stood(stage: Mapping[str, Any]) -> str:
    """Return the status of a stage: `nothing to do` if its own `when` was false."""
    if stage["status"] == StageStatus.SKIPPED and (stage["reason"] or {}).get("kind") == Unbegun.CONDITION:
        return "nothing to do"
    return "begun, cut off" if stage["status"] in NEVER else str(stage["status"])


def _named(jobs: Mapping[str, Sequence[str]]) -> list[str]:
    """List the jobs by outcome, with the length of each list, so skipped jobs never count as done."""
    said = [
        f"{word} {len(names)} ({ends.listed([escaped(each) for each in names], 20)})"
        for word, names in jobs.items()
        if names
    ]
    return [f"**Jobs:** {'; '.join(said)}"] if said else []


def _gate(gate: Mapping[str, Any]) -> str:
    words = "; ".join(each for each in (gate.get("message"), gate["why"]) if each)
    said = "pass" if gate["result"] == "pass" else f"**{escaped(gate['result'])}**: {escaped(words)}"
    return f"{escaped(gate['id'])} {said}"


def _recovery(value: Mapping[str, Any]) -> str:
    recovery = value["recovery"]
    parts = [f"retried {recovery['retries']} times" if recovery["retries"] != 1 else "retried once"]
    if recovery.get("runs", 1) > 1:
        parts.append(f"in {recovery['runs']} runs")
    if recovery["expiries"]:
        parts.append(f"its worker was lost {recovery['expiries']} times")
    parts += [f"{escaped(each['worker'])} was lost with {code(each['job'])}" for each in recovery.get("lost", ())]
    if recovery["role"]:
        parts.append(f"escalated to *{escaped(recovery['role'])}* ({code(recovery['review'])})")
    return ", then ".join(parts)


def _output(value: Mapping[str, Any]) -> str:
    artifacts = (value["output"] or {}).get("artifacts", [])
    named = ", ".join(f"{code(each['name'])} {escaped(each['sha256'][:12])}" for each in artifacts)
    return named or "none"


def _cost(costs: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the total cost of stages; None if the cost of one is unknown."""
    known = [cost["usd"] for cost in costs if cost.get("usd") is not None]
    return sum(known) if costs and len(known) == len(costs) else None


def _deadline(due: datetime | None, change: Change, at: datetime | None) -> dict[str, Any]:
    """Return whether the run ended after the due date; unknown if the entry may still complete in time."""
    if due is None or at is None:
        return {"due_date": _moment(due), "missed": None}
    missed = True if at >= due else False if change == Change.COMPLETED else None
    return {"due_date": _moment(due), "missed": missed}


def _due(deadline: Mapping[str, Any] | None) -> list[str]:
    if not deadline or not deadline["due_date"]:
        return []
    said = {True: "missed", False: "kept", None: "open"}[deadline["missed"]]
    return [f"**Deadline:** {said}, due {deadline['due_date'][:16]}Z"]


def _moment(value: datetime | None) -> str | None:
    return value.isoformat(timespec="milliseconds").replace("+00:00", "Z") if value else None


def _second(value: dict[str, Any]) -> dict[str, Any]:
    """Convert version 1: the policy's stamp becomes its number, and the entry gets the fields of generation."""
    decision = value["decision"]
    if decision is not None:
        named = {name: each for name, each in decision.items() if name != "policy"}
        decision = {"policy_version": int(str(decision["policy"]).partition(" ")[0]), **named}
    entry = {**value["entry"], "service": "", "category": "", "due_date": None}
    return {**value, "schema": "backlog-worker/writeback@2", "entry": entry, "decision": decision}


_UPCASTS: Mapping[str, Callable[[dict[str, Any]], dict[str, Any]]] = {"backlog-worker/writeback@1": _second}
