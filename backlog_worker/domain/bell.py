"""Bells: messages with a step and ids, sent after the commit. Losing or duplicating one is harmless."""

from dataclasses import dataclass
from enum import StrEnum


class Step(StrEnum):
    """The step that a bell requests; each is one Celery task."""

    DISPATCH = "dispatch"
    SWEEP = "sweep"
    TRIGGERS = "triggers"
    CLAIM = "claim"
    STAGE = "stage"
    HUMAN_REVIEW = "human_review"
    SEND = "send"
    JOB = "job"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bell:
    """One message: its arguments are ids; `name` identifies it in task monitors."""

    step: Step
    ids: tuple[str, ...] = ()
    name: str = ""
    ring: int = 0

    @property
    def task_id(self) -> str | None:
        """Return the task id; every ring has its own, because monitors would show a duplicated id wrongly."""
        if not self.name:
            return None
        return f"{self.name}.r{self.ring}" if self.ring else self.name


def claim_bell(entry_ids: tuple[str, ...], attempt: int, ring: int = 0) -> Bell:
    """Return a bell that asks a worker with a free slot to claim entries."""
    more = f"+{len(entry_ids) - 1}" if len(entry_ids) > 1 else ""
    return Bell(step=Step.CLAIM, ids=entry_ids, name=f"{entry_ids[0]}{more}.claim.{attempt}", ring=ring)


def stage_bell(run_id: str, job_id: str, take: int, ring: int = 0) -> Bell:
    """Return a bell that asks a worker to take the next stage of a run."""
    return Bell(step=Step.STAGE, ids=(run_id, job_id), name=f"{run_id}.{job_id}.{take}", ring=ring)
