"""run: attempts at entries; writeback: what was told to other systems."""

from typing import Annotated

import typer

from backlog_worker.cli.access import Limit, kit
from backlog_worker.cli.output import as_json, say, shown, table
from backlog_worker.domain.errors import NotFoundError

run = typer.Typer(help="Attempts at entries.", no_args_is_help=True)
writeback = typer.Typer(help="What was written back, and where.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(run, name="run")
    app.add_typer(writeback, name="writeback")


@run.command("list")
def list_runs(
    entry: Annotated[str, typer.Option(help="Only the runs of this entry.")] = "",
    live: Annotated[bool, typer.Option("--live", help="Only what is under way.")] = False,
    limit: Limit = 50,
) -> None:
    """List runs, newest first."""
    with_kit, _ = kit()
    with with_kit.store.read() as unit:
        found = unit.runs(entry or None, live=live, most=limit)
    rows = [
        (r["id"], r["entry_id"], r["attempt"], r["worker"], r["claimed_at"], r["ended_by"] or "live", r["reason"])
        for r in found
    ]
    columns = ("id", "entry", "attempt", "worker", "claimed", "ended by", "why")
    shown("backlog-worker/runs", found, lambda: table("", columns, rows))


@run.command("show")
def show(run_id: Annotated[str, typer.Argument(help="The id of a run.")]) -> None:
    """Show one run, stage by stage."""
    with_kit, _ = kit()
    with with_kit.store.read() as unit:
        found = unit.run_of(run_id)
        if found is None:
            message = f"there is no run {run_id}"
            raise NotFoundError(message, hint="backlog-worker run list")
        stages = unit.stages({found["entry_id"]: found["pipeline_hash"]})[found["entry_id"]]
        pipeline = with_kit.book.pinned(unit, found["pipeline_hash"])
    order = [job.id for job in pipeline.jobs] if pipeline else sorted(stages)

    def _human() -> None:
        attempt = f"attempt {found['attempt']} of {found['entry_id']}"
        say(f"{found['id']}  {attempt}  by {found['worker']}  {found['ended_by'] or 'live'}")
        rows = []
        for job in order:
            stage = stages.get(job)
            gates = " ".join(f"{g['id']}:{g['result']}" for g in stage.gates) if stage else ""
            rows.append(
                (
                    job,
                    stage.status if stage else "not reached",
                    stage.attempts if stage else 0,
                    stage.started_at if stage else None,
                    stage.ended_at if stage else None,
                    gates,
                    (stage.reason or {}).get("text", "") if stage else "",
                )
            )
        table("", ("job", "status", "attempts", "started", "ended", "gates", "why"), rows)

    shown("backlog-worker/run", {"run": found, "stages": stages}, _human)


@writeback.command("list")
def list_writebacks(limit: Limit = 50) -> None:
    """List write-backs, newest first."""
    with_kit, _ = kit()
    with with_kit.store.read() as unit:
        found = unit.wishes(most=limit)
    rows = [
        (w["entry_id"], w["body"]["status"], w["status"], w["attempts"], w["sent_at"], w["remote_id"] or w["error"])
        for w in found
    ]
    columns = ("entry", "record", "delivery", "attempts", "sent", "where")
    shown("backlog-worker/writebacks", found, lambda: table("", columns, rows))


@writeback.command("show")
def show_writeback(
    entry: Annotated[str, typer.Argument(help="The id of an entry.")],
    markdown: Annotated[bool, typer.Option("--markdown", help="As people read it.")] = False,
) -> None:
    """Show the last record of an entry."""
    from backlog_worker.cli.entries import wanted
    from backlog_worker.domain import writeback as rendering

    with_kit, _ = kit()
    found = wanted(with_kit, entry)
    with with_kit.store.read() as unit:
        wishes = unit.wishes(found.id)
    if not wishes:
        message = f"nothing was written back for {found.id}; it is {found.status}"
        raise NotFoundError(message)
    if markdown:
        say(rendering.markdown(wishes[0]["body"]))
    else:
        as_json("backlog-worker/record", wishes[0]["body"])


@writeback.command("send")
def send_now() -> None:
    """Deliver what is due, now."""
    from backlog_worker.lifecycle import send

    with_kit, _ = kit()
    number = send.send(with_kit)
    shown("backlog-worker/sent", {"sent": number}, lambda: say(f"{number} delivered"))
