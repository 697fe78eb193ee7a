"""entry add, entry edit: every field that a policy, a window or a report reads, by hand."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from backlog_worker.cli.access import DryRun, Reason, kit
from backlog_worker.cli.entries import EntryId, entry, told, wanted
from backlog_worker.cli.named import read_json
from backlog_worker.cli.output import say, shown
from backlog_worker.domain.errors import UsageError

if TYPE_CHECKING:
    from backlog_worker.domain.entry import Entry

Text = str | None
Texts = list[str] | None
Body = Annotated[str, typer.Option(help="The description of the work.")]
Label = Annotated[Texts, typer.Option("--label", "--add-label", help="A label to add; may be repeated.")]
Unlabel = Annotated[Texts, typer.Option("--unlabel", "--remove-label", help="A label to remove; may be repeated.")]
Title = Annotated[Text, typer.Option()]
Priority = Annotated[Text, typer.Option(help="The priority; default: the priority of the category, or medium.")]
Pipeline = Annotated[Text, typer.Option(help="The pipeline; default for a new entry: spec.")]
Service = Annotated[Text, typer.Option(help="The service.")]
Category = Annotated[Text, typer.Option(help="A category of the policy.")]
Team = Annotated[Text, typer.Option(help="The team.")]
Owner = Annotated[Text, typer.Option(help="The owner.")]
Url = Annotated[Text, typer.Option(help="The address of the issue.")]
Source = Annotated[Text, typer.Option(help="The source, such as github:acme/api.")]
Due = Annotated[
    Text, typer.Option("--due", "--due-date", help="A date, such as 2026-12-24; an empty value removes it.")
]
CreatedAt = Annotated[Text, typer.Option(help="The time from which its age is counted; default for a new entry: now.")]
Signal = Annotated[
    Texts, typer.Option("--signal", help="NAME=VALUE, where VALUE is a number; NAME= removes the signal.")
]
Window = Annotated[
    Texts,
    typer.Option(
        "--window", help="When it may run: 'mon-fri 08:00-20:00 Europe/Berlin'; an empty value removes all windows."
    ),
]
SignOff = Annotated[
    Texts, typer.Option("--sign-off-before", help="A job that needs approval; an empty value removes all.")
]
NotBefore = Annotated[Text, typer.Option(help="A date, such as 2026-12-24; an empty value removes it.")]
DependsOn = Annotated[Texts, typer.Option(help="The id or dedupe key of an entry that must complete first.")]
Input = Annotated[
    Path | None,
    typer.Option("--input", help="A JSON file with the input; for an existing entry, it replaces the input."),
]
_PLAIN = ("title", "priority", "pipeline", "service", "category", "team", "owner", "url", "source", "created_at")


def register(_app: typer.Typer) -> None:
    """Add the commands of this module to those of entries."""
    entry.command("add")(add)
    entry.command("edit")(edit)


def add(
    title: str,
    body: Body = "",
    key: Annotated[str, typer.Option(help="The dedupe key; default: made from the title.")] = "",
    depends_on: DependsOn = None,
    new_input: Input = None,
    priority: Priority = None,
    pipeline: Pipeline = None,
    service: Service = None,
    category: Category = None,
    team: Team = None,
    owner: Owner = None,
    url: Url = None,
    source: Source = None,
    due: Due = None,
    created_at: CreatedAt = None,
    label: Label = None,
    signal: Signal = None,
    window: Window = None,
    sign_off_before: SignOff = None,
    not_before: NotBefore = None,
    dry_run: DryRun = False,
) -> None:
    """File one entry by hand; the same key is filed once."""
    options = locals()
    from backlog_worker.lifecycle import intake

    with_kit, given = kit()
    now = intake.within(
        with_kit, given.who, lambda unit: unit.now(), dry_run=dry_run
    )  # the database sets the creation time, not this host's clock
    record = _record(options, given.who, now.isoformat())
    (filed,) = intake.file(with_kit, [("--", record)], actor=given.who, channel="manual", dry_run=dry_run)
    if filed.error:
        raise UsageError(filed.error)
    words = f"{filed.entry_id}  {filed.status or 'known before'}  {filed.reason}"
    shown("backlog-worker/filed", filed, lambda: say(words))


def edit(
    entry_id: EntryId,
    reason: Reason,
    title: Title = None,
    priority: Priority = None,
    pipeline: Pipeline = None,
    service: Service = None,
    category: Category = None,
    team: Team = None,
    owner: Owner = None,
    url: Url = None,
    source: Source = None,
    due: Due = None,
    created_at: CreatedAt = None,
    label: Label = None,
    unlabel: Unlabel = None,
    signal: Signal = None,
    window: Window = None,
    sign_off_before: SignOff = None,
    not_before: NotBefore = None,
    new_input: Input = None,
) -> None:
    """Edit an entry that is not under way, and ask again what bars it."""
    options = locals()
    from backlog_worker.lifecycle import operate

    with_kit, given = kit()
    found = wanted(with_kit, entry_id)
    changes = changes_of(options, found)
    if new_input is not None:
        changes["input"] = read_json(new_input)
    told(operate.edit(with_kit, found.id, changes, actor=given.who, reason=reason))


def changes_of(options: Mapping[str, Any], before: "Entry | None") -> dict[str, Any]:
    """Return the fields that options set; lists and maps are based on *before*."""
    changes = {name: options[name] for name in _PLAIN if options.get(name) is not None}
    if options["due"] is not None:
        changes["due_date"] = options["due"] or None
    gone, more = options.get("unlabel") or [], options["label"] or []
    if gone or more:
        changes["labels"] = [*(each for each in (before.labels if before else ()) if each not in gone), *more]
    if options["signal"]:
        changes["signals"] = _signals(options["signal"], dict(before.signals) if before else {})
    constraints = dict(before.constraints) if before else {}
    named = {"windows": options["window"], "sign_off_before": options["sign_off_before"]}
    told_of: dict[str, Any] = {name: [each for each in value if each] for name, value in named.items() if value}
    if options["not_before"] is not None:
        told_of["not_before"] = options["not_before"] or None
    if told_of:
        changes["constraints"] = {**constraints, **told_of}
    return changes


def _signals(pairs: list[str], signals: dict[str, Any]) -> dict[str, Any]:
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not name.strip() or not equals:
            message = f"{pair!r} is not a signal; write NAME=VALUE, such as risk=0.8"
            raise UsageError(message)
        signals.pop(name.strip(), None)
        if value.strip():
            signals[name.strip()] = value.strip()
    return signals


def _record(options: Mapping[str, Any], who: str, now: str) -> dict[str, Any]:
    from backlog_worker.domain.events import digest

    title = options["title"]
    given = {"title": title, "body": options["body"]}
    made = {
        "dedupe_key": options["key"] or f"manual:{digest(title)[:16]}",
        "pipeline": "spec",
        "created_at": now,
        "depends_on": options["depends_on"] or [],
        "eligible_by": who,
        "author": who,
        "input": read_json(options["new_input"]) if options["new_input"] else given,
    }
    return {**made, **{name: value for name, value in changes_of(options, None).items() if value != ""}}
