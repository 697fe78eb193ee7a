"""The heart of a worker process: one loop renews all leases in one statement, another watches the clock.

A take that is not renewed has lost its claim: its child process is killed at once. Between heartbeats the heart only
reads, so that a canceled child ends within seconds. The second loop uses only the monotonic clock of this process: a
lease that was not renewed in time ends for its child before it expires for others, even if the database, the network or
the first loop hangs.
"""

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass

from backlog_worker.executors import Stop
from backlog_worker.executors.process import TERM_SECONDS
from backlog_worker.lifecycle.loops import Loop
from backlog_worker.store import Store
from backlog_worker.telemetry import emit

Take = tuple[str, str, int]  # run, job, number of the take
LOOK_SECONDS = 3.0
CLOCK_SECONDS = 0.5


@dataclass(slots=True)
class _Beating:
    stop: Stop
    lease: float
    every: float
    renewed: float  # monotonic: start of the last confirmed renewal
    ends: float  # monotonic: a job that hangs past its time limit must lose its lease

    @property
    def over(self) -> float:
        """Return when this process gives up a take by itself, early enough that its child is dead when the lease
        ends.
        """
        return self.renewed + self.lease - min(TERM_SECONDS + 2 * CLOCK_SECONDS, self.lease / 3)


class Heart:
    """Renews the takes of this process while their jobs run."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._takes: dict[Take, _Beating] = {}
        self._lock = threading.Lock()
        self._beat = Loop("heart", self._once, self._every)
        self._clock = Loop("heart.clock", self.keep_time, lambda: CLOCK_SECONDS if self._takes else None)

    def watch(self, take: Take, *, lease: float, every: float, limit: float, since: float = 0.0) -> Stop:
        """Renew the lease of a take every *every* seconds, for at most *limit*; the Stop is set when the claim is lost.

        *since* is a monotonic time not later than the start of the lease.
        """
        stop, now = Stop(), time.monotonic()
        with self._lock:
            beating = _Beating(stop=stop, lease=lease, every=every, renewed=since or now, ends=now + limit)
            self._takes[take] = beating
        self._beat.start()
        self._clock.start()
        return stop

    def rest(self, takes: Iterable[Take]) -> None:
        """Stop renewing takes whose jobs ended."""
        with self._lock:
            for take in takes:
                self._takes.pop(take, None)

    def keep_time(self) -> None:
        """Give up takes that were not renewed in time, by the monotonic clock of this process alone."""
        now = time.monotonic()
        with self._lock:
            over = [take for take, each in self._takes.items() if now >= each.over]
        self._lose(over)

    def _every(self) -> float | None:
        with self._lock:
            return min([LOOK_SECONDS, *(each.every for each in self._takes.values())]) if self._takes else None

    def _once(self) -> None:
        now = time.monotonic()
        with self._lock:
            takes = dict(self._takes)
        alive = [take for take, each in takes.items() if now < each.ends]
        due = any(now >= takes[take].renewed + takes[take].every for take in alive)
        self._lose(set(takes) - set(alive))
        if not alive:
            return
        kept = self._renewed(alive, max(takes[take].lease for take in alive)) if due else self._held(alive)
        for take in kept if due else ():
            takes[take].renewed = now
        self._lose(set(alive) - kept)

    def _lose(self, takes: Iterable[Take]) -> None:
        for take in takes:
            with self._lock:
                still = self._takes.pop(take, None)
            if still is not None:
                emit("claim_lost", run=take[0], job=take[1])
                still.stop.lose()

    def _renewed(self, takes: list[Take], lease: float) -> set[Take]:
        with self._store.begin() as unit:
            unit.relaxed()
            return unit.heartbeat(takes, lease)

    def _held(self, takes: list[Take]) -> set[Take]:
        with self._store.read() as unit:
            return unit.still_held(takes)
