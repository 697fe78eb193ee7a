"""Validation of an executor's result: every part of it can be stored, or the job has failed."""

from dataclasses import replace
from datetime import datetime, timedelta

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError

from backlog_worker.domain.artifact import artifacts
from backlog_worker.domain.errors import InvalidInputError
from backlog_worker.domain.legible import kind_of, legible, shown
from backlog_worker.domain.masking import cut
from backlog_worker.domain.outcome import Asked, Done, FailureKind, Faulted, Refused, Result, Throttled
from backlog_worker.domain.output import BYTES_MAX, as_json
from backlog_worker.domain.review import ReviewKind

WORDS_MAX = 400
WITHIN_MAX = timedelta(days=3650)  # the longest deadline for an answer


def checked(result: object, *, most: int = BYTES_MAX) -> Result:
    """Return the result if every part of it can be stored, otherwise a fault that names the invalid part."""
    try:
        match result:
            case Done():
                return replace(result, output=as_json(result.output, most=most), artifacts=artifacts(result.artifacts))
            case Asked():
                return _asked(result)
            case Throttled():
                return _throttled(result)
            case Faulted() | Refused():
                return _failed(result, most)
    except InvalidInputError as error:
        return _fault(str(error))
    return _fault(f"it returned {kind_of(result)} instead of a result")


def _asked(result: Asked) -> Asked:
    question, role = _words(result.question, "question"), _words(result.role, "role")
    kind, detail = _words(result.kind, "kind"), _words(result.detail, "detail")
    if not isinstance(result.within, timedelta) or result.within <= timedelta(0):
        message = f"it asks a person to answer within {shown(result.within)}, which is not a duration"
        raise InvalidInputError(message)
    if kind not in set(ReviewKind) - {ReviewKind.DEAD_LETTER}:
        message = f"it asks a question of the kind {shown(kind)}; known: approval, question, permission, budget"
        raise InvalidInputError(message)
    form = None if result.form is None else as_json(result.form)
    if form is not None and not isinstance(form, dict):
        message = f"the form of its question is {kind_of(form)}, not a JSON Schema"
        raise InvalidInputError(message)
    try:
        Draft202012Validator.check_schema(form or {})
    except SchemaError as error:
        message = f"the form of its question is no JSON Schema: {cut(error.message, 200)}"
        raise InvalidInputError(message) from None
    return replace(
        result,
        question=question,
        role=role,
        kind=kind,
        detail=detail,
        within=min(result.within, WITHIN_MAX),
        form=form,
    )


def _throttled(result: Throttled) -> Throttled:
    if not isinstance(result.wait, timedelta) or not isinstance(result.until, datetime | None):
        message = "it is throttled, but names neither a duration nor a moment"
        raise InvalidInputError(message)
    return replace(result, reason=_words(result.reason, "reason"))


def _failed(result: Faulted | Refused, most: int) -> Faulted | Refused:
    """Return the failure with its reason; data that cannot be stored is left out, and the reason says so."""
    reason, rule = _words(result.reason, "reason"), _words(result.rule, "rule")
    try:
        kind = FailureKind(result.kind)
    except ValueError:
        kind = FailureKind.EXECUTION
    try:
        data = None if result.data is None else as_json(result.data, most=most)
    except InvalidInputError as error:
        data, reason = None, cut(f"{cut(reason, 250)} (its output cannot be stored: {error})", WORDS_MAX)
    if isinstance(result, Refused):
        return replace(result, kind=kind, reason=reason, rule=rule, data=data, role=_words(result.role, "role"))
    return replace(result, kind=kind, reason=reason, rule=rule, data=data)


def _words(text: object, what: str) -> str:
    if not isinstance(text, str):
        message = f"the {what} of its result is {kind_of(text)}, not a text"
        raise InvalidInputError(message)
    return legible(str.__str__(text))


def _fault(text: str) -> Faulted:
    return Faulted(kind=FailureKind.VALIDATION, reason=cut(f"its output is not usable: {text}", WORDS_MAX))
