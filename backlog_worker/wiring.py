"""The composition root: settings in, the kit out; nothing is built anywhere else."""

import importlib.util
import os
import random
import time
from collections.abc import Callable
from pathlib import Path

from ulid import ULID

from backlog_worker import settings as environment
from backlog_worker.executors import Executor
from backlog_worker.executors.choice import AgentExecutor
from backlog_worker.executors.command import CommandExecutor
from backlog_worker.executors.openai import OpenAIExecutor
from backlog_worker.executors.python import PythonExecutor
from backlog_worker.executors.template import TemplateExecutor
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


def new_id(prefix: str) -> str:
    """Return a new id: a prefix and a ULID."""
    return f"{prefix}_{ULID()}"


def store_of(settings: Settings) -> Store:
    """Open the store, making the folder of an embedded one."""
    if settings.database.startswith("sqlite:///"):
        Path(settings.database.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    return Store(settings.database)


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
