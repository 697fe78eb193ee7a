"""The end of a child process in words: the meaning of a status, the name of a signal, then the job's own message."""

import signal
from collections.abc import Mapping

from backlog_worker.domain.masking import cut
from backlog_worker.domain.outcome import FailureKind, Faulted, Refused, Result, Throttled
from backlog_worker.executors.answers import Answer

REFUSED = 65  # EX_DATAERR: the input is wrong, trying again will not help
UNAVAILABLE = 69  # EX_UNAVAILABLE: a required service does not answer
TEMPORARY = 75  # EX_TEMPFAIL: try again
NOT_RUN = 126  # the shell may not run the program
NOT_FOUND = 127  # the shell did not find the program
SIGNALED = 128  # plus a signal number, as a shell reports its child's
WORDS_MAX = 400
# The meanings of exit statuses of the shell and sysexits.h.
_MEANINGS: Mapping[int, str] = {
    1: "it failed",
    2: "it was called wrongly",
    64: "it was called wrongly",
    REFUSED: "it refused its input",
    66: "an input file is missing",
    67: "a user is unknown",
    68: "a host is unknown",
    UNAVAILABLE: "a service that it needs does not answer",
    70: "it broke inside",
    71: "a system error occurred",
    72: "a system file is missing",
    73: "it cannot create its output",
    74: "reading or writing failed",
    TEMPORARY: "a temporary failure",
    76: "a protocol error",
    77: "permission denied",
    78: "it is configured wrongly",
    NOT_RUN: "its program cannot be run here",
    NOT_FOUND: "its program was not found",
}
_OUTSIDE = frozenset({UNAVAILABLE, TEMPORARY})


def meaning(status: int) -> str:
    """Return the meaning of an exit status: `status 65: it refused its input`, `killed by signal 9 (SIGKILL)`."""
    number = -status if status < 0 else status - SIGNALED
    if status < 0 or status > SIGNALED:
        try:
            named = f"killed by signal {number} ({signal.Signals(number).name})"
        except ValueError:
            named = f"killed by signal {number}" if status < 0 else ""
        if named:
            return named if status < 0 else f"status {status}: {named}"
    return f"status {status}: {_MEANINGS.get(status, 'it failed')}"


def failed(status: int, answer: Answer, said: str) -> Result:
    """Return the result of a failed child with its own message: that of its answer, else its last output.

    A malformed answer is a fault of the job whatever the status; a quota is neither fault nor refusal.
    """
    words = answer.message or said or answer.wrong or "it said nothing"
    if answer.retry_after is not None:
        return Throttled(reason=cut(words, WORDS_MAX), wait=answer.retry_after)
    if status == 0:
        kind = FailureKind.VALIDATION if answer.wrong else FailureKind.EXECUTION
        text = f"{answer.wrong}: {words}" if answer.wrong and words != answer.wrong else words
        return Faulted(kind=kind, reason=cut(text, WORDS_MAX), data=answer.data)
    reason = cut(f"{meaning(status)}: {words}", WORDS_MAX)
    if status == REFUSED:
        return Refused(kind=FailureKind.VALIDATION, reason=reason, data=answer.data)
    if status in {NOT_RUN, NOT_FOUND}:
        return Refused(kind=FailureKind.POLICY, reason=reason, role="operator", data=answer.data)
    kind = FailureKind.INFRASTRUCTURE if status in _OUTSIDE else FailureKind.EXECUTION
    return Faulted(kind=kind, reason=reason, data=answer.data)
