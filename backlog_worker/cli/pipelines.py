"""pipeline: validate, try, draw, estimate, test and export pipelines."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from backlog_worker.cli.access import DryRun, Yes, kit
from backlog_worker.cli.definitions import Files, paths, validate
from backlog_worker.cli.named import read_json, read_object, read_text, write_text
from backlog_worker.cli.output import FINDINGS, document, following, money, plain, say, shown, table, talk
from backlog_worker.domain.errors import NotFoundError, RefusedError, UsageError

if TYPE_CHECKING:
    from backlog_worker.domain.estimate import Estimate
    from backlog_worker.domain.pipeline import Pipeline
    from backlog_worker.integrations.ci import Exported
    from backlog_worker.lifecycle import Kit

pipeline = typer.Typer(help="Pipelines and their tests.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(help="The name of a pipeline, or its file.")]
WAITING = 8


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(pipeline, name="pipeline")


@pipeline.command("list")
def list_pipelines() -> None:
    """List the pipelines in force and the retired ones."""
    with_kit, _ = kit()
    with with_kit.store.read() as unit:
        found = with_kit.book.pipelines(unit)
        live, retired = with_kit.book.names(unit), unit.retirements(with_kit.env, "pipeline")
    gone = {name: at for name, at in sorted(retired.items()) if name not in live}
    rows: list[tuple[object, ...]] = [
        (p.name, p.version, p.hash[:12], len(p.jobs), _triggers(p), p.description) for p in found.values()
    ]
    rows += [(name, "", "", "", "retired", f"since {plain(at)}") for name, at in gone.items()]
    data: list[dict[str, Any]] = [
        {"name": p.name, "version": p.version, "sha256": p.hash, "retired": None} for p in found.values()
    ]
    data += [{"name": name, "version": None, "sha256": None, "retired": at} for name, at in gone.items()]
    columns = ("name", "version", "hash", "jobs", "started by", "description")
    shown("backlog-worker/pipelines", data, lambda: table("", columns, rows))


@pipeline.command("show")
def show(name: Name) -> None:
    """Show one pipeline, job by job."""
    found = _wanted(name)
    rows = [
        (
            job.id,
            job.agent.name if job.agent else job.kind,
            job.after,
            job.when.source if job.when else "",
            f"{job.timeout.total_seconds():g} s",
            job.retry.max_attempts,
            [gate.id for gate in job.gates],
            ", ".join(["approval"] * bool(job.approval) + ["inline"] * job.inline + ["cache"] * bool(job.cache)),
        )
        for job in found.jobs
    ]
    columns = ("job", "by", "after", "when", "timeout", "attempts", "gates", "")
    data = {"name": found.name, "version": found.version, "sha256": found.hash, "body": found.body}
    shown("backlog-worker/pipeline", data, lambda: table(f"{found.name} {found.version}", columns, rows))


@pipeline.command("validate")
def validate_pipelines(files: Files = None) -> None:
    """Check pipelines and report all errors of all files at once."""
    validate("pipeline", files)


@pipeline.command("graph")
def graph(
    name: Name,
    form: Annotated[str, typer.Option("--to", help="The format: text, mermaid, dot or svg.")] = "text",
    run: Annotated[str, typer.Option("--run", help="Show the status of each job in this run.")] = "",
) -> None:
    """Draw a pipeline."""
    from backlog_worker.domain.document import suggestion
    from backlog_worker.domain.drawing import DRAWINGS
    from backlog_worker.lifecycle import again

    if form not in DRAWINGS:
        message = f"there is no drawing {form!r}"
        raise UsageError(message, hint=suggestion(form, list(DRAWINGS)) or f"one of: {', '.join(DRAWINGS)}")
    statuses: dict[str, str] = {}
    if run:
        stages = again.entry_of(kit()[0], run)[3]
        statuses = {job_id: str(stage.status) for job_id, stage in stages.items()}
    say(DRAWINGS[form](_wanted(name), statuses))


@pipeline.command("estimate")
def estimate(
    name: Name, last: Annotated[int, typer.Option("--last", min=1, help="The number of past stages to use.")] = 1000
) -> None:
    """Estimate time and cost from past runs, for jobs in sequence and in parallel."""
    from backlog_worker.domain.estimate import estimated

    with_kit, _ = kit()
    found = _wanted(name)
    with with_kit.store.read() as unit:
        rows = unit.definitions(with_kit.env, "pipeline")
        hashes = [row["hash"] for row in rows if row["name"] == found.name]
        durations = unit.durations(with_kit.env, hashes, last)
        value = estimated(found, durations, unit.costs_of_jobs(with_kit.env, found.name))
    shown("backlog-worker/estimate", value, lambda: _estimated(found, value))


@pipeline.command("test")
def run_recordings(
    recordings: Annotated[
        list[Path] | None, typer.Argument(help="Recordings; default: the recordings of the project.")
    ] = None,
) -> None:
    """Test pipelines with recorded sessions and compare statuses and gates; free of cost and deterministic."""
    from backlog_worker import settings, telemetry, wiring
    from backlog_worker.integrations.project import Project
    from backlog_worker.lifecycle.rehearse import checked, rehearse

    telemetry.configure(level="ERROR")  # the result of a rehearsal says what happened
    project = Project(settings.load().folder)
    wanted = recordings or sorted((project.folder / "recordings").glob("*.json"))
    if not wanted:
        message = f"there are no recordings in {project.folder / 'recordings'}"
        raise NotFoundError(message, hint="backlog-worker pipeline record RUN > .backlog-worker/recordings/NAME.json")
    found = []
    for path in wanted:
        recording = checked(read_object(path), name=str(path))
        rehearsal_kit, forward = wiring.rehearsal(project, recording.get("answers", {}), root=project.root)
        try:
            found.append(rehearse(rehearsal_kit, recording, forward, name=path.name))
        finally:
            rehearsal_kit.store.close()

    def _human() -> None:
        for each in found:
            say(f"{'FAILED' if each.faults else 'ok    '}  {each.name}  {each.status}  {len(each.jobs)} jobs")
            for fault in each.faults:
                say(f"        {plain(fault)}")

    shown("backlog-worker/rehearsals", found, _human)
    if any(each.faults for each in found):
        raise SystemExit(1)


@pipeline.command("record")
def record(run_id: Annotated[str, typer.Argument(help="The id of a run, or of its entry.")]) -> None:
    """Print the recording of a run, for `pipeline test`."""
    from backlog_worker.lifecycle.rehearse import recorded

    document(recorded(kit()[0], run_id))


@pipeline.command("export")
def export(
    name: Name,
    to: Annotated[str, typer.Option("--to", help="The CI system: github-actions, gitlab-ci or jenkins.")],
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit with 7 if the file differs.")] = False,
    out: Annotated[Path | None, typer.Option("--out", help="The output file; `-` prints to standard output.")] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a file even if this command did not write it.")
    ] = False,
    install: Annotated[
        str, typer.Option("--install", help="The command that installs backlog-worker there; BACKLOG_CI_INSTALL.")
    ] = "",
) -> None:
    """Export a pipeline to a CI system and list what that system cannot express; foreign files are kept."""
    from backlog_worker.domain.document import suggestion
    from backlog_worker.integrations import github_actions, gitlab_ci, jenkins

    systems = {each.SYSTEM: each.exported for each in (github_actions, gitlab_ci, jenkins)}
    if to not in systems:
        message = f"there is no CI system {to!r}"
        raise UsageError(message, hint=suggestion(to, list(systems)) or f"one of: {', '.join(systems)}")
    made = systems[to](_wanted(name), _install(install))
    path = out or Path(made.path)
    if str(path) == "-":
        say(made.text.rstrip("\n"))
    elif check:
        if not path.exists() or read_text(path) != made.text:
            talk(f"{path} differs from the pipeline; run the same command without --check")
            raise SystemExit(FINDINGS)
        say(f"{path} is up to date")
    else:
        if not force:
            _replaceable(path, made)
        write_text(path, made.text)
        say(f"wrote {path}")
    if made.missing:
        talk(f"{to} cannot express:", *(f"  {each}" for each in made.missing))


def _install(given: str) -> str:
    """Return the command that installs this in CI; raises RefusedError where nobody said which one works there."""
    from backlog_worker import installed, settings

    line = given.strip() or settings.load().ci_install.strip()
    if not line:
        message = "nobody said how CI installs backlog-worker, and its name is in no public index"
        here = f"here it was installed by: {installed.command()}"
        raise RefusedError(message, hint=f"--install COMMAND, or set BACKLOG_CI_INSTALL; {here}")
    if not line.isprintable():
        message = "the command that installs backlog-worker must be one line of printable characters"
        raise UsageError(message, hint="put several commands behind each other with &&")
    return line


def _replaceable(path: Path, made: "Exported") -> None:
    """Check that a file does not exist or was exported from the same pipeline; raises RefusedError."""
    from backlog_worker.integrations import ci

    if not os.path.lexists(path):
        return
    other = ci.maker(read_text(path))
    if other is None:
        message = f"{path} was not written by this command"
        raise RefusedError(message, hint="--out FILE writes another one, --force replaces it")
    if other != ci.maker(made.text):
        message = f"{path} was made from the pipeline {other}"
        raise RefusedError(message, hint="--out FILE writes another one, --force replaces it")


@pipeline.command("fmt")
def fmt(
    files: Files = None,
    check: Annotated[bool, typer.Option("--check", help="Change nothing; exit with 7 if a file would change.")] = False,
) -> None:
    """Format pipeline files; comments, order and meaning do not change."""
    from backlog_worker.domain.document import formatted

    changed = []
    for path in paths("pipeline", files):
        text = read_text(path)
        new = formatted(text, file=str(path))
        if new != text:
            changed.append(str(path))
            if not check:
                write_text(path, new)
    shown("backlog-worker/formatted", changed, lambda: say(*changed or ["nothing to do"]))
    if check and changed:
        raise SystemExit(FINDINGS)


@pipeline.command("diff")
def diff(
    name: Name,
    old: Annotated[str, typer.Argument(help="A prefix of the older version's hash.")],
    new: Annotated[
        str, typer.Argument(help="A prefix of the newer version's hash; default: the version in force.")
    ] = "",
) -> None:
    """Compare two versions of a pipeline, line by line."""
    import difflib

    with_kit, _ = kit()
    with with_kit.store.read() as unit:
        rows = [row for row in unit.definitions(with_kit.env, "pipeline") if row["name"] == name]
    bodies = []
    for start in (old, new):
        found = [row for row in rows if (row["hash"].startswith(start) if start else row["live"])]
        if len(found) != 1:
            message = f"{start or 'the version in force'} names {len(found)} versions of {name}"
            raise NotFoundError(message, hint=", ".join(row["hash"][:12] for row in rows))
        bodies.append(found[0]["body"])
    lines = difflib.unified_diff(bodies[0].splitlines(), bodies[1].splitlines(), old, new or "live", lineterm="")
    say(*lines)


@pipeline.command("cache")
def cache(
    purge: Annotated[bool, typer.Option("--purge", help="Delete the cached results.")] = False,
    name: Annotated[str, typer.Option("--pipeline", help="Only the results of this pipeline.")] = "",
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """List cached results and what they saved, or delete them."""
    with_kit, given = kit()
    with with_kit.store.read() as unit:
        found = [row for row in unit.results(with_kit.env, 10_000) if not name or row["pipeline"] == name]
    if purge and not dry_run:
        if found and not yes and not typer.confirm(f"Forget {len(found)} results?", err=True):
            raise SystemExit(1)
        with with_kit.store.begin(actor=given.who) as unit:
            number = unit.forget_results(with_kit.env, pipeline=name, everything=not name)
        say(f"forgot {number} results")
        return
    rows = [(r["key"][:12], r["pipeline"], r["job_id"], r["hits"], r["usd"], r["until"], r["run_id"]) for r in found]
    columns = ("key", "pipeline", "job", "used", "usd", "until", "of run")
    shown("backlog-worker/results", found, lambda: table("", columns, rows))


@pipeline.command("run")
def run_one(
    name: Name,
    job: Annotated[str, typer.Option("--job", help="The id of the job.")],
    outputs: Annotated[Path, typer.Option("--outputs", help="The directory for the outputs of jobs.")] = Path(
        ".backlog-outputs"
    ),
    given: Annotated[Path | None, typer.Option("--input", help="A JSON file with the input of the entry.")] = None,
    no_setup: Annotated[bool, typer.Option("--no-setup", help="Skip the setup; the caller has done it.")] = False,
) -> None:
    """Run one job on this machine, without a backlog, as an exported CI file does."""
    from dataclasses import replace

    from backlog_worker import settings, telemetry, wiring
    from backlog_worker.lifecycle.solo import perform_one

    telemetry.configure(level="WARNING")
    solo = wiring.solo(settings.load())
    with solo.store.read() as unit:
        policy = solo.book.policy(unit)
        found = solo.book.pipeline(unit, name)
    if found is None:
        found = _of_file(Path(name))
    if no_setup:
        found = replace(found, jobs=tuple(replace(each, setup=()) for each in found.jobs))
    value = read_json(given) if given else {}
    status, why = perform_one(solo, found, policy, job, value, outputs)
    say(f"{job}  {status}" + (f"  {plain(why)}" if why else ""))
    if status not in {"completed", "skipped", "canceled"}:
        raise SystemExit(WAITING if status == "waiting" else 1)


def _wanted(name: str) -> "Pipeline":
    """Return a pipeline by its file, or by its name among those in force."""
    if name.endswith((".yml", ".yaml")):
        return _of_file(Path(name))
    with_kit: Kit = kit()[0]
    with with_kit.store.read() as unit:
        found = with_kit.book.pipeline(unit, name)
        known = sorted(with_kit.book.pipelines(unit))
    if found is None:
        from backlog_worker.domain.document import suggestion

        message = f"no pipeline {name} is in force"
        raise NotFoundError(message, hint=suggestion(name, known) or "backlog-worker pipeline list")
    return found


def _of_file(path: Path) -> "Pipeline":
    from backlog_worker.domain.pipeline import load
    from backlog_worker.integrations.project import contracts

    return load(read_text(path), file=str(path), contract=contracts(path).__getitem__)


def _triggers(found: "Pipeline") -> str:
    return ", ".join(dict.fromkeys(trigger.type for trigger in found.triggers)) or "backlog"


def _estimated(found: "Pipeline", value: "Estimate") -> None:
    columns = ("job", "runs", "median s", "p90 s", "usd")
    table("", columns, [(j.job_id, j.runs, j.seconds, j.seconds_p90, money(j.usd)) for j in value.jobs])
    most = found.concurrency.max_concurrent_jobs
    say(
        f"one after the other  {value.sequential_seconds:.0f} s",
        f"side by side, {most}      {value.parallel_seconds:.0f} s",
        f"cost                 {money(value.usd, len(value.unknown))} USD",
    )
    if value.unknown:
        talk(f"no data yet, because these never ran: {', '.join(value.unknown)}")
    if value.unpriced:
        talk(f"called models without a known price: {', '.join(value.unpriced)}; `prices` of the policy may name one")
    following(f"backlog-worker run start {found.name}")
