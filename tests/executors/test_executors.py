"""Executors do a job once, within its time, and leave nothing behind."""

import threading
import time
from datetime import timedelta

import pytest

from backlog_worker.domain import pipeline
from backlog_worker.domain.outcome import Done, FailureKind, Faulted, Refused, Throttled
from backlog_worker.executors import Stop, Work, isolation, process
from backlog_worker.executors.command import CommandExecutor
from backlog_worker.executors.python import PythonExecutor
from backlog_worker.executors.template import TemplateExecutor


@pytest.fixture
def command(tmp_path):
    return CommandExecutor(project=tmp_path, workspaces=tmp_path / "workspaces")


def job(**fields):
    text = "\n".join(f"    {name}: {value}" for name, value in fields.items())
    return pipeline.load(f"name: p\njobs:\n  - id: j\n{text}\n").jobs[0]


def work(**fields):
    usual = {
        "run_id": "run_test", "entry_id": "bl_test", "take": 1, "entry": {"title": '`$(touch pwned)`; "x"'},
        "input": {"body": "b"}, "previous": {"a": {"n": 1}}, "timeout": timedelta(seconds=10),
    }  # fmt: skip
    return Work(**{**usual, **fields})


def test_a_command_reads_its_context_and_its_output_is_the_data(command):
    run = """'python -c "import json,os; c=json.load(open(os.environ[\\"BACKLOG_CONTEXT\\"])); json.dump({\\"success\\": True, \\"data\\": [c[\\"input\\"], c[\\"previousJobs\\"]]}, open(os.environ[\\"BACKLOG_OUTPUT\\"], \\"w\\"))"'"""
    assert command.perform(job(run=run), work()) == Done(
        output=[{"body": "b"}, {"a": {"status": "completed", "output": {"n": 1}}}]
    )


def test_entry_text_never_reaches_a_command_line(command, tmp_path):
    assert isinstance(command.perform(job(run="cat $BACKLOG_CONTEXT > copy"), work()), Done)
    assert not (tmp_path / "pwned").exists()
    assert "pwned" in (tmp_path / "copy").read_text()


def test_the_environment_of_a_child_is_made_from_nothing(command, tmp_path, monkeypatch):
    monkeypatch.setenv("GITHUB_TOKEN", "canary")
    command.perform(job(run="env > env.txt"), work(env={"STYLE": "concise"}))
    text = (tmp_path / "env.txt").read_text()
    assert "canary" not in text
    assert "STYLE=concise" in text
    assert "BACKLOG_RUN_ID=run_test" in text


@pytest.mark.parametrize(
    ("run", "kind"),
    [
        ("exit 3", FailureKind.EXECUTION),
        ("exit 75", FailureKind.INFRASTRUCTURE),
        ("""'echo "{\\"success\\": false, \\"message\\": \\"no luck\\"}" > $BACKLOG_OUTPUT'""", FailureKind.EXECUTION),
        ("echo nonsense > $BACKLOG_OUTPUT", FailureKind.VALIDATION),
        ("head -c 2000000 /dev/zero > $BACKLOG_OUTPUT", FailureKind.VALIDATION),
    ],
)
def test_how_a_command_may_fail(command, run, kind):
    result = command.perform(job(run=run), work())
    assert isinstance(result, Faulted)
    assert result.kind == kind


def test_a_refusal_a_quota_and_a_missing_program(command):
    assert command.perform(job(run="echo bad input; exit 65"), work()) == Refused(
        kind=FailureKind.VALIDATION, reason="status 65: it refused its input: bad input"
    )
    quota = """'echo "{\\"success\\": false, \\"retryAfterMs\\": 5000}" > $BACKLOG_OUTPUT; exit 1'"""
    assert command.perform(job(run=quota), work()).wait == timedelta(seconds=5)
    assert "not found" in command.perform(job(run="no-such-program-here"), work()).reason


@pytest.fixture
def host_pids():
    """Keep children in the process namespace of the test, where the numbers that they write mean something."""
    isolation.choose("subreaper")
    yield
    isolation.choose("")


def test_a_time_limit_kills_the_whole_group(command, tmp_path, host_pids):
    run = '\'sh -c "echo $$ >> pids; exec sleep 100" & trap "" TERM; echo $$ >> pids; sleep 100\''
    began = time.monotonic()
    result = command.perform(job(run=run), work(timeout=timedelta(milliseconds=300)))
    assert result.kind == FailureKind.TIMEOUT
    assert time.monotonic() - began < 12
    assert not [pid for pid in (tmp_path / "pids").read_text().split() if alive(int(pid))]


def test_a_lost_claim_kills_the_child_at_once(command, tmp_path, eventually, host_pids):
    stop = Stop()
    found = []
    thread = threading.Thread(
        target=lambda: found.append(command.perform(job(run="'echo $$ > pid; exec sleep 100'"), work(stop=stop)))
    )
    thread.start()
    eventually(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip() != "")
    stop.lose()
    thread.join(10)
    assert "claim was lost" in found[0].reason
    assert not alive(int((tmp_path / "pid").read_text()))


def test_a_child_that_prints_without_end_fills_no_memory(command):
    result = command.perform(job(run="'yes | head -c 50000000; exit 1'"), work())
    assert isinstance(result, Faulted)
    assert len(result.reason) < 600


def test_processes_of_a_run_are_found_by_its_id(command, eventually):
    stop = Stop()
    thread = threading.Thread(target=command.perform, args=(job(run="sleep 100"), work(run_id="run_orphan", stop=stop)))
    thread.start()
    eventually(lambda: "run_orphan" in dict(process.orphans()).values())
    stop.lose()
    thread.join(10)


def test_a_workspace_is_gone_after_its_job(command, tmp_path):
    command.perform(job(run="touch $BACKLOG_WORKSPACE/x"), work())
    assert not list((tmp_path / "workspaces").rglob("*"))


def test_a_gate_command_passes_by_its_status(command):
    gated = job(run="'true'", gates="[{ id: G, run: 'grep -q risks $BACKLOG_OUTPUT || { echo no risks; exit 1; }' }]")
    assert command.check(gated.gates[0], gated, work(), {"risks": 1}).result == "pass"
    failed = command.check(gated.gates[0], gated, work(), {})
    assert (failed.result, failed.why) == ("fail", "no risks")


def returns(context):
    return {"title": context["entry"]["title"]}


def raises(_context):
    raise ConnectionError("refused")


def waits(_context):
    while True:
        time.sleep(0.01)


def throttled(_context):
    return Throttled(reason="429", wait=timedelta(seconds=3))


@pytest.mark.parametrize("inline", [True, False])
def test_a_callable_returns_raises_or_says_a_result_of_its_own(inline):
    def call(name):
        made = job(python=f"tests.executors.test_executors:{name}", inline=str(inline).lower())
        return PythonExecutor().perform(made, work())

    assert call("returns").output["title"].startswith("`$(")
    assert call("raises") == Faulted(kind=FailureKind.INFRASTRUCTURE, reason="ConnectionError: refused")
    assert call("throttled").reason == "429"
    assert call("missing").kind == FailureKind.POLICY


def test_a_callable_that_hangs_is_stopped_at_its_time_limit():
    made = job(python="tests.executors.test_executors:waits")
    result = PythonExecutor().perform(made, work(timeout=timedelta(milliseconds=200)))
    assert result.kind == FailureKind.TIMEOUT


def test_an_issue_becomes_a_specification():
    body = (
        "## Steps to reproduce\n1. Open /api/search\n2. Wait\n\n## Expected behaviour\nIt should answer.\n\n"
        "## Actual behaviour\nIt hangs in `search.run()`.\n\n```\nTimeoutError: no answer\n```\nPostgreSQL 15.3, src/search/index.py\n"
    )
    made = job(template="specification")
    result = TemplateExecutor().perform(
        made, work(entry={"title": "Search <hangs>", "labels": ["bug"]}, input={"body": body})
    )
    sections = result.output["sections"]
    assert sections["kind"] == "bug"
    assert sections["steps"] == ["Open /api/search", "Wait"]
    assert sections["versions"] == ["PostgreSQL 15.3"]
    assert "src/search/index.py" in sections["components"]
    assert sections["errors"] == ["TimeoutError: no answer"]
    assert any("regression test" in each for each in sections["acceptance"])
    assert result.output["completeness"] == 1.0
    text = result.artifacts["j.md"].decode()
    assert "## Acceptance criteria" in text
    assert "<hangs>" not in text


@pytest.mark.parametrize("body", ["", " \n", "🤯" * 9000, "```\n" * 500, "(" * 20000, "- [ ] " * 3000, "# " * 9000])
def test_no_text_breaks_or_stalls_the_analysis(body):
    began = time.monotonic()
    result = TemplateExecutor().perform(job(template="specification"), work(input={"body": body}))
    assert result.output["sections"]["questions"]
    assert time.monotonic() - began < 20


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().split(")")[1].split()[0] != "Z"
    except OSError:
        return False
