"""The command line: every command with hostile arguments, in this process, as a shell would give them."""

import contextlib
import io
import json
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import typer
from hypothesis import strategies as st

from tests.fuzz import hostile
from tests.fuzz.door import Door

ENDLESS = {"up", "demo", "web"}  # they start processes that stay; their tests are in tests/cli
WAITING = {"--watch", "--follow", "--wait"}
CODES = {0, 1, 2, 3, 4, 5, 6, 7, 9}
FILES = ["missing.json", "folder", "bytes.json", "empty.json", "deep.json", "odd.json", "good.json", "good.csv", "odd.csv",
         "odd.yml", "bundle.json", "deep.yml", "/dev/null", "/proc/self/mem", "", "a\x00b.json", os.fsdecode(b"\xff.json"), "x" * 300]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Command:
    """A command: its words, its arguments, and its options by whether they take a value."""

    words: tuple[str, ...]
    arguments: int
    flags: tuple[str, ...]
    options: tuple[str, ...]


@cache
def commands() -> tuple[Command, ...]:
    """Return every command that ends by itself."""
    from backlog_worker.cli import app

    found = []

    def _walk(one: Any, words: tuple[str, ...]) -> None:
        for name, inside in getattr(one, "commands", {}).items():
            _walk(inside, (*words, name))
        if not hasattr(one, "commands") and words[0] not in ENDLESS:
            named = [each for each in one.params if each.param_type_name == "option"]
            flags = tuple(each.opts[0] for each in named if each.is_flag and each.opts[0] not in WAITING)
            valued = tuple(each.opts[0] for each in named if not each.is_flag and each.opts[0] != "--help")
            found.append(Command(words, len(one.params) - len(named), flags, valued))

    _walk(typer.main.get_command(app), ())
    return tuple(found)


@st.composite
def lines(draw: st.DrawFn) -> list[str]:
    """A command with arguments, most of them hostile, some of them names of what is there."""
    command = draw(st.sampled_from(commands()))
    word = st.sampled_from(["ENTRY", "RUN", "REVIEW", "spec", "prod", "ana", "json", "1", "2026-01-01"])
    value = hostile.texts() | st.sampled_from(FILES) | word
    line = list(command.words)
    named = [*command.options, *command.flags]
    for each in draw(st.lists(st.sampled_from(named), max_size=3, unique=True)) if named else []:
        line.append(each)
        if each in command.options:
            line[-1:] = [f"{each}={draw(value)}"] if draw(st.booleans()) else [each, draw(value)]
    line += ["--", *draw(st.lists(value, min_size=command.arguments, max_size=command.arguments))]
    return ["--json", *line] if draw(st.booleans()) else line


@contextmanager
def project(folder: Path) -> Iterator[dict[str, str]]:
    """A project with entries, a run and a review, and the names of each; commands run in it."""
    files(folder)
    before, kept = Path.cwd(), dict(os.environ)
    os.chdir(folder)
    os.environ |= {"BACKLOG_ACTOR": "ana", "BACKLOG_LOG_LEVEL": "ERROR", "BACKLOG_DIR": str(folder / ".backlog-worker")}
    try:
        for line in (["init"], ["entry", "import", "good.json"]):
            code, said = answer(line)
            assert code == 0, said
        yield _names()
    finally:
        os.chdir(before)
        os.environ.clear()
        os.environ.update(kept)


def files(folder: Path) -> None:
    """Write the files that commands are pointed at."""
    good = [{"title": f"one {n}", "number": n, "labels": ["ai-ok"], "createdAt": "2026-01-01T00:00:00Z", "url": f"https://github.com/a/b/issues/{n}"} for n in range(3)]  # fmt: skip
    (folder / "folder").mkdir()
    (folder / "good.json").write_text(json.dumps(good))
    (folder / "bytes.json").write_bytes(b"\xff\xfe\x00[]")
    (folder / "empty.json").write_text("")
    (folder / "deep.json").write_text("[" * 100_000)
    (folder / "odd.json").write_text('[{"title": "\\ud800", "number": NaN}, 1, {"a": 1e999}]')
    (folder / "bundle.json").write_text('{"schema": "backlog-worker/evidence@1", "data": {}}')
    (folder / "good.csv").write_text("title\none\n")
    (folder / "odd.csv").write_text('title,title\n"a\x00,1,2\n')
    (folder / "odd.yml").write_text("0b101: [&a 1, *a]\n")
    (folder / "deep.yml").write_text("[" * 5000)


def answer(line: list[str]) -> tuple[int, str]:
    """Run a command in this process; returns its exit code and its words, and lets out what it lets out."""
    from backlog_worker.cli import main
    from backlog_worker.cli.output import OPTIONS

    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="")
    err = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace", newline="")
    before, given = sys.argv, sys.stdin
    sys.argv, sys.stdin = ["backlog-worker", *line], io.StringIO("")
    code: object = 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as ended:
        code = ended.code or 0
    finally:
        sys.argv, sys.stdin = before, given
        OPTIONS.as_json, OPTIONS.quiet, OPTIONS.color = False, False, True
    out.flush()
    said = out.buffer.getvalue().decode() + err.buffer.getvalue().decode()
    return code if isinstance(code, int) else 1, said


def check(names: dict[str, str], line: list[str]) -> None:
    """A command ends with one of its codes and words, and never with a traceback."""
    environment, here = dict(os.environ), Path.cwd()
    try:
        code, said = answer([names.get(each, each) for each in line])
    except Exception as error:
        told = "".join(traceback.format_exception(error)[-3:])
        raise AssertionError(f"{line!r:.300} let out {type(error).__name__}: {error!s:.200}\n{told}") from error
    finally:
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(here)
    assert "this is a fault of backlog-worker" not in said, said[-2000:]
    assert code in CODES, (code, said[-500:])
    assert "Traceback" not in said, said[-2000:]
    if code and "--quiet" not in line:
        assert said.strip(), f"{line} ended with {code} without a word"


def _names() -> dict[str, str]:
    from backlog_worker.cli.access import kit

    with kit()[0].store.read() as unit:
        entry = next(iter(unit.search("prod", _all(), most=1)), None)
    return {"ENTRY": entry.id if entry else "bl_1", "RUN": "run_1", "REVIEW": "rv_1"}


def _all() -> Any:
    from backlog_worker.domain.search import parsed

    return parsed("")


DOOR = Door(name="cli", inputs=lines(), check=check, world=project, examples=60)
