"""Agents: the conformance of every executor, limits and logs of children, and what providers answer."""

import json
import os
import stat
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backlog_worker.conformance import Conformance
from backlog_worker.domain import pipeline
from backlog_worker.domain.budget import Usage, price
from backlog_worker.domain.outcome import Asked, Done, FailureKind, Faulted, Refused, Throttled
from backlog_worker.executors import Report, Work, presets, workspace
from backlog_worker.executors.acp import AcpExecutor
from backlog_worker.executors.choice import AgentExecutor
from backlog_worker.executors.command import CommandExecutor
from backlog_worker.executors.openai import OpenAIExecutor
from backlog_worker.executors.python import PythonExecutor
from backlog_worker.executors.replay import ReplayExecutor

SCRIPT = Path(__file__).parent / "acp_agent.py"


@pytest.fixture
def command(tmp_path):
    return CommandExecutor(project=tmp_path, workspaces=tmp_path / "workspaces")


def job(head="executor: auto", body="    agent: w", prompt="be brief"):
    text = f"---\n{head}\n---\n{prompt}"
    return pipeline.load(f"name: p\njobs:\n  - id: j\n{body}\n", contract={"agents/w.md": text}.__getitem__).jobs[0]


def work(made, **fields):
    usual = {
        "run_id": "run_test", "entry_id": "bl_test", "take": 1, "entry": {"title": "T"}, "input": {}, "previous": {},
        "timeout": timedelta(seconds=20), "prompt": "do it", "agent": made.agent, "report": Report(),
    }  # fmt: skip
    return Work(**{**usual, **fields})


def program(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(f"#!{sys.executable}\n{text}")
    path.chmod(path.stat().st_mode | stat.S_IEXEC)
    return path


def target(**fields):
    return lambda made, given: (replace(made, **fields), given)


def waits(_context):
    import time

    time.sleep(60)


def test_every_executor_keeps_to_the_protocol(command, tmp_path):
    ok = """python -S -c 'import json,os; json.dump({"success": True, "data": {"x": 1}}, open(os.environ["BACKLOG_OUTPUT"], "w"))'"""
    suites = {
        "command": Conformance(command, works=target(target=ok), fails=target(target="exit 3"), hangs=target(target="sleep 60")),
        "python": Conformance(
            PythonExecutor(),
            works=target(kind="python", target="builtins:dict"),
            fails=target(kind="python", target="builtins:int"),
            hangs=target(kind="python", target="tests.executors.test_agents:waits"),
        ),
        "replay": Conformance(
            ReplayExecutor({"it": [{"output": {}}, {"output": {}}, {"result": "faulted"}]}),
            works=target(kind="agent"), fails=target(kind="agent"),
        ),
        "acp": Conformance(
            AcpExecutor(tmp_path, tmp_path / "w"), works=acp_job(""), fails=acp_job("refuse"), hangs=acp_job("hang")
        ),
    }  # fmt: skip
    assert {name: suite.check() for name, suite in suites.items()} == {name: [] for name in suites}


def acp_job(mode, **env):
    made = job(f"executor: acp\ncommand: [{sys.executable}, {SCRIPT}]\nlimits: {{ usd: 0.5 }}")
    return lambda _job, given: (made, replace(given, agent=made.agent, env={"AGENT_MODE": mode, **env}))


def test_the_protocol_of_agents_gives_permissions_progress_and_cost(tmp_path):
    executor = AcpExecutor(tmp_path, tmp_path / "w")

    def call(mode, **fields):
        made, given = acp_job(mode, **fields.pop("env", {}))(None, work(job(), **fields))
        return executor.perform(made, given), given.report

    done, report = call("")
    assert done.output == {"title": "T", "told": "do it"}
    assert (report.percent, report.cost()["usd"]) == (50, 0.25)
    asked, _ = call("ask")
    assert isinstance(asked, Asked)
    assert (asked.kind, asked.detail) == ("permission", "shell: rm -rf build/")
    assert isinstance(call("ask", granted=(asked.detail,))[0], Done)
    over, report = call("hang", env={"AGENT_COST": "0.9"})
    assert (over.kind, report.cost()["usd"]) == (FailureKind.BUDGET, 0.9)


def test_what_a_child_prints_is_told_line_by_line_with_its_progress(command):
    made = job(body='    run: \'echo one; echo "[PROGRESS: 40%] two"; printf "\\377 three"\'')
    given = work(made)
    assert isinstance(command.perform(made, given), Done)
    assert given.report.lines[:2] == ["one", "[PROGRESS: 40%] two"]
    assert given.report.percent == 40


def test_a_child_that_says_nothing_for_too_long_is_ended(command):
    made = job(body="    run: 'echo a; sleep 60'\n    silence: 1s")
    result = command.perform(made, work(made))
    assert (result.kind, "no output for" in result.reason) == (FailureKind.TIMEOUT, True)


def test_a_child_is_bound_to_its_memory_and_its_output(command):
    made = job(body="    run: 'python -S -c \"x = bytearray(900_000_000)\"'\n    execution: { memoryMb: 300 }")
    assert isinstance(command.perform(made, work(made)), Faulted)
    made = job(body="    run: 'head -c 3000 /dev/zero > $BACKLOG_OUTPUT'\n    execution: { outputBytes: 1000 }")
    assert "at most 1000" in command.perform(made, work(made)).reason


def test_a_workspace_is_its_own_or_shared_by_the_run_and_artifacts_stay_inside(command, tmp_path):
    (tmp_path / "outside.txt").write_text("secret")
    one = job(
        body="    run: 'pwd > here.txt; ln -s ../../../outside.txt link.txt'\n    execution: { isolation: shared }\n    artifacts: ['*.txt', '../*']"
    )
    result = command.perform(one, work(one))
    assert set(result.artifacts) == {"here.txt"}
    two = job(body="    run: 'cat here.txt'\n    execution: { isolation: shared }")
    assert isinstance(command.perform(two, work(two, take=2)), Done)
    own = job(body="    run: 'cat here.txt'\n    execution: { isolation: isolated }")
    assert isinstance(command.perform(own, work(own, take=3)), Faulted)
    assert workspace.runs(tmp_path / "workspaces") == ["run_test"]
    workspace.forget(tmp_path / "workspaces", "run_test")
    assert workspace.runs(tmp_path / "workspaces") == []


def test_setup_comes_first_and_its_failure_is_said(command):
    made = job(
        body="    run: cat made\n    setup: [{ name: make it, command: 'echo x > made' }]\n    execution: { isolation: isolated }"
    )
    assert isinstance(command.perform(made, work(made)), Done)
    made = job(body="    run: echo never\n    setup: [{ name: break it, command: 'exit 4' }]")
    assert "setup break it" in command.perform(made, work(made)).reason


def test_a_command_line_agent_gets_its_prompt_as_one_argument_or_on_stdin(command, tmp_path):
    says = "import json, sys\nprint(json.dumps({'result': json.dumps({'args': sys.argv[1:], 'in': sys.stdin.read()}), 'total_cost_usd': 0.12, 'usage': {'input_tokens': 7, 'output_tokens': 3}}))\n"
    path = program(tmp_path, "agent", says)
    evil = "x'; touch pwned; '`touch pwned`"
    made = job(f"command: [{path}, --flag, '{{prompt}}']")
    given = work(made, prompt=evil)
    assert command.perform(made, given).output == {"args": ["--flag", evil], "in": ""}
    assert given.report.cost() == {"model": "", "input_tokens": 7, "output_tokens": 3, "usd": 0.12}
    made = job(f"command: [{path}]")
    assert command.perform(made, work(made, prompt=evil)).output["in"] == evil
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    ("said", "wait"),
    [
        ("Error: rate limit reached, retry after 30s", 30),
        ("usage limit reached; resets in 2h", 7200),
        ("429 Too Many Requests", 300),
    ],
)
def test_a_limit_of_the_provider_is_no_fault(command, tmp_path, said, wait):
    path = program(tmp_path, "agent", f"import sys\nprint({said!r})\nsys.exit(1)\n")
    made = job(f"command: [{path}]")
    result = command.perform(made, work(made))
    assert isinstance(result, Throttled)
    assert result.wait.total_seconds() == wait


def test_a_reset_that_is_a_moment_is_waited_for():
    assert presets.throttled("limit; reset at 1900000000").until == datetime.fromtimestamp(1_900_000_000, UTC)


def test_the_first_well_known_agent_on_the_path_is_taken(command, tmp_path, monkeypatch):
    program(
        tmp_path,
        "claude",
        "import json, sys\nprint(json.dumps({'result': ' '.join(sys.argv[1:]) + ' ' + sys.stdin.read()}))\n",
    )
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    made = job("model: opus-5")
    chooser = AgentExecutor({"command": command})
    assert chooser.chosen(made.agent) == "command"
    text = chooser.perform(made, work(made)).output["text"]
    assert text.startswith("--model opus-5 -p --output-format json")
    assert text.endswith("do it")


def test_no_agent_at_all_is_said_with_the_way_out(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    made = job()
    result = AgentExecutor({}).perform(made, work(made))
    assert (result.kind, "install one" in result.reason) == (FailureKind.POLICY, True)


ANSWER = {"model": "gpt-5-mini", "usage": {"prompt_tokens": 1000, "completion_tokens": 200}}


@pytest.mark.parametrize(
    ("status", "body", "headers", "kind"),
    [
        (200, {**ANSWER, "choices": [{"message": {"content": '{"x": 1}'}}]}, {}, Done),
        (200, {**ANSWER, "choices": [{"message": {"content": 'Here:\n```json\n{"x": 1}\n```'}}]}, {}, Done),
        (200, {**ANSWER, "choices": [{"message": {"content": "no"}}]}, {}, Faulted),
        (200, {**ANSWER, "choices": [{"message": {"refusal": "no"}}]}, {}, Refused),
        (429, {"error": {"message": "slow down"}}, {"Retry-After": "17"}, Throttled),
        (503, {"error": "busy"}, {}, Faulted), (401, {"error": {"message": "bad key"}}, {}, Refused), (400, {}, {}, Refused),
    ],
)  # fmt: skip
def test_a_model_over_http(httpserver, status, body, headers, kind):
    httpserver.expect_request("/v1/chat/completions", method="POST").respond_with_data(
        json.dumps(body), status=status, headers=headers
    )
    made = job(
        f"executor: openai\nendpoint: {httpserver.url_for('/v1')}\nmodel: gpt-5-mini",
        body="    agent: w\n    output: { type: object }",
    )
    given = work(made, env={"OPENAI_API_KEY": "sk-test-0123456789abcdef0123"})
    result = OpenAIExecutor().perform(made, given)
    assert isinstance(result, kind), result
    request, _ = httpserver.log[0]
    assert request.headers["Authorization"] == "Bearer sk-test-0123456789abcdef0123"
    assert request.json["response_format"]["json_schema"]["schema"] == {"type": "object"}
    if status == 200:
        assert given.report.usages[0].input_tokens == 1000
    if status == 429:
        assert result.wait.total_seconds() == 17


def test_an_endpoint_that_is_away_is_a_fault_and_none_is_a_refusal():
    made = job("executor: openai\nendpoint: http://127.0.0.1:9/v1")
    assert OpenAIExecutor().perform(made, work(made)).kind == FailureKind.INFRASTRUCTURE
    made = job("executor: openai")
    assert isinstance(OpenAIExecutor().perform(made, work(made)), Refused)


def test_prices_come_from_the_policy_then_the_provider_then_the_public_list():
    usage = Usage(model="gpt-5-mini", input_tokens=1_000_000, output_tokens=0)
    assert price(usage, {"gpt-5-mini": {"input": 7.0, "output": 0.0}}) == 7.0
    assert price(replace(usage, usd=3.0), {}) == 3.0
    assert price(usage, {}) > 0
    assert price(Usage(model="nobody-knows-me"), {}) is None
