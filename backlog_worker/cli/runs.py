"""run: attempts at entries; writeback: what was told to other systems."""

import shlex
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from backlog_worker.cli.access import Limit, Reason, kit
from backlog_worker.cli.output import FINDINGS, following, ids, money, plain, say, shown, table, talk, verbatim
from backlog_worker.domain.entry import FINAL, stands

if TYPE_CHECKING:
    from backlog_worker.domain.frontier import Stage
    from backlog_worker.engine import Engine

run = typer.Typer(help="Runs: attempts at entries.", no_args_is_help=True)
Run = Annotated[str, typer.Argument(help="The id of a run; or of an entry, for its last run.")]
WAITING, TIMED_OUT = 8, 124
writeback = typer.Typer(help="Write-backs: the records sent to sources.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(run, name="run")
    app.add_typer(writeback, name="writeback")


@run.command("list")
def list_runs(
    entry: Annotated[str, typer.Option(help="Only the runs of this entry.")] = "",
    live: Annotated[bool, typer.Option("--live", help="Only active runs.")] = False,
    limit: Limit = 50,
) -> None:
    """List runs, newest first."""
    from backlog_worker.cli.entries import meant

    with_kit, _ = kit()
    named = meant(with_kit, entry) if entry else None
    with with_kit.store.read() as unit:
        found = unit.runs(named, live=live, most=limit)
    columns = ("id", "entry", "attempt", "claimed", "ended by", "worker", "why")

    def _human() -> None:
        named = ids(*(r["id"] for r in found), *(r["entry_id"] for r in found))
        rows = [
            (named[r["id"]], named[r["entry_id"]], r["attempt"], r["claimed_at"], _how(r), r["worker"], r["reason"])
            for r in found
        ]
        table("", columns, rows)

    shown("backlog-worker/runs", found, _human)


@run.command("start")
def start(
    pipeline: Annotated[str, typer.Argument(help="The name of a pipeline.")],
    given: Annotated[Path | None, typer.Option("--input", help="A JSON file with the input of the entry.")] = None,
    title: Annotated[str, typer.Option("--title", help="The title of the entry.")] = "",
    labels: Annotated[list[str] | None, typer.Option("--label", help="A label; may be repeated.")] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until the run ends; exit with 8 if a person must answer.")
    ] = False,
    timeout: Annotated[float, typer.Option("--timeout", help="The maximum number of seconds to wait.")] = 3600.0,
) -> None:
    """Start a pipeline as the current actor, under the same rules as all other entries."""
    from backlog_worker.cli.named import read_json
    from backlog_worker.engine import Engine

    with_kit, who = kit()
    engine = Engine(replace(with_kit, worker=who.who))
    entry_id = engine.start(pipeline, read_json(given) if given else {}, title=title, labels=labels or [])
    say(entry_id)
    if not wait:
        following(f"backlog-worker run watch {entry_id}")
        return
    _wait_for_end(engine, entry_id, timeout)


@run.command("show")
def show(run_id: Run) -> None:
    """Show one run: its stages, its last output, the results of its gates, and its cost."""
    from backlog_worker import settings
    from backlog_worker.cli.views.run import show_run
    from backlog_worker.integrations.project import Project
    from backlog_worker.lifecycle import again

    found, entry, pipeline, stages = again.entry_of(kit()[0], run_id)
    order = list(pipeline.order) if pipeline else sorted(stages)
    loaded = settings.load()
    folder = Project(loaded.folder, loaded.env).own
    rows = [_row(job, stages.get(job)) for job in order]

    def _human() -> None:
        show_run({**found, "how": _how(found)}, entry, rows, [stages[job] for job in order if job in stages], folder)

    shown("backlog-worker/run", {"run": found, "stages": stages}, _human)


@run.command("logs")
def logs(
    run_id: Run,
    job: Annotated[str, typer.Option("--job", help="Only this job.")] = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Follow the logs until the run ends.")] = False,
) -> None:
    """Print the logs of the jobs of a run."""
    from backlog_worker.lifecycle import again

    with_kit, _ = kit()
    found, entry, _, _ = again.entry_of(with_kit, run_id)
    after: tuple[str, int, int] = ("", 0, -1)
    while True:
        with with_kit.store.read() as unit:
            chunks = unit.log(found["id"], job_id=job, after=after)
            live = unit.run_of(found["id"])
        for chunk in chunks:
            after = (chunk["job_id"], chunk["take"], chunk["n"])
            say(*(f"{chunk['job_id']}  {plain(line)}" for line in chunk["text"].split("\n")))
        if not follow or live is None or live["ended_at"] is not None:
            if not chunks and after[2] < 0:
                talk(f"the jobs of {entry.id} logged nothing in this run")
            return
        time.sleep(0.5)


@run.command("watch")
def watch(run_id: Run, timeout: Annotated[float, typer.Option("--timeout")] = 86_400.0) -> None:
    """Show a run as a live tree with progress, until it ends or waits for a person."""
    from backlog_worker.cli.screen import live
    from backlog_worker.cli.tree import run_tree
    from backlog_worker.engine import STANDS, Engine
    from backlog_worker.lifecycle import again

    with_kit, _ = kit()
    deadline = time.monotonic() + timeout
    with live() as screen:
        while True:
            found, entry, pipeline, stages = again.entry_of(with_kit, run_id)
            with with_kit.store.read() as unit:
                asked = unit.open_reviews(entry.id)
            screen.show(run_tree(entry, found, pipeline, stages, asked))
            waits = bool(asked) and entry.status == "blocked"
            if entry.status in STANDS or waits or time.monotonic() > deadline:
                break
            time.sleep(0.4)
    _print_end(Engine(with_kit), entry.id)


@run.command("cancel")
def cancel(run_id: Run, reason: Reason) -> None:
    """Cancel the entry of a run permanently; its child processes are killed on every machine."""
    from backlog_worker.engine import Engine
    from backlog_worker.lifecycle import again

    with_kit, given = kit()
    _, entry, _, _ = again.entry_of(with_kit, run_id)
    Engine(replace(with_kit, worker=given.who)).cancel(entry.id, reason)
    shown("backlog-worker/canceled", {"entry": entry.id}, lambda: say(f"{entry.id}  canceled"))


@run.command("resume")
def resume(run_id: Run, reason: Reason) -> None:
    """Resume from the completed stages, with the same version of the pipeline and unchanged counters."""
    from backlog_worker.lifecycle import again

    with_kit, given = kit()
    entry = again.resume(with_kit, run_id, actor=given.who, reason=reason)
    shown("backlog-worker/resumed", entry, lambda: say(f"{entry.id}  {entry.status}"))


@run.command("retry")
def retry(run_id: Run, reason: Reason) -> None:
    """Retry the failed stages, with fresh attempts and the version of the pipeline in force."""
    from backlog_worker.lifecycle import again

    with_kit, given = kit()
    entry = again.retry(with_kit, run_id, actor=given.who, reason=reason)
    shown("backlog-worker/retried", entry, lambda: say(f"{entry.id}  {entry.status}"))


@run.command("fork")
@run.command("rerun", hidden=True)
def fork(
    run_id: Run,
    stage: Annotated[str, typer.Option("--from", help="The first job to run again.")],
    reason: Reason,
    edit_output: Annotated[
        Path | None, typer.Option("--edit-output", help="A JSON file that replaces the output of that job.")
    ] = None,
) -> None:
    """Run again from a given stage, as a new entry that is linked to the first."""
    from backlog_worker.cli.named import read_json
    from backlog_worker.lifecycle import again

    with_kit, given = kit()
    output = read_json(edit_output) if edit_output else again.UNCHANGED
    new = again.fork(with_kit, run_id, stage, actor=given.who, reason=reason, output=output)
    judged = f"; the contract and the gates of {stage} judge the edited output first" if edit_output else ""
    said = f"{new}  forked from {run_id} at {stage}{judged}"
    shown("backlog-worker/forked", {"entry": new, "from": run_id}, lambda: say(said))


@run.command("replay")
def replay(run_id: Run) -> None:
    """Replay a recorded run in memory, without agents or cost; exit with 1 if it ends differently."""
    from backlog_worker import settings, telemetry, wiring
    from backlog_worker.integrations.project import Project
    from backlog_worker.lifecycle.rehearse import recorded, rehearse

    project = Project(settings.load().folder)
    recording = recorded(kit()[0], run_id)
    telemetry.configure(level="ERROR")  # the result of a rehearsal says what happened
    with_kit, forward = wiring.rehearsal(project, recording["answers"], root=project.root)
    found = rehearse(with_kit, recording, forward, name=run_id)
    shown("backlog-worker/rehearsal", found, lambda: say(f"{run_id}  {found.status}", *found.faults))
    if found.faults:
        raise SystemExit(1)


@run.command("compare")
def compare(
    first: Annotated[str, typer.Argument(help="The id of a run or an entry.")],
    second: Annotated[str, typer.Argument(help="The id of another run or entry.")],
) -> None:
    """Compare two runs job by job; jobs without differences are left out."""
    from backlog_worker.lifecycle import again

    found = again.compare(kit()[0], first, second)

    def _human() -> None:
        for each in found:
            say(each.job_id)
            for name in each.first:
                if each.first[name] != each.second[name]:
                    say(f"  {name:<9} {plain(each.first[name])}  ->  {plain(each.second[name])}")
            say(*(f"    {plain(line)}" for line in each.output))
        if not found:
            say("they agree")

    shown("backlog-worker/compared", found, _human)


@run.command("artifacts")
def artifacts(
    run_id: Run,
    cat: Annotated[
        str, typer.Option("--cat", help="Print the artifact of this name; raw if standard output is a pipe.")
    ] = "",
) -> None:
    """List the artifacts of a run with their digests and locations, or print one."""
    from backlog_worker.cli.views.outputs import print_artifact
    from backlog_worker.lifecycle import again

    with_kit, _ = kit()
    _, _, _, stages = again.entry_of(with_kit, run_id)
    found = [{"job": job_id, **each} for job_id, stage in stages.items() for each in stage.artifacts]
    if cat:
        print_artifact(with_kit, found, cat)
        return
    rows = [(each["job"], each["name"], each["size"], each["sha256"][:12], each["uri"]) for each in found]
    shown("backlog-worker/artifacts", found, lambda: table("", ("job", "name", "bytes", "sha256", "where"), rows))
    if found:
        following(f"backlog-worker run artifacts {run_id} --cat {shlex.quote(str(found[0]['name']))}")


def _how(found: "Mapping[str, Any]") -> str:
    """Return how a run ended: by which change, or that it had nothing to do."""
    return str(found["outcome"]).replace("_", " ") or found["ended_by"] or "live"


def _row(job_id: str, stage: "Stage | None") -> tuple[object, ...]:
    from backlog_worker.domain.stages import idle

    if stage is None:
        return (job_id, "not reached", 0, "", None, "")
    usd = money(stage.cost.get("usd")) if stage.cost else None
    why = (stage.reason or {}).get("text", "")
    status = f"{stage.status} {stage.progress} %" if stage.status == "running" and stage.progress else stage.status
    if idle(stage):
        status = "nothing to do"
    return (job_id, status, stage.attempts, _seconds(stage), usd, why)


def _seconds(stage: "Stage") -> str:
    if stage.started_at is None or stage.ended_at is None:
        return ""
    return f"{(stage.ended_at - stage.started_at).total_seconds():.1f} s"


def _wait_for_end(engine: "Engine", entry_id: str, timeout: float) -> None:
    """Wait for the end of an entry; a question to a person ends the waiting, too."""
    deadline = time.monotonic() + timeout
    while True:
        with engine.kit.store.read() as unit:
            found, asked = unit.entry(entry_id), unit.open_reviews(entry_id)
        if found is not None and (found.status in FINAL or (asked and found.status in {"blocked", "escalated"})):
            _print_end(engine, entry_id)
            return
        if time.monotonic() > deadline:
            talk(f"{entry_id} did not end within {timeout:g} s")
            raise SystemExit(TIMED_OUT)
        time.sleep(0.3)


def _print_end(engine: "Engine", entry_id: str) -> None:
    """Print how an entry ended, and set the exit code accordingly."""
    status = engine.status(entry_id)
    words, reason = stands(status), plain(status["reason"])
    say(f"{entry_id}  {reason}" if reason.startswith(words) else f"{entry_id}  {words}  {reason}")
    if status["status"] in {"blocked", "escalated"}:
        following(f"backlog-worker review show {entry_id}")
        raise SystemExit(WAITING)
    if status["status"] != "completed":
        raise SystemExit(1)


@writeback.command("list")
def list_writebacks(limit: Limit = 50) -> None:
    """List write-backs, newest first."""
    with_kit, _ = kit()
    with with_kit.store.read() as unit:
        found = unit.wishes(most=limit)
    columns = ("id", "entry", "record", "delivery", "attempts", "sent", "where", "why")

    def _human() -> None:
        named = ids(*(w["id"] for w in found), *(w["entry_id"] for w in found))
        rows = [
            (
                *(named[w["id"]], named[w["entry_id"]], _record(w), w["status"]),
                *(w["attempts"], w["sent_at"], w["remote_id"] or "", w["error"]),
            )
            for w in found
        ]
        table("", columns, rows)

    shown("backlog-worker/writebacks", found, _human)


def _record(wish: Mapping[str, Any]) -> str:
    """Return what a wish tells: the status of a run, or which alert began or ended."""
    body = wish["body"]
    return str(body.get("status") or f"{body.get('kind', wish['topic'])} {body.get('rule', '')}".rstrip())


@writeback.command("show")
def show_writeback(
    entry: Annotated[str, typer.Argument(help="The id of an entry.")],
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the record as Markdown.")] = False,
) -> None:
    """Show the last record of an entry, also of a retired one."""
    from backlog_worker.cli.views.record import show_record
    from backlog_worker.domain import writeback as rendering
    from backlog_worker.lifecycle import named
    from backlog_worker.lifecycle.remembered import record

    with_kit, _ = kit()
    found = record(with_kit, named.told_of(with_kit, entry))
    if markdown:
        verbatim(rendering.markdown(found))
    else:
        shown("backlog-worker/record", found, lambda: show_record(found))


@writeback.command("send")
def send_now() -> None:
    """Deliver the due write-backs now."""
    from backlog_worker.lifecycle import send

    with_kit, _ = kit()
    number = send.send(with_kit)
    shown("backlog-worker/sent", {"sent": number}, lambda: say(f"{number} delivered"))


@writeback.command("verify")
def verify_writebacks(
    repair: Annotated[
        bool, typer.Option("--repair", help="Send again the records that are missing or were altered.")
    ] = False,
) -> None:
    """Compare what the sources show with the ledger; exit with 7 if they differ."""
    from backlog_worker.lifecycle import writebacks

    found = writebacks.verify(kit()[0], repair=repair)
    rows = [(each.topic, each.what, each.text) for each in found]

    def _human() -> None:
        if rows:
            table("will be sent again" if repair else "", ("record", "what", "why"), rows)
        else:
            say("every source shows what the ledger has")

    shown("backlog-worker/writeback-drift", found, _human)
    if found and not repair:
        raise SystemExit(FINDINGS)
