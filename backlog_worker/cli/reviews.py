"""review: what waits for a person; dlq: dead letters by cause."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backlog_worker.cli.access import DryRun, Limit, Reason, Where, Yes, kit
from backlog_worker.cli.output import ids, plain, say, shown, table, talk
from backlog_worker.domain.entry import standing
from backlog_worker.domain.errors import NotFoundError, UsageError
from backlog_worker.domain.masking import cut

if TYPE_CHECKING:
    from backlog_worker.domain.review import Review
    from backlog_worker.lifecycle import Kit

review = typer.Typer(help="Reviews: the questions that wait for a person.", no_args_is_help=True)
dlq = typer.Typer(help="Dead letters, by cause.", no_args_is_help=True)
COLUMNS = ("id", "entry", "kind", "failure", "role", "due", "question")


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(review, name="review")
    app.add_typer(dlq, name="dlq")


@review.command("list")
def list_reviews(
    answered: Annotated[bool, typer.Option("--answered", help="List answered reviews.")] = False,
) -> None:
    """List open reviews, the earliest due first."""
    with_kit, _ = kit()
    with with_kit.store.read() as unit:
        found = unit.reviews(with_kit.env, answered=answered)
    shown("backlog-worker/reviews", found, lambda: _table(found))


@review.command("show")
def show(review_id: Annotated[str, typer.Argument(help="The id of a review, or of its entry.")]) -> None:
    """Show one review: the question, the work that it concerns, and the effect of each answer."""
    from backlog_worker import settings
    from backlog_worker.cli.views.review import show_review
    from backlog_worker.domain.roles import holders
    from backlog_worker.integrations.project import Project
    from backlog_worker.lifecycle import inbox, named
    from backlog_worker.lifecycle.review import never_ran

    with_kit, _ = kit()
    review_id = named.review_of(with_kit, review_id)
    with with_kit.store.read() as unit:
        found = inbox.wanted(unit, review_id)
        entry = unit.entry(found.entry_id)
        left = never_ran(with_kit, unit, entry) if entry and found.kind == "dead_letter" else []
        who = [f"{role}: {holders(role, with_kit.book.policy(unit).people)}" for role in found.roles]
        given = unit.input(entry.id, entry.input_sha256) if entry else None
        stages, usd = inbox.in_question(with_kit, unit, found, entry)
    more = {"who": who, "never_ran": left, "usd": usd}
    loaded = settings.load()
    folder = Project(loaded.folder, loaded.env).own
    fields = {name: getattr(found, name) for name in found.__dataclass_fields__}

    def _human() -> None:
        show_review(found, entry, stages, given=given, more=more, folder=folder)

    shown("backlog-worker/review", {**fields, "input": given, "stages": stages, **more}, _human)


@review.command("decide")
def decide(
    review_id: Annotated[str, typer.Argument(help="The id of a review, or of its entry.")],
    answer: Annotated[str, typer.Argument(help="The answer: approve, reject, answer, requeue or discard.")],
    reason: Reason,
    new_input: Annotated[Path | None, typer.Option("--input", help="Requeue with the input in this JSON file.")] = None,
    value: Annotated[str, typer.Option("--value", help="The answer to a question, as JSON.")] = "",
    seq: Annotated[int | None, typer.Option(help="Answer only if the entry still has this sequence number.")] = None,
    unfinished: Annotated[
        bool,
        typer.Option("--even-though-unfinished", help="Complete the entry even though some of its jobs never ran."),
    ] = False,
) -> None:
    """Answer a review; each review accepts one answer."""
    from backlog_worker.cli.named import read_json
    from backlog_worker.domain.document import suggestion
    from backlog_worker.domain.review import Answer, Decided
    from backlog_worker.lifecycle import review as reviews

    if answer not in set(Answer):
        hint = suggestion(answer, list(Answer)) or f"one of: {', '.join(Answer)}"
        message = f"{answer!r} is not an answer"
        raise UsageError(message, hint=hint)
    with_kit, given = kit()
    decided = Decided(
        answer=Answer(answer),
        actor=given.who,
        reason=reason,
        input=read_json(new_input) if new_input else None,
        value=_value(value),
        unfinished=unfinished,
    )
    entry, bells = reviews.decide(with_kit, review_id, decided, seq=seq)
    if bells:
        from backlog_worker.celery import ring
        from backlog_worker.lifecycle import ringing

        ringing.unheard(with_kit, ring(bells))
    shown("backlog-worker/decided", entry, lambda: say(f"{entry.id}  {standing(entry)}  {entry.reason}"))


def _value(text: str) -> object:
    """Parse the value of an answer: JSON, or else plain text."""
    from backlog_worker.domain import wire
    from backlog_worker.domain.errors import InvalidInputError

    if not text:
        return None
    try:
        return wire.parsed(text, "--value")
    except InvalidInputError:
        return text


@dlq.command("list")
def list_letters(where: Where = "", limit: Limit = 100) -> None:
    """List open dead letters."""
    with_kit, _ = kit()
    found = _letters(with_kit, where, limit)
    shown("backlog-worker/dead-letters", found, lambda: _table(found))


@dlq.command("show")
def show_letter(entry: Annotated[str, typer.Argument(help="The id of an entry or of its review.")]) -> None:
    """Show one dead letter."""
    show(entry)


@dlq.command("groups")
def groups() -> None:
    """Count dead letters by cause."""
    from backlog_worker.lifecycle import review as reviews

    with_kit, _ = kit()
    found = reviews.dead_letters(_letters(with_kit, "", 100_000))
    rows = sorted(((number, *key) for key, number in found.items()), reverse=True)
    data = [{"count": n, "failure": f, "rule": r, "job": j} for n, f, r, j in rows]
    shown("backlog-worker/dead-letter-groups", data, lambda: table("", ("count", "failure", "rule", "job"), rows))


@dlq.command("requeue")
def requeue(
    reason: Reason,
    entry: Annotated[str, typer.Argument(help="The id of an entry; or use --where.")] = "",
    where: Where = "",
    limit: Limit = 1000,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Requeue dead letters."""
    _answer("requeue", entry, where, limit, reason, dry_run=dry_run, yes=yes)


@dlq.command("discard")
def discard(
    reason: Reason,
    entry: Annotated[str, typer.Argument(help="The id of an entry; or use --where.")] = "",
    where: Where = "",
    limit: Limit = 1000,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Cancel dead letters permanently."""
    _answer("discard", entry, where, limit, reason, dry_run=dry_run, yes=yes)


def _answer(word: str, entry: str, where: str, limit: int, reason: str, *, dry_run: bool, yes: bool) -> None:
    from backlog_worker.domain.review import Answer, Decided
    from backlog_worker.lifecycle import named
    from backlog_worker.lifecycle import review as reviews

    if bool(entry) == bool(where):
        message = "name one entry, or give --where with a filter"
        raise UsageError(message)
    with_kit, given = kit()
    letters = _letters(with_kit, where, 100_000 if entry else limit)
    meant = named.review_of(with_kit, entry) if entry else ""
    chosen = [each for each in letters if not entry or each.id == meant]
    if entry and not chosen:
        message = f"there is no open dead letter for {entry}"
        raise NotFoundError(message, hint="backlog-worker dlq list")
    talk(f"{word}: {len(chosen)} dead letters" + (" (dry run)" if dry_run else ""))
    short = ids(*(each.entry_id for each in chosen[:5]))
    for each in chosen[:5]:
        talk(f"  {short[each.entry_id]}  {each.failure} {each.rule}  {cut(plain(each.question), 80)}")
    if dry_run or not chosen:
        return
    if len(chosen) > 1 and not yes and not typer.confirm(f"{word} {len(chosen)} dead letters?", err=True):
        raise SystemExit(1)
    decided = Decided(answer=Answer(word), actor=given.who, reason=reason)
    if entry and len(chosen) == 1:  # the error of each is printed as it is
        reviews.decide(with_kit, chosen[0].id, decided, seq=chosen[0].seq)
        shown(f"backlog-worker/{word}", {"done": [chosen[0].entry_id], "refused": []}, lambda: say(f"{word}: 1 done"))
        return
    done, refused, _ = reviews.answer_all(with_kit, chosen, decided)
    data = {"done": done, "refused": refused}
    shown(f"backlog-worker/{word}", data, lambda: say(f"{word}: {len(done)} done, {len(refused)} refused"))
    for entry_id, why in refused:
        talk(f"  {entry_id}: {why}")
    if refused:
        raise SystemExit(5)


def _letters(of: "Kit", where: str, limit: int) -> "list[Review]":
    from backlog_worker.domain.search import parsed

    with of.store.read() as unit:
        letters = unit.reviews(of.env, kind="dead_letter", most=100_000 if where else limit)
        if where:
            matching = {each.id for each in unit.search(of.env, parsed(f"status:escalated {where}"), most=100_000)}
            letters = [each for each in letters if each.entry_id in matching]
    return letters[:limit]


def _table(found: "list[Review]") -> None:
    named = ids(*(r.id for r in found), *(r.entry_id for r in found))
    rows = [
        (
            named[r.id],
            named[r.entry_id],
            r.kind,
            f"{r.failure} {r.rule}".strip(),
            r.role,
            f"{r.due_at:%m-%d %H:%MZ}",
            r.question,
        )
        for r in found
    ]
    table("", COLUMNS, rows)
