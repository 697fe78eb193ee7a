"""What starts by itself, what is refused, what Python users see, and rehearsals that cost nothing."""

import hashlib
import hmac
import json

import pytest

from backlog_worker.domain.errors import InvalidInputError, NotFoundError, UnauthenticatedError, UsageError
from backlog_worker.domain.outcome import Done, FailureKind, Refused
from backlog_worker.engine import Engine
from backlog_worker.integrations import DefinitionFile
from backlog_worker.lifecycle import rehearse, triggers
from backlog_worker.lifecycle.follow import NAMES
from backlog_worker.testing import PIPELINE, Texts, bench
from backlog_worker.wiring import rehearsal

HOOKED = PIPELINE.replace("name: spec", "name: hooked").replace(
    "jobs:",
    """\
triggers:
  - { type: push, branches: [main], secret: "${{ secrets.HOOK }}", labels: [ai-ok] }
  - { type: webhook, secret: "${{ secrets.HOOK }}", filters: { event_type: deploy, environment: production }, transform: { commit: event.commit }, labels: [ai-ok] }
  - { type: schedule, cron: "*/5 * * * *", labels: [ai-ok], input: { nightly: true } }
jobs:""",
)
SECRET = "hook-secret-value"


@pytest.fixture
def table():
    return bench(pipelines=[PIPELINE, HOOKED], secrets={"HOOK": SECRET})


def signed(body, secret=SECRET, **headers):
    signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return {"X-Hub-Signature-256": f"sha256={signature}", **headers}


DEPLOY = json.dumps({"event_type": "deploy", "environment": "production", "commit": "abc"}).encode()


def test_a_signed_message_that_fits_starts_a_pipeline_once(table):
    headers = signed(DEPLOY, **{"X-GitHub-Delivery": "d-1"})
    (filed,) = triggers.receive(table.kit, "hooked", DEPLOY, headers).filed
    (again,) = triggers.receive(table.kit, "hooked", DEPLOY, headers).filed
    assert (filed.new, again.new, again.entry_id) == (True, False, filed.entry_id)
    table.run(3)
    with table.kit.store.read() as unit:
        entry = unit.entry(filed.entry_id)
        assert unit.inputs([entry])[entry.id] == {"commit": "abc"}
    assert entry.status == "completed"
    assert entry.provenance["channel"] == "webhook"


@pytest.mark.parametrize(
    "headers",
    [
        {}, signed(DEPLOY, "wrong"), signed(DEPLOY + b" "), {"X-Hub-Signature-256": "sha256="}, {"X-Hub-Signature-256": "é"},
        {"webhook-signature": "v1,x", "webhook-id": "a", "webhook-timestamp": "1"}, {"X-Gitlab-Token": "wrong"},
    ],
)  # fmt: skip
def test_regression_a_wrong_signature_is_refused(table, headers):
    with pytest.raises(UnauthenticatedError, match="signature"):
        triggers.receive(table.kit, "hooked", DEPLOY, headers)
    assert table.statuses() == {}


def test_the_signature_is_that_of_the_bytes_and_not_of_the_value(table):
    spaced = json.dumps(json.loads(DEPLOY), indent=2).encode()
    with pytest.raises(UnauthenticatedError):
        triggers.receive(table.kit, "hooked", spaced, signed(DEPLOY))
    assert triggers.receive(table.kit, "hooked", spaced, signed(spaced)).filed


def test_what_does_not_fit_or_is_no_message_starts_nothing(table):
    other = DEPLOY.replace(b"production", b"staging")
    assert triggers.receive(table.kit, "hooked", other, signed(other)).filed == ()
    with pytest.raises(InvalidInputError):
        triggers.receive(table.kit, "hooked", b"[1]", signed(b"[1]"))
    with pytest.raises(NotFoundError):
        triggers.receive(table.kit, "spec", DEPLOY, signed(DEPLOY))


def test_a_push_starts_what_watches_its_branch(table):
    push = json.dumps({"ref": "refs/heads/main", "commits": [{"added": ["a"]}]}).encode()
    (filed,) = triggers.receive(table.kit, "hooked", push, signed(push, **{"X-GitHub-Event": "push"})).filed
    assert filed.new
    side = push.replace(b"main", b"side")
    assert triggers.receive(table.kit, "hooked", side, signed(side, **{"X-GitHub-Event": "push"})).filed == ()


def test_a_slot_of_a_schedule_is_filed_once_however_often_it_is_looked_at(table):
    table.clock.forward(301)
    first = triggers.scheduled(table.kit)
    assert [each.new for each in first] == [True]
    assert triggers.scheduled(table.kit) == []
    table.clock.forward(300)
    assert [each.new for each in triggers.scheduled(table.kit)] == [True]


def test_python_users_start_follow_and_subscribe(table):
    table.executor.results = {
        "draft": [lambda job, work: (work.report.line("hello"), work.report.progress(30), Done(output={"x": 1}))[2]]
    }
    engine = Engine(table.kit, ring=table.bells.extend)
    heard = []
    for name in NAMES:
        engine.on(name, lambda event: heard.append((event.name, event.job_id)))
    entry_id = engine.start("spec", {"body": "b"}, labels=["ai-ok"])
    table.run(3)
    names = [event.name for event in engine.follow(entry_id)]
    assert names[0] == "pipeline:started"
    assert names.count("job:started") == names.count("job:completed") == 3
    assert ("job:log", "draft") in heard
    assert ("job:progress", "draft") in heard
    assert ("pipeline:completed", "") in heard
    assert engine.status(entry_id)["jobs"]["draft"]["attemptCount"] == 1
    assert engine.wait(entry_id) == "completed"
    with pytest.raises(UsageError, match="there is no event"):
        engine.on("job:finished", print)


GATED = """\
name: spec
jobs:
  - { id: draft, python: "f:d", retry: { maxAttempts: 2, delayMs: 0 } }
  - { id: check, python: "f:c", dependsOn: draft, gates: [{ id: G-1, check: "output.score >= 0.5" }] }
  - { id: publish, run: "exit 99", dependsOn: check, approval: {} }
"""


def played(recording, body=GATED):
    policy = bench().texts.texts[0]
    texts = Texts([policy, DefinitionFile(kind="pipeline", file="p.yml", body=body)])
    kit, forward = rehearsal(texts, recording["answers"], root=__import__("pathlib").Path())
    return rehearse.rehearse(kit, recording, forward, name="r")


RECORDING = {
    "schema": rehearse.SCHEMA,
    "pipeline": "spec",
    "entry": {"title": "T", "labels": ["ai-ok"], "input": {"body": "b"}},
    "answers": {
        "draft": [{"result": "faulted", "kind": "timeout"}, {"output": {"x": 1}}],
        "check": [{"output": {"score": 0.9}}],
        "publish": [{"output": {}}],
    },
    "people": {"publish": {"answer": "approve"}},
    "expect": {
        "status": "completed",
        "jobs": {"draft": "completed", "publish": "completed"},
        "gates": {"check": {"G-1": "pass"}},
    },
}


def test_a_rehearsal_runs_the_graph_on_recorded_answers_the_same_every_time():
    first, second = played(RECORDING), played(RECORDING)
    assert first == second
    assert first.faults == ()


def test_a_rehearsal_finds_what_ends_otherwise():
    worse = {**RECORDING, "answers": {**RECORDING["answers"], "check": [{"output": {"score": 0.1}}]}}
    faults = " ".join(played(worse).faults)
    assert "escalated, expected completed" in faults
    assert "gate G-1 of check says fail, expected pass" in faults
    refused = {**RECORDING, "people": {"publish": {"answer": "reject"}}}
    assert played(refused).status == "canceled"
    with pytest.raises(InvalidInputError, match="not a recording"):
        rehearse.rehearse(bench().kit, {}, lambda _: None, name="x")


def test_a_recorded_run_replays_as_it_went():
    table = bench(pipelines=[GATED.replace('run: "exit 99"', 'python: "f:p"')])
    (filed,) = table.file({})
    table.executor.results = {"check": [Refused(kind=FailureKind.VALIDATION, reason="no")]}
    table.run(4)
    recording = rehearse.recorded(table.kit, filed.entry_id)
    assert recording["expect"]["status"] == "escalated"
    found = played(recording, GATED)
    assert found.faults == (), found
