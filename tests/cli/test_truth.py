"""What commands say of a backlog that stands still, of a broker that is not there, and of what was."""

import json
import socket
import sys
from dataclasses import dataclass

import pytest
from fastapi.testclient import TestClient

from backlog_worker import telemetry
from backlog_worker.cli import main, samples
from backlog_worker.integrations import Answer, broker
from backlog_worker.testing import bench
from backlog_worker.web import app


@dataclass
class Said:
    """What a command printed."""

    stdout: str
    stderr: str


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run a command in this process: these tests ask what it says, tests/cli/test_commands.py how it starts."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BACKLOG_ACTOR", "ana")

    def _run(*arguments, code=0, **env):
        with monkeypatch.context() as patched:
            for name, value in env.items():
                patched.setenv(name, value)
            patched.setattr(sys, "argv", ["backlog-worker", *arguments])
            with pytest.raises(SystemExit) as ended:
                main()
        said = Said(*capsys.readouterr())
        assert (ended.value.code or 0) == code, f"{arguments} ended with {ended.value.code}:\n{said}"
        return said

    yield _run
    with capsys.disabled():  # a command logs to the standard error of its own time, which is closed now
        telemetry.configure(level="ERROR")


@pytest.fixture
def closed_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        yield probe.getsockname()[1]  # bound, and nobody listens


def test_a5_a_policy_without_scores_makes_status_say_it_and_doctor_find_it(run, tmp_path):
    run("init")
    path = tmp_path / ".backlog-worker" / "policy.yml"
    path.write_text(path.read_text().replace("labels[entry.priority]", "entry.signals.unheard").split("  tests:")[0])
    (tmp_path / "issues.json").write_text(json.dumps(samples.issues(12)))
    run("entry", "import", "issues.json")
    said = run("status").stdout
    assert "SCORE_ERROR" in said
    assert "ALERT entries-faulty" in said
    found = run("doctor", code=7).stdout
    assert "alert entries-faulty" in found
    assert "alert no-worker" in found
    assert run("explain-code", "entries-faulty").stdout.startswith("Entries wait for a repair")
    shown = json.loads(run("--json", "status").stdout)["data"]
    assert shown["waiting"]["SCORE_ERROR"] == sum(n for s, n in shown["counts"]["by_status"].items() if s == "queued")


def test_c3_entries_and_policies_are_found_by_a_person_at_a_terminal(run, tmp_path):
    run("init")
    (tmp_path / "issues.json").write_text(json.dumps(samples.issues(12)))
    run("entry", "import", "issues.json")
    for verb in (("entry", "show"), ("entry", "history"), ("explain",), ("audit", "export")):
        assert run(*verb, "acme/platform#3").stdout
        assert "issues:" not in run(*verb, "#3").stdout
    assert "matches" in run("entry", "show", "in", code=2).stderr
    assert "no entry #99" in run("entry", "show", "#99", code=3).stderr
    assert "nothing was written back" in run("writeback", "show", "#3", code=3).stderr
    assert "did not exist at" in run("explain", "#3", "--at", "2020-01-01", code=3).stderr
    assert "is not known" in run("policy", "show", "--at", "2020-01-01", code=3).stderr
    body = run("policy", "show").stdout
    assert run("policy", "show", "--at", "2099-01-01").stdout == body
    digest = json.loads(run("--json", "policy", "show").stdout)["data"]["sha256"]
    assert run("policy", "show", "--hash", digest[:8]).stdout == body
    for odd in ("zz", "", "%", digest + "0"):
        run("policy", "show", "--hash", odd or "_", code=3)
    run("policy", "show", "--hash", digest, "--at", "2020-01-01", code=2)
    assert json.loads(run("--json", "entry", "list", "--retired").stdout)["data"] == []


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_a5_a_broker_that_is_not_there_is_never_called_ready(run, closed_port, scheme):
    url = f"{scheme}://user:hidden@127.0.0.1:{closed_port}/"
    answer = broker.ask(url)
    assert not answer.answers
    assert "127.0.0.1" in answer.address
    assert "hidden" not in answer.address + answer.error
    run("init")
    done = run("up", code=9, BACKLOG_BROKER_URL=url)
    assert f"127.0.0.1:{closed_port}" in done.stderr
    assert "ready" not in done.stdout + done.stderr
    assert "BAD" in run("doctor", code=7, BACKLOG_BROKER_URL=url).stdout


def test_a5_a_broker_that_takes_connections_and_says_nothing_is_not_ready_either():
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        for scheme in ("redis", "amqp"):
            assert not broker.ask(f"{scheme}://127.0.0.1:{deaf.getsockname()[1]}/", 1).answers


def test_a5_a_broker_that_answers_is_named(valkey):
    answer = broker.ask(valkey)
    assert (answer.answers, answer.words) == (True, valkey)


@pytest.mark.parametrize(
    ("answer", "status", "words"),
    [
        (Answer(address="", asked=False), 200, "unknown"),
        (Answer(address="redis://host"), 200, "answers"),
        (Answer(address="redis://host", error="refused"), 503, "the broker does not answer"),
    ],
)
def test_a5_ready_is_said_only_of_a_broker_that_was_asked(answer, status, words):
    from dataclasses import replace

    table = bench()
    kit = replace(table.kit, broker=lambda: answer)
    with TestClient(app.made(kit, b"pepper"), raise_server_exceptions=False) as client:
        said = client.get("/readyz")
        assert said.status_code == status
        assert words in (said.json().get("broker") or said.json()["detail"])
        assert "redis" not in said.text, "whoever asks is not known"
        assert client.get("/healthz").status_code == 200


def test_a5_a_job_that_never_ran_is_named_by_the_schedule(run):
    run("init")
    shown = {row["name"]: row for row in json.loads(run("--json", "schedule", "list").stdout)["data"]}
    assert {row["late"] for row in shown.values()} == {""}, "a new project"
    assert shown["daily_seal"]["last_done"] is None
    run("schedule", "run", "hourly_check")
    shown = {row["name"]: row for row in json.loads(run("--json", "schedule", "list").stdout)["data"]}
    assert shown["hourly_check"]["last_result"] == "done"
    assert shown["hourly_check"]["last_done"]


def test_c4_metrics_and_status_agree():
    table = bench()
    table.file({}, {"labels": []}, {"pipeline": "missing"})
    table.run(2)
    from backlog_worker.lifecycle import watch

    with TestClient(app.made(table.kit, b"pepper"), raise_server_exceptions=False) as client:
        text = client.get("/metrics").text
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
    found = watch.report(table.kit).measures
    for name, value in (
        *(("eligible_entries", found.eligible), ("covered_entries", found.covered), ("coverage_ratio", found.coverage)),
        *(("done_before_entries", found.done_before), ("nothing_to_do_entries", found.nothing_to_do)),
        *(("not_eligible_entries", found.not_eligible), ("failure_ratio", found.failure_rate)),
        ('entry_wait_seconds{priority="medium",quantile="0.5"}', found.wait_p50["medium"]),
        ('waiting{reason="DEFINITION_MISSING"}', 1),
        ('alert_holds{rule="entries-faulty"}', 1),
    ):
        assert float(lines[f"backlog_{name}"]) == value, name
