"""The heart of a worker process: one thread that renews every lease of the process in one statement.

A take that does not come back has lost its claim: its child is killed at once. Between two heartbeats the heart only
looks, so that a canceled child ends in seconds. A worker that cannot reach the database goes on until its own monotonic
clock says that the lease is over, and then kills its children: another may hold them.
"""

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass

from backlog_worker.domain.errors import BacklogError
from backlog_worker.executors import Stop
from backlog_worker.store import Store
from backlog_worker.telemetry import emit

Take = tuple[str, str, int]  # run, job, number of the take
LOOK_SECONDS = 3.0


@dataclass(slots=True)
class _Beating:
    stop: Stop
    lease: float
    every: float
    renewed: float  # monotonic
    ends: float  # monotonic: a job that hangs past its time limit must lose its lease


class Heart:
    """Renews the takes of this process while their jobs run."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._takes: dict[Take, _Beating] = {}
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    def watch(self, take: Take, *, lease: float, every: float, limit: float) -> Stop:
        """Renew the lease of a take every so many seconds, for at most *limit*; the Stop says when it is lost."""
        stop, now = Stop(), time.monotonic()
        with self._lock:
            self._takes[take] = _Beating(stop=stop, lease=lease, every=every, renewed=now, ends=now + limit)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._beat, daemon=True, name="heart")
                self._thread.start()
        return stop

    def rest(self, takes: Iterable[Take]) -> None:
        """Stop renewing: the jobs ended."""
        with self._lock:
            for take in takes:
                self._takes.pop(take, None)

    def _beat(self) -> None:
        while True:
            with self._lock:
                every = min([LOOK_SECONDS, *(each.every for each in self._takes.values())])
            self._wake.wait(every)
            with self._lock:
                takes = dict(self._takes)
                if not takes:
                    self._thread = None
                    return
            self._once(takes)

    def _once(self, takes: dict[Take, _Beating]) -> None:
        now = time.monotonic()
        alive = [take for take, each in takes.items() if now < each.ends]
        due = any(now >= takes[take].renewed + takes[take].every for take in alive)
        try:
            kept = self._renewed(alive, max(each.lease for each in takes.values())) if due else self._held(alive)
        except BacklogError as error:
            emit("database_away", error=str(error))
            kept = {take for take, each in takes.items() if now < each.renewed + each.lease}
        except Exception as error:  # noqa: BLE001 - the edge of a thread: whatever the driver raises, the heart goes on
            emit("database_away", error=str(error).splitlines()[0][:200])
            kept = {take for take, each in takes.items() if now < each.renewed + each.lease}
        else:
            for take in kept if due else ():
                takes[take].renewed = now
        for take in set(takes) - kept:
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
