"""Answers of jobs: `{"success", "data", "message"}` as in seed 003, or any other JSON, which is then the output.

If the key `success` exists, only the JSON value `true` means success: `"false"`, `0` and `null` do not, and neither do
`"true"` and `1`, which are ambiguous.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from backlog_worker.domain import throttle
from backlog_worker.domain.legible import shown
from backlog_worker.domain.masking import cut, masked
from backlog_worker.domain.outcome import Done, FailureKind, Faulted, Result

_WRAPPED = frozenset({"success", "data", "message"})
SHOWN_MAX = 60  # characters of a wrong `success` that are shown
_KINDS: Mapping[type, str] = {str: "the text", int: "the number", float: "the number", list: "the list"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A parsed answer: its data, its message, how long it asks to wait, and its error."""

    data: Any = None
    succeeded: bool = True
    message: str = ""
    retry_after: timedelta | None = None
    wrong: str = ""


def read(value: Any) -> Answer:  # noqa: ANN401 - free JSON of a job
    """Parse an answer; whether its data can be stored is checked later, with the result."""
    if not isinstance(value, dict):
        return Answer(data=value)
    return Answer(
        data=unwrapped(value),
        succeeded=value.get("success", True) is True,
        message=masked(text(value.get("message"))),
        retry_after=_wait(value.get("retryAfterMs")),
        wrong=_wrong(value),
    )


def result(value: Any, artifacts: Mapping[str, bytes] | None = None, *, usual: str = "it gave up") -> Result:  # noqa: ANN401 - free JSON of a job
    """Return the result of a job that exited normally; *usual* is the reason of a failure without a message."""
    answer = read(value)
    if answer.succeeded:
        return Done(output=answer.data, artifacts=artifacts or {})
    if answer.wrong:
        words = f"{answer.wrong}: {answer.message}" if answer.message else answer.wrong
        return Faulted(kind=FailureKind.VALIDATION, reason=cut(words, 400), data=answer.data)
    return Faulted(kind=FailureKind.EXECUTION, reason=cut(answer.message or usual, 400), data=answer.data)


def parsed(said: str | bytes) -> Any:  # noqa: ANN401 - free JSON of a job
    """Parse JSON; raises ValueError if it is invalid or nested too deep."""
    try:
        return json.loads(said)
    except RecursionError:
        message = "it is nested too deep"
        raise ValueError(message) from None


def unwrapped(value: Any) -> Any:  # noqa: ANN401 - free JSON of a job
    """Return the `data` of an answer in the form of seed 003, or else the whole answer."""
    wrapped = isinstance(value, dict) and set(value) <= _WRAPPED and "data" in value
    return value["data"] if wrapped else value


def _wait(said: Any) -> timedelta | None:  # noqa: ANN401 - free JSON of a job
    """Return how long an answer asks to wait; an invalid length counts as the usual wait."""
    if said is None:
        return None
    wait = throttle.length(said, unit=0.001)
    return throttle.DEFAULT if wait is None else wait


def _wrong(value: Mapping[str, Any]) -> str:
    """Describe a `success` that is neither true nor false."""
    said = value.get("success", True)
    if said is True or said is False:
        return ""
    if said is None:
        return "success is null, not true"
    words = text(said, quoted=True)
    words = words if len(words) <= SHOWN_MAX else "..."
    return f"success is {_KINDS.get(type(said), 'the object')} {masked(words)}, not true"


def text(value: Any, *, quoted: bool = False) -> str:  # noqa: ANN401 - free JSON of a job
    """Return a value as text: as JSON if possible, else the name of its type."""
    if not quoted and (value is None or isinstance(value, str)):
        return value or ""
    try:
        return json.dumps(value, ensure_ascii=False)
    except (ValueError, TypeError, RecursionError):
        return shown(value)
