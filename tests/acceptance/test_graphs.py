"""Graphs on a real fleet: jobs side by side in real processes, a machine that dies in any stage, a cancel that arrives."""

import os
import random
import sys
import time

import pytest

from backlog_worker import wiring
from backlog_worker.cli import machine
from backlog_worker.domain import drawing, estimate
from backlog_worker.domain.review import Answer, Decided
from backlog_worker.engine import Engine
from backlog_worker.lifecycle import again, operate, rehearse, review
from tests.acceptance.fleet import POLICY, Fleet

pytestmark = [pytest.mark.servers, pytest.mark.timeout(240)]
GRAPH = """\
name: spec
version: 1
concurrency: { maxConcurrentJobs: 3 }
jobs:
  - { id: design, run: "printf 'design '>> effects; sleep 0.3" }
  - { id: backend, dependsOn: design, run: "date +%s.%N > backend.start; sleep 2; date +%s.%N > backend.end; printf 'backend ' >> effects" }
  - { id: frontend, dependsOn: design, run: "date +%s.%N > frontend.start; sleep 2; date +%s.%N > frontend.end; printf 'frontend ' >> effects" }
  - { id: quality-check, dependsOn: [backend, frontend], run: "printf 'quality ' >> effects; exit 1", continueOnError: true }
  - { id: fix-issues, dependsOn: quality-check, when: "quality-check.status == 'failed'", run: "echo '[PROGRESS: 50%]'; echo fixing; sleep 0.3; printf 'fix ' >> effects" }
  - { id: publish, dependsOn: [quality-check, fix-issues], when: "fix-issues.status == 'completed' || quality-check.status == 'completed'", approval: { timeout: 1h }, run: "printf 'publish ' >> effects" }
"""
MANY = """\
name: spec
version: 1
jobs:
  - { id: a, run: "printf 'a ' >> effects; sleep 0.05" }
  - { id: b, dependsOn: a, run: "printf 'b ' >> effects; sleep 0.2" }
  - { id: c, dependsOn: a, run: "printf 'c ' >> effects; sleep 0.1" }
  - { id: d, dependsOn: [b, c], run: "printf 'd ' >> effects; sleep 0.05" }
"""
HANG = """\
name: spec
version: 1
jobs:
  - { id: a, run: "trap '' TERM; (trap '' TERM; echo $$ > pid; sleep 300) & wait" }
  - { id: b, run: "echo $$ > other; exec sleep 300" }
"""


@pytest.fixture(params=["postgres", "sqlite"])
def fleet_of(request, tmp_path, valkey, postgres_url):
    fleets = []

    def _made(*pipelines, **fields):
        database = postgres_url if request.param == "postgres" else f"sqlite:///{tmp_path / 'backlog.db'}"
        fleet = Fleet(root=tmp_path, broker=valkey, database=database, pipelines=pipelines, **fields)
        fleets.append(fleet)
        return fleet

    yield _made
    for fleet in fleets:
        fleet.stop()


def test_a_feature_goes_from_design_to_publication(fleet_of, eventually):
    fleet = fleet_of(GRAPH)
    fleet.both()
    (entry_id,) = fleet.file(1)
    eventually(lambda: fleet.counts() == {"blocked": 1}, within=60, what="the approval")
    _, bells = review.decide(fleet.kit, entry_id, Decided(answer=Answer.APPROVE, actor="li", reason="good"))
    assert bells == []
    eventually(fleet.done, within=60, what="the end\n" + fleet.logs())
    assert fleet.effects().split() == [
        "design",
        *sorted(fleet.effects().split()[1:3]),
        "quality",
        "fix",
        "publish",
    ] or sorted(fleet.effects().split()) == sorted(["design", "backend", "frontend", "quality", "fix", "publish"])
    moment = {
        name: float((fleet.root / name).read_text())
        for name in ("backend.start", "backend.end", "frontend.start", "frontend.end")
    }
    assert moment["backend.start"] < moment["frontend.end"]
    assert moment["frontend.start"] < moment["backend.end"], "they ran side by side, in two processes"
    names = [event.name for event in Engine(fleet.kit, ring=len).follow(entry_id)]
    assert names[-1] == "pipeline:completed"
    assert "job:progress" in names
    assert "job:log" in names
    fleet.sound()


def test_a_machine_that_dies_in_any_stage_costs_no_entry_and_no_join(fleet_of, eventually):
    fleet = fleet_of(MANY)
    fleet.both()
    fleet.file(12)
    chance = random.Random(7)
    for _ in range(5):
        time.sleep(chance.uniform(0.4, 1.4))
        fleet.kill("stages")
        fleet.worker("stages", queues="stages")
    eventually(fleet.done, within=150, what="the end\n" + fleet.logs())
    for job in "abcd":
        assert fleet.effects().split().count(job) >= 12
    assert (
        fleet.value("SELECT count(*) FROM events WHERE change = 'checkpointed' AND data ->> 'result' = 'done'") == 48
    ), "each job counts once"
    fleet.sound()


def test_a_cancel_reaches_the_children_on_their_machine_whatever_they_ignore(fleet_of, eventually):
    fleet = fleet_of(HANG)
    fleet.both()
    (entry_id,) = fleet.file(1)
    eventually(
        lambda: all(
            (fleet.root / name).exists() and (fleet.root / name).read_text().strip() for name in ("pid", "other")
        ),
        within=60,
        what="both children",
    )
    pids = [int((fleet.root / name).read_text()) for name in ("pid", "other")]
    operate.cancel(fleet.kit, entry_id, actor="ana", reason="stop")
    eventually(lambda: not any(alive(pid) for pid in pids), within=25, what="the end of the children")
    assert fleet.counts() == {"canceled": 1}
    fleet.sound()


def test_resume_goes_on_from_the_completed_stages(fleet_of, eventually):
    fleet = fleet_of(MANY.replace("printf 'd ' >> effects", "test -e go && printf 'd ' >> effects || exit 65"))
    fleet.both()
    (entry_id,) = fleet.file(1)
    eventually(lambda: fleet.counts() == {"escalated": 1}, within=60, what="the escalation")
    (fleet.root / "go").touch()
    with fleet.kit.store.read() as unit:
        run_id = unit.runs(entry_id)[0]["id"]
    again.resume(fleet.kit, run_id, actor="ana", reason="it is there now")
    eventually(fleet.done, within=60, what="the end")
    assert sorted(fleet.effects().split()) == ["a", "b", "c", "d"], "nothing was done twice"
    fleet.sound()


def alive(pid):
    try:
        os.kill(pid, 0)
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().split(")")[1].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


AGENT = """\
import json, os, sys
prompt = sys.stdin.read()
context = json.load(open(os.environ["BACKLOG_CONTEXT"]))
open("effects", "a").write(context["job"]["id"] + " ")
print("[PROGRESS: 50%] at work")
usage = {"input_tokens": 900, "output_tokens": 100}
if "together" in prompt:
    print(json.dumps({"type": "result", "total_cost_usd": 0.05, "usage": usage}))
    sys.exit("two tests fail")
data = {"backend": "an endpoint", "frontend": "a page", "verdict": "good", "seen": sorted(context["previousJobs"])}
json.dump({"success": True, "data": data}, open(os.environ["BACKLOG_OUTPUT"], "w"))
print(json.dumps({"type": "result", "total_cost_usd": 0.05, "usage": usage}))
"""
ENDS = {
    "feature-development": {"write-tests": "failed", "fix-issues": "completed", "document": "completed"},
    "bugfix": {"verify": "completed"},
    "continuous-validation": {"base-links": "completed", "fix-issues": "skipped", "report": "completed"},
    "deploy-production": {"verify-production": "failed", "rollback": "completed"},
}


@pytest.fixture
def templates(tmp_path, valkey, postgres_url, monkeypatch):
    """A fleet with the pipelines that `init --template` writes, and an agent on the path that is a script."""
    program = tmp_path / "bin" / "claude"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable} -S\n{AGENT}")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("DEPLOY_TOKEN", "t0ken-of-the-fleet")
    fleet = Fleet(root=tmp_path, broker=valkey, database=postgres_url, pipelines=())
    for name in ENDS:
        machine.write_files(fleet.kit.definitions.folder, template=name)
    (fleet.kit.definitions.folder / "policy.yml").write_text(POLICY)
    fleet.both()
    yield fleet
    fleet.stop()


def test_the_pipelines_of_the_templates_run_ask_fail_roll_back_and_replay(templates, eventually):
    fleet, ids = templates, {}
    for name in ENDS:
        given = {"commit": "abc", "fail": "verify"} if name == "deploy-production" else {}
        eventually(lambda name=name: live(fleet, name), within=30, what=f"the pipeline {name}")
        (ids[name],) = fleet.file(1, pipeline=name, input=given, source=name)
    eventually(lambda: settled(fleet, ids.values()), within=120, what="the approval\n" + fleet.logs())
    _, bells = review.decide(
        fleet.kit, ids["deploy-production"], Decided(answer=Answer.APPROVE, actor="li", reason="go")
    )
    assert bells == []
    eventually(
        lambda: settled(fleet, ids.values(), {"completed", "escalated"}), within=90, what="the end\n" + fleet.logs()
    )
    for name, wanted in ENDS.items():
        run, entry, pipeline, stages = again.entry_of(fleet.kit, ids[name])
        assert entry.status == ("escalated" if name == "deploy-production" else "completed"), entry.reason
        assert wanted.items() <= {job_id: str(stage.status) for job_id, stage in stages.items()}.items()
        recording = rehearse.recorded(fleet.kit, run["id"])
        kit, forward = wiring.rehearsal(fleet.kit.definitions, recording["answers"], root=fleet.root)
        assert rehearse.rehearse(kit, recording, forward, name=name).faults == (), name
        kit.store.close()
        assert drawing.svg(pipeline, {}).startswith("<svg")
        with fleet.kit.store.read() as unit:
            past = estimate.estimated(
                pipeline, unit.durations("prod", [pipeline.hash], 100), unit.costs_of_jobs("prod", name)
            )
            everything = repr(
                [tuple(row) for row in unit.run("SELECT * FROM stages")]
                + [tuple(row) for row in unit.run("SELECT * FROM log_chunks")]
            )
        assert past.parallel_seconds <= past.sequential_seconds
        assert "t0ken-of-the-fleet" not in everything
    assert fleet.value("SELECT sum(usd) FROM spending") > 0.3
    fleet.sound()


def live(fleet, name):
    with fleet.kit.store.read() as unit:
        return f"pipeline/{name}" in unit.live_hashes("prod")


def settled(fleet, ids, statuses=frozenset({"completed", "escalated", "blocked"})):
    with fleet.kit.store.read() as unit:
        return {str(unit.entry(each).status) for each in ids} <= set(statuses)
