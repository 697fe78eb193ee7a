"""Outputs that no executor made: a person's edit or answer, the result of a called pipeline.

Such an output is put down beside its stage, which becomes pending; whoever takes the stage performs nothing and judges
it by the contract and every gate of the job. So there is one way into a checkpoint, also where a worker dies.
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
    """An output, who gave it, when and why."""

    output: Any
    by: str
    at: datetime
    why: str


def beside(before: Mapping[str, Any] | None, given: Given) -> dict[str, Any]:
    """Return the words of a stage with the given output put down among them."""
    said = {"by": given.by, "at": given.at.isoformat(), "reason": given.why}
    old = dict(before or {})
    return {"kinds": [], "granted": [], "answer": GIVEN, **old, **said, GIVEN: {"output": given.output}}


def pending(before: Mapping[str, Any] | None, given: Given) -> dict[str, Any]:
    """Return the values of a stage whose output is given and not judged yet."""
    values = {"status": StageStatus.PENDING.value, "reason": None, "ended_at": None, "output": None, "sha256": None}
    return {**values, "approval": beside(before, given)}


def judged(approval: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the words of a stage after its given output was judged: the output goes, its digest stays."""
    if approval is None or GIVEN not in approval:
        return dict(approval) if approval is not None else None
    kept = {name: value for name, value in approval.items() if name != GIVEN}
    return {**kept, "given_sha256": digest(approval[GIVEN]["output"])}
