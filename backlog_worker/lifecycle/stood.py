"""Which checkpoints of earlier runs stand for a new run; void ones are written off at the claim."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from backlog_worker.domain import causes
from backlog_worker.domain.causes import VOIDED
from backlog_worker.domain.entry import Change, Entry
from backlog_worker.domain.frontier import Stage, StageStatus, current
from backlog_worker.domain.outcome import CALL, PAUSES
from backlog_worker.domain.pipeline import Pipeline
from backlog_worker.lifecycle import settle
from backlog_worker.store import Unit

CLOCK = "claim"
# What ended a run without ending the try: the next run continues from there.
PARKED = frozenset({Change.RETURNED.value, Change.EXPIRED.value, Change.BLOCKED.value})


def goes_on(last: Mapping[str, Any] | None) -> list[str]:
    """Return the runs that a new one continues: those since the last run that ended by itself."""
    if last is None:
        return []
    paused = last["ended_by"] in PARKED or (last["ended_by"] == Change.RETRIED and last["kind"] in PAUSES)
    return [*last["goes_on"], last["id"]] if paused else []


def found(
    unit: Unit, begun: Sequence[tuple[Entry, Pipeline, Mapping[str, Any]]]
) -> tuple[dict[str, dict[str, Stage]], dict[str, list[str]]]:
    """Return, by run, the stages that stand and the jobs with void checkpoints, and store that.

    A question based on void checkpoints is withdrawn and asked again.
    """
    read = unit.stages({entry.id: pipeline.hash for entry, pipeline, _ in begun}) if begun else {}
    stages: dict[str, dict[str, Stage]] = {}
    void: dict[str, list[str]] = {}
    fallen: list[Stage] = []
    voided: list[Stage] = []
    for entry, pipeline, run in begun:
        old = current(pipeline, read[entry.id], unit.now())
        new = causes.standing(pipeline, old, run["goes_on"])
        void[run["id"]] = causes.void(pipeline, old, new)
        changed = [job_id for job_id, each in new.items() if each != old[job_id]]
        voided += [new[job_id] for job_id in changed if old[job_id].status in VOIDED]
        fallen += [new[job_id] for job_id in changed if old[job_id].status not in VOIDED]
        if any(_is_question(old[job_id]) for job_id in changed):
            settle.withdraw(unit, entry.id, CLOCK, "what it was about is done again")
            new = {job_id: _reopened(each) for job_id, each in new.items()}
        stages[run["id"]] = new
    unit.fall(fallen, voided)
    return stages, void


def _reopened(stage: Stage) -> Stage:
    return replace(stage, status=StageStatus.PENDING, reason=None) if _is_question(stage) else stage


def _is_question(stage: Stage) -> bool:
    kind = (stage.reason or {}).get("kind")
    return stage.status == StageStatus.WAITING and kind not in {CALL, *PAUSES}
