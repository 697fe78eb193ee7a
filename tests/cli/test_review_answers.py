"""Answers at a terminal: who may not is refused with status 4, and an approval says what it leaves undone."""

import json
import subprocess
import sys

import pytest

from backlog_worker.domain.outcome import FailureKind, Refused
from backlog_worker.testing import POLICY, bench

SPEC = """\
name: spec
version: 1
jobs:
  - { id: draft, python: "f:draft" }
  - { id: publish, python: "f:publish", dependsOn: draft, approval: { roles: [lead] } }
"""


@pytest.fixture
def project(tmp_path):
    folder = tmp_path / ".backlog-worker"
    (folder / "pipelines").mkdir(parents=True)
    (folder / "policy.yml").write_text(POLICY)
    (folder / "pipelines" / "spec.yml").write_text(SPEC)
    return tmp_path


@pytest.fixture
def table(project):
    return bench(url=f"sqlite:///{project}/b.db", pipelines=[SPEC])


@pytest.fixture
def run(project):
    def _run(*arguments, code=0, who="mallory"):
        env = {"PATH": "/usr/bin:/bin", "HOME": str(project), "BACKLOG_ACTOR": who, "BACKLOG_ENV": "prod"}
        env |= {"BACKLOG_BACKEND": "sqlite"}
        env["BACKLOG_DATABASE_URL"] = f"sqlite:///{project}/b.db"
        done = subprocess.run(
            [sys.executable, "-m", "backlog_worker", *arguments],
            cwd=project, capture_output=True, text=True, timeout=60, check=False, env=env,
        )  # fmt: skip
        assert done.returncode == code, f"{arguments} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        return done

    return _run


def test_b7_at_the_terminal_a_name_without_the_role_is_refused_with_status_4_and_on_record(table, run):
    (filed,) = table.file({"pipeline": "spec"})
    table.run(3)
    refused = run("review", "decide", filed.entry_id, "approve", "--reason", "looks fine", code=4)
    assert "mallory may not answer this review: it needs the role lead (lead: ana, li)" in refused.stderr
    assert "help: `roles` of the policy" in refused.stderr
    assert "may say   lead: ana, li" in run("review", "show", filed.entry_id).stdout
    with table.kit.store.read() as unit:
        (denied,) = unit.acts("prod", result="denied")
    assert (denied["actor"], denied["action"]) == ("mallory", "review.decide")
    run("review", "decide", filed.entry_id, "approve", "--reason", "looks fine", who="ana")


def test_b7_in_bulk_and_alone_a_dead_letter_needs_its_role(table, project, run):
    policy = POLICY.replace("lead:", "reviewer: [rita], lead:").replace("version: 1", "version: 2")
    (project / ".backlog-worker" / "policy.yml").write_text(policy)
    run("policy", "apply", "--reason", "who reviews", who="ana")
    table.executor.results = {"draft": [Refused(kind=FailureKind.GATE, reason="no")] * 2}
    one, two = table.file({"pipeline": "spec"}, {"pipeline": "spec"})
    table.run(3)
    assert "role reviewer (reviewer: rita)" in run("dlq", "discard", one.entry_id, "--reason", "r", code=4).stderr
    bulk = run("dlq", "discard", "--where", "pipeline:spec", "--reason", "r", "--yes", code=5)
    assert "0 done, 2 refused" in bulk.stdout
    run("dlq", "discard", two.entry_id, "--reason", "r", who="rita")


def test_b7_at_the_terminal_an_approval_of_a_dead_letter_names_what_never_ran(table, run):
    table.executor.results = {"draft": [Refused(kind=FailureKind.GATE, reason="no")]}
    (filed,) = table.file({"pipeline": "spec"})
    table.run(3)
    assert "never ran  publish" in run("review", "show", filed.entry_id).stdout
    said = run("review", "decide", filed.entry_id, "approve", "--reason", "fine", code=6)
    assert "although publish never ran" in said.stderr
    assert "--even-though-unfinished" in said.stderr
    done = run("review", "decide", filed.entry_id, "approve", "--reason", "fine", "--even-though-unfinished")
    assert "completed  approve by mallory although publish never ran: fine" in done.stdout


def test_b7_a_role_of_a_pipeline_that_the_policy_does_not_know_is_found_at_its_line(project, run):
    path = project / ".backlog-worker" / "pipelines" / "spec.yml"
    path.write_text(SPEC.replace("[lead]", "[leed]"))
    found = json.loads(run("--json", "pipeline", "validate", code=7).stdout)["data"]
    assert [(each["code"], each["line"]) for each in found] == [("BW218", 5)]
    assert 'did you mean "lead"?' in found[0]["hint"]


def test_b6_at_the_terminal_an_edited_output_that_breaks_its_contract_is_refused_at_once(project, run, table):
    contract = "output: { type: object, required: [n] }"
    body = SPEC.replace('python: "f:draft" }', f'python: "f:draft", {contract} }}').replace("version: 1", "version: 2")
    (project / ".backlog-worker" / "pipelines" / "spec.yml").write_text(body)
    table.texts.texts = [table.texts.texts[0], type(table.texts.texts[0])(kind="pipeline", file="spec.yml", body=body)]
    table.tick()
    (filed,) = table.file({"pipeline": "spec"})
    table.run(1)
    (project / "edit.json").write_text('{"m": 1}')
    fork = ("run", "fork", filed.entry_id, "--from", "draft", "--reason", "r", "--edit-output", "edit.json")
    assert "breaks the contract of draft" in run(*fork, code=2).stderr
    (project / "edit.json").write_text('{"n": 1}')
    assert "the contract and the gates of draft judge the edited output first" in run(*fork).stdout


def test_e_the_schedule_lists_jobs_and_pipelines_with_what_was_missed(project, run, table):
    body = SPEC.replace(
        "jobs:", 'triggers: [{ type: schedule, cron: "30 2 * * *", timezone: Europe/Berlin, catchUp: none }]\njobs:'
    )
    (project / ".backlog-worker" / "pipelines" / "spec.yml").write_text(body)
    run("pipeline", "apply", "--reason", "every night")
    rows = json.loads(run("--json", "schedule", "list").stdout)["data"]
    (pipeline,) = [row for row in rows if row["runs"] == "pipeline spec"]
    assert (pipeline["schedule"], pipeline["catch_up"], pipeline["missed"]) == (
        "30 2 * * * Europe/Berlin",
        "none",
        None,
    )
    assert {row["name"]: row["catch_up"] for row in rows}["daily_seal"] == "once"
    (job,) = [row for row in rows if row["name"] == "daily_seal"]
    assert job["next"] is not None
