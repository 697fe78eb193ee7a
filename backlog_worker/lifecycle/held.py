"""What a process holds: a run whose next stages may begin, a take of a stage, and the end of a take."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from backlog_worker.domain.attempts import Tried
from backlog_worker.domain.entry import Entry
from backlog_worker.domain.frontier import Stage
from backlog_worker.domain.gates import Checked, GateResult
from backlog_worker.domain.outcome import Result
from backlog_worker.domain.pipeline import Job, Pipeline
from backlog_worker.domain.policy import Policy
from backlog_worker.executors import Stop


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """A run at a point where its next stages may begin."""

    entry: Entry
    run: Mapping[str, Any]
    pipeline: Pipeline
    policy: Policy
    stages: Mapping[str, Stage]
    input: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """One stage that this process may perform: the entry, the run, and the number of the take."""

    entry: Entry
    run: Mapping[str, Any]
    pipeline: Pipeline
    policy: Policy
    job: Job
    take: int
    tried: Tried
    input: Mapping[str, Any]
    stages: Mapping[str, Stage]
    trying: timedelta = timedelta(0)  # time since the first of the used attempts began
    alone: bool = False  # without a run: nothing is stored, and every pause is waited for here
    granted: tuple[str, ...] = ()
    approval: Mapping[str, Any] | None = None
    since: float = 0.0  # monotonic time when the taking transaction began: its lease is not older
    stop: Stop = field(default_factory=Stop)

    @property
    def key(self) -> tuple[str, str, int]:
        """Return the fence of every write of this take."""
        return (self.run["id"], self.job.id, self.take)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a take ended: the result, the attempts, the gates, the cost.

    If it ended with a fault and has a `pause`, the next attempt follows after it, in another take.
    """

    taken: Taken
    result: Result
    tried: Tried
    pause: timedelta | None = None
    gates: tuple[Checked, ...] = ()
    artifacts: tuple[Mapping[str, Any], ...] = ()
    cost: Mapping[str, Any] | None = None
    cached: str = ""

    @property
    def asked(self) -> Checked | None:
        """Return the gate that asks for a person, or None."""
        return next((each for each in self.gates if each.result == GateResult.ASK), None)
