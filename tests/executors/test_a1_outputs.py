"""A1: whatever a job hands over as output is a valid output or a named fault of its job, at once."""

import json
import os
import shutil
import socket
import sys
from datetime import timedelta
from enum import StrEnum

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backlog_worker.domain.errors import InvalidInputError
from backlog_worker.domain.events import digest
from backlog_worker.domain.outcome import Asked, Done, FailureKind, Faulted, Refused, Throttled
from backlog_worker.domain.output import as_json
from backlog_worker.domain.returned import checked
from backlog_worker.executors import raised
from backlog_worker.executors.python import PythonExecutor
from backlog_worker.executors.workspace import Workspace
from tests.executors.test_executors import command, job, work  # noqa: F401 - a fixture

DEEP = 200_000


def nested(depth, kind=list):
    value = kind()
    for _ in range(depth):
        value = [value] if kind is list else {"a": value}
    return value


def recursive():
    value = []
    value.append(value)
    return value


def doubled():
    """Make a small graph that is a huge tree: 2 to the power of 60 leaves."""
    value = [1]
    for _ in range(60):
        value = [value, value]
    return value


class Word(StrEnum):
    ONE = "one"


class Liar:
    """Says that it is a dict, and has none of its ways."""

    __class__ = dict


class Raises:
    @property
    def __class__(self):
        raise SystemExit(3)


BAD = {
    "not a number": (lambda: float("nan"), "nan, which is not a JSON number"),
    "infinity": (lambda: {"a": [float("inf")]}, "the output.a[0] is inf"),
    "half a character": (lambda: "\ud800", "lone surrogate"),
    "half a character in a key": (lambda: {"\udfff": 1}, "a key of the output"),
    "NUL": (lambda: ["a\x00b"], "the character NUL"),
    "3,000 lists": (lambda: nested(3000), "more than 64 levels"),
    "200,000 lists": (lambda: nested(DEEP), "more than 64 levels"),
    "200,000 objects": (lambda: nested(DEEP, dict), "more than 64 levels"),
    "itself": (recursive, "more than 64 levels"),
    "a tree without an end": (doubled, "more than 1000000 bytes"),
    "a huge number": (lambda: 10**5000, "an integer beyond"),
    "a negative huge number": (lambda: [-(10**400)], "an integer beyond"),
    "a key that is a number": (lambda: {1: 2}, "an int and no text"),
    "a key that is null": (lambda: {None: 2}, "NoneType and no text"),
    "a key that is a tuple": (lambda: {(1, 2): 2}, "a tuple and no text"),
    "bytes": (lambda: b"x", "a bytes, which is not JSON"),
    "a set": (lambda: {"a": {1, 2}}, "a set, which is not JSON"),
    "an object": (object, "an object, which is not JSON"),
    "a length of time": (lambda: timedelta(1), "a timedelta"),
    "a generator": (lambda: (n for n in (1, 2)), "a generator"),
    "a liar": (Liar, "cannot be read"),
    "a megabyte": (lambda: "x" * 1_000_001, "more than 1000000 bytes"),
}


@pytest.mark.parametrize("name", BAD)
def test_a1_a_faulty_output_is_named_with_its_place_wherever_it_comes_from(name):
    make, words = BAD[name]
    with pytest.raises(InvalidInputError, match=words.replace("[", r"\[")):
        as_json(make())
    result = checked(Done(output=make()))
    assert isinstance(result, Faulted)
    assert (result.kind, words in result.reason) == (FailureKind.VALIDATION, True)
    kept = checked(Refused(kind=FailureKind.EXECUTION, reason="no", data=make()))
    assert kept.data is None
    assert kept.reason.startswith("no (its output cannot be stored: ")


@pytest.mark.parametrize("name", BAD)
def test_a1_a_callable_that_returns_it_has_failed_and_says_why(name, monkeypatch):
    monkeypatch.setattr("tests.executors.test_a1_outputs.returned", BAD[name][0])
    for extra in ({}, {"inline": "true"}):
        made = job(python="tests.executors.test_a1_outputs:answer", **extra)
        result = PythonExecutor().perform(made, work())
        assert isinstance(result, Faulted), result
        assert "not usable" in result.reason or "Error" in result.reason
        assert len(result.reason) <= 400


def returned():
    return None


def answer(_context):
    return returned()


class StrangeError(Exception):
    def __str__(self):
        raise SystemExit(9)


class HalfError(Exception):
    def __str__(self):
        return "half \ud800 a character\x00"


class OwnError(BaseException):
    pass


def loop():
    return loop()


RAISED = {
    "sys.exit(3)": (lambda: sys.exit(3), "it called sys.exit(3)"),
    "sys.exit()": (lambda: sys.exit(None), "it called sys.exit(None)"),
    "sys.exit(0)": (lambda: sys.exit(0), "it called sys.exit(0)"),
    "sys.exit(object)": (lambda: sys.exit(Raises()), "it called sys.exit"),
    "sys.exit(words)": (lambda: sys.exit("it broke \ud800"), "it called sys.exit('it broke"),
    "KeyboardInterrupt": (lambda: _raise(KeyboardInterrupt()), "KeyboardInterrupt"),
    "GeneratorExit": (lambda: _raise(GeneratorExit()), "GeneratorExit"),
    "CancelledError": (lambda: _raise(__import__("asyncio").CancelledError()), "CancelledError"),
    "an own BaseException": (lambda: _raise(OwnError("x")), "OwnError: x"),
    "a message that raises": (lambda: _raise(StrangeError()), "StrangeError"),
    "half a character": (lambda: _raise(HalfError()), "HalfError: half \N{REPLACEMENT CHARACTER} a character"),
    "RecursionError": (loop, "RecursionError"),
    "MemoryError": (lambda: _raise(MemoryError()), "MemoryError"),
    "UnicodeError": ("\ud800".encode, "UnicodeEncodeError"),
    "OverflowError": (lambda: 10.0**400, "OverflowError"),
}


def _raise(error):
    raise error


@pytest.mark.parametrize("inline", ["true", "false"])
@pytest.mark.parametrize("name", RAISED)
def test_a1_every_end_of_a_callable_is_a_fault_with_its_name(name, inline, monkeypatch):
    make, words = RAISED[name]
    monkeypatch.setattr("tests.executors.test_a1_outputs.returned", make)
    made = job(python="tests.executors.test_a1_outputs:answer", inline=inline)
    result = PythonExecutor().perform(made, work())
    assert isinstance(result, Faulted)
    assert words in result.reason
    result.reason.encode()


def test_a1_a_module_that_ends_the_process_when_it_is_imported_is_refused(tmp_path, monkeypatch):
    (tmp_path / "ends_at_import.py").write_text("import sys\nsys.exit(4)\n")
    monkeypatch.syspath_prepend(tmp_path)
    result = PythonExecutor().perform(job(python="ends_at_import:f"), work())
    assert isinstance(result, Refused)
    assert result.reason == "ends_at_import:f cannot be imported: SystemExit: 4"


@pytest.mark.parametrize(
    "error", [StrangeError(), HalfError(), SystemExit("\ud800"), OSError(5, "\ud800")], ids=lambda e: type(e).__name__
)
def test_a1_the_words_of_any_error_can_be_kept(error):
    raised.fault(error).reason.encode()


RESULTS = [
    "no result",
    Done(artifacts={"../x\udc80": b""}),
    Done(artifacts={"": b""}),
    Done(artifacts={"a\nb": b""}),
    Done(artifacts={"a": "text"}),
    Done(artifacts=[1]),
    Done(artifacts={str(n): b"" for n in range(101)}),
    Faulted(kind="nonsense", reason=7),
    Refused(kind=None, reason="no", role=None),
    Throttled(reason="no", wait="5"),
    Throttled(reason=None),
    Throttled(reason="no", until="tomorrow"),
    Asked(question=None),
    Asked(question="?", kind="nonsense"),
    Asked(question="?", kind="dead_letter"),
    Asked(question="?", within=timedelta(-1)),
    Asked(question="?", form={"type": 7}),
    Asked(question="?", form=[float("nan")]),
]


@pytest.mark.parametrize("result", RESULTS, ids=lambda each: repr(each)[:40])
def test_a1_a_result_with_a_part_that_cannot_be_kept_is_a_fault_that_names_it(result):
    found = checked(result)
    assert isinstance(found, Faulted)
    assert found.kind == FailureKind.VALIDATION
    assert found.reason.startswith("its output is not usable: ")


def test_a1_a_wait_for_a_person_has_a_cap():
    assert checked(Asked(question="?", within=timedelta.max)).within == timedelta(days=3650)


def fifo(path):
    os.mkfifo(path)


def bound(path):
    with socket.socket(socket.AF_UNIX) as made:
        here = os.getcwd()
        os.chdir(path.parent)  # an address has at most 108 bytes
        try:
            made.bind(path.name)
        finally:
            os.chdir(here)


FILES = {
    "a named pipe": (fifo, "a named pipe"),
    "a folder": (lambda path: path.mkdir(), "a folder"),
    "a socket": (bound, "a socket"),
    "a link to a device": (lambda path: path.symlink_to("/dev/zero"), "a link"),
    "a link to a file": (lambda path: path.symlink_to("/etc/hostname"), "a link"),
    "a link to nowhere": (lambda path: path.symlink_to("/nowhere"), "a link"),
    "a file of a terabyte": (lambda path: os.truncate(os.open(path, os.O_CREAT | os.O_WRONLY), 10**12), "1000000000000 bytes"),
    "no UTF-8": (lambda path: path.write_bytes(b'"a\xff"'), "not UTF-8 at byte 3"),
    "200,000 lists": (lambda path: path.write_text("[" * DEEP + "]" * DEEP), "too deep"),
    "200,000 open lists": (lambda path: path.write_text("[" * DEEP), "too deep"),
    "10^5000": (lambda path: path.write_text("1" + "0" * 5000), "4300"),
    "no JSON": (lambda path: path.write_text("{'a': 1}"), "Expecting"),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a1_only_a_regular_file_of_json_is_an_output_and_nothing_blocks(name, tmp_path):
    make, words = FILES[name]
    workspace = Workspace.made(tmp_path, "run_1", "j.1")
    make(workspace.output)
    with pytest.raises(ValueError, match=words):
        workspace.returned()


SHELL = {
    "mkfifo $BACKLOG_OUTPUT": "a named pipe",
    "mkdir $BACKLOG_OUTPUT": "a folder",
    "ln -s /etc/hostname $BACKLOG_OUTPUT": "a link",
    "echo NaN > $BACKLOG_OUTPUT": "nan, which is not a JSON number",
    "echo '[1e999]' > $BACKLOG_OUTPUT": "inf, which is not a JSON number",
    """printf '"%s"' '\\ud800' > $BACKLOG_OUTPUT""": "lone surrogate",
    """printf '"%s"' '\\u0000' > $BACKLOG_OUTPUT""": "the character NUL",
}


@pytest.mark.parametrize("run", SHELL)
def test_a1_a_command_with_a_faulty_output_has_failed_at_once(command, run):  # noqa: F811
    result = command.perform(job(run=json.dumps(run)), work())
    assert isinstance(result, Faulted)
    assert SHELL[run] in result.reason


@pytest.mark.parametrize(("name", "words"), [(b"a\xff.txt", "not UTF-8"), (b"a\n.txt", "control characters")])
def test_a1_an_artifact_without_a_name_that_can_be_kept_is_a_named_fault(command, tmp_path, name, words):  # noqa: F811
    run = f"cd $BACKLOG_WORKSPACE && python -c \"open({name!r}, 'w')\""
    result = command.perform(job(run=json.dumps(run), artifacts="['*']"), work())
    assert isinstance(result, Faulted)
    assert words in result.reason


@pytest.mark.parametrize("which", ["the place", "the folder", "the run"])
def test_a1_a_workspace_that_was_replaced_by_a_link_hands_out_nothing(tmp_path, which):
    outside = tmp_path / "outside"
    for folder in (outside, outside / "work", outside / "j.1" / "work"):
        folder.mkdir(parents=True)
        (folder / "secret.txt").write_text("secret")
        (folder / "output.json").write_text('"secret"')
    workspace = Workspace.made(tmp_path / "root", "run_1", "j.1")
    gone = {"the place": workspace.place, "the folder": workspace.folder, "the run": workspace.folder.parent}[which]
    shutil.rmtree(gone)
    gone.symlink_to(outside)
    for read in (workspace.returned, lambda: workspace.artifacts(["*.txt", "**/*"])):
        try:
            assert not read()
        except ValueError as error:
            assert "a link" in str(error)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([400, 5000, 19]).map(lambda n: -(10**n))
    | st.floats()
    | st.text(st.characters(), max_size=6)
    | st.sampled_from(["\ud800", "a\x00", b"x", {1}, Word.ONE, object(), Liar(), recursive()]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(
            st.text(max_size=4) | st.integers() | st.none() | st.sampled_from(["\ud800"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(VALUES)
@settings(max_examples=400, deadline=None)
def test_a1_fuzz_any_value_is_an_output_that_every_store_keeps_or_a_named_fault(value):
    for result in (checked(Done(output=value)), checked(Faulted(kind=FailureKind.GATE, reason="no", data=value))):
        kept = result.output if isinstance(result, Done) else result.data
        text = json.dumps(kept, allow_nan=False, ensure_ascii=False)
        text.encode()
        again = json.loads(text)
        assert again == kept
        assert digest(again) == digest(kept)
        assert as_json(again) == kept, "what was an output once is one again"
        assert isinstance(result, Done) or result.reason


@given(
    st.binary(max_size=40) | st.text(st.sampled_from('[]{}",:1eE+-.NaNInfity\\ud800 tf'), max_size=40).map(str.encode)
)
@settings(max_examples=300, deadline=None)
def test_a1_fuzz_any_file_is_an_output_or_says_what_is_wrong(tmp_path_factory, content):
    workspace = Workspace.made(tmp_path_factory.getbasetemp(), "run_f", "j.1")
    workspace.output.write_bytes(content)
    try:
        found = workspace.returned()
    except ValueError as error:
        assert str(error)
        return
    assert isinstance(checked(Done(output=found)), Done | Faulted)
