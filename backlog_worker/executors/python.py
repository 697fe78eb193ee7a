"""A Python callable: `package.module:name` is called with the context and returns JSON or a Result.

It runs in its own thread: exceptions there stay with the job, including `SystemExit`, `KeyboardInterrupt` and
`CancelledError`, which in the worker's thread would stop the worker.
"""

import ctypes
import importlib
import threading
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from backlog_worker.domain import returned
from backlog_worker.domain.errors import InvalidInputError
from backlog_worker.domain.legible import error_words, message_of, shown
from backlog_worker.domain.masking import cut
from backlog_worker.domain.outcome import Asked, Done, FailureKind, Faulted, Refused, Result, Throttled
from backlog_worker.domain.pipeline import Job
from backlog_worker.executors import Work, answers, raised


class _StoppedError(BaseException):
    """Raised inside a callable whose time limit expired or whose claim is lost."""


class PythonExecutor:
    """Calls callables of reviewed files within their time limits.

    A callable that blocks outside of Python cannot be interrupted: it is abandoned, and its result is discarded.
    """

    def perform(self, job: Job, work: Work) -> Result:
        """Call the callable of *job* once."""
        found: list[Result] = []
        ended = threading.Event()

        def _body() -> None:
            try:
                value = _call(job, work.context(job))
                found.append(returned.checked(value, most=job.execution.output_bytes))
            except _StoppedError:
                pass
            except BaseException as error:  # noqa: BLE001 - the edge: any exception of a callable is recorded as its failure
                found.append(_raised(error))
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


def _call(job: Job, context: dict[str, Any]) -> Result:
    try:
        call = _callable(job.target)
    except _StoppedError:
        raise
    except BaseException as error:  # noqa: BLE001 - a module runs when it is imported, and may raise anything
        text = f"{job.target} cannot be imported: {error_words(error)}"
        return Refused(kind=FailureKind.POLICY, reason=cut(text, 400), role="operator")
    value = call(context)
    if isinstance(value, Done | Asked | Throttled | Faulted | Refused):
        return value
    answered = answers.result(value, usual="it reported a failure")
    return answered if isinstance(answered, Faulted) else Done(output=value)


def _raised(error: BaseException) -> Result:
    """Return the result of a callable that raised."""
    if isinstance(error, InvalidInputError):
        return Refused(kind=FailureKind.VALIDATION, reason=cut(message_of(error), 400))
    if isinstance(error, SystemExit):
        reason = f"it called sys.exit({shown(error.code)}) and returned nothing"
        return Faulted(kind=FailureKind.EXECUTION, reason=reason)
    return raised.fault(error)
