"""schedule: the jobs of the clock, all from beat_schedule.py; also as a cron file for other schedulers."""

import json
import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backlog_worker.cli.access import DryRun, kit
from backlog_worker.cli.named import read_text, write_text
from backlog_worker.cli.output import FINDINGS, say, shown, table, talk, verbatim
from backlog_worker.domain.errors import NotFoundError, RefusedError
from backlog_worker.domain.masking import without_password

if TYPE_CHECKING:
    from datetime import datetime

    from backlog_worker.lifecycle.slots import Schedule
    from backlog_worker.settings import Settings

COLUMNS = ("name", "schedule", "runs", "catch up", "last slot", "result", "last done", "late", "missed", "next")
schedule = typer.Typer(help="The beat schedule.", no_args_is_help=True)
_LINE = re.compile(r"^(\S+\s+\S+\s+\S+\s+\S+\s+\S+)\s+(.*)$")
_NAMED = re.compile(r"--tool (\S+) --action (\S+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One entry of the schedule: when it runs, what, under which scope, and what its dry run does."""

    name: str
    task: str
    cron: str
    every: str
    tool: str
    action: str
    scope: str
    inputs: tuple[str, ...]
    dry_run: str
    does: str
    catch_up: str

    @property
    def when(self) -> str:
        """Return the cadence in words, in UTC."""
        return self.cron or self.every


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(schedule, name="schedule")


def registry() -> list[Job]:
    """Return every entry of beat_schedule.py with the properties of its job."""
    from backlog_worker.domain import trigger
    from backlog_worker.lifecycle import tools
    from backlog_worker.lifecycle.slots import ONCE
    from beat_schedule import BEAT_SCHEDULE, CATCH_UP

    found = []
    for name, entry in BEAT_SCHEDULE.items():
        cron = trigger.cron_in(str(entry["schedule"]))
        tool = tools.wanted(*tools.JOBS[name]) if name in tools.JOBS else None
        found.append(
            Job(
                name=name,
                task=str(entry["task"]),
                cron=cron,
                every="" if cron else f"every {_seconds(entry['schedule']):g} s",
                tool=tool.tool if tool else "",
                action=tool.action if tool else "",
                scope=tool.scope if tool else "",
                inputs=tuple(tool.params.model_fields) if tool else (),
                dry_run=tool.dry if tool else "",
                does=tool.words if tool else "internal task of the fleet",
                catch_up=CATCH_UP.get(name, ONCE) if cron else "",
            )
        )
    return found


@schedule.command("list")
def list_schedule() -> None:
    """List the schedule: for each job, its last result, whether it is late, missed slots, and the next slot."""
    from backlog_worker.domain import cadence
    from backlog_worker.lifecycle import slots, triggers

    with_kit, _ = kit()
    with with_kit.store.read() as unit:
        now = unit.now()
        taken = {lease["name"]: lease["until"] for lease in unit.leases()}
        missed = {
            row["subject"]: f"{row['at']:%Y-%m-%d %H:%MZ}: {row['reason']}"
            for row in reversed(unit.acts(with_kit.env, action=slots.MISSED, most=1000))
        }
        pipelines = triggers.schedules(with_kit, unit)
        done, tried = unit.last_successes(with_kit.env), unit.last_results(with_kit.env)
        late = cadence.missed(with_kit.cadences(), done, tried, unit.born_at(with_kit.env), now)
    data = [
        {
            "name": job.name,
            "schedule": job.when,
            "runs": f"{job.tool}.{job.action}" if job.tool else job.task,
            "catch_up": job.catch_up,
            "last_slot": taken.get(f"beat:{job.name}"),
            "last_result": tried.get(f"{job.tool}.{job.action}", (None,))[0],
            "last_done": done.get(f"{job.tool}.{job.action}"),
            "late": late.get(job.name, ""),
            "missed": missed.get(f"beat:{job.name}"),
            "next": _next(job, now),
        }
        for job in registry()
    ] + [_of_pipeline(each, taken.get(each.name), missed.get(each.name), now) for each in pipelines]
    shown("backlog-worker/schedule", data, lambda: table("", COLUMNS, [tuple(each.values()) for each in data]))


def _of_pipeline(each: "Schedule", taken: "datetime | None", missed: str | None, now: "datetime") -> dict[str, object]:
    """Return the row of a pipeline's schedule, which files an entry and so is never done or late itself."""
    known = {"name": each.pipeline, "schedule": each.line, "runs": f"pipeline {each.pipeline}"}
    told = {"last_slot": taken, "last_result": None, "last_done": None, "late": "", "missed": missed}
    return {**known, "catch_up": each.catch_up, **told, "next": each.slots.next(now)}


@schedule.command("run")
def run_job(name: Annotated[str, typer.Argument(help="The name of a governed job.")], dry_run: DryRun = False) -> None:
    """Run one scheduled job now, as the current actor."""
    from backlog_worker.cli.governing import run_action
    from backlog_worker.lifecycle import tools

    if name not in tools.JOBS:
        message = f"there is no governed job {name!r}"
        raise NotFoundError(message, hint=f"one of: {', '.join(tools.JOBS)}")
    run_action(*tools.JOBS[name], {}, dry_run=dry_run)


@schedule.command("export")
def export(
    user: Annotated[str, typer.Option("--user", help="The user; lines in /etc/cron.d need one.")] = "",
    out: Annotated[Path | None, typer.Option("--out", help="The output file; default: standard output.")] = None,
) -> None:
    """Export the jobs that run at a time of day as a cron file, for installations without beat."""
    _, given = kit()  # the first job would create an empty database
    if given.keeps == "memory":
        message = "BACKLOG_BACKEND=memory ends with this process: cron needs a lasting backlog"
        raise RefusedError(message, hint="unset BACKLOG_BACKEND, or set BACKLOG_DATABASE_URL")
    text = "\n".join(_cron(registry(), given, user=user)) + "\n"
    if out is None:
        verbatim(text.rstrip("\n"))
    else:
        write_text(out, text)
        say(f"wrote {out}")


@schedule.command("registry")
def print_registry() -> None:
    """Print the registry of jobs as a Markdown page: schedule, inputs, scope and dry run of each."""
    shown("backlog-worker/registry", registry(), lambda: verbatim(document().rstrip("\n")))


def document() -> str:
    """Return docs/schedule.md."""
    lines = [
        "# Schedule",
        "",
        "`backlog-worker schedule registry` generates this page from `beat_schedule.py`, and a test compares the two.",
        "All times are in UTC. To see what a job would do, run `backlog-worker schedule run NAME --dry-run`.",
        "[Pipelines](pipelines.md#time) explains `catch up` and how a change of clocks affects schedules.",
        "",
        "| job | when | catch up | runs | scope | inputs | dry run | what it does |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for job in registry():
        runs = f"`{job.tool}.{job.action}`" if job.tool else f"`{job.task}`"
        inputs = ", ".join(f"`{each}`" for each in job.inputs) or "-"
        scope = f"`{job.scope}`" if job.scope else "-"
        late = f"`{job.catch_up}`" if job.catch_up else "-"
        row = (f"`{job.name}`", f"`{job.when}`", late, runs, scope, inputs, job.dry_run or "-", job.does)
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines) + "\n"


@schedule.command("check")
def check(path: Annotated[Path, typer.Argument(help="A cron file written by `schedule export`.")]) -> None:
    """Compare a cron file with beat_schedule.py; exit with 7 if they differ."""
    found = drift(read_text(path))
    shown("backlog-worker/drift", found, lambda: say(*found or [f"{path} is what beat_schedule.py says"]))
    if found:
        talk("help: backlog-worker schedule export --out FILE")
        raise SystemExit(FINDINGS)


def drift(text: str) -> list[str]:
    """Return how a cron file differs from the schedule: jobs that are missing, moved, duplicated or foreign."""
    wanted = {(job.tool, job.action): job for job in registry() if job.cron}
    seen: dict[tuple[str, str], str] = {}
    found = []
    for number, line in enumerate(text.splitlines(), start=1):
        match, named = _LINE.match(line), _NAMED.search(line)
        if line.startswith("#") or not match or not named:
            continue
        key = (named[1], named[2])
        when = " ".join(match[1].split())
        if key in seen:
            found.append(f"line {number}: {key[0]}.{key[1]} is listed twice")
        elif key not in wanted:
            found.append(f"line {number}: {key[0]}.{key[1]} is not a job of beat_schedule.py")
        elif when != wanted[key].cron:
            found.append(f"line {number}: {wanted[key].name} runs at {when}, beat_schedule.py says {wanted[key].cron}")
        seen[key] = when
    found += [f"{job.name} ({job.cron}) is missing" for key, job in wanted.items() if key not in seen]
    return found


def _cron(jobs: list[Job], given: "Settings", *, user: str) -> Iterator[str]:
    """Yield self-contained cron lines: cron gives a job neither PATH nor our environment."""
    yield "# Made by `backlog-worker schedule export` from beat_schedule.py; `schedule check` finds drift."
    address, secret = without_password(given.database)
    if secret:
        yield "# The password of the database is not written here: put it into ~/.pgpass of the user that runs this."
    yield "CRON_TZ=UTC"
    yield "SHELL=/bin/sh"
    who = f"{user} " if user else ""
    values: dict[str, object] = {
        "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
        "BACKLOG_DIR": given.folder,
        "BACKLOG_ENV": given.env,
        "BACKLOG_BACKEND": given.keeps,
    }
    if given.keeps != "jsonl":
        values["BACKLOG_DATABASE_URL"] = address
    words = " ".join(f"{name}={_quoted(value)}" for name, value in values.items())
    log = _quoted(given.folder / "state" / "cron.log")
    for job in jobs:
        if job.cron:
            params = _quoted(json.dumps({"env": given.env}))
            run = f"backlog-worker tool run --tool {job.tool} --action {job.action} --params-json {params}"
            place = f"cd {_quoted(given.folder.parent)} && umask 077"
            yield f"{job.cron} {who}{place} && {words} {run} >>{log} 2>&1  # {job.name}"


def _quoted(value: object) -> str:
    """Quote a word for a shell and for cron, where an unescaped per cent sign ends the command."""
    word = shlex.quote(str(value))
    return word.replace("%", "'\\%'" if word.startswith("'") else "\\%")


def _seconds(interval: object) -> float:
    length: timedelta = getattr(interval, "run_every", timedelta(0))
    return length.total_seconds()


def _next(job: Job, now: "datetime") -> "datetime | None":
    from backlog_worker.domain.slots import Slots

    return Slots.of(job.cron).next(now) if job.cron else None
