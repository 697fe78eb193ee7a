"""The response of a model endpoint, parsed tolerantly: any content gives a result."""

from collections.abc import Mapping
from typing import Any

from backlog_worker.domain import throttle
from backlog_worker.domain.legible import kind_of
from backlog_worker.domain.masking import cut
from backlog_worker.domain.outcome import FailureKind, Faulted, Refused, Result
from backlog_worker.domain.usage import claimed, of_provider
from backlog_worker.executors import Work, answers
from backlog_worker.executors.presets import json_in, limited, throttled

TOO_MANY = 429
# Statuses that a retry may change; every other 4xx is a refusal.
PASSING = frozenset({408, 409, 425, 500, 502, 503, 504, 529})


def by_status(status: int, words: str, headers: Mapping[str, str]) -> Result:
    """Return the result for an error status: a limit, a temporary fault, or a refusal."""
    if status == TOO_MANY:
        return throttle.retry_after(words, headers.get("retry-after"), headers.get("retry-after-ms"))
    if status in PASSING:
        return Faulted(kind=FailureKind.INFRASTRUCTURE, reason=words)
    return Refused(kind=FailureKind.EXECUTION, reason=words, role="operator")


def spoken(answer: object, work: Work) -> Result:
    """Count the tokens of a response and parse its text."""
    if not isinstance(answer, dict):
        return _unusable(f"it is {kind_of(answer)}, not an object")
    _spend(answer, work)
    return _error(answer["error"]) if answer.get("error") else _read_choice(_first(answer.get("choices")), work)


def _read_choice(choice: Mapping[str, Any], work: Work) -> Result:
    message = choice.get("message")
    if not isinstance(message, dict):
        return _unusable("it has no message")
    if message.get("refusal"):
        return Refused(
            kind=FailureKind.EXECUTION, reason=cut(f"the model refused: {answers.text(message['refusal'])}", 400)
        )
    text = _content(message.get("content"))
    for line in text.splitlines()[:200]:
        work.report.line(line)
    try:
        return answers.result(json_in(text), usual="the model gave up")
    except ValueError as error:
        return _unusable(f"{error}{_cut_off_reason(choice.get('finish_reason'), message)}")


def _spend(answer: Mapping[str, Any], work: Work) -> None:
    """Count the usage of a call; usage that the provider does not report is unknown, never zero."""
    model = answer.get("model") or (work.agent.model if work.agent else "")
    work.report.spend(claimed({"model": model, **of_provider(answer.get("usage"))}))


def _error(error: object) -> Result:
    """Return the result of an error inside a successful response, as gateways send it; its code is used as status if
    valid.

    Without such a code it is a failure of the call, which a retry may change.
    """
    told = error if isinstance(error, dict) else {}
    words = cut(f"an error inside the answer: {answers.text(told.get('message')) or answers.text(error)}", 400)
    code = told.get("code", told.get("status"))
    if isinstance(code, int) and not isinstance(code, bool) and 400 <= code < 600:  # noqa: PLR2004 - HTTP status codes
        return by_status(code, words, {})
    if limited(f"{answers.text(told.get('type'))} {answers.text(code)} {words}"):
        return throttled(words)
    return Faulted(kind=FailureKind.EXECUTION, reason=words)


def _first(choices: object) -> Mapping[str, Any]:
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, dict) else {}


def _content(content: object) -> str:
    """Return the text of a message: a text, or the joined texts of its parts."""
    if isinstance(content, list):
        return "".join(_content(each.get("text") if isinstance(each, dict) else each) for each in content)
    return content if isinstance(content, str) else answers.text(content)


def _cut_off_reason(finish: object, message: Mapping[str, Any]) -> str:
    if finish == "length":
        return "; the model reached its token limit"
    if finish == "content_filter":
        return "; the provider's filter cut it off"
    return "; the model called a tool" if message.get("tool_calls") else ""


def _unusable(why: str) -> Faulted:
    return Faulted(kind=FailureKind.VALIDATION, reason=cut(f"the answer is not usable: {why}", 400))
