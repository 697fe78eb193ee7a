"""Classify an exception of a job: a fault of the job, or of something outside of it that does not answer."""

import errno
import socket
from collections.abc import Iterator

from backlog_worker.domain.errors import UnreachableError
from backlog_worker.domain.legible import error_words
from backlog_worker.domain.masking import cut
from backlog_worker.domain.outcome import FailureKind, Faulted

# Errors of the network and the machine; any other OSError is the job's: a missing file, a permission.
_OUTSIDE = frozenset(
    {errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED, errno.EPIPE, errno.ETIMEDOUT, errno.EHOSTUNREACH}
    | {errno.EHOSTDOWN, errno.ENETUNREACH, errno.ENETDOWN, errno.ENETRESET}
    | {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE}
)
DEPTH = 20


def fault(error: BaseException) -> Faulted:
    """Return the fault for an exception: infrastructure, timeout or execution."""
    words = cut(error_words(error), 400)
    if any(_outside(each) for each in _causes(error)):
        return Faulted(kind=FailureKind.INFRASTRUCTURE, reason=words)
    kind = FailureKind.TIMEOUT if isinstance(error, TimeoutError) else FailureKind.EXECUTION
    return Faulted(kind=kind, reason=words)


def _outside(error: BaseException) -> bool:
    if isinstance(error, UnreachableError | ConnectionError | socket.gaierror):
        return True
    return isinstance(error, OSError) and error.errno in _OUTSIDE


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and its causes: explicit ones, and for a client's error without a number, its context."""
    found: BaseException | None = error
    for _ in range(DEPTH):
        if found is None:
            return
        yield found
        inside = getattr(found, "reason", None)  # as urllib raises it
        if isinstance(inside, BaseException):
            yield inside
        bare = isinstance(found, OSError) and found.errno is None and not found.__suppress_context__
        found = found.__cause__ or (found.__context__ if bare else None)
