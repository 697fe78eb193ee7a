"""A review as a person reads it: what is asked, the work in question, and what each answer does."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from backlog_worker.cli.output import block, facts, following, ids, plain, say
from backlog_worker.cli.views.outputs import prose, show_output
from backlog_worker.domain.entry import Change
from backlog_worker.domain.gates import GATE
from backlog_worker.domain.handle import named_by, source_names
from backlog_worker.domain.review import ANSWERS, Answer, Review, ReviewKind

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from backlog_worker.domain.entry import Entry
    from backlog_worker.domain.frontier import Stage

ENDS = {
    Change.COMPLETED: "completes the entry as it is",
    Change.FAILED: "ends the entry as failed",
    Change.REQUEUED: "sends the entry round again; --input FILE gives it another input",
    Change.CANCELED: "cancels the entry for good",
}


def show_review(
    review: Review,
    entry: "Entry | None",
    stages: "Sequence[Stage]",
    *,
    given: object,
    more: "Mapping[str, Any]",
    folder: Path,
) -> None:
    """Print a review; *more* says who may answer, which jobs never ran, and what was spent."""
    short = ids(review.id, review.entry_id, review.run_id)
    state = f"answered: {review.answer}" if review.answer else f"open, due {plain(review.due_at)}"
    say(f"{short[review.id]}  {review.kind.replace('_', ' ')}  {state}", plain(review.question), "")
    number = source_names([named_by(entry)])[0] if entry else ""
    facts(
        ("entry", f"{short[review.entry_id]} {number} {plain(entry.title) if entry else ''}"),
        ("source", entry.url if entry else ""),
        ("job", f"{review.job_id} of {short[review.run_id] or 'no run'}" if review.job_id else ""),
        ("failure", f"{review.failure} {review.rule}".strip()),
        ("recovery", review.recovery),
        ("may say", "; ".join(more["who"]) or "anybody"),
        ("owner", review.owner),
        ("never ran", ", ".join(more["never_ran"])),
        ("cost", f"{more['usd']:.2f} USD so far" if more["usd"] is not None else "not known"),
        ("form", prose(review.form) if review.form else ""),
        ("answer", f"{review.answer} by {review.answered_by}: {review.reason}" if review.answer else ""),
    )
    if given:
        block("\nThe input", prose(given), most=20)
    for stage in stages:
        say("")
        show_output(stage, folder)
    if not review.answer:
        _answers(review, str(short[review.id]), more["never_ran"])


def _answers(review: Review, name: str, never_ran: "Sequence[str]") -> None:
    say("", "Answers")
    for answer, change in ANSWERS[review.kind].items():
        say(f"  {answer:<8} {_does(review, answer, change)}")
        say(f"    {_command(review, name, answer, never_ran)}")
    following(f"backlog-worker review decide {name} ANSWER --seq {review.seq} --reason TEXT")


def _command(review: Review, name: str, answer: Answer, never_ran: "Sequence[str]") -> str:
    said = "".join(_options(review, answer, never_ran))
    return f"review decide {name} {answer} --seq {review.seq}{said} --reason TEXT"


def _options(review: Review, answer: Answer, never_ran: "Sequence[str]") -> "Iterator[str]":
    if answer == Answer.ANSWER:
        yield " --value JSON"
    if review.kind == ReviewKind.DEAD_LETTER and answer == Answer.APPROVE and never_ran:
        yield " --even-though-unfinished"


def _does(review: Review, answer: Answer, change: Change) -> str:
    if review.kind == ReviewKind.DEAD_LETTER:
        return ENDS[change]
    if answer == Answer.REJECT:
        return f"refuses {review.job_id}; the run goes on only where the pipeline handles that"
    if answer == Answer.ANSWER:
        return f"is the output of {review.job_id}, judged by its contract and gates"
    if review.detail.startswith(GATE):
        return f"lets this output pass gate {review.detail.removeprefix(GATE)}, and no other output"
    return {
        ReviewKind.BUDGET: "lets the run go on beyond its budget",
        ReviewKind.PERMISSION: "grants what the agent asks for, in this run",
    }.get(review.kind, f"lets {review.job_id} start")
