"""A recorded session: the recorded answers of each job in the order of its attempts; free and deterministic."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from backlog_worker.domain import throttle
from backlog_worker.domain.outcome import Asked, Done, FailureKind, Faulted, Refused, Result, Throttled
from backlog_worker.domain.pipeline import Job
from backlog_worker.domain.usage import claimed
from backlog_worker.executors import Report, Work

Answers = Mapping[str, Sequence[Mapping[str, Any]]]


class ReplayExecutor:
    """Answers every job from a recording; a job without an answer left is refused."""

    def __init__(self, answers: Answers) -> None:
        self._left = {job_id: list(listed) for job_id, listed in answers.items()}
        self.performed: list[str] = []

    def perform(self, job: Job, work: Work) -> Result:
        """Return the next recorded answer of *job*."""
        self.performed.append(job.id)
        left = self._left.get(job.id)
        if not left:
            return Refused(kind=FailureKind.POLICY, reason=f"the recording has no further answer for {job.id}")
        return answered(left.pop(0), work.report)


def answered(answer: Mapping[str, Any], report: Report) -> Result:
    """Return the result of a recorded answer; its output and usage are reported again."""
    for line in answer.get("log", ()):
        report.line(str(line))
    usage = answer.get("usage")
    if isinstance(usage, dict):
        report.spend(claimed(usage))
    kind = FailureKind(str(answer.get("kind") or FailureKind.EXECUTION))
    reason = str(answer.get("reason") or "recorded")
    match answer.get("result", "done"):
        case "done":
            artifacts = {name: str(text).encode() for name, text in dict(answer.get("artifacts", {})).items()}
            return Done(output=answer.get("output"), artifacts=artifacts)
        case "throttled":
            return Throttled(reason=reason, wait=throttle.length(answer.get("waitMs") or 0, unit=0.001) or timedelta(0))
        case "asked":
            return Asked(
                question=reason, kind=str(answer.get("asks") or "approval"), detail=str(answer.get("detail") or "")
            )
        case "refused":
            return Refused(kind=kind, reason=reason, data=answer.get("data"))
        case _:
            return Faulted(kind=kind, reason=reason, data=answer.get("data"))
