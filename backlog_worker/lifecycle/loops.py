"""Loops that survive every error: ticks, duties, background threads.

`attempt` is their one error boundary: it logs what a step raised and returns it. A `Loop` repeats its body in a thread.
One watcher per process restarts loops whose thread ended and reports loops that are stuck.
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
STUCK_SECONDS = 60.0  # longer than any database timeout; a longer round is replaced
BUSY_SECONDS = 25.0  # two lock timeouts and a margin
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Tried(Generic[T]):
    """The value that a step returned, or the error that it raised."""

    value: T | None = None
    error: Exception | None = None

    @property
    def elsewhere(self) -> bool:
        """Return whether the database caused the error: it is unavailable, full or busy."""
        return isinstance(self.error, UnreachableError | BusyError)


def attempt(loop: str, step: Callable[[], T], **where: object) -> Tried[T]:
    """Run a step of a loop; an error is logged in one line and returned, and the loop continues."""
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
    except Exception as error:  # noqa: BLE001 - the edge of every loop: an unexpected error is logged, and the loop continues
        place = traceback.extract_tb(error.__traceback__)[-1]
        at = f"{place.filename}:{place.lineno}"
        emit("loop_failed", loop=loop, error=f"{type(error).__name__}: {_words(error)}", at=at, **where)
        return Tried(error=error)


def insist(step: Callable[[], T], *, given_up: Callable[[], bool] | None = None) -> T:
    """Repeat a short transaction while the database is busy.

    With *given_up*, repeat it also while the database is unavailable or full, until *given_up* returns true: for writes
    that must not be lost.
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
    """A body that a thread repeats; *pause* returns how long to rest, or None to end."""

    def __init__(self, name: str, body: Callable[[], object], pause: Callable[[], float | None]) -> None:
        self.name = name
        self.failures = 0  # in a row
        self.done_at: float | None = None  # monotonic: the last successful round
        self._body, self._pause = body, pause
        self._began: float | None = None
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread if it is not running."""
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._replace()
        _watched(self)

    def wake(self) -> None:
        """Start the next round at once."""
        self._wake.set()

    def watched(self) -> bool:
        """Restart the loop if its thread ended or is stuck in a round; returns whether there is a loop to watch."""
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
    """Check every loop of this process once."""
    with _WATCHING:
        loops = list(_RUNNING)
    for loop in loops:
        tried = attempt("watcher", loop.watched)
        if tried.value is False:
            with _WATCHING:
                _RUNNING.discard(loop)


def _forked() -> None:
    """Forget the parent's loops after a fork, since their threads do not exist here."""
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
