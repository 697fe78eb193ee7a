"""Executors perform jobs: one takes a Work and returns a Result, and raises only for unexpected errors."""

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

LINES = 200  # kept of each attempt; the last are passed to the next one


class Stop:
    """Tells a job that its claim is lost: its executor kills the processes it started and writes nothing."""

    def __init__(self) -> None:
        self._gone = threading.Event()
        self._calls: list[Callable[[], None]] = []
        self._lock = threading.Lock()

    @property
    def gone(self) -> bool:
        """Return whether the claim is lost."""
        return self._gone.is_set()

    def on_gone(self, call: Callable[[], None]) -> None:
        """Call *call* once when the claim is lost, at once if it is lost already."""
        with self._lock:
            if not self._gone.is_set():
                self._calls.append(call)
                return
        call()

    def lose(self) -> None:
        """Mark the claim as lost."""
        with self._lock:
            self._gone.set()
            calls, self._calls = self._calls, []
        for call in calls:
            call()

    def wait(self, seconds: float) -> bool:
        """Wait; returns true, and early, if the claim is lost."""
        return self._gone.wait(seconds)


class Report:
    """Receives what a job reports while it runs; this class only stores it, for tests and conformance."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._end: deque[str] = deque(maxlen=LINES)
        self.percent: int | None = None
        self.usages: list[Usage] = []

    def line(self, text: str) -> None:
        """Receive one line of the job's output."""
        self.lines.append(text)
        self.heard(text)

    def heard(self, text: str) -> None:
        """Store a masked line for the log end of this attempt."""
        self._end.append(text)

    def forget(self) -> None:
        """Begin a new attempt with an empty log end; the log itself stays."""
        self._end.clear()

    def log_end(self) -> str:
        """Return the end of this attempt's log: whole lines, masked, at most a few kilobytes."""
        return log_end(masked("\n".join(self._end)).split("\n"))

    def progress(self, percent: int) -> None:
        """Receive the progress of the job, from 0 to 100."""
        self.percent = max(0, min(100, percent))

    def spend(self, usage: Usage) -> None:
        """Receive the usage of one call of a model; it counts even if the attempt fails."""
        self.usages.append(checked(usage))

    def cost(self) -> dict[str, Any] | None:
        """Return the total usage, or None without any."""
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
        """Close the report after the job ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """The inputs of one attempt at a job; its texts are filled, and secrets are in `env` only."""

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
        """Return the context of the job: its inputs, the entry, its input, earlier results, and why it is retried."""
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
        """Perform *job* once within its time limit; faults and refusals are returned as results."""
        ...
