"""The supervisor at work: `up` for the user's project, `demo` for the sample backlog, and the files of `init`."""

import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from backlog_worker import modes, settings, telemetry, wiring
from backlog_worker.cli import samples, supervisor
from backlog_worker.cli.definitions import schema_of
from backlog_worker.cli.output import INTERRUPTED, following, say, talk
from backlog_worker.cli.screen import Screen, draw, live, status_panel
from backlog_worker.domain.errors import BusyError, ConflictError, RefusedError, UnreachableError
from backlog_worker.domain.masking import masked
from backlog_worker.domain.search import parsed
from backlog_worker.domain.specification import duplicates
from backlog_worker.domain.tracker import drafted
from backlog_worker.executors import isolation
from backlog_worker.integrations import broker, project
from backlog_worker.lifecycle import Kit, audit, intake, watch
from backlog_worker.lifecycle.loops import attempt, insist
from backlog_worker.lifecycle.watch import Report
from backlog_worker.settings import Settings
from backlog_worker.store import Store, migrate

FILES = Path(__file__).parent / "files"
AGENTS = ("architect", "backend", "documentation", "fixer", "frontend", "reviewer", "tester")
# The additional files of `init --template`.
TEMPLATES: Mapping[str, tuple[str, ...]] = {
    "spec": (),
    "feature-development": ("pipelines/feature-development.yml",),
    "bugfix": ("pipelines/bugfix.yml",),
    "continuous-validation": ("pipelines/continuous-validation.yml", "pipelines/common/validation.yml"),
    "deploy-production": ("pipelines/deploy-production.yml", "tools/step.py"),
}
WRITTEN = ("policy.yml", "pipelines/spec.yml", "tools/collect.py", "tools/publish.py")
AWAY_SECONDS = 2.0
DATABASE_SECONDS = 60.0  # how long a start waits for an unavailable database
MOVING = ("queued", "ready", "in_progress", "retrying")


def write_files(folder: Path, *, template: str = "spec", force: bool = False) -> tuple[list[Path], list[Path]]:
    """Write the commented files of a project and the schemas for editors; returns (written, kept)."""
    import json

    written, kept = [], []
    agents = () if template in {"spec", "deploy-production"} else tuple(f"agents/{name}.md" for name in AGENTS)
    for name in (*WRITTEN, *TEMPLATES[template], *agents):
        path = folder / name
        there = next((each for each in project.spelled(path) if each.exists()), None)
        if there is not None and not (force and there == path):
            kept.append(there)  # also with the other suffix: of two files of one name neither is used
            continue
        with modes.as_people():
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(FILES / name, path)
        written.append(path)
    modes.keep(folder / "state")
    schemas = folder / "state" / "schemas"
    schemas.mkdir(parents=True, exist_ok=True)
    for kind in ("policy", "pipeline", "agent", "digest"):
        (schemas / f"{kind}.json").write_text(json.dumps(schema_of(kind), indent=1))
    ignore = folder / ".gitignore"
    if not ignore.exists():
        with modes.as_people():
            ignore.write_text("state/\nspecs/\n")
    return written, kept


def up(*, workers: int, flower: bool, web: bool = False) -> None:
    """Start all services here and watch them until Ctrl-C."""
    given = settings.load()
    if not project.policies(given.folder):
        message = f"there is no policy in {given.folder}"
        raise RefusedError(message, hint="backlog-worker init")
    with _running(given, workers=workers, flower=flower, web=web) as (kit, machine):
        talk("Ctrl-C stops all and keeps the state.")
        _watch(kit, machine, done=lambda _report: False)


def demo(*, entries: int, workers: int, flower: bool, keep: bool, fresh: bool) -> None:
    """Run the demo to its end: import sample issues, write specifications, ask people, print a report."""
    loaded = settings.load()
    given = loaded.model_copy(update={"dir": loaded.here})  # a demo inside of a project is one of its own
    if fresh:
        _forget(given)
    write_files(given.folder)
    if not given.broker_url and not given.database_url:
        talk(f"demo in {given.folder}; nothing is installed or written elsewhere")
    began = time.monotonic()
    with _running(given, workers=workers, flower=flower) as (kit, machine):
        _import(kit, entries)
        report = _watch(kit, machine, done=_done)
        seconds = time.monotonic() - began
        _deliver(kit)
        _print_report(kit, report, seconds)
        if keep:
            talk("everything stays up; Ctrl-C stops all and keeps the state.")
            _watch(kit, machine, done=lambda _report: False)


@dataclass(slots=True)
class _Stopped:
    """Whether a signal asked us to stop."""

    asked: bool = False


@contextmanager
def _running(
    given: Settings, *, workers: int, flower: bool, web: bool = False
) -> "Iterator[tuple[Kit, supervisor.Supervisor]]":
    """Start the services of this machine, and stop them in any case."""
    isolation.shut()
    telemetry.configure(level="ERROR")
    given.own.mkdir(parents=True, exist_ok=True)
    lock = FileLock(given.own / "up.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        message = f"another `up` or `demo` runs in {given.folder} for {given.env}"
        raise ConflictError(message, hint="stop it, or work in another folder with --dir") from None
    try:
        kit = _reached(partial(_kit, given, wiring.store_of(given)))
        talk(f"  database  {masked(given.database)}")
        env = {"BACKLOG_DIR": str(given.folder), "BACKLOG_ENV": given.env}
        machine = supervisor.Supervisor(given.folder.parent, given.own / "logs", env)
        _broker(given)
        machine.services += supervisor.services(
            given, workers=workers, flower=flower, web=web, seen=_seen(kit), beats=_beats(kit)
        )
        try:
            machine.start(lambda name: talk(f"  {name:<9} ready{_where(name, workers)}"))
            yield kit, machine
        finally:
            talk("stopping ...")
            machine.stop()
    finally:
        lock.release()


def _kit(given: Settings, store: Store) -> Kit:
    migrate.upgrade(store)
    return wiring.kit_of(given, worker="up", store=store, fleet=True)


def _reached(step: Callable[[], Kit]) -> Kit:
    """Wait for a database that starts after us and report that; raises its error after DATABASE_SECONDS."""
    until, said = time.monotonic() + DATABASE_SECONDS, False

    def _once() -> Kit:
        nonlocal said
        try:
            return step()
        except (UnreachableError, BusyError) as error:
            if not said:
                talk(f"  database  waited for, up to {DATABASE_SECONDS:.0f} s: {error}")
            said = True
            raise

    return insist(_once, given_up=lambda: time.monotonic() > until)


def _where(name: str, workers: int) -> str:
    return {
        "stages": f"   {workers} slots",
        "flower": "   http://127.0.0.1:5555",
        "web": "   http://127.0.0.1:8420",
    }.get(name, "")


def _broker(given: Settings) -> None:
    """Check that an external broker answers before any service starts; raises UnreachableError."""
    if not given.broker_url:
        return
    answer = broker.ask(given.broker)
    if not answer.answers:
        message = f"the broker {answer.address} does not answer: {answer.error}"
        raise UnreachableError(message, hint="start it, correct BACKLOG_BROKER_URL, or unset it for an embedded one")
    talk(f"  broker    {answer.address}")


def _beats(kit: Kit) -> Callable[[], bool]:
    """Return a function that tells whether beat has taken a slot of the schedule since now."""
    with kit.store.read() as unit:
        began = unit.now()

    def _has() -> bool:
        with kit.store.read() as unit:
            return any(row["holder"] == "beat" and row["until"] > began for row in unit.leases())

    return _has


def _seen(kit: Kit) -> Callable[[str], bool]:
    with kit.store.read() as unit:
        before = {row["name"]: row["seen_at"] for row in unit.workers()}

    def _is(name: str) -> bool:
        with kit.store.read() as unit:
            return any(row["name"] == name and row["seen_at"] != before.get(name) for row in unit.workers())

    return _is


def _import(kit: Kit, number: int) -> None:
    """File the sample issues; those of an interrupted demo are recognised, and the demo continues with them."""
    made = duplicates.pointed(samples.issues(number))
    records = ((f"sample:{at}", drafted(issue)) for at, issue in enumerate(made, start=1))
    results = list(intake.file(kit, records, actor="demo", channel="import"))
    new = [each for each in results if each.new]
    queued = sum(each.status == "queued" for each in new)
    before = sum(each.status == "completed" for each in new)
    talk(
        f"  imported  {len(new)} sample issues: {queued} eligible, {before} specified before,"
        f" {len(new) - queued - before} not eligible; {len(results) - len(new)} known or listed twice"
    )


def _watch(kit: Kit, machine: supervisor.Supervisor, *, done: Callable[[Report], bool]) -> Report:
    """Show the backlog until it is done or a signal arrives; Ctrl-C ends with status 130 and keeps the state.

    Temporary failures do not end this: of the database, a disk, a service.
    """
    stopped = _Stopped()
    before = {number: signal.signal(number, lambda *_: _ask(stopped)) for number in (signal.SIGINT, signal.SIGTERM)}
    away = False
    try:
        with live(error=True) as screen:
            while True:
                for name in machine.watch():
                    attempt("up", partial(screen.tell, f"{name} ended and was started again"))
                looked = attempt("up", partial(_look, kit, screen if screen.terminal else None))
                report, away = looked.value, _report_outage(screen, away, looked.error)
                if report is not None and done(report):
                    return report
                if stopped.asked:
                    raise SystemExit(INTERRUPTED)
                time.sleep(0.3 if report is not None else AWAY_SECONDS)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _look(kit: Kit, screen: Screen | None) -> Report:
    report = watch.report(kit)
    if screen is not None:
        screen.show(status_panel(report))
    return report


def _report_outage(screen: Screen, away: bool, error: Exception | None) -> bool:
    """Report once that the backlog cannot be read, and once that it can be again; returns whether it cannot."""
    if away != (error is not None):
        words = f"{error}; work continues when it is available again" if error else "the backlog can be read again"
        attempt("up", partial(screen.tell, words))
    return error is not None


def _ask(stopped: _Stopped) -> None:
    stopped.asked = True


def _done(report: Report) -> bool:
    return not any(report.counts.by_status.get(status, 0) for status in MOVING)


def _deliver(kit: Kit) -> None:
    """Wait until every record is delivered."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if attempt("up", partial(_delivered, kit)).value:
            return
        time.sleep(0.2)


def _delivered(kit: Kit) -> bool:
    with kit.store.read() as unit:
        return not unit.wishes_due()


def _print_report(kit: Kit, report: Report, seconds: float) -> None:
    """Print the report of a demo; ends with status 1 if a job ran twice or an invariant is broken."""
    counts, measures = report.counts, report.measures
    violations = [*watch.verify(kit), *audit.verify(kit)]
    with kit.store.read() as unit:
        doubled = unit.doubled(kit.env)
        entries = unit.search(kit.env, parsed(""), most=1_000_000)
        twice = [e for e in entries if len(_comments(unit.input(e.id, e.input_sha256))) > 1]
    draw(status_panel(report, title="the backlog is done:"))
    say(
        "",
        f"accounted for   {measures.total} entries: "
        + ", ".join(f"{n} {s}" for s, n in sorted(counts.by_status.items())),
        f"coverage        {measures.coverage:.1%} of {measures.eligible} eligible"
        f"   not eligible {measures.not_eligible}   nothing to do {measures.nothing_to_do}",
        f"specified before {measures.done_before}, {len(twice)} of them twice, by hand",
        f"escalation rate {measures.escalation_rate:.1%}   for people now: {counts.reviews_open}",
        f"failed runs     {measures.failure_rate:.1%}   " + _failures(measures.failures),
        f"throughput      {measures.covered / max(seconds, 0.1):.1f} completed a second, {seconds:.0f} s in all",
        f"ran twice       {doubled}   (completed events per entry, from the history)",
        "invariants      "
        + (f"{len(violations)} BROKEN" if violations else "all hold, every history folds to its row"),
    )
    following("backlog-worker review list; backlog-worker entry list status:completed; backlog-worker dlq groups")
    if doubled or violations:
        raise SystemExit(1)


def _failures(failures: Mapping[str, int]) -> str:
    return "by type: " + (", ".join(f"{kind} {number}" for kind, number in failures.items()) or "none")


def _comments(given: Mapping[str, Any] | None) -> list[Any]:
    found = (given or {}).get("comments") or []
    return [each for each in found if str(each.get("body", "")).startswith("Specification:")]


def _forget(given: Settings) -> None:
    """Remove the state of an embedded project; an external database or broker is never touched."""
    if given.database_url:
        message = "--fresh forgets an embedded database only; BACKLOG_DATABASE_URL is set"
        raise RefusedError(message)
    if (given.folder / "state").exists():
        store = wiring.store_of(given)
        migrate.upgrade(store)
        with store.read() as unit:
            others = [env for env in unit.environments() if env != given.env]
        store.close()
        if others:
            message = f"--fresh forgets the whole database of {given.folder}, which also holds {', '.join(others)}"
            raise RefusedError(message, hint="run the demo in a folder of its own, with --dir")
    for name in ("state", "specs"):
        shutil.rmtree(given.folder / name, ignore_errors=True)
    given.folder.mkdir(parents=True, exist_ok=True)
