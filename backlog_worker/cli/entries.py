"""entry: work in the backlog."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from backlog_worker.cli.access import DryRun, Limit, Reason, Where, Yes, kit
from backlog_worker.cli.output import ids, say, shown, table, talk
from backlog_worker.domain.entry import standing
from backlog_worker.domain.errors import UsageError
from backlog_worker.domain.masking import cut

if TYPE_CHECKING:
    from backlog_worker.domain.entry import Entry
    from backlog_worker.lifecycle import Kit

entry = typer.Typer(help="Entries: the work in the backlog.", no_args_is_help=True)
EntryId = Annotated[
    str,
    typer.Argument(
        help="An id or a prefix of it, a dedupe key, #329, acme/api#329, an address, or words of the title."
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(entry, name="entry")


@entry.command("show")
def show(entry_id: EntryId) -> None:
    """Show one entry with its input, its runs and its last record; for a retired entry, what its history holds."""
    from backlog_worker.cli.views.entry import show_entry
    from backlog_worker.lifecycle.remembered import remembered

    with_kit, _ = kit()
    meant_id = meant(with_kit, entry_id)
    if old := remembered(with_kit, meant_id):
        told = {"runs": old.tables["runs"], "stages": old.tables["stages"], "records": old.records}
        data = {"entry": old.entry, "input": None, **told, "retired": old.words}
        shown("backlog-worker/entry", data, lambda: show_entry(old.entry, None, [], old.records, retired=old.words))
        return
    found = wanted(with_kit, meant_id)
    with with_kit.store.read() as unit:
        given = unit.input(found.id, found.input_sha256)
        runs = unit.runs(found.id)
        records = [wish["body"] for wish in unit.wishes(found.id)]
    data = {"entry": found, "input": given, "runs": runs, "records": records}
    shown("backlog-worker/entry", data, lambda: show_entry(found, given, runs, records))


@entry.command("history")
def history(entry_id: EntryId) -> None:
    """Show the history of one entry, also of a retired one."""
    from backlog_worker.domain.events import event_words
    from backlog_worker.lifecycle.remembered import remembered

    with_kit, _ = kit()
    meant_id = meant(with_kit, entry_id)
    old = remembered(with_kit, meant_id)
    found = old.entry if old else wanted(with_kit, meant_id)
    with with_kit.store.read() as unit:
        events = unit.history(found.id)

    def _human() -> None:
        if old:
            say(f"{found.id} was {old.words}")
        named = ids(*(e.run_id for e in events))
        rows = [(e.seq, e.at, e.change, e.actor, named[e.run_id], event_words(e.data)) for e in events]
        table(f"{found.id}  {cut(found.title, 80)}", ("seq", "at", "change", "actor", "run", "why"), rows)

    shown("backlog-worker/history", events, _human)


@entry.command("next")
def next_up(limit: Limit = 20) -> None:
    """List the entries that would be dispatched now, in order, and why the others wait."""
    from backlog_worker.lifecycle import explain

    with_kit, _ = kit()
    receipts = explain.next_up(with_kit, limit)

    def _human() -> None:
        named = ids(*(r.scored.entry.id for r in receipts))
        rows = [
            (
                r.position,
                r.scored.score,
                named[r.scored.entry.id],
                r.scored.entry.title,
                " ".join(w.code for w in r.waits) or "goes",
            )
            for r in receipts
        ]
        table("", ("rank", "score", "id", "title", "why"), rows)

    shown("backlog-worker/next", receipts, _human)


@entry.command("comment")
def comment(entry_id: EntryId, text: Annotated[str, typer.Argument(help="The text of the comment.")]) -> None:
    """Add a comment to the history of an entry."""
    from backlog_worker.lifecycle import operate

    with_kit, given = kit()
    told(operate.comment(with_kit, wanted(with_kit, entry_id).id, text, actor=given.who))


@entry.command("hold")
def hold(entry_id: EntryId, reason: Reason) -> None:
    """Keep an entry out of the queue until it is released."""
    from backlog_worker.lifecycle import operate

    with_kit, given = kit()
    told(operate.hold(with_kit, wanted(with_kit, entry_id).id, actor=given.who, reason=reason))


@entry.command("release")
def release(entry_id: EntryId, reason: Reason) -> None:
    """Release an entry that is on hold."""
    from backlog_worker.lifecycle import operate

    with_kit, given = kit()
    told(operate.release(with_kit, wanted(with_kit, entry_id).id, actor=given.who, reason=reason))


@entry.command("cancel")
def cancel(
    reason: Reason,
    entry_id: Annotated[str, typer.Argument(help="The id of an entry; or use --where.")] = "",
    where: Where = "",
    limit: Limit = 1000,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Cancel entries permanently; an active run loses its claim, and its child process is killed."""
    from backlog_worker.lifecycle import operate

    with_kit, given = kit()
    chosen = several(with_kit, entry_id, where, limit)
    apply_to(
        chosen,
        "cancel",
        lambda e: operate.cancel(with_kit, e.id, actor=given.who, reason=reason)[0],
        dry_run=dry_run,
        yes=yes,
    )


@entry.command("requeue")
def requeue(
    reason: Reason,
    entry_id: Annotated[str, typer.Argument(help="The id of an entry; or use --where.")] = "",
    where: Where = "",
    limit: Limit = 1000,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Requeue failed, canceled or escalated entries."""
    from backlog_worker.lifecycle import operate

    with_kit, given = kit()
    chosen = several(with_kit, entry_id, where, limit)
    apply_to(
        chosen,
        "requeue",
        lambda e: operate.requeue(with_kit, e.id, actor=given.who, reason=reason),
        dry_run=dry_run,
        yes=yes,
    )


def meant(of: "Kit", text: str) -> str:
    """Return the id of an entry, given any of its names, retired or not; raises NotFoundError or UsageError."""
    from backlog_worker.lifecycle import lookup

    return lookup.id_of(of, text)


def wanted(of: "Kit", entry_id: str) -> "Entry":
    """Return one entry; raises NotFoundError."""
    from backlog_worker.lifecycle import operation

    return operation.wanted(of, entry_id)


def several(of: "Kit", entry_id: str, where: str, limit: int) -> "list[Entry]":
    """Return the entries of a command: one by id, or those of a filter."""
    from backlog_worker.domain.search import parsed

    if bool(entry_id) == bool(where):
        message = "name one entry, or give --where with a filter"
        raise UsageError(message)
    if entry_id:
        return [wanted(of, entry_id)]
    with of.store.read() as unit:
        return unit.search(of.env, parsed(where), most=limit)


def apply_to(chosen: "list[Entry]", verb: str, act: "Callable[[Entry], Entry]", *, dry_run: bool, yes: bool) -> None:
    """Apply an action to many entries: show the count and samples, confirm, and print each refusal with its reason."""
    from backlog_worker.domain.errors import ConflictError

    talk(f"{verb}: {len(chosen)} entries" + (" (dry run)" if dry_run else ""))
    named = ids(*(each.id for each in chosen[:5]))
    for each in chosen[:5]:
        talk(f"  {named[each.id]}  {standing(each)}  {cut(each.title, 60)}")
    if dry_run or not chosen:
        return
    if len(chosen) > 1 and not yes and not typer.confirm(f"{verb} {len(chosen)} entries?", err=True):
        raise SystemExit(1)
    done, refused = [], []
    for each in chosen:
        try:
            done.append(act(each).id)
        except ConflictError as error:
            refused.append({"entry": each.id, "why": str(error)})
    data = {"done": done, "refused": refused}
    shown(f"backlog-worker/{verb}", data, lambda: say(f"{verb}: {len(done)} done, {len(refused)} refused"))
    for one in refused:
        talk(f"  {one['entry']}: {one['why']}")
    if refused:
        raise SystemExit(5)


def told(changed: "Entry") -> None:
    """Print the new state of an entry."""
    bars = f"  {', '.join(changed.bars)}" if changed.bars else ""
    shown("backlog-worker/entry", changed, lambda: say(f"{changed.id}  {standing(changed)}{bars}  {changed.reason}"))
