"""Gates: rules with ids that check the output of a job, with the result pass, fail or ask and the reason."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from backlog_worker.domain import expression, template
from backlog_worker.domain.events import digest
from backlog_worker.domain.expression import ExpressionError
from backlog_worker.domain.language import GateFile
from backlog_worker.domain.masking import cut
from backlog_worker.domain.outcome import Asked
from backlog_worker.domain.policy import ENTRY_NAMES

GATE_NAMES: expression.Names = (*ENTRY_NAMES, ("output", "any"), ("inputs", "any"))


MESSAGE = 1000  # the maximum length of a filled message
GATE = "gate:"  # the prefix of `detail` in the question of a gate


class GateResult(StrEnum):
    """The result of a gate."""

    PASS = "pass"  # noqa: S105 - a verdict, not a password
    FAIL = "fail"
    ASK = "ask"


@dataclass(frozen=True, slots=True)
class Gate:
    """One rule; `rule_sha256` is its version and changes with its text."""

    id: str
    check: str | None
    run: str | None
    on_fail: str
    rule_sha256: str
    message: str = ""

    @classmethod
    def made(cls, gate_id: str, check: str | None, run: str | None, on_fail: str, *, message: str = "") -> "Gate":
        """Return a gate with the digest of its rule; the message is not part of the rule."""
        return cls(gate_id, check, run, on_fail, digest([check, run, on_fail]), message)


def gates_of(files: Iterable[GateFile]) -> tuple[Gate, ...]:
    """Return the gates that a file defines."""
    return tuple(Gate.made(each.id, each.check, each.run, each.on_fail, message=each.message) for each in files)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """The result of one gate for one output."""

    id: str
    rule_sha256: str
    result: GateResult
    why: str = ""
    message: str = ""

    @property
    def words(self) -> str:
        """Return the text for people: the author's message, and why the gate failed."""
        return "; ".join(each for each in (self.message, self.why) if each)

    def as_data(self) -> dict[str, str]:
        """Return the form that is stored and written back."""
        said = {"id": self.id, "rule_sha256": self.rule_sha256, "result": self.result.value, "why": self.why}
        return said | ({"message": self.message} if self.message else {})


def evaluated(gate: Gate, values: Mapping[str, Any]) -> Checked:
    """Evaluate the expression of a gate; an evaluation error fails the gate with the reason."""
    try:
        passed = expression.compiled(gate.check or "false", GATE_NAMES).truth(values)
        why = "" if passed else f"{gate.check} is false"
    except ExpressionError as error:
        passed, why = False, str(error)
    return judged(gate, passed=passed, why=why)


def worded(gate: Gate, checked: Checked, values: Mapping[str, Any]) -> Checked:
    """Return the result with the gate's message if it did not pass; `${{ }}` is filled from the gate's values."""
    if checked.result == GateResult.PASS or not gate.message:
        return checked
    parts, at = [], 0
    for hole in _message_holes(gate.message):
        parts += [gate.message[at : hole.start], _filled(hole.text, values)]
        at = hole.end
    return replace(checked, message=cut("".join([*parts, gate.message[at:]]), MESSAGE))


def message_faults(message: str) -> Iterator[str]:
    """Yield an error for each `${{ }}` of a message that can never be filled."""
    for hole in _message_holes(message):
        try:
            expression.compiled(hole.text, GATE_NAMES, "any")
        except ExpressionError as error:
            yield str(error)


def _message_holes(message: str) -> list[template.Hole]:
    return [hole for hole in template.holes(message) if not hole.bare]


def _filled(text: str, values: Mapping[str, Any]) -> str:
    try:
        found = expression.compiled(text, GATE_NAMES, "any").scalar(values)
    except ExpressionError as error:
        return f"(not known: {error})"
    return found if isinstance(found, str) else json.dumps(found, ensure_ascii=False, default=str)


def asks(gate_id: str, why: str, job_id: str) -> Asked:
    """Return the question of a gate about the output of a job."""
    return Asked(question=f"gate {gate_id} asks about the output of {job_id}: {why}", detail=f"{GATE}{gate_id}")


def judged(gate: Gate, *, passed: bool, why: str) -> Checked:
    """Return the result for *passed*: a gate with `onFail: ask` asks a person instead of failing."""
    failed = GateResult.ASK if gate.on_fail == "ask" else GateResult.FAIL
    result = GateResult.PASS if passed else failed
    return Checked(id=gate.id, rule_sha256=gate.rule_sha256, result=result, why="" if passed else why)
