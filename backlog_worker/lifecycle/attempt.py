"""Attempt a job until it succeeds, gives up, or has to pause for too long to keep its slot.

Each failed attempt is stored with its event before the next one begins, so that a worker that dies loses only the
attempt in progress. An attempt that could not be stored during a database outage is stored with the next one.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import tenacity

from backlog_worker.domain import attempts
from backlog_worker.domain.attempts import HOLD, Tried
from backlog_worker.domain.entry import Note
from backlog_worker.domain.outcome import Done, Faulted, Refused
from backlog_worker.executors import Report
from backlog_worker.lifecycle import Kit
from backlog_worker.lifecycle.held import Ended, Taken
from backlog_worker.lifecycle.loops import attempt
from backlog_worker.telemetry import emit

Once = Callable[[Tried, timedelta], Ended]
ENDLESS = float("inf")


def attempted(kit: Kit, taken: Taken, report: Report, once: Once) -> Ended:
    """Attempt the job of a take; *once* runs it one time, given the earlier attempts and the time left.

    A fault ends the take with a `pause` if the next attempt is due later than the slot may be kept.
    """
    series = _Series(kit, taken, report, once)
    goes_on = tenacity.retry_if_result(lambda _ended: series.held is not None)
    pausing = tenacity.Retrying(retry=goes_on, wait=lambda _state: series.held or 0.0, sleep=kit.pause)
    return pausing(series.one)


class _Series:
    """The attempts of one take; `held` is the pause before the next one in seconds, or None if there is none in this
    take.
    """

    def __init__(self, kit: Kit, taken: Taken, report: Report, once: Once) -> None:
        self._kit, self._taken, self._report, self._once = kit, taken, report, once
        after = taken.job.fallback.after if taken.job.fallback else None
        self._deadline = time.monotonic() + (after - taken.trying).total_seconds() if after else ENDLESS
        self._tried = taken.tried
        self._last: Ended | None = None
        self.held: float | None = None

    def one(self) -> Ended:
        """Attempt the job once and decide what follows; losing the claim during the pause before it ends the series."""
        self.held = None
        if self._last is not None and self._taken.stop.gone:
            return self._last
        left = min(self._taken.job.timeout.total_seconds(), max(0.1, self._deadline - time.monotonic()))
        ended = counted(self._report, self._tried, partial(self._once, self._tried, timedelta(seconds=left)))
        self._tried = ended.tried
        pause = self._pause(ended)
        if pause is None:
            return ended
        emit("stage_retried", entry=self._taken.entry.id, job=self._taken.job.id, seconds=round(pause, 2))
        if pause > HOLD.total_seconds() and not self._taken.alone:
            return replace(ended, pause=timedelta(seconds=pause))
        self._tried = _store_attempt(self._kit, self._taken, self._tried)
        self._last, self.held = ended, pause
        return ended

    def _pause(self, ended: Ended) -> float | None:
        """Return how long to wait for the next attempt; None if there is none, or if it would be later than the
        fallback.
        """
        if not isinstance(ended.result, Faulted) or self._taken.stop.gone:
            return None
        pause = attempts.pause(self._taken.job.retry, self._tried.used, self._kit.jitter())
        if pause is None or time.monotonic() + pause.total_seconds() >= self._deadline:
            return None
        return pause.total_seconds()


def counted(report: Report, tried: Tried, go: Callable[[], Ended], **more: object) -> Ended:
    """Run a job once and count the result; a question or an exhausted quota does not count as an attempt."""
    report.forget()
    began = time.monotonic()
    ended = go()
    match ended.result:
        case Done():
            return replace(ended, tried=tried.with_success())
        case Faulted() | Refused():
            seconds = round(time.monotonic() - began, 1)
            line = attempts.line(ended.result, report.log_end(), take=ended.taken.take, seconds=seconds, **more)
            return replace(ended, tried=tried.with_failure({"run": ended.taken.run["id"], **line}))
        case _:
            return replace(ended, tried=tried)


def _store_attempt(kit: Kit, taken: Taken, tried: Tried) -> Tried:
    """Store a failed attempt that will be followed by another; stops if the take was lost."""
    if taken.alone:
        return tried
    run_id, job_id, take = taken.key

    def _keep() -> Tried:
        with kit.store.begin(actor=kit.worker) as unit:
            held = run_id in unit.renew([run_id])
            stamped = tried.at(unit.now())
            if not held or not unit.tried(_row(taken, stamped)):
                taken.stop.lose()
                return tried
            last = stamped.failed[-1]
            said = {name: last[name] for name in ("attempt", "kind", "reason")}
            data = {"job_id": job_id, "take": take, "attempts": stamped.attempts, **said}
            unit.note(taken.entry.id, Note.ATTEMPTED, data)
        return stamped

    return attempt("attempt", _keep, run=run_id, job=job_id).value or tried


def _row(taken: Taken, tried: Tried) -> dict[str, Any]:
    run_id, job_id, take = taken.key
    fence = {"run_id__": run_id, "takes__": take, "job_id__": job_id}
    fence |= {"entry_id__": taken.entry.id, "pipeline_hash__": taken.pipeline.hash}
    return {**fence, "attempts": tried.attempts, "used": tried.used, "tries": list(tried.failed)}
