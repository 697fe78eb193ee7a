"""A bell: a step and ids, rung after the commit; losing or doubling it is harmless."""

from dataclasses import dataclass
from enum import StrEnum


class Step(StrEnum):
    """What a bell asks for; each is one Celery task."""

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
    """One message: its arguments are ids, and `name` reads well where operators look at tasks."""

    step: Step
    ids: tuple[str, ...] = ()
    name: str = ""
    ring: int = 0

    @property
    def task_id(self) -> str | None:
        """Return the id of the task: a second ring has a second id, for a doubled id would lie in monitors."""
        if not self.name:
            return None
        return f"{self.name}.r{self.ring}" if self.ring else self.name


def claim_bell(entry_ids: tuple[str, ...], attempt: int, ring: int = 0) -> Bell:
    """Ask a worker with a free slot to claim entries."""
    more = f"+{len(entry_ids) - 1}" if len(entry_ids) > 1 else ""
    return Bell(step=Step.CLAIM, ids=entry_ids, name=f"{entry_ids[0]}{more}.claim.{attempt}", ring=ring)


def stage_bell(run_id: str, job_id: str, take: int, ring: int = 0) -> Bell:
    """Ask a worker to take the next stage of a run."""
    return Bell(step=Step.STAGE, ids=(run_id, job_id), name=f"{run_id}.{job_id}.{take}", ring=ring)
