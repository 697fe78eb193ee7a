"""The rules for every executor, as tests for its author: `Conformance(make).check()` names each breach.

An executor performs a job once, within its time limit, and returns a Result. It raises only for unexpected errors,
leaves no process behind, ends soon after the claim is lost, and reveals no secret that it was given.
"""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from backlog_worker.domain import pipeline
from backlog_worker.domain.outcome import Asked, Done, Faulted, Refused, Result, Throttled
from backlog_worker.domain.pipeline import Job
from backlog_worker.executors import Executor, Stop, Work

SLACK = 8.0  # TERM, five seconds, KILL, and a slow machine
USUAL = """\
name: conformance
jobs:
  - id: it
    run: "true"
    output: { type: object }
"""


@dataclass(frozen=True, slots=True)
class Breach:
    """One rule that an executor breaks."""

    rule: str
    why: str


@dataclass(frozen=True, slots=True)
class Conformance:
    """The suite for one executor; its author supplies the jobs, knowing what it performs.

    `works` returns an object, `fails` fails, `hangs` runs for a minute; each may change the usual job and work. None
    means that the executor has no such job.
    """

    executor: Executor
    works: Callable[[Job, Work], tuple[Job, Work]]
    fails: Callable[[Job, Work], tuple[Job, Work]] | None = None
    hangs: Callable[[Job, Work], tuple[Job, Work]] | None = None

    def check(self) -> list[Breach]:
        """Check every rule and return the breaches."""
        return list(self._breaches())

    def _breaches(self) -> Iterator[Breach]:
        result = self._performed(self.works)
        if not isinstance(result, Done):
            yield Breach("a job that works is done", f"got {result!r}")
        elif not isinstance(result.output, dict):
            yield Breach("an output is JSON", f"got {result.output!r}")
        again = self._performed(self.works)
        if isinstance(result, Done) and not isinstance(again, Done):
            yield Breach("an executor can be used again", f"got {again!r}")
        if self.fails is not None:
            result = self._performed(self.fails)
            if not isinstance(result, Faulted | Refused | Throttled | Asked):
                yield Breach("a job that fails does not succeed", f"got {result!r}")
        if self.hangs is not None:
            yield from self._limits(self.hangs)

    def _limits(self, hangs: Callable[[Job, Work], tuple[Job, Work]]) -> Iterator[Breach]:
        began = time.monotonic()
        result = self._performed(hangs, timeout=timedelta(seconds=1))
        if not (isinstance(result, Faulted) and result.kind == "timeout"):
            yield Breach("a job past its time limit is a timeout", f"got {result!r}")
        if time.monotonic() - began > 1 + SLACK:
            yield Breach("a job ends soon after its time limit", f"took {time.monotonic() - began:.1f} s")
        stop, began = Stop(), time.monotonic()
        threading.Timer(0.5, stop.lose).start()
        result = self._performed(hangs, timeout=timedelta(seconds=60), stop=stop)
        if isinstance(result, Done):
            yield Breach("a job whose claim is lost is not done", f"got {result!r}")
        if time.monotonic() - began > 0.5 + SLACK:
            yield Breach("a job ends soon after its claim is lost", f"took {time.monotonic() - began:.1f} s")

    def _performed(self, change: Callable[[Job, Work], tuple[Job, Work]], **fields: Any) -> Result:
        usual: dict[str, Any] = {
            "run_id": "run_conformance",
            "entry_id": "bl_conformance",
            "take": 1,
            "entry": {"title": '`$(touch pwned)`; "x"'},
            "input": {"body": "b"},
            "previous": {},
            "timeout": timedelta(seconds=20),
        }
        job, work = change(pipeline.load(USUAL).jobs[0], Work(**{**usual, **fields}))
        return self.executor.perform(job, work)
