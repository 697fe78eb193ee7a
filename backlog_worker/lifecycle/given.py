"""Outputs that no executor made: a person's edit or answer, or the result of a called pipeline.

Such an output is stored with its stage, which becomes pending. The worker that takes the stage performs nothing and
checks the output by the contract and every gate of the job. So there is one way to a checkpoint, also if a worker dies.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from backlog_worker.domain.events import digest
from backlog_worker.domain.frontier import StageStatus

GIVEN = "given"


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """An output with its author, time and reason."""

    output: Any
    by: str
    at: datetime
    why: str


def beside(before: Mapping[str, Any] | None, given: Given) -> dict[str, Any]:
    """Return the approval data of a stage with a given output added."""
    said = {"by": given.by, "at": given.at.isoformat(), "reason": given.why}
    old = dict(before or {})
    return {"kinds": [], "granted": [], "answer": GIVEN, **old, **said, GIVEN: {"output": given.output}}


def pending(before: Mapping[str, Any] | None, given: Given) -> dict[str, Any]:
    """Return the column values of a stage whose output is given and not yet checked."""
    values = {"status": StageStatus.PENDING.value, "reason": None, "ended_at": None, "output": None, "sha256": None}
    return {**values, "approval": beside(before, given)}


def judged(approval: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the approval data after the given output was checked: the output is dropped, its digest stays."""
    if approval is None or GIVEN not in approval:
        return dict(approval) if approval is not None else None
    kept = {name: value for name, value in approval.items() if name != GIVEN}
    return {**kept, "given_sha256": digest(approval[GIVEN]["output"])}
