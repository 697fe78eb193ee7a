"""A Python callable: `package.module:name` is called with the context and returns JSON, or a Result of its own."""

import ctypes
import importlib
import threading
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from backlog_worker.domain.errors import InvalidInputError
from backlog_worker.domain.masking import cut
from backlog_worker.domain.outcome import Asked, Done, FailureKind, Faulted, Refused, Result, Throttled
from backlog_worker.domain.pipeline import Job
from backlog_worker.executors import Work, answers, raised


class _StoppedError(BaseException):
    """Raised inside a callable whose time is over, or whose claim is lost."""


class PythonExecutor:
    """Calls callables of reviewed files; an inline job runs in the caller's thread, any other in one with a time limit.

    A callable that blocks outside of Python cannot be interrupted: it is abandoned, and what it returns is void.
    """

    def perform(self, job: Job, work: Work) -> Result:
        """Call the callable of *job* once."""
        try:
            call = _callable(job.target)
        except (ImportError, AttributeError, TypeError) as error:
            return Refused(kind=FailureKind.POLICY, reason=f"{job.target} cannot be imported: {error}", role="operator")
        if job.inline:
            return _called(call, work.context(job))
        return _limited(call, job, work)


@lru_cache(maxsize=256)
def _callable(target: str) -> Callable[[dict[str, Any]], object]:
    module, _, name = target.partition(":")
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    if not callable(found):
        message = f"{target} is not callable"
        raise TypeError(message)
    called: Callable[[dict[str, Any]], object] = found
    return called


def _called(call: Callable[[dict[str, Any]], object], context: dict[str, Any]) -> Result:
    try:
        value = call(context)
    except InvalidInputError as error:
        return Refused(kind=FailureKind.VALIDATION, reason=cut(str(error), 400))
    except Exception as error:  # noqa: BLE001 - the edge: a user's callable may raise anything, and it is recorded
        return raised.fault(error)
    if isinstance(value, Done | Asked | Throttled | Faulted | Refused):
        return value
    answered = answers.result(value, usual="it says that it did not succeed")
    return answered if isinstance(answered, Faulted) else Done(output=value)


def _limited(call: Callable[[dict[str, Any]], object], job: Job, work: Work) -> Result:
    found: list[Result] = []
    ended = threading.Event()

    def _body() -> None:
        try:
            found.append(_called(call, work.context(job)))
        except _StoppedError:
            pass
        finally:
            ended.set()

    thread = threading.Thread(target=_body, daemon=True, name=f"{work.run_id}.{job.id}")
    thread.start()
    work.stop.on_gone(ended.set)
    in_time = ended.wait(work.timeout.total_seconds())
    if found:
        return found[0]
    if thread.ident is not None and thread.is_alive():
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(_StoppedError))
    if in_time:
        return Faulted(kind=FailureKind.INFRASTRUCTURE, reason="the claim was lost, the callable was stopped")
    return Faulted(kind=FailureKind.TIMEOUT, reason=f"timed out after {work.timeout.total_seconds():g} s")
