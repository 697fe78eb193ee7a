"""audit: history and evidence."""

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from backlog_worker.cli.access import Reason, kit
from backlog_worker.cli.named import read_object, write_text
from backlog_worker.cli.output import FINDINGS, document, json_text, plain, say, shown, table, verbatim
from backlog_worker.domain.errors import UsageError

if TYPE_CHECKING:
    from backlog_worker.domain.evidence import Checked
    from backlog_worker.store import Violation


class AccountForm(StrEnum):
    """How a bundle is shown to people."""

    TEXT = "text"
    MARKDOWN = "markdown"
    HTML = "html"


class ExportForm(StrEnum):
    """How the evidence of an entry is written."""

    JSON = "json"
    MARKDOWN = "markdown"
    HTML = "html"


Seal = Annotated[Path | None, typer.Option("--seal", help="A seal file that was stored elsewhere.")]
Out = Annotated[Path | None, typer.Option("--out", help="The output file; default: standard output.")]
Form = Annotated[AccountForm, typer.Option("--format", help="The format: terminal, Markdown or HTML.")]
audit = typer.Typer(help="History and evidence.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(audit, name="audit")


@audit.command("verify")
def audit_verify(
    bundle: Annotated[
        Path | None, typer.Argument(help="A bundle written by `audit export`; default: the whole history.")
    ] = None,
    seal: Seal = None,
) -> None:
    """Verify all chains and seals, and that the tables match the history. A bundle needs no database."""
    outside = read_object(seal) if seal else None
    if bundle is None:
        _verified(outside)
        return
    from backlog_worker.domain.account import proved
    from backlog_worker.lifecycle import evidence

    value = read_object(bundle)
    found = _misshapen(value) or evidence.checked(value, outside)
    words = [plain(line) for line in proved(value, found)]
    shown("backlog-worker/evidence-check", found, lambda: say(f"{bundle}:", *(f"  {line}" for line in words)))
    if found.faults:
        raise SystemExit(FINDINGS)


@audit.command("show")
def audit_show(
    bundle: Annotated[Path, typer.Argument(help="A bundle written by `audit export`.")],
    form: Form = AccountForm.TEXT,
    seal: Seal = None,
    out: Out = None,
) -> None:
    """Show a bundle in readable form and which parts are proved; exit with 7 if something is wrong."""
    from backlog_worker.lifecycle import evidence

    value = read_object(bundle)
    if wrong := _misshapen(value):
        message = f"this bundle cannot be shown: {'; '.join(wrong.faults)}"
        raise UsageError(message)
    found = evidence.checked(value, read_object(seal) if seal else None)
    _written(_account(value, found, form), out)
    if found.faults:
        raise SystemExit(FINDINGS)


@audit.command("export")
def audit_export(
    entry: Annotated[
        str, typer.Argument(help="An entry, also a retired one: its id, key, number, address, or words of its title.")
    ],
    out: Out = None,
    form: Annotated[
        ExportForm, typer.Option("--format", help="The format; `audit verify FILE` checks json.")
    ] = ExportForm.JSON,
) -> None:
    """Export the evidence of one entry as one file; `audit verify FILE` checks it without the database."""
    from backlog_worker.lifecycle import evidence, lookup

    with_kit, _ = kit()
    value = evidence.export(with_kit, lookup.id_of(with_kit, entry))
    if form == ExportForm.JSON:
        if out is None:
            document(value)
        else:
            _written(json_text(value, indent=1) + "\n", out)
    else:
        as_read = json.loads(json.dumps(value))
        _written(_account(as_read, evidence.checked(as_read), AccountForm(form)), out)


@audit.command("rebuild")
def audit_rebuild(
    apply: Annotated[bool, typer.Option("--apply", help="Correct the rows; without it, only list them.")] = False,
    reason: Reason = "",
) -> None:
    """Compare the tables with the history row by row; with --apply, correct the tables."""
    from backlog_worker.lifecycle import audit as auditing

    found = auditing.rebuild(kit()[0], reason=reason, apply=apply)

    def _human() -> None:
        if found:
            table("", ("entry", "written" if apply else "differs"), found)
        else:
            say("every row matches its history")

    shown("backlog-worker/rebuild", [{"entry": entry, "columns": names} for entry, names in found], _human)
    if found and not apply:
        raise SystemExit(FINDINGS)


@audit.command("seal")
def audit_seal(
    out: Annotated[
        Path | None, typer.Option("--out", help="Also write the seal to this file; store it elsewhere.")
    ] = None,
) -> None:
    """Seal all histories up to five minutes ago; a seal stored elsewhere proves everything before it."""
    from backlog_worker.domain.roles import everything
    from backlog_worker.lifecycle import tools

    with_kit, given = kit()
    value = tools.execute(with_kit, everything(given.who), "audit_tool", "seal", {})
    if out is not None:
        write_text(out, json.dumps(value, indent=1) + "\n")
    words = f"{value['id']}: {value['events']} events of {value['entries']} entries" if value else "nothing to seal yet"
    shown("backlog-worker/seal", value, lambda: say(words))


@audit.command("redact")
def audit_redact(
    entry: Annotated[str, typer.Argument(help="The id of an entry, also of a retired one.")],
    reason: Reason,
    field: Annotated[list[str] | None, typer.Option("--field", help="Redact only this; may be repeated.")] = None,
) -> None:
    """Permanently remove the texts of people and models from an entry; chain, seals and verdicts stay verifiable."""
    from backlog_worker.lifecycle import evidence, lookup

    with_kit, given = kit()
    names = tuple(field) if field else evidence.TEXTS
    entry = lookup.id_of(with_kit, entry, words=False)
    number = evidence.redact(with_kit, entry, actor=given.who, reason=reason, names=names)
    say(f"{number} events of {entry} lost their texts")


@audit.command("hold")
def audit_hold(
    entry: Annotated[str, typer.Argument(help="The id of an entry, also of a retired one.")], reason: Reason
) -> None:
    """Put a legal hold on an entry: nothing is removed or redacted, whatever the retention rules say."""
    _legal_hold(entry, reason, on=True)


@audit.command("release")
def audit_release(
    entry: Annotated[str, typer.Argument(help="The id of an entry, also of a retired one.")], reason: Reason
) -> None:
    """Remove the legal hold of an entry."""
    _legal_hold(entry, reason, on=False)


@audit.command("operations")
def audit_operations(
    action: Annotated[str, typer.Option("--action", help="The action, such as backlog_tool.cleanup.")] = "",
    result: Annotated[str, typer.Option("--result", help="The result: done, failed or denied.")] = "",
) -> None:
    """List the operations of people and jobs other than changes of entries, including denied ones."""
    with_kit, _ = kit()
    with with_kit.store.read() as unit:
        found = unit.acts(with_kit.env, action=action, result=result)
    names = ("at", "actor", "action", "subject", "result", "reason")
    rows = [tuple(row[name] for name in names) for row in found]
    shown("backlog-worker/operations", found, lambda: table("", names, rows))


@audit.command("at")
def audit_at(moment: Annotated[str, typer.Argument(help="The time, such as 2026-11-20T02:14:00Z.")]) -> None:
    """Show the backlog as it was at a given time, computed from the history alone."""
    from backlog_worker.domain.moment import parsed
    from backlog_worker.lifecycle import audit as auditing

    found = auditing.at(kit()[0], parsed(moment))
    measures = found.measures
    rows: list[tuple[str, object]] = [*found.counts.items()]
    rows += [("coverage", f"{measures.coverage:.1%} of {measures.eligible} eligible")]
    rows += [("nothing to do", measures.nothing_to_do), ("done before", measures.done_before)]
    rows += [("not eligible", measures.not_eligible)]
    rows += [("no longer known", found.unknown)] if found.unknown else []
    rows += [("escalated", f"{measures.escalation_rate:.1%}"), ("failed runs", f"{measures.failure_rate:.1%}")]
    rows += [
        (f"wait {name}", f"P50 {seconds:.0f} s, P90 {measures.wait_p90[name]:.0f} s")
        for name, seconds in measures.wait_p50.items()
    ]
    shown("backlog-worker/past", found, lambda: table(plain(found.at), ("status", "then"), rows))


@audit.command("diff")
def audit_diff(
    first: Annotated[str, typer.Argument(help="The earlier time.")],
    second: Annotated[str, typer.Argument(help="The later time.")],
) -> None:
    """List the entries whose status differs between two times."""
    from backlog_worker.domain.moment import parsed
    from backlog_worker.lifecycle import audit as auditing

    found = auditing.diff(kit()[0], parsed(first), parsed(second))
    shown("backlog-worker/past-diff", found, lambda: table("", ("entry", "then", "later"), found))


def _verified(outside: dict[str, Any] | None) -> None:
    """Verify the whole database, and print what was proved and what was not."""
    from backlog_worker.lifecycle import audit as auditing
    from backlog_worker.lifecycle import seals, unowned

    with_kit, _ = kit()
    proved = auditing.Proved()
    found: list[Violation] = [*auditing.verify(with_kit, proved), *unowned.verify(with_kit, proved)]
    found += seals.verify_seals(with_kit, outside)

    def _human() -> None:
        if found:
            table("", ("invariant", "subject", "why"), [(each.invariant, each.subject, each.text) for each in found])
        say(*auditing.words(proved, broken=bool(found), sealed=outside is not None))

    data = {"violations": found, "proved": proved}
    shown("backlog-worker/audit", data, _human)
    if found:
        raise SystemExit(FINDINGS)


def _account(value: dict[str, Any], found: "Checked", form: AccountForm) -> str:
    from backlog_worker.domain import render
    from backlog_worker.domain.account import account

    forms = {AccountForm.TEXT: render.text, AccountForm.MARKDOWN: render.markdown, AccountForm.HTML: render.html}
    return forms[form](account(value, found))


def _misshapen(value: dict[str, Any]) -> "Checked | None":
    """Return the fault of a bundle that does not fit the schema of its version, with the place; None where it fits."""
    from jsonschema.exceptions import best_match
    from jsonschema.validators import validator_for

    from backlog_worker.cli.definitions import stored_schema
    from backlog_worker.domain.evidence import SCHEMAS, Checked, schema_fault
    from backlog_worker.domain.masking import cut

    if value.get("schema") not in SCHEMAS:
        return Checked(faults=[schema_fault(value)])
    schema = stored_schema("evidence", SCHEMAS.index(value["schema"]) + 1)
    wrong = best_match(validator_for(schema)(schema).iter_errors(value))
    if wrong is None:
        return None
    place = "/".join(map(str, wrong.absolute_path)) or "the bundle"
    return Checked(faults=[f"{cut(place, 200)}: {cut(wrong.message, 200)}"])


def _written(text: str, out: Path | None) -> None:
    if out is None:
        verbatim(text.rstrip("\n"))
    else:
        write_text(out, text)
        say(f"wrote {out}")


def _legal_hold(entry: str, reason: str, *, on: bool) -> None:
    from backlog_worker.lifecycle import evidence, lookup

    with_kit, given = kit()
    entry = lookup.id_of(with_kit, entry, words=False)
    evidence.legal_hold(with_kit, entry, actor=given.who, reason=reason, on=on)
    say(f"{entry} is {'kept regardless of retention' if on else 'kept as long as retention says'}")
