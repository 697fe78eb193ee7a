"""Rules with ids that judge what a job returned: pass, fail or ask, and why."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from backlog_worker.domain import expression
from backlog_worker.domain.events import digest
from backlog_worker.domain.expression import ExpressionError
from backlog_worker.domain.outcome import Asked
from backlog_worker.domain.policy import ENTRY_NAMES

GATE_NAMES: expression.Names = (*ENTRY_NAMES, ("output", "any"), ("inputs", "any"))


GATE = "gate:"  # begins what tells the question of a gate from another


class GateResult(StrEnum):
    """What a gate said."""

    PASS = "pass"  # noqa: S105 - a verdict, not a password
    FAIL = "fail"
    ASK = "ask"


@dataclass(frozen=True, slots=True)
class Gate:
    """One rule; `rule_sha256` is its version and changes whenever its text does."""

    id: str
    check: str | None
    run: str | None
    on_fail: str
    rule_sha256: str

    @classmethod
    def made(cls, gate_id: str, check: str | None, run: str | None, on_fail: str) -> "Gate":
        """Make a gate with the digest of its rule."""
        return cls(gate_id, check, run, on_fail, digest([check, run, on_fail]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What one gate said about one output."""

    id: str
    rule_sha256: str
    result: GateResult
    why: str = ""

    def as_data(self) -> dict[str, str]:
        """Return the form that is stored and written back."""
        return {"id": self.id, "rule_sha256": self.rule_sha256, "result": self.result.value, "why": self.why}


def evaluated(gate: Gate, values: Mapping[str, Any]) -> Checked:
    """Evaluate the expression of a gate; what cannot be evaluated fails and says why."""
    try:
        passed = expression.compiled(gate.check or "false", GATE_NAMES).truth(values)
        why = "" if passed else f"{gate.check} is false"
    except ExpressionError as error:
        passed, why = False, str(error)
    return judged(gate, passed=passed, why=why)


def asks(gate_id: str, why: str, job_id: str) -> Asked:
    """Return what a gate asks a person about the output of a job."""
    return Asked(question=f"gate {gate_id} asks about the output of {job_id}: {why}", detail=f"{GATE}{gate_id}")


def judged(gate: Gate, *, passed: bool, why: str) -> Checked:
    """Turn a yes or no into what the gate says: where its author wants a person, a no is a question."""
    failed = GateResult.ASK if gate.on_fail == "ask" else GateResult.FAIL
    result = GateResult.PASS if passed else failed
    return Checked(id=gate.id, rule_sha256=gate.rule_sha256, result=result, why="" if passed else why)
