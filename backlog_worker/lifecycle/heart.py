"""The heart of a worker process: one thread that renews every lease of the process in one statement.

A run that does not come back has lost its claim: its child is killed at once. A worker that cannot reach the database
goes on until its own monotonic clock says that the lease is over, and then kills its children: another may hold them.
"""

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass

from backlog_worker.domain.errors import BacklogError
from backlog_worker.executors import Stop
from backlog_worker.store import Store
from backlog_worker.telemetry import emit


@dataclass(slots=True)
class _Beating:
    stop: Stop
    lease: float
    renewed: float  # monotonic
    ends: float  # monotonic: a job that hangs past its time limit must lose its lease


class Heart:
    """Renews the claims of this process while their jobs run."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._runs: dict[str, _Beating] = {}
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._every = 30.0

    def watch(self, run_id: str, *, lease: float, every: float, limit: float) -> Stop:
        """Renew the lease of a run every so many seconds, for at most *limit*; the Stop says when it is lost."""
        stop, now = Stop(), time.monotonic()
        with self._lock:
            self._runs[run_id] = _Beating(stop=stop, lease=lease, renewed=now, ends=now + limit)
            self._every = min(every, self._every) if len(self._runs) > 1 else every
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._beat, daemon=True, name="heart")
                self._thread.start()
        return stop

    def rest(self, run_ids: Iterable[str]) -> None:
        """Stop renewing: the jobs ended."""
        with self._lock:
            for run_id in run_ids:
                self._runs.pop(run_id, None)

    def _beat(self) -> None:
        while True:
            self._wake.wait(self._every)
            with self._lock:
                runs = dict(self._runs)
                if not runs:
                    self._thread = None
                    return
            self._once(runs)

    def _once(self, runs: dict[str, _Beating]) -> None:
        now = time.monotonic()
        alive = [run_id for run_id, each in runs.items() if now < each.ends]
        try:
            with self._store.begin() as unit:
                kept = unit.heartbeat(alive, max(each.lease for each in runs.values()))
        except BacklogError as error:
            emit("database_away", error=str(error))
            kept = {run_id for run_id, each in runs.items() if now < each.renewed + each.lease}
        except Exception as error:  # noqa: BLE001 - the edge of a thread: whatever the driver raises, the heart goes on
            emit("database_away", error=str(error).splitlines()[0][:200])
            kept = {run_id for run_id, each in runs.items() if now < each.renewed + each.lease}
        else:
            for run_id in kept:
                runs[run_id].renewed = now
        for run_id in set(runs) - kept:
            with self._lock:
                still = self._runs.pop(run_id, None)
            if still is not None:
                emit("claim_lost", run=run_id)
                runs[run_id].stop.lose()
