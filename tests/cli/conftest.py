"""A prepared project in which every command has something to do, and the command line in this process."""

import json
import shlex
import shutil
import time

import pytest
from typer.testing import CliRunner

from backlog_worker import telemetry
from backlog_worker.cli import app
from backlog_worker.cli.output import OPTIONS, exit_code
from backlog_worker.domain.budget import Usage
from backlog_worker.domain.errors import BacklogError
from backlog_worker.domain.outcome import Done, FailureKind, Refused
from backlog_worker.lifecycle import alerts, send
from backlog_worker.testing import POLICY, Clock, bench

DAY = 86_400
RULES = """\
generation: { labels: [ai-ok], daily_from_risk_digest: true }
retention: { logs: 30d }
alerts: [{ id: many, when: "dashboard.overdue_count >= threshold", threshold: 0, notify: [oncall] }]
"""
SPEC = """\
name: spec
version: 1
jobs:
  - { id: draft, python: "f:draft" }
  - { id: publish, python: "f:publish", dependsOn: draft }
"""
SIGN = """\
name: sign
jobs:
  - { id: draft, python: "f:draft" }
  - { id: publish, python: "f:publish", dependsOn: draft, approval: { roles: [lead] } }
"""
QUESTION = 'name: question\njobs:\n  - { id: ask, interactive: true, prompt: "How many?" }\n'
CACHED = 'name: cached\njobs:\n  - { id: count, python: "f:count", cache: { ttl: 90d } }\n'


class Story:
    """The command line over one prepared project; what it prints for programs is read back."""

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, line, code=0, given=None):
        """Run a command as a person types it, and return what it printed; it must end with this code."""
        done = CliRunner().invoke(app, shlex.split(line), input=given)
        ended = exit_code(done.exception) if isinstance(done.exception, BacklogError) else done.exit_code
        assert ended == code, f"{line} ended with {ended}: {done.output}\n{done.exception!r}"
        return done

    def data(self, line, code=0):
        """Run a command and return its data."""
        return json.loads(self(f"--json {line}", code).stdout)["data"]

    def entries(self, query=""):
        """Return the entries that a filter finds, by their keys."""
        return {each["dedupe_key"]: each for each in self.data(f"entry list {shlex.quote(query)} --limit 500")}

    def id(self, key):
        """Return the id of the entry with this key."""
        return self.entries()[key]["id"]

    def history(self, key):
        """Return what happened to an entry."""
        return self.data(f"entry history {self.id(key)}")


@pytest.fixture(scope="session")
def _prepared(tmp_path_factory):
    """Let a backlog run ten days ago: work that is done, dead letters, questions, and a queue."""
    root = tmp_path_factory.mktemp("story")
    folder = root / ".backlog-worker"
    (folder / "state").mkdir(parents=True)
    (folder / "pipelines").mkdir()
    (folder / "policy.yml").write_text(POLICY + RULES)
    texts = {"spec": SPEC, "sign": SIGN, "question": QUESTION, "cached": CACHED}
    for name, text in texts.items():
        (folder / "pipelines" / f"{name}.yml").write_text(text)
    clock = Clock(time.time() - 10 * DAY)
    made = bench(
        url=f"sqlite:///{folder}/state/backlog.db", clock=clock, policy=POLICY + RULES, pipelines=list(texts.values())
    )
    made.clock = clock
    _live(made)
    alerts.evaluate(made.kit)
    made.kit.store.close()
    return root


def _live(made):
    def paid(job, work):
        work.report.spend(Usage(model="m", input_tokens=10, output_tokens=5, usd=0.5))
        return Done(output={"text": "first"})

    refused = Refused(kind=FailureKind.VALIDATION, reason="no risk is named", rule="SPEC-001")
    (done,) = made.file({"dedupe_key": "done", "title": "Login loop"})
    made.executor.results["draft"] = [paid]
    made.run(4)
    made.executor.results["draft"] = [refused] * 3
    made.file(*({"dedupe_key": f"dead-{n}", "title": f"Dead {n}", "priority": "low"} for n in range(3)))
    made.run(3)
    for name in ("sign", "question", "cached"):
        made.file({"dedupe_key": name, "title": f"Entry {name}", "pipeline": name})
    made.run(4)
    send.send(made.kit)
    with made.kit.store.begin() as unit:
        run = unit.runs(done.entry_id)[0]["id"]
        for job in ("draft", "publish"):
            unit.add_log({"run_id": run, "job_id": job, "take": 1, "n": 0, "text": f"hello of {job}"}, keep=10)
    made.file(*({"dedupe_key": f"wait-{n}", "title": f"Waits {n}"} for n in range(3)))
    made.file({"dedupe_key": "late", "labels": [], "due_date": "2026-01-01T00:00:00Z"})


@pytest.fixture
def story(_prepared, tmp_path, monkeypatch):
    """A copy of the prepared project, in which this process stands as ana."""
    root = tmp_path / "project"
    shutil.copytree(_prepared, root)
    monkeypatch.chdir(root)
    for name, value in (("DIR", root / ".backlog-worker"), ("ENV", "prod"), ("ACTOR", "ana")):
        monkeypatch.setenv(f"BACKLOG_{name}", str(value))
    for name in ("POSTGRES_DSN", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    yield Story(root)
    for name, value in (("as_json", False), ("quiet", False), ("color", True), ("fields", ()), ("lines", False)):
        setattr(OPTIONS, name, value)
    telemetry.configure(level="ERROR")
