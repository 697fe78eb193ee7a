"""What counts as success, and how the end of a child reads: every JSON value, every status, every signal."""

import errno
import json
import signal
import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backlog_worker.domain.errors import InvalidInputError, UnreachableError
from backlog_worker.domain.outcome import Done, FailureKind, Faulted, Refused, Throttled
from backlog_worker.executors import answers, exits, raised
from backlog_worker.executors.answers import Answer
from backlog_worker.executors.openai import OpenAIExecutor
from backlog_worker.executors.python import PythonExecutor
from tests.executors.test_agents import job as agent_job
from tests.executors.test_agents import program
from tests.executors.test_agents import work as agent_work
from tests.executors.test_executors import command, job, work  # noqa: F401 - a fixture

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**6), 10**6)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
WORDS = st.sampled_from(
    [True, False, None, 0, 1, "true", "false", "True", "yes", "no", "", [], [True], {}, 1.0, 0.0, -1]
)


@given(JSON, JSON, st.text(max_size=20))
@settings(max_examples=400)
def test_b4_only_the_json_value_true_is_success(success, data, message):
    result = answers.result({"success": success, "data": data, "message": message})
    if success is True:
        assert result == Done(output=data)
    else:
        assert isinstance(result, Faulted)
        assert result.data == data
        assert result.kind == (FailureKind.EXECUTION if success is False else FailureKind.VALIDATION)
        assert success is False or (result.reason.startswith("success is ") and "not true" in result.reason)


@given(JSON)
@settings(max_examples=300)
def test_b4_an_answer_without_the_key_is_the_output_as_it_stands(value):
    if not isinstance(value, dict) or "success" not in value:
        assert answers.result(value) == Done(output=answers.unwrapped(value))


SPOKEN = [
    ("false", "the text"),
    (0, "the number 0"),
    (None, "null"),
    ("true", "the text"),
    (1, "the number 1"),
    ([], "the list"),
    ({}, "the object"),
    ("no", "the text"),
    (False, "gave"),
]


@pytest.mark.parametrize(("success", "words"), SPOKEN)
def test_b4_no_executor_takes_anything_else_for_success(command, tmp_path, httpserver, success, words):  # noqa: F811
    said = {"success": success, "data": {"n": 1}, "message": "it gave what it had"}
    (tmp_path / "said.json").write_text(json.dumps(said))
    written = command.perform(job(run="cp said.json $BACKLOG_OUTPUT"), work())
    called = PythonExecutor().perform(job(python="tests.executors.test_answers:says", inline="true"), work(input=said))
    printed = spoken(command, tmp_path, json.dumps(said))
    httpserver.expect_request("/chat/completions").respond_with_json(
        {"choices": [{"message": {"content": json.dumps(said)}}]}
    )
    asked = asked_at(httpserver.url_for(""))
    for result in (written, called, printed, asked):
        assert isinstance(result, Faulted), result
        assert words in result.reason
        assert "it gave what it had" in result.reason


def spoken(command, tmp_path, text):  # noqa: F811
    """Let an agent's program print a text and end."""
    made = agent_job(f"executor: command\ncommand: [{program(tmp_path, 'agent.py', f'print({text!r})')}]")
    return command.perform(made, agent_work(made))


def asked_at(endpoint):
    made = agent_job("executor: openai")
    return OpenAIExecutor(endpoint).perform(made, agent_work(made))


def says(context):
    return context["input"]


@given(st.integers(-70, 255), st.text(max_size=2000))
@settings(max_examples=400)
def test_b5_every_status_has_a_name_and_carries_the_words_of_the_job(status, words):
    result = exits.failed(status, Answer(succeeded=False), words)
    assert isinstance(result, Faulted | Refused)
    assert len(result.reason) <= exits.WORDS_MAX
    if status:
        head, _, rest = result.reason.partition(": ")
        assert head == f"status {status}" or head.startswith("killed by signal")
        assert rest
    if words:
        assert words[:50] in result.reason


@pytest.mark.parametrize("number", [*signal.Signals])
def test_b5_a_signal_is_named(number):
    assert f"killed by signal {number.value} ({number.name})" in exits.meaning(-number.value)
    assert f"status {128 + number.value}: killed by signal {number.value}" in exits.meaning(128 + number.value)


EXITS = {
    1: (Faulted, FailureKind.EXECUTION), 2: (Faulted, FailureKind.EXECUTION), 65: (Refused, FailureKind.VALIDATION),
    69: (Faulted, FailureKind.INFRASTRUCTURE), 75: (Faulted, FailureKind.INFRASTRUCTURE), 78: (Faulted, FailureKind.EXECUTION),
    126: (Refused, FailureKind.POLICY), 127: (Refused, FailureKind.POLICY), 137: (Faulted, FailureKind.EXECUTION), 255: (Faulted, FailureKind.EXECUTION),
}  # fmt: skip
SAYS = {
    "printed": "echo early; echo the words of the job >&2",
    "written": """printf '{"success": false, "message": "the words of the job", "data": [7]}' > $BACKLOG_OUTPUT""",
    "written as success": """printf '{"success": true, "message": "the words of the job", "data": [7]}' > $BACKLOG_OUTPUT""",
    "no JSON": "echo nonsense > $BACKLOG_OUTPUT; echo the words of the job",
    "too large": "head -c 2000000 /dev/zero > $BACKLOG_OUTPUT; echo the words of the job",
}


@pytest.mark.parametrize("status", EXITS)
def test_b5_a_nonzero_exit_is_what_it_is_however_the_job_says_its_words(command, tmp_path, status):  # noqa: F811
    for name, text in SAYS.items():
        (tmp_path / "say.sh").write_text(f"{text}\nexit {status}\n")
        result = command.perform(job(run="sh say.sh"), work())
        kind, why = EXITS[status]
        assert isinstance(result, kind), name
        assert result.kind == why, name
        assert f"status {status}" in result.reason, name
        assert "the words of the job" in result.reason, name
        assert result.data == ([7] if "written" in name else None)


def test_b5_a_child_that_is_killed_says_by_which_signal(command):  # noqa: F811
    result = command.perform(job(run="'echo near the end; kill -9 $$'"), work())
    assert isinstance(result, Faulted)
    assert "killed by signal 9 (SIGKILL)" in result.reason
    assert "near the end" in result.reason


def test_b3_a_program_that_is_missing_is_for_an_operator(command, tmp_path):  # noqa: F811
    for said in ("command: [/no/such/agent]", "preset: nobody"):
        made = agent_job(f"executor: command\n{said}")
        result = command.perform(made, agent_work(made))
        assert isinstance(result, Refused), result
        assert (result.kind, result.role) == (FailureKind.POLICY, "operator")


def chained(outer, cause):
    try:
        try:
            raise cause
        except type(cause) as error:
            raise outer from error
    except type(outer) as error:
        return error


OUTSIDE = [
    ConnectionRefusedError(errno.ECONNREFUSED, "no"), ConnectionResetError(), BrokenPipeError(), socket.gaierror(-2, "name"),
    OSError(errno.EHOSTUNREACH, "no route"), OSError(errno.ENETUNREACH, "x"), TimeoutError(errno.ETIMEDOUT, "x"),
    OSError(errno.ENOSPC, "full"), UnreachableError("db"), chained(RuntimeError("client"), ConnectionRefusedError()),
]  # fmt: skip
OWN = [
    ValueError("x"), FileNotFoundError(errno.ENOENT, "x"), PermissionError(errno.EACCES, "x"), KeyError("k"), OSError("of a client"),
    InvalidInputError("x"), MemoryError(), AssertionError(), RecursionError(),
]  # fmt: skip


@pytest.mark.parametrize("error", [*OUTSIDE, *OWN, TimeoutError()], ids=lambda each: type(each).__name__)
def test_b3_an_exception_is_of_the_job_or_from_outside(error):
    own = FailureKind.TIMEOUT if type(error) is TimeoutError and not error.errno else FailureKind.EXECUTION
    assert raised.fault(error).kind == (FailureKind.INFRASTRUCTURE if error in OUTSIDE else own)
    assert type(error).__name__ in raised.fault(error).reason


@pytest.mark.parametrize(
    ("endpoint", "kind", "result"),
    [
        ("http://127.0.0.1:1", FailureKind.INFRASTRUCTURE, Faulted),
        ("http://nobody.invalid", FailureKind.INFRASTRUCTURE, Faulted),
        ("ftp://127.0.0.1", FailureKind.POLICY, Refused),
        ("not an address", FailureKind.POLICY, Refused),
        ("http://[::1", FailureKind.POLICY, Refused),
    ],
)
def test_b3_an_endpoint_that_is_away_is_from_outside_and_a_wrong_one_is_for_an_operator(endpoint, kind, result):
    found = asked_at(endpoint)
    assert isinstance(found, result), found
    assert found.kind == kind


@pytest.mark.parametrize("status", [500, 502, 503, 504, 529, 408])
def test_b3_a_server_that_fails_is_from_outside(httpserver, status):
    httpserver.expect_request("/chat/completions").respond_with_data("down", status=status)
    found = asked_at(httpserver.url_for(""))
    assert isinstance(found, Faulted)
    assert found.kind == FailureKind.INFRASTRUCTURE


def test_b5_an_agent_that_says_it_failed_is_no_success(command, tmp_path):  # noqa: F811
    found = spoken(command, tmp_path, '{"type": "result", "is_error": true, "result": "the tests are red"}')
    assert isinstance(found, Faulted), found
    assert "the tests are red" in found.reason


def test_b4_a_quota_stays_a_quota():
    found = exits.failed(0, answers.read({"success": False, "retryAfterMs": 5000, "message": "later"}), "")
    assert isinstance(found, Throttled)
