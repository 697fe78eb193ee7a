"""What goes on whatever happens: ticks, duties, background threads. None of them dies of one bad thing.

Here is their one edge. `attempt` says what a step raised and returns it; a `Loop` does its body again and again in a
thread; and one watcher of the process starts a loop anew whose thread ended, and says which has been stuck.
"""

import os
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import tenacity

from backlog_worker.domain.errors import BacklogError, BusyError, UnreachableError
from backlog_worker.domain.legible import message_of
from backlog_worker.domain.masking import cut
from backlog_worker.telemetry import emit

WATCH_SECONDS = 5.0
STUCK_SECONDS = 60.0  # longer than the database may be silent; a round that takes longer is replaced
BUSY_SECONDS = 25.0  # two locks' time-outs, and a little
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Tried(Generic[T]):
    """What a step returned, or what it raised."""

    value: T | None = None
    error: Exception | None = None

    @property
    def elsewhere(self) -> bool:
        """Return whether the fault is the database's and nobody's in particular: it is away, full, or busy."""
        return isinstance(self.error, UnreachableError | BusyError)


def attempt(loop: str, step: Callable[[], T], **where: object) -> Tried[T]:
    """Do a step of a loop; whatever it raises is said in one line and returned, and the loop goes on."""
    try:
        return Tried(value=step())
    except UnreachableError as error:
        emit("database_away", loop=loop, error=_words(error), **where)
        return Tried(error=error)
    except BusyError as error:
        emit("database_busy", loop=loop, error=_words(error), **where)
        return Tried(error=error)
    except BacklogError as error:
        emit("step_refused", loop=loop, error=_words(error), **where)
        return Tried(error=error)
    except Exception as error:  # noqa: BLE001 - the edge of every loop: what nobody foresaw is said, and it goes on
        place = traceback.extract_tb(error.__traceback__)[-1]
        at = f"{place.filename}:{place.lineno}"
        emit("loop_failed", loop=loop, error=f"{type(error).__name__}: {_words(error)}", at=at, **where)
        return Tried(error=error)


def insist(step: Callable[[], T], *, given_up: Callable[[], bool] | None = None) -> T:
    """Do a whole short transaction again while the database is busy.

    With *given_up* also while it is away or full, and until that says so: for what must not be lost.
    """
    kinds = (BusyError,) if given_up is None else (BusyError, UnreachableError)
    ends = tenacity.stop_after_delay(BUSY_SECONDS) if given_up is None else lambda _state: given_up()
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(kinds),
        stop=ends,
        wait=tenacity.wait_random_exponential(multiplier=0.1, max=2.0),
        before_sleep=lambda state: emit("database_busy", loop="transaction", error=_words(_error(state))),
        reraise=True,
    )
    return retrying(step)


class Loop:
    """A body that a thread does again and again; *pause* says for how long it rests, and None that it is over."""

    def __init__(self, name: str, body: Callable[[], object], pause: Callable[[], float | None]) -> None:
        self.name = name
        self.failures = 0  # in a row
        self.done_at: float | None = None  # monotonic: the last round that did not fail
        self._body, self._pause = body, pause
        self._began: float | None = None
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, where it does not run already."""
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._replace()
        _watched(self)

    def wake(self) -> None:
        """Do the next round at once."""
        self._wake.set()

    def watched(self) -> bool:
        """Start anew where the thread ended or has been stuck in one round; returns whether there is one to watch."""
        with self._lock:
            if self._thread is None:
                return False
            stuck = self._began is not None and time.monotonic() - self._began > STUCK_SECONDS
            if stuck or not self._thread.is_alive():
                emit("loop_replaced", loop=self.name, stuck=stuck, failures=self.failures)
                self._replace()
            return True

    def _replace(self) -> None:
        self._began = None
        self._thread = threading.Thread(target=self._run, daemon=True, name=self.name)
        self._thread.start()

    def _run(self) -> None:
        while True:
            with self._lock:
                if self._thread is not threading.current_thread():
                    return  # it was stuck, and another goes on in its place
                pause = self._pause()
                if pause is None:
                    self._thread = None
                    return
            self._wake.wait(min(pause, 0.5 * 2 ** min(self.failures, 10)) if self.failures else pause)
            self._wake.clear()
            self._began = time.monotonic()
            tried = attempt(self.name, self._body)
            self._began = None
            self.failures = self.failures + 1 if tried.error else 0
            self.done_at = self.done_at if tried.error else time.monotonic()


_RUNNING: set[Loop] = set()
_WATCHING = threading.Lock()
_WATCHERS: list[threading.Thread] = []


def _watched(loop: Loop) -> None:
    with _WATCHING:
        _RUNNING.add(loop)
        if not _WATCHERS or not _WATCHERS[0].is_alive():
            _WATCHERS[:] = [threading.Thread(target=_watch, daemon=True, name="watcher")]
            _WATCHERS[0].start()


def _watch() -> None:
    while True:
        time.sleep(WATCH_SECONDS)
        watch()


def watch() -> None:
    """Look once at every loop of this process."""
    with _WATCHING:
        loops = list(_RUNNING)
    for loop in loops:
        tried = attempt("watcher", loop.watched)
        if tried.value is False:
            with _WATCHING:
                _RUNNING.discard(loop)


def _forked() -> None:
    """Forget the parent's loops: no thread of it lives here."""
    global _WATCHING  # noqa: PLW0603 - the parent may have held it while it forked
    _WATCHING = threading.Lock()
    _RUNNING.clear()
    _WATCHERS.clear()


os.register_at_fork(after_in_child=_forked)


def _error(state: tenacity.RetryCallState) -> BaseException:
    error = state.outcome.exception() if state.outcome else None
    return error or RuntimeError("nothing was raised")


def _words(error: BaseException) -> str:
    return cut((message_of(error).strip().splitlines() or [type(error).__name__])[0], 300)
