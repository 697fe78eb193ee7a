"""The composition root: builds the kit from the settings; nothing is built anywhere else."""

import importlib.util
import os
import random
import secrets as secrets_of_python
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from functools import lru_cache, partial
from pathlib import Path

from ulid import ULID

from backlog_worker import modes
from backlog_worker import settings as environment
from backlog_worker import store as stores
from backlog_worker.domain import trigger
from backlog_worker.domain.cadence import Cadence
from backlog_worker.domain.errors import UnreachableError
from backlog_worker.domain.masking import masked
from backlog_worker.domain.outcome import Result
from backlog_worker.domain.pipeline import Job
from backlog_worker.executors import Executor, Work, isolation
from backlog_worker.executors.choice import AgentExecutor
from backlog_worker.executors.command import CommandExecutor
from backlog_worker.executors.openai import OpenAIExecutor
from backlog_worker.executors.python import PythonExecutor
from backlog_worker.executors.replay import Answers, ReplayExecutor
from backlog_worker.executors.template import TemplateExecutor
from backlog_worker.integrations import Answer, Definitions
from backlog_worker.integrations.artifacts import FolderArtifacts
from backlog_worker.integrations.folder import FolderTracker
from backlog_worker.integrations.notify import Notifier
from backlog_worker.integrations.project import Project
from backlog_worker.integrations.reports import FolderReports
from backlog_worker.integrations.secrets import Secrets
from backlog_worker.integrations.secrets import environment as environment_of_process
from backlog_worker.lifecycle import Kit, enact, tools
from backlog_worker.lifecycle.book import Book
from backlog_worker.lifecycle.definitions import reload
from backlog_worker.lifecycle.heart import Heart
from backlog_worker.lifecycle.report import StageReport
from backlog_worker.settings import Settings
from backlog_worker.store import AutoStore, Store, disk, migrate
from backlog_worker.telemetry import emit

NOTHING: Mapping[str, str] = {}
NO_SECRETS: Callable[[str], str | None] = NOTHING.get


class _Times:
    """Strictly increasing milliseconds, so that ids of one import differ in their first random letters.

    A ULID that shares its millisecond with the previous one is that one plus 1, and could not be shortened by people.
    """

    def __init__(self) -> None:
        self._last = 0
        self._lock = threading.Lock()

    def next(self) -> int:
        """Return the present millisecond, or the first unused one after it."""
        with self._lock:
            self._last = max(time.time_ns() // 1_000_000, self._last + 1)
            return self._last


_TIMES = _Times()


def new_id(prefix: str) -> str:
    """Return a new id: a prefix and a ULID; ids are ordered by the calls."""
    return f"{prefix}_{ULID.from_timestamp(_TIMES.next())}"


def store_of(settings: Settings) -> Store:
    """Open the store, creating the folder of an embedded one; raises NotFoundError if there is no project for it."""
    settings.must_have_begun()
    state = settings.folder / "state"
    if state.exists() or str(state) in settings.database:
        modes.keep(state)  # for the owner only
    if settings.keeps == "auto":
        prepare = partial(_prepared, settings)
        return AutoStore(
            settings.database,
            settings.journal,
            retry_seconds=settings.retry_seconds,
            prepare=prepare,
            env=settings.env,
        )
    if settings.database.startswith("sqlite:///"):
        file = Path(settings.database.removeprefix("sqlite:///"))
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            modes.touch(file)
        except OSError as error:
            raise disk.own(error, file) from None
    return stores.opened(settings.database, env=settings.env)


def plain_store_of(settings: Settings) -> Store:
    """Open the database itself, for migrations; `auto` would check its schema first."""
    return Store(settings.database, env=settings.env) if settings.keeps == "auto" else store_of(settings)


def _prepared(settings: Settings, journal: Store) -> None:
    """Migrate the schema of a journal, and put the project's definitions in force in it."""
    migrate.upgrade(journal)
    reload(journal, Book(env=journal.env), Project(settings.folder), author="file", first=True)


def memory_kit(
    definitions: Definitions,
    executors: Mapping[str, Executor],
    *,
    folder: Path,
    clock: Callable[[], float],
    url: str = "memory://",
    root: Path | None = None,
    secrets: Callable[[str], str | None] = NO_SECRETS,
) -> Kit:
    """Build a kit over its own store without pauses: for tests, rehearsals and single jobs.

    A worker with four slots is always registered in it; commands of gates run in *root*.
    """
    store = _migrated(url, clock)

    def _of(env: str) -> Kit:
        opened = store if env == store.env else store.of(env)
        commands = CommandExecutor(project=root or folder, workspaces=folder / env / "workspaces")
        return Kit(
            env=env,
            worker="worker@bench",
            store=opened,
            definitions=definitions,
            book=Book(env=env),
            executors={"command": commands, "template": TemplateExecutor(), **executors},
            gates=commands,
            artifacts=FolderArtifacts(folder / env / "artifacts"),
            tracker=FolderTracker(folder / env / "writebacks"),
            reports=FolderReports(folder / "reports" / env),
            notifier=Notifier({}, secrets),
            heart=Heart(opened),
            report=StageReport,
            secrets=secrets,
            new_id=new_id,
            jitter=lambda: 0.5,
            pause=lambda _seconds: None,
            seen_within=timedelta(days=3650),
            elsewhere=_of,
            fleet=True,
            cadences=cadences,
        )

    return _alive(_of(store.env))


def _migrated(url: str, clock: Callable[[], float]) -> Store:
    store = stores.opened(url, clock=clock)
    migrate.upgrade(store)
    return store


def _alive(kit: Kit) -> Kit:
    """Put the definitions in force, and register a worker."""
    reload(kit.store, kit.book, kit.definitions, author="file", first=True)
    with kit.store.begin() as unit:
        unit.see_worker({"name": "w", "queues": ["stages", "control"], "slots": 4, "schema_min": 1, "schema_max": 9})
    return kit


def rehearsal(definitions: Definitions, answers: Answers, *, root: Path) -> tuple[Kit, Callable[[float], None]]:
    """Build a kit whose executors answer from a recording, and a function that advances its clock."""
    now = [1_800_000_000.0]

    def _forward(seconds: float) -> None:
        now[0] += seconds

    executor = ReplayExecutor(answers)
    kinds = dict.fromkeys(("agent", "command", "python", "template"), executor)
    folder = Path(tempfile.mkdtemp(prefix="rehearsal-"))
    kit = memory_kit(
        definitions, kinds, folder=folder, clock=lambda: now[0], root=root, secrets=lambda name: f"rehearsed {name}"
    )
    return kit, _forward


def solo(given: Settings) -> Kit:
    """Build a kit that performs single jobs in this directory, with the real executors and no backlog."""
    project = Project(given.folder, given.env)
    folder = Path(tempfile.mkdtemp(prefix="solo-"))
    commands = commands_of(given, project.root, folder / "workspaces")
    kit = memory_kit(
        project,
        executors_of(given, commands),
        folder=folder,
        clock=time.time,
        root=project.root,
        secrets=Secrets(given.secrets_dir, given.secrets_command),
    )
    return replace(kit, pause=time.sleep, artifacts=FolderArtifacts(project.own / "artifacts"))


def pepper_of(given: Settings) -> bytes:
    """Return the secret that keys the hashes of tokens: the configured one, or the project's own."""
    said = given.token_pepper.get_secret_value()
    if said:
        return said.encode()
    path = given.folder / "state" / "token_pepper"
    path.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(secrets_of_python.token_hex(32).encode())
    return path.read_bytes()


def commands_of(given: Settings, root: Path, workspaces: Path) -> CommandExecutor:
    """Build the executor of commands: its jobs see no state and no secrets, and cannot change definitions."""
    isolation.choose(given.isolation)
    kept = given.folder / "state"
    files = [Path(given.database.removeprefix("sqlite:///"))] if given.database.startswith("sqlite:///") else []
    outside = [path.with_name(path.name + end) for path in files for end in ("", "-wal", "-shm")]
    hidden = (kept, given.secrets_dir, *(path for path in outside if not path.is_relative_to(kept)))
    fixed = tuple(given.folder / name for name in ("policy.yml", "pipelines", "agents"))
    return CommandExecutor(project=root, workspaces=workspaces, hidden=hidden, fixed=fixed)


def executors_of(given: Settings, commands: CommandExecutor) -> dict[str, Executor]:
    """Return every executor available in this installation, by name; `agent` delegates to the suitable one."""
    found: dict[str, Executor] = {
        "command": commands,
        "python": PythonExecutor(),
        "template": TemplateExecutor(),
        "openai": OpenAIExecutor(given.openai_url),
    }
    speaks: Callable[[], bool] = bool
    if importlib.util.find_spec("acp") is not None:  # an optional part: `backlog-worker[acp]`
        found["acp"] = _Acp(commands)
        speaks = _speaks
    return {**found, "agent": AgentExecutor(found, endpoint=bool(given.openai_url), speaks=speaks)}


class _Acp:
    """The Agent Client Protocol executor, imported on first use because that takes half a second."""

    def __init__(self, commands: CommandExecutor) -> None:
        self._commands = commands

    def perform(self, job: Job, work: Work) -> Result:
        """Perform *job* by an agent that supports the protocol."""
        from backlog_worker.executors import acp

        made = self._commands
        return acp.AcpExecutor(made.project, made.workspaces, made.hidden, made.fixed).perform(job, work)


def _speaks() -> bool:
    from backlog_worker.executors import acp

    return acp.here()


def kit_of(
    settings: Settings | None = None, *, worker: str = "", store: Store | None = None, fleet: bool = False
) -> Kit:
    """Build the kit of one process; raises if the schema does not fit.

    In the *fleet*, the project's files come into force now and with every tick. Any other process writes nothing here,
    and reads the files only if nothing is in force yet.
    """
    given = settings or environment.load()
    opened = store or store_of(given)
    away = _away(opened) if store is None else False
    using = "journal" if away else "postgres" if opened.dialect.name == "postgresql" else given.keeps
    emit("store_opened", backend=given.keeps, using=using, address=masked(given.database))
    kit = replace(_built(given, opened, worker or f"{given.host}:{os.getpid()}"), fleet=fleet)
    if not away:
        enact.follow(kit, first=True)
        enact.offer(kit)
    return kit


def _built(given: Settings, opened: Store, worker: str) -> Kit:
    secrets = Secrets(given.secrets_dir, given.secrets_command)
    project = Project(given.folder, given.env)
    commands = commands_of(given, project.root, project.own / "workspaces")

    def _elsewhere(env: str) -> Kit:
        return _built(given.elsewhere(env), opened.of(env), worker)

    return Kit(
        env=given.env,
        worker=worker,
        store=opened,
        definitions=project,
        book=Book(env=given.env),
        executors=executors_of(given, commands),
        gates=commands,
        artifacts=FolderArtifacts(project.own / "artifacts", project.state / "artifacts"),
        tracker=FolderTracker(project.own / "writebacks", project.state / "writebacks"),
        reports=FolderReports(given.reports),
        notifier=Notifier(environment_of_process(), secrets),
        heart=Heart(opened),
        report=StageReport,
        secrets=secrets,
        new_id=new_id,
        jitter=random.random,
        pause=time.sleep,
        elsewhere=_elsewhere,
        cadences=cadences,
        broker=partial(asked, given.broker),
    )


def asked(url: str) -> Answer:
    """Ask the broker at *url* whether it answers."""
    from backlog_worker.integrations import broker  # imports kombu, which few commands need

    return broker.ask(url)


@lru_cache(maxsize=1)
def cadences() -> tuple[Cadence, ...]:
    """Return the governed jobs of beat_schedule.py with a time of day, and the actions that record them."""
    from beat_schedule import BEAT_SCHEDULE  # imports Celery, which few commands need

    crons = {name: trigger.cron_in(str(entry["schedule"])) for name, entry in BEAT_SCHEDULE.items()}
    named = {name: ".".join(tools.JOBS[name]) for name, cron in crons.items() if cron and name in tools.JOBS}
    return tuple(Cadence(job=name, action=action, cron=crons[name]) for name, action in named.items())


def _away(store: Store) -> bool:
    """Check that the schema fits; if the database is unavailable, a store with a journal continues without it."""
    try:
        migrate.fitting(store)
    except UnreachableError:
        if isinstance(store, AutoStore):
            return True
        raise
    return False
