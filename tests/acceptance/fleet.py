"""A real fleet for a test: real `celery worker` and `celery beat` processes over a real broker and database."""

import contextlib
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from backlog_worker.lifecycle import audit, intake, watch
from backlog_worker.settings import Settings
from backlog_worker.store import migrate
from backlog_worker.testing import draft
from backlog_worker.wiring import kit_of, store_of

POLICY = """\
version: 1
eligibility:
  - { id: ELIG-LABEL, check: "'ai-ok' in entry.labels" }
dispatch: { top: 50, ahead: 4, batch: 10 }
claims: { timeout: 4s, heartbeat: 1s, maxAttempts: 5, retryDelay: 200ms }
"""
PIPELINE = """\
name: spec
version: 1
jobs:
  - { id: a, run: "printf a >> effects; sleep 0.05" }
  - { id: b, dependsOn: a, run: "printf b >> effects; sleep 0.05" }
  - { id: c, dependsOn: b, run: "printf c >> effects; sleep 0.05" }
"""
QUICK = """\
name: quick
version: 1
jobs:
  - { id: a, python: "tests.acceptance.jobs:done", inline: true }
  - { id: b, dependsOn: a, python: "tests.acceptance.jobs:done", inline: true }
"""


@dataclass
class Fleet:
    """The processes of one test, and the kit with which the test looks at what they do."""

    root: Path
    broker: str
    database: str
    policy: str = POLICY
    pipelines: tuple[str, ...] = (PIPELINE, QUICK)
    env: str = "prod"
    processes: dict[str, subprocess.Popen] = field(default_factory=dict)

    def __post_init__(self) -> None:
        folder = self.root / ".backlog-worker"
        (folder / "pipelines").mkdir(parents=True, exist_ok=True)
        (folder / "policy.yml").write_text(self.policy)
        for number, text in enumerate(self.pipelines):
            (folder / "pipelines" / f"{number}.yml").write_text(text)
        given = Settings(dir=folder, env=self.env, broker_url=self.broker, database_url=self.database)
        store = store_of(given)
        migrate.upgrade(store)
        self.kit = kit_of(given, worker="test", store=store)

    def file(self, number: int, **fields) -> list[str]:
        records = ((f"r{n}", draft(**fields)) for n in range(number))
        return [filed.entry_id for filed in intake.file(self.kit, records, actor="test", channel="test")]

    def worker(self, name: str, *, queues: str, slots: int = 2, pool: str = "prefork") -> None:
        arguments = ["worker", "-n", f"{name}@test", "-P", pool, "-c", str(slots), "-Q", queues]
        self.start(name, [*arguments, "--without-gossip", "--without-mingle"])

    def beat(self, name: str = "beat") -> None:
        self.start(name, ["beat", "--pidfile="])

    def both(self) -> None:
        """The usual fleet: a control worker, a worker for stages, one beat."""
        self.worker("control", queues="control,dead_letter,writeback", pool="threads", slots=3)
        self.worker("stages", queues="stages")
        self.beat()

    def start(self, name: str, arguments: list[str], *, celery: bool = True) -> None:
        env = {name: value for name, value in os.environ.items() if not name.startswith("BACKLOG_")}
        env |= {
            "BACKLOG_DIR": str(self.root / ".backlog-worker"),
            "BACKLOG_BROKER_URL": self.broker,
            "BACKLOG_DATABASE_URL": self.database,
            "BACKLOG_ENV": self.env,
            "BACKLOG_ISOLATION": "subreaper",  # jobs write their process numbers, which must mean something here
            "PYTHONPATH": str(Path(__file__).parents[2]),
        }
        with (self.root / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, *(["-m", "celery", "-A", "backlog_worker"] if celery else []), *arguments],
                cwd=self.root,
                env=env,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """Signal a whole group, as a machine that dies would."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.processes[name].pid, number)
        if number == signal.SIGKILL:
            self.processes.pop(name).wait(10)

    def counts(self) -> dict[str, int]:
        with self.kit.store.read() as unit:
            return unit.statuses(self.env)

    def done(self) -> bool:
        return set(self.counts()) <= {"completed"}

    def effects(self) -> str:
        path = self.root / "effects"
        return path.read_text() if path.exists() else ""

    def value(self, text: str):
        with self.kit.store.read() as unit:
            return unit.value(text)

    def sound(self) -> None:
        """Nothing that must never be is seen."""
        assert watch.verify(self.kit) == []
        assert list(audit.verify(self.kit)) == []

    def stop(self) -> None:
        for name in list(self.processes):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.processes[name].pid, signal.SIGCONT)
            self.kill(name)

    def logs(self) -> str:
        return "\n".join(
            f"== {path.name}\n{path.read_text(errors='replace')[-1500:]}" for path in self.root.glob("*.log")
        )
