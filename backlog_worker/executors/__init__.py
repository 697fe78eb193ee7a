"""Who does a job: an Executor performs it in a Work and returns a Result, and never raises for an expected end."""

import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

from backlog_worker.domain.agent import Agent
from backlog_worker.domain.attempts import log_end
from backlog_worker.domain.budget import Usage
from backlog_worker.domain.masking import masked
from backlog_worker.domain.outcome import Result
from backlog_worker.domain.pipeline import Job
from backlog_worker.domain.usage import checked

LINES = 200  # of an attempt, of which the last are told to the next one


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


class Report:
    """Where a job says what it does while it is performed; this one only remembers, for tests and conformance."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._end: deque[str] = deque(maxlen=LINES)
        self.percent: int | None = None
        self.usages: list[Usage] = []

    def line(self, text: str) -> None:
        """Take one line of what the job prints."""
        self.lines.append(text)
        self.heard(text)

    def heard(self, text: str) -> None:
        """Remember a line, without secrets, for the end of the log of this attempt."""
        self._end.append(text)

    def forget(self) -> None:
        """Begin a new attempt: what the last one printed belongs to its log and not to this one's end."""
        self._end.clear()

    def log_end(self) -> str:
        """Return how the log of this attempt ended: whole lines, masked, no more than a few kilobytes."""
        return log_end(masked("\n".join(self._end)).split("\n"))

    def progress(self, percent: int) -> None:
        """Take how far the job is, from 0 to 100."""
        self.percent = max(0, min(100, percent))

    def spend(self, usage: Usage) -> None:
        """Take what one call of a model used; it counts even where the attempt fails."""
        self.usages.append(checked(usage))

    def cost(self) -> dict[str, Any] | None:
        """Return what was used in all, or None where nothing was."""
        if not self.usages:
            return None
        known = [each.usd for each in self.usages if each.usd is not None]
        return {
            "model": self.usages[-1].model,
            "input_tokens": sum(each.input_tokens for each in self.usages),
            "output_tokens": sum(each.output_tokens for each in self.usages),
            "usd": sum(known) if len(known) == len(self.usages) else None,
            **({"findings": findings} if (findings := [text for each in self.usages for text in each.refused]) else {}),
        }

    def close(self) -> None:
        """Say that the job ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Everything that one attempt at a job is given; texts are filled, secrets stand in `env` only."""

    run_id: str
    entry_id: str
    take: int
    entry: Mapping[str, Any]
    input: Mapping[str, Any]
    previous: Mapping[str, Any]
    timeout: timedelta
    failed: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    attempt: int = 1
    last_failure: Mapping[str, Any] | None = None
    inputs: Mapping[str, Any] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    prompt: str = ""
    agent: Agent | None = None
    granted: tuple[str, ...] = ()
    stop: Stop = field(default_factory=Stop)
    report: Report = field(default_factory=Report)
    folder: Path = Path()

    def context(self, job: Job) -> dict[str, Any]:
        """Return what the job sees: its inputs, the entry, its input, what earlier jobs left, why it is tried again."""
        done = {job_id: {"status": "completed", "output": output} for job_id, output in self.previous.items()}
        return {
            "job": {"id": job.id, "name": job.name},
            "entry": dict(self.entry),
            "input": dict(self.input),
            "inputs": dict(self.inputs),
            "previousJobs": {**done, **self.failed},
            "run": {"id": self.run_id, "take": self.take},
            "attempt": self.attempt,
            "lastFailure": self.last_failure,
        }


class Executor(Protocol):
    """Performs jobs of one kind."""

    def perform(self, job: Job, work: Work) -> Result:
        """Do *job* once within its time limit; faults and refusals are results."""
        ...
