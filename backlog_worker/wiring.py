"""The composition root: settings in, the kit out; nothing is built anywhere else."""

import importlib.util
import os
import random
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from ulid import ULID

from backlog_worker import settings as environment
from backlog_worker.executors import Executor
from backlog_worker.executors.choice import AgentExecutor
from backlog_worker.executors.command import CommandExecutor
from backlog_worker.executors.openai import OpenAIExecutor
from backlog_worker.executors.python import PythonExecutor
from backlog_worker.executors.replay import Answers, ReplayExecutor
from backlog_worker.executors.template import TemplateExecutor
from backlog_worker.integrations import Definitions
from backlog_worker.integrations.artifacts import FolderArtifacts
from backlog_worker.integrations.folder import FolderTracker
from backlog_worker.integrations.project import Project
from backlog_worker.integrations.secrets import Secrets
from backlog_worker.lifecycle import Kit, intake
from backlog_worker.lifecycle.definitions import Book, reload
from backlog_worker.lifecycle.heart import Heart
from backlog_worker.lifecycle.report import StageReport
from backlog_worker.settings import Settings
from backlog_worker.store import Store, migrate

NOTHING: Mapping[str, str] = {}
NO_SECRETS: Callable[[str], str | None] = NOTHING.get


def new_id(prefix: str) -> str:
    """Return a new id: a prefix and a ULID."""
    return f"{prefix}_{ULID()}"


def store_of(settings: Settings) -> Store:
    """Open the store, making the folder of an embedded one."""
    if settings.database.startswith("sqlite:///"):
        Path(settings.database.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    return Store(settings.database)


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
    """Build a kit over a store of its own that pauses nowhere: for tests, rehearsals, and single jobs.

    A worker with four slots is seen in it for ever; commands of gates run in *root*.
    """
    store = Store(url, clock=clock)
    migrate.upgrade(store)
    commands = CommandExecutor(project=root or folder, workspaces=folder / "workspaces")
    kit = Kit(
        env="prod",
        worker="worker@bench",
        store=store,
        definitions=definitions,
        book=Book(env="prod"),
        executors={"command": commands, "template": TemplateExecutor(), **executors},
        gates=commands,
        artifacts=FolderArtifacts(folder / "artifacts"),
        tracker=FolderTracker(folder / "writebacks"),
        heart=Heart(store),
        report=StageReport,
        secrets=secrets,
        new_id=new_id,
        jitter=lambda: 0.5,
        pause=lambda _seconds: None,
        seen_within=timedelta(days=3650),
    )
    reload(store, kit.book, definitions, author="file", first=True)
    with store.begin() as unit:
        unit.see_worker({"name": "w", "queues": ["stages", "control"], "slots": 4, "schema_min": 1, "schema_max": 2})
    return kit


def rehearsal(definitions: Definitions, answers: Answers, *, root: Path) -> tuple[Kit, Callable[[float], None]]:
    """Build a kit whose executors answer from a recording, and the hand that moves its clock."""
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
    """Build a kit that does single jobs in this directory, with the real executors and no backlog."""
    project = Project(given.folder)
    folder = Path(tempfile.mkdtemp(prefix="solo-"))
    commands = CommandExecutor(project=project.root, workspaces=folder / "workspaces")
    kit = memory_kit(
        project,
        executors_of(given, commands),
        folder=folder,
        clock=time.time,
        root=project.root,
        secrets=Secrets(given.secrets_dir, given.secrets_command),
    )
    return replace(kit, pause=time.sleep, artifacts=FolderArtifacts(project.state / "artifacts"))


def executors_of(given: Settings, commands: CommandExecutor) -> dict[str, Executor]:
    """Return every executor that works in this installation, by name; `agent` hands on to the one that fits."""
    found: dict[str, Executor] = {
        "command": commands,
        "python": PythonExecutor(),
        "template": TemplateExecutor(),
        "openai": OpenAIExecutor(given.openai_url),
    }
    speaks: Callable[[], bool] = bool
    if importlib.util.find_spec("acp") is not None:  # an optional part: `backlog-worker[acp]`
        from backlog_worker.executors import acp

        found["acp"] = acp.AcpExecutor(project=commands.project, workspaces=commands.workspaces)
        speaks = acp.here
    return {**found, "agent": AgentExecutor(found, endpoint=bool(given.openai_url), speaks=speaks)}


def kit_of(settings: Settings | None = None, *, worker: str = "", store: Store | None = None) -> Kit:
    """Build the kit of one process; the schema must fit, and the definitions of the project are read."""
    given = settings or environment.load()
    opened = store or store_of(given)
    if store is None:
        migrate.fitting(opened)
    project = Project(given.folder)
    commands = CommandExecutor(project=project.root, workspaces=project.state / "workspaces")
    kit = Kit(
        env=given.env,
        worker=worker or f"{given.host}:{os.getpid()}",
        store=opened,
        definitions=project,
        book=Book(env=given.env),
        executors=executors_of(given, commands),
        gates=commands,
        artifacts=FolderArtifacts(project.state / "artifacts"),
        tracker=FolderTracker(project.state / "writebacks"),
        heart=Heart(opened),
        report=StageReport,
        secrets=Secrets(given.secrets_dir, given.secrets_command),
        new_id=new_id,
        jitter=random.random,
        pause=time.sleep,
    )
    if reload(kit.store, kit.book, kit.definitions, author="file", first=True):
        intake.clear_all(kit, "a definition came into force")
    return kit
