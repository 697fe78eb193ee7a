"""Each definition file fails alone: whatever stands in it, the others are in force, and its last good version stays."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backlog_worker.domain import agent, document, pipeline, policy
from backlog_worker.domain.errors import InvalidFileError
from backlog_worker.integrations.project import Project
from backlog_worker.lifecycle import definitions, dispatch
from backlog_worker.lifecycle.definitions import Book, reload
from backlog_worker.testing import PIPELINE, POLICY, bench

ODD = [
    *("0b101", "0b", "+0b1", "0o7", "0o8", "017", "0x1F", "0x_", "-0x1", "1_000", "1__0", "_1", "9" * 20, "9" * 5000),
    *("1e999", "-1e999", "1e308", ".nan", ".NaN", ".inf", "-.inf", "1.", ".5", "1e", "1:30", "12e03", "+", "-", "."),
    *("2001-12-14", "2001-12-14t21:59:43.10-05:00", "2001-99-99", "yes", "~", "Null", "=", "<<", "true"),
    *('!!binary "aGk="', "!!set {a: null}", "!!int x", "!<tag:x> y", "!!python/object:os.system x", "{<<: {a: 1}}"),
    *(
        "*a",
        "&a 1",
        "[",
        "]",
        "{",
        "}",
        "? a",
        "- ",
        "|",
        ">",
        "@",
        "`",
        "%YAML 9.9",
        "%TAG ! tag:x,2000:",
        "---",
        "...",
    ),
    *('"\\ud800"', '"\\udfff\\ud800"', '"\\0"', '"\\x7f"', '"\\U0010ffff"', '"\\U00110000"', "\ud800", "\x00", "\x07"),
    *("\t", "\ufeff", "\u2028", "\x85", "\r", "\r\n", "\U0001f600", "a\u0301", "\u202e", "[" * 40 + "]" * 40),
    *("{? [a] : b}", "{[a, b]: c}", "{1: 2, 1.0: 3}", "{a: 1, a: 2}", '"', "'", "{{", "${{ x }}", "${{ secrets.A }}"),
    *(
        '"0 0 31 2 *"',
        "99999999999d",
        "-1h",
        "P1D",
        "1e400h",
        "Europe/Nowhere",
        "../..",
        "entry.id ==",
        '{pattern: "("}',
    ),
    *("{type: 5}", '{"$ref": "#/x"}', '{"$ref": "http://x"}', "{minimum: a}"),
]
SOURCES = [
    PIPELINE.replace("name: spec\n", "name: spec\nenv: { A: x }\n"),
    POLICY,
    *(path.read_text() for path in sorted((Path(definitions.__file__).parents[1] / "cli" / "files").rglob("*.yml"))),
]
AGENTS = [path.read_text() for path in sorted((Path(definitions.__file__).parents[1] / "cli" / "files").rglob("*.md"))]


@st.composite
def broken(draw, sources):
    """A good file, spoiled in one to three places."""
    text = draw(st.sampled_from(sources))
    for _ in range(draw(st.integers(1, 3))):
        odd = draw(st.sampled_from(ODD) | st.text(max_size=6))
        lines = text.split("\n")
        row = draw(st.integers(0, len(lines) - 1))
        head, colon, rest = lines[row].partition(":")
        at = draw(st.integers(0, len(lines[row])))
        how = draw(st.sampled_from(["value", "insert", "key", "cut"]))
        if how == "value" and colon:
            lines[row] = f"{head}: {odd}"
        elif how == "key" and colon:
            lines[row] = f"{head[: len(head) - len(head.lstrip())]}{odd}:{rest}"
        elif how == "cut":
            lines[row] = lines[row][:at]
        else:
            lines[row] = lines[row][:at] + odd + lines[row][at:]
        text = "\n".join(lines)
    return text


def only_findings(load) -> None:
    """Load, and look at every finding: it has a place, a code that is known, and words."""
    try:
        load()
    except InvalidFileError as error:
        for each in error.findings:
            assert each.line >= 1
            assert each.column >= 1
            assert each.text
            assert each.code[3:] in document.CODES
            assert str(each)


MANY = settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))


@MANY
@given(broken(SOURCES))
def test_a4_a_loader_lets_out_findings_and_nothing_else(text):
    only_findings(lambda: pipeline.load(text, contract={"agents/fixer.md": AGENTS[0]}.__getitem__))
    only_findings(lambda: policy.load(text))


@MANY
@given(broken(AGENTS))
def test_a4_an_agent_lets_out_findings_and_nothing_else(text):
    only_findings(lambda: agent.load(text, name="x"))


@MANY
@given(st.text() | st.sampled_from(ODD))
def test_a4_any_scalar_is_a_value_that_a_database_holds_or_a_finding(scalar):
    text = f"a: {scalar}"
    try:
        value = document.read(text, file="x.yml", group="2").value
    except InvalidFileError as error:
        assert all(each.line >= 1 for each in error.findings)
        return
    import json

    json.loads(json.dumps(value, allow_nan=False).encode())
    assert "\\u0000" not in json.dumps(value)


@pytest.mark.parametrize(
    ("scalar", "value"),
    [
        ("0b101", "0b101"),
        ("0o17", 15),
        ("0x1F", 31),
        ("1_000", 1000),
        ("2001-12-14", "2001-12-14"),
        ("yes", "yes"),
        ("017", 17),
    ],
)
def test_a4_scalars_keep_their_meaning_of_yaml_1_2(scalar, value):
    assert document.read(f"a: {scalar}", file="x.yml", group="2").value == {"a": value}


@pytest.mark.parametrize("scalar", ["1e999", ".nan", "-.inf", "9" * 20, "9" * 5000, '"\\ud800"', '"\\0"'])
def test_a4_what_no_database_holds_is_a_finding_with_its_place(scalar):
    with pytest.raises(InvalidFileError) as raised:
        document.read(f"a: 1\nb:\n  - {scalar}", file="x.yml", group="2")
    (finding,) = raised.value.findings
    assert (finding.line, finding.column) == (3, 5)


@pytest.fixture
def project(tmp_path) -> Project:
    folder = tmp_path / ".backlog-worker"
    (folder / "pipelines").mkdir(parents=True)
    (folder / "agents").mkdir()
    (folder / "policy.yml").write_text(POLICY)
    for name in ("one", "two", "three"):
        (folder / "pipelines" / f"{name}.yml").write_text(PIPELINE.replace("name: spec", f"name: {name}"))
    return Project(folder)


def folder_in_its_place(path: Path) -> None:
    path.unlink()
    path.mkdir()


def link_to_nowhere(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.parent / "nowhere")


def link_to_itself(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


def a_pipe(path: Path) -> None:
    """What blocks whoever opens it."""
    path.unlink()
    os.mkfifo(path)


SPOILED = {
    "binary number": lambda path: path.write_text("env: { A: 0b101, B: [0b1] }\n" + path.read_text()),
    "no utf-8": lambda path: path.write_bytes(b"name: \xff\xfe"),
    "nul": lambda path: path.write_bytes(b"name: a\x00b"),
    "empty": lambda path: path.write_bytes(b""),
    "large": lambda path: path.write_bytes(b"#" * 300_000),
    "folder": folder_in_its_place,
    "dangling": link_to_nowhere,
    "loop": link_to_itself,
    "pipe": a_pipe,
}


@pytest.mark.parametrize("which", ["pipelines/one.yml", "policy.yml"])
@pytest.mark.parametrize("how", SPOILED)
def test_a4_each_file_fails_alone_and_its_last_good_version_stays(project, which, how):
    table = bench()
    assert len(reload(table.kit.store, table.kit.book, project, author="file", first=True)) == 3, (
        "the policy is in force already"
    )
    path = project.folder / which
    SPOILED[how](path)
    two = project.folder / "pipelines" / "two.yml"
    two.write_text(two.read_text().replace("version: 1", "version: 2"))
    assert project.changed()
    assert [each.split()[1] for each in reload(table.kit.store, table.kit.book, project, author="file")] == ["two"]
    assert list(table.kit.book.findings) == [str(path)]
    with table.kit.store.read() as unit:
        assert set(table.kit.book.pipelines(unit)) >= {"one", "two", "three"}
        assert table.kit.book.policy(unit).version == 1


def test_a4_what_cannot_be_read_by_right_or_vanishes_is_a_finding_of_that_file(project, monkeypatch):
    table, read = bench(), os.open

    def _denied(path, *arguments, **named):
        if str(path).endswith("one.yml"):
            raise PermissionError(13, "Permission denied")
        if str(path).endswith("three.yml"):
            raise FileNotFoundError(2, "No such file or directory")
        return read(path, *arguments, **named)

    monkeypatch.setattr(os, "open", _denied)
    applied = reload(table.kit.store, table.kit.book, project, author="file", first=True)
    assert [each.split()[1] for each in applied] == ["two"]
    words = " ".join(str(each) for each in table.kit.book.findings.values())
    assert "Permission denied" in words
    assert "No such file" in words


def test_a4_a_loader_that_breaks_is_a_finding_of_that_file(project, monkeypatch):
    table, load = bench(), pipeline.load

    def _breaks(body, **named):
        if "one" in body:
            raise ZeroDivisionError("a bug of ours")
        return load(body, **named)

    monkeypatch.setattr(pipeline, "load", _breaks)
    applied = reload(table.kit.store, table.kit.book, project, author="file", first=True)
    assert [each.split()[1] for each in applied] == ["three", "two"]
    assert "a bug of ours" in str(next(iter(table.kit.book.findings.values())))


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
def test_a4_a_file_that_the_database_refuses_fails_alone(project, database_url, monkeypatch):
    table = bench(url=database_url)
    from backlog_worker.store import Unit

    original = Unit.enact

    def _enact(self, env, row):
        original(self, env, {**row, "body": row["body"] + "\x00"} if row["name"] == "one" else row)

    monkeypatch.setattr(Unit, "enact", _enact)
    applied = reload(table.kit.store, table.kit.book, project, author="file", first=True)
    assert [each.split()[1] for each in applied] == ["three", "two"]
    assert str(project.folder / "pipelines" / "one.yml") in table.kit.book.findings


def test_a4_a_change_that_met_a_database_that_was_away_is_looked_at_again(project, monkeypatch):
    from backlog_worker.domain.errors import UnreachableError

    table = bench()
    table.kit.store.url = "x"
    book, begin, failing = Book(env="prod"), table.kit.store.begin, [1, 1]

    def _begin(**named):
        if failing:
            failing.pop()
            raise UnreachableError
        return begin(**named)

    monkeypatch.setattr(table.kit.store, "begin", _begin)
    for _ in (1, 2):
        with pytest.raises(UnreachableError):
            reload(table.kit.store, book, project, author="file", first=True)
    assert len(reload(table.kit.store, book, project, author="file")) == 3


def test_a4_a_broken_look_at_the_files_costs_no_tick(monkeypatch):
    table = bench()
    table.file({})

    def _breaks():
        raise ZeroDivisionError

    monkeypatch.setattr(type(table.texts), "changed", lambda self: _breaks())
    assert len(dispatch.tick(table.kit)) == 1
