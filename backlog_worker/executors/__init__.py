"""Who does a job: an Executor performs it in a Work and returns a Result, and never raises for an expected end."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

from backlog_worker.domain.outcome import Result
from backlog_worker.domain.pipeline import Job


class Stop:
    """Tells a job that its claim is gone: whoever performs it kills what it started and writes nothing."""

    def __init__(self) -> None:
        self._gone = threading.Event()
        self._calls: list[Callable[[], None]] = []
        self._lock = threading.Lock()

    @property
    def gone(self) -> bool:
        """Return whether the claim is lost."""
        return self._gone.is_set()

    def on_gone(self, call: Callable[[], None]) -> None:
        """Call back once when the claim is lost, at once where it is lost already."""
        with self._lock:
            if not self._gone.is_set():
                self._calls.append(call)
                return
        call()

    def lose(self) -> None:
        """Say that the claim is lost."""
        with self._lock:
            self._gone.set()
            calls, self._calls = self._calls, []
        for call in calls:
            call()

    def wait(self, seconds: float) -> bool:
        """Wait, and return early and true when the claim is lost."""
        return self._gone.wait(seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Everything that one attempt at a job is given."""

    run_id: str
    entry_id: str
    take: int
    entry: Mapping[str, Any]
    input: Mapping[str, Any]
    previous: Mapping[str, Any]
    timeout: timedelta
    stop: Stop = field(default_factory=Stop)
    folder: Path = Path()

    def context(self, job: Job) -> dict[str, Any]:
        """Return what the job sees: its inputs, the entry, the entry's input, and what earlier jobs returned."""
        return {
            "entry": dict(self.entry),
            "input": dict(self.input),
            "inputs": dict(job.inputs),
            "previousJobs": {job_id: {"output": output} for job_id, output in self.previous.items()},
            "run": {"id": self.run_id, "take": self.take},
        }


class Executor(Protocol):
    """Performs jobs of one kind."""

    def perform(self, job: Job, work: Work) -> Result:
        """Do *job* once within its time limit; faults and refusals are results."""
        ...
