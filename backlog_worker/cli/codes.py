"""Every code that a command, a record or a log shows, with what it means and what to do about it."""

from collections.abc import Iterator, Mapping

from backlog_worker.cli.output import EXIT_CODES, FINDINGS, INTERRUPTED
from backlog_worker.domain import errors
from backlog_worker.domain.document import CODES
from backlog_worker.domain.entry import Status
from backlog_worker.domain.expression import ExpressionError
from backlog_worker.domain.governing import ALERTS
from backlog_worker.domain.outcome import FailureKind
from backlog_worker.domain.reasons import REMEDIES
from backlog_worker.domain.template import TemplateError

Meaning = tuple[str, str]
# The digit after BW says which kind of file is wrong.
GROUPS: Mapping[str, str] = {
    "1": "a file of entries",
    "2": "a pipeline",
    "3": "a policy",
    "4": "a digest or report",
    "5": "an agent",
    "6": "a file of the jsonl backend",
}
_SHOWN = "`backlog-worker {}` shows what it was about."
_FAILURES: Mapping[FailureKind, Meaning] = {
    FailureKind.EXECUTION: ("The job ended with an error.", _SHOWN.format("run logs ID")),
    FailureKind.TIMEOUT: ("The job took longer than its `timeout`.", "Raise `timeout`, or make the job smaller."),
    FailureKind.INFRASTRUCTURE: (
        "A service that the job needs did not answer.",
        "Start it; the run is tried again.",
    ),
    FailureKind.VALIDATION: ("An input or output does not match its contract.", _SHOWN.format("run show ID")),
    FailureKind.QUOTA: ("A provider's limit is reached; it counts as no failure.", "Wait: the run goes on by itself."),
    FailureKind.BACKOFF: ("The run pauses between two attempts.", "Wait: the run goes on by itself."),
    FailureKind.GATE: ("A gate checked the output and said no.", _SHOWN.format("run show ID")),
    FailureKind.POISON: ("Its workers were lost as often as `claims` allows.", _SHOWN.format("dlq show ID")),
    FailureKind.POLICY: ("The policy does not allow what the job asked for.", "Change the job, or the policy."),
    FailureKind.BUDGET: ("A budget is used up.", "`backlog-worker budget list`; raise `budgets`, or wait."),
    FailureKind.REJECTED: ("A person rejected it.", _SHOWN.format("review show ID")),
}
_ERRORS: Mapping[type[errors.BacklogError], str] = {
    errors.BacklogError: "Follow the line `help:`.",
    errors.UsageError: "Compare with `--help` of the command.",
    errors.InvalidInputError: "Correct the value that the message names.",
    errors.InvalidFileError: "Correct the place that each finding names; `explain-code BW...` explains its code.",
    TemplateError: "Correct the `{{ }}` or `${{ }}` that the message names.",
    ExpressionError: "Correct the expression; the message names the place in it.",
    errors.NotFoundError: "List what there is, for instance with `backlog-worker entry list`.",
    errors.ConflictError: "Look at it again, then repeat the command if it is still wanted.",
    errors.LostClaimError: "Nothing: the run that holds the entry now goes on.",
    errors.RefusedError: "`backlog-worker policy show` shows the rule; change it, or what you ask for.",
    errors.NotAllowedError: "`backlog-worker role list` shows who may; ask one of them.",
    errors.UnauthenticatedError: "Set BACKLOG_TOKEN to a token of `backlog-worker token create`.",
    errors.UnreachableError: "`backlog-worker doctor` names the address; start the service, or correct the address.",
    errors.FullError: "Make room on the disk that the message names; what waits then goes on by itself.",
    errors.BusyError: "Run the command again; the message names who holds it.",
    errors.StoreError: "`backlog-worker doctor` checks the database; nothing was written.",
    errors.MissingExtraError: "Run the command that the line `help:` shows.",
}


def explained(code: str) -> Meaning | None:
    """Return what a code means and what to do about it; None for what is no code."""
    return every().get(code.casefold())


def every() -> dict[str, Meaning]:
    """Return every code, in lower case."""
    return {name.casefold(): meaning for name, meaning in _named()}


def names() -> list[str]:
    """Return every code as it is written."""
    return [name for name, _ in _named()]


def _named() -> Iterator[tuple[str, Meaning]]:
    yield from ((f"exit {code}", meaning) for code, meaning in _exits().items())
    yield from ((str(code), meaning) for code, meaning in _exits().items())
    yield from ((kind.__name__, ((kind.__doc__ or "").strip(), remedy)) for kind, remedy in _ERRORS.items())
    yield from ((str(status), _status(status)) for status in Status)
    yield from ((str(kind), meaning) for kind, meaning in _FAILURES.items())
    yield from ((str(each["id"]), (str(each["means"]), str(each["remedy"]))) for each in ALERTS)
    yield from ((str(code), meaning) for code, meaning in REMEDIES.items())
    for group, kind in GROUPS.items():
        yield from ((f"BW{group}{number}", (f"In {kind}: {words}", fix)) for number, (words, fix) in CODES.items())


def _exits() -> dict[int, Meaning]:
    found: dict[int, list[str]] = {}
    for kind, code in EXIT_CODES.items():
        found.setdefault(code, []).append((kind.__doc__ or "").strip())
    return {
        0: ("The command did what was asked.", "Nothing."),
        1: ("Part of it failed, or a fault that has no exit code of its own.", "Read the message on standard error."),
        **{code: (" ".join(words), "Read the message on standard error.") for code, words in sorted(found.items())},
        FINDINGS: ("Something was checked and is wrong.", "Each finding names its remedy."),
        INTERRUPTED: ("It was interrupted with Ctrl-C.", "Run it again; the state is kept."),
    }


def _status(status: Status) -> Meaning:
    words: Mapping[str, Meaning] = {
        Status.BLOCKED: ("Something must happen before it may be queued.", "`backlog-worker explain ID` names it."),
        Status.QUEUED: ("It waits for its turn.", "`backlog-worker explain ID` says why it waits."),
        Status.READY: ("It is chosen and waits for a worker.", "`backlog-worker worker list`."),
        Status.IN_PROGRESS: ("A worker holds it.", "`backlog-worker run show ID` tells how far it is."),
        Status.RETRYING: ("A run failed and another follows.", "`backlog-worker explain ID` says when."),
        Status.ESCALATED: ("A person must decide.", "`backlog-worker review show ID`."),
        Status.COMPLETED: ("It is done.", "Nothing."),
        Status.FAILED: ("It failed for good.", "`backlog-worker entry requeue ID --reason TEXT` tries it again."),
        Status.CANCELED: ("A person canceled it.", "`backlog-worker entry requeue ID --reason TEXT` tries it again."),
    }
    return words[status]
