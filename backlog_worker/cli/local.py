"""up, demo, init, doctor, status, explain: one machine, one command."""

from typing import TYPE_CHECKING, Annotated

import typer

from backlog_worker.cli.access import kit
from backlog_worker.cli.output import FINDINGS, following, plain, say, shown, table, talk
from backlog_worker.domain.entry import standing
from backlog_worker.domain.errors import UnreachableError, UsageError

if TYPE_CHECKING:
    from backlog_worker.lifecycle.explain import Explained
    from backlog_worker.lifecycle.journal import Waiting
    from backlog_worker.lifecycle.remembered import Remembered
    from backlog_worker.lifecycle.watch import Report

Workers = Annotated[int, typer.Option("--workers", min=1, max=256, help="The number of slots for stages.")]
Flower = Annotated[bool, typer.Option("--flower", help="Also start Flower, read-only, on http://127.0.0.1:5555.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for name, command in (
        ("up", up),
        ("demo", demo),
        ("init", init),
        ("doctor", doctor),
        ("status", status),
        ("explain", explain),
    ):
        app.command(name)(command)


def up(
    workers: Workers = 2,
    flower: Flower = False,
    web: Annotated[bool, typer.Option("--web", help="Also start the HTTP API, on http://127.0.0.1:8420.")] = False,
) -> None:
    """Start broker, database, workers and beat on this machine; Ctrl-C stops them and keeps the state."""
    from backlog_worker.cli import machine

    machine.up(workers=workers, flower=flower, web=web)


def demo(
    entries: Annotated[int, typer.Option("--entries", min=1, max=100_000, help="The number of sample issues.")] = 340,
    workers: Workers = 2,
    flower: Flower = False,
    keep: Annotated[bool, typer.Option("--keep", help="Leave everything running when the backlog is done.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Delete the state of an earlier demo first.")] = False,
) -> None:
    """Process a backlog of sample issues and print a report; after Ctrl-C, the next start continues."""
    from backlog_worker.cli import machine

    machine.demo(entries=entries, workers=workers, flower=flower, keep=keep, fresh=fresh)


def init(
    template: Annotated[
        str,
        typer.Option("--template", help="The template: feature-development, bugfix, continuous-validation, ..."),
    ] = "spec",
    force: Annotated[bool, typer.Option("--force", help="Replace existing files.")] = False,
) -> None:
    """Write a commented policy, a pipeline and its tools into .backlog-worker/."""
    from backlog_worker import settings
    from backlog_worker.cli import machine
    from backlog_worker.domain.document import suggestion

    if template not in machine.TEMPLATES:
        message = f"there is no template {template!r}"
        hint = suggestion(template, list(machine.TEMPLATES)) or f"one of: {', '.join(machine.TEMPLATES)}"
        raise UsageError(message, hint=hint)
    written, kept = machine.write_files(settings.load().here, template=template, force=force)
    for path in written:
        say(f"wrote {path}")
    for path in kept:
        talk(f"kept  {path} (replace it with --force)")
    following("backlog-worker entry import issues.json --dry-run, then backlog-worker up")


def status(watch: Annotated[bool, typer.Option("--watch", help="Refresh every second until Ctrl-C.")] = False) -> None:
    """Show the backlog, the fleet and the open reviews on one screen."""
    import time

    from backlog_worker.lifecycle import journal
    from backlog_worker.lifecycle import watch as watching

    with_kit, _ = kit()
    if not watch:
        try:
            found = watching.report(with_kit)
        except UnreachableError:
            if (held := journal.waiting(with_kit)) is not None:
                shown("backlog-worker/away", held, lambda: say(*_away(held)))
            raise
        shown("backlog-worker/status", found, lambda: _status(found))
        return
    from backlog_worker.cli.screen import live, status_panel

    with live() as screen:
        while True:
            screen.show(status_panel(watching.report(with_kit)))
            time.sleep(1.0)


def explain(
    entry_id: Annotated[str, typer.Argument(help="An entry: its id, key, number, address, or words of its title.")],
    at: Annotated[
        str, typer.Option("--at", help="Explain the state at this time, by the policy and the last tick of that time.")
    ] = "",
) -> None:
    """Explain why an entry does or does not run, and what to do about it."""
    from backlog_worker.domain.moment import parsed as moment
    from backlog_worker.lifecycle import explain as explaining
    from backlog_worker.lifecycle import lookup
    from backlog_worker.lifecycle.remembered import remembered

    with_kit, _ = kit()
    meant = lookup.id_of(with_kit, entry_id)
    if not at and (old := remembered(with_kit, meant)):
        data = {"entry": old.entry, "retired": old.words, "receipts": old.receipts}
        shown("backlog-worker/explain", data, lambda: _past(old))
        return
    found = explaining.explain(with_kit, meant, at=moment(at) if at else None)
    shown("backlog-worker/explain", found, lambda: _explained(found))


def doctor() -> None:
    """Check files, database, broker, workers and clock; every finding names its remedy."""
    from backlog_worker.cli import checkup

    findings = checkup.findings()

    def _human() -> None:
        table("", ("", "check", "found", "repair"), [(f.mark, f.check, f.found, f.repair) for f in findings])

    shown("backlog-worker/doctor", findings, _human)
    if any(finding.bad for finding in findings):
        raise SystemExit(FINDINGS)


def _away(held: "Waiting") -> list[str]:
    """Return what is known while PostgreSQL is unavailable; the rest of the backlog is unknown meanwhile."""
    words = "nothing is dispatched, claimed, answered or settled until it is back"
    return [f"PostgreSQL is away; the journal holds {held.count} entries of new work, and {words}", _waits(held)]


def _waits(held: "Waiting") -> str:
    since = f", the oldest since {held.oldest:%Y-%m-%d %H:%M:%SZ}" if held.oldest else ""
    return f"waiting to be merged: {held.count} entries{since}, in {held.folder}"


def _status(found: "Report") -> None:
    from backlog_worker.cli.screen import draw, status_panel

    draw(status_panel(found))
    if found.journal is not None and found.journal.count:
        say(_waits(found.journal))
    for finding in found.findings:
        talk(finding)
    if found.alerts:
        following(f"backlog-worker explain-code {next(iter(found.alerts))}; backlog-worker doctor")


def _past(old: "Remembered") -> None:
    """Print how a retired entry ended, and the receipts of the ticks that chose it."""
    say(f"{old.entry.id}  {old.entry.status}  {plain(old.entry.reason)}", old.words)
    names = ("at", "policy", "position", "score")
    table("", ("tick", "policy", "position", "score"), [tuple(each[name] for name in names) for each in old.receipts])


def _explained(found: "Explained") -> None:
    entry = found.entry
    rank = f"   rank {found.position}" if found.position else ""
    score = f"   score {found.scored.score:.2f}" if found.scored and found.scored.score is not None else ""
    where = f"{standing(entry)}{rank}{score}   policy {found.policy or 'not known'}   at {plain(found.at)}"
    say(f'{entry.id}  "{plain(entry.title)}"   {where}')
    if found.scored and found.scored.terms:
        rows = [(name, points) for name, points in found.scored.terms.items()]
        table("", ("term", "points"), rows)
    if found.reasons:
        still, is_ = ("It did not run because", "It was") if found.past else ("Not running because", "It is")
        say(still if entry.status not in {"ready", "in_progress"} else is_)
        for code, text in found.reasons:
            say(f"  {code:<16} {plain(text)}")
    elif found.past and entry.status in {"queued", "retrying"} and not found.scored:
        say("It waited; no recorded tick up to then gives the reason.")
    elif found.past:
        say(f"It was {'chosen' if found.scored else entry.status}: {plain(entry.reason)}")
    elif entry.status in {"queued", "retrying"}:
        say("Nothing keeps it back: it goes in the next tick.")
    else:
        say(f"It is {standing(entry)}: {plain(entry.reason)}")
    refused = [rule for rule, said in (found.eligibility or {}).items() if not said]
    eligible = f"no, by {', '.join(refused)}" if refused else "yes"
    if found.eligibility is None:
        eligible = "not known: the policy of that time was not recorded"
    counts = f"faults {entry.faults}, outages {entry.outages}, workers lost {entry.expiries}"
    say(f"Eligible: {eligible}   runs {entry.attempt} ({counts})")
    if found.remedies:
        following(found.remedies[0])
