"""Doors of files that we wrote and somebody may have edited: bundles of evidence, seals, recordings."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from backlog_worker.domain.errors import BacklogError, InvalidFileError
from backlog_worker.lifecycle import audit
from backlog_worker.store import JsonlStore
from backlog_worker.testing import bench
from tests.fuzz import cli, hostile
from tests.fuzz.backlog import written
from tests.fuzz.door import Door, ours

FILES = ("items.jsonl", "events.jsonl")
GOLDEN = Path(__file__).parents[1] / "golden" / "evidence"
RECORDING: dict[str, Any] = {
    "schema": "backlog-worker/recording@1",
    "pipeline": "spec",
    "recorded_from": "run_1",
    "entry": {"title": "T", "labels": ["ai-ok"], "priority": "high", "input": {"body": "b"}},
    "answers": {
        "draft": [
            {"result": "faulted", "kind": "timeout", "reason": "slow", "data": None},
            {"result": "throttled", "waitMs": 5, "log": ["a line"]},
            {"result": "done", "output": {"score": 0.9}, "usage": {"usd": 0.1}, "artifacts": {"a": "x"}},
        ],
        "publish": [{"result": "asked", "asks": "question", "reason": "which?", "detail": "d"}, {"output": {}}],
    },
    "people": {"publish": {"answer": "approve", "value": None, "reason": "go"}},
    "expect": {"status": "completed", "jobs": {"draft": "completed"}, "gates": {"draft": {"G-1": "pass"}}},
}
PIPELINE = """\
name: spec
triggers: [{ type: backlog }]
jobs:
  - { id: draft, run: "exit 99", retry: { maxAttempts: 3, delayMs: 0 }, gates: [{ id: G-1, check: "output.score >= 0.5" }] }
  - { id: publish, run: "exit 99", dependsOn: draft, approval: {} }
"""


@cache
def _evidence() -> tuple[Any, ...]:
    """Return a bundle of today, one of the last release, and a seal of each."""
    from backlog_worker.lifecycle import seals
    from tests.lifecycle.proof_story import told

    story = told()
    seal = json.loads(json.dumps(seals.seal(story.table.kit)))
    bundle = story.exported(story.main)
    story.table.kit.store.close()
    old = [json.loads((GOLDEN / name).read_text()) for name in ("bundle-1.json", "seal-1.json")]
    return bundle, old[0], seal, old[1]


@st.composite
def bundles(draw: st.DrawFn) -> tuple[str, str]:
    """A bundle and a seal of which one was edited."""
    which, seal = draw(st.integers(0, 1)), draw(st.integers(2, 3))
    given = [_evidence()[which], _evidence()[seal]]
    place = draw(st.sampled_from([0, 0, 0, 1]))
    given[place] = draw(hostile.edited(given[place]))
    return written(given[0]), written(given[1])


def check_bundles(folder: Path, value: tuple[str, str]) -> None:
    """An edited bundle or seal is no proof, and says where, in every form; it never ends as a fault of ours."""
    for name, text in zip(("bundle.json", "seal.json"), value, strict=True):
        (folder / name).write_bytes(text.encode("utf-8", "surrogatepass"))
    for line in (
        ["audit", "verify", "bundle.json", "--seal=seal.json"],
        ["audit", "show", "bundle.json"],
        ["audit", "show", "bundle.json", "--format=html", "--seal=seal.json"],
    ):
        cli.check({}, line)


def check_recordings(folder: Path, value: Any) -> None:
    """An edited recording is refused with its file, or runs to an end."""
    (folder / "r.json").write_bytes(written(value).encode("utf-8", "surrogatepass"))
    cli.check({}, ["pipeline", "test", "r.json"])


@contextmanager
def in_folder(folder: Path) -> Iterator[Path]:
    """A folder in which commands run, with a project of one pipeline."""
    before, kept = Path.cwd(), dict(os.environ)
    os.chdir(folder)
    os.environ |= {"BACKLOG_ACTOR": "ana", "BACKLOG_LOG_LEVEL": "ERROR", "BACKLOG_DIR": str(folder / ".backlog-worker")}
    try:
        code, said = cli.answer(["init"])
        assert code == 0, said
        for each in (folder / ".backlog-worker" / "pipelines").iterdir():
            each.unlink()
        (folder / ".backlog-worker" / "pipelines" / "spec.yml").write_text(PIPELINE)
        yield folder
    finally:
        os.chdir(before)
        os.environ.clear()
        os.environ.update(kept)


@contextmanager
def journaled(folder: Path) -> Iterator[tuple[Path, dict[str, list[bytes]], Any]]:
    """A backlog in two files, and the lines of both."""
    table = bench(url=f"jsonl://{folder / 'good'}")
    table.file(*({"title": f"one {number}"} for number in range(3)))
    table.run(2)
    yield folder, {name: (folder / "good" / name).read_bytes().splitlines(keepends=True) for name in FILES}, table.kit
    table.kit.store.close()


@st.composite
def spoilt(draw: st.DrawFn) -> tuple[str, int, str, Any]:
    """A place in one of two files, and what became of its line."""
    how = draw(st.sampled_from(["text", "value", "gone", "twice", "torn"]))
    more = draw(hostile.texts() if how == "text" else hostile.values() if how == "value" else st.integers(0, 500))
    return draw(st.sampled_from(FILES)), draw(st.integers(0, 1000)), how, more


def _spoil(line: bytes, how: str, more: Any) -> bytes:
    if how == "value":
        row = json.loads(line)
        inside = next((row[name] for name in ("put", "gone") if name in row), row)
        name = sorted(inside)[len(repr(more)) % len(inside)]
        inside[name] = more
        return written(row).encode("utf-8", "surrogatepass") + b"\n"
    texts = {
        "text": lambda: written(more).encode("utf-8", "surrogatepass") + b"\n",
        "gone": lambda: b"",
        "twice": lambda: line * 2,
    }
    return texts[how]() if how in texts else line[:more]


def check_journal(world: tuple[Path, dict[str, list[bytes]], Any], value: tuple[str, int, str, Any]) -> None:
    """Two spoilt files are refused by file and line and stay as they are, or read; then the history says the rest."""
    folder, lines, kit = world
    spoiled, number, how, more = value
    place = Path(tempfile.mkdtemp(dir=folder))
    for name in FILES:
        rows = list(lines[name])
        if name == spoiled:
            rows[number % len(rows)] = _spoil(rows[number % len(rows)], how, more)
        (place / name).write_bytes(b"".join(rows))
    before = [(place / name).read_bytes() for name in FILES]
    store = JsonlStore(place)
    found = ours(_written, store)
    if isinstance(found, InvalidFileError):
        assert [(place / name).read_bytes() for name in FILES] == before, "what cannot be read is left alone"
        assert found.findings[0].line, found
        assert found.findings[0].file.endswith(FILES), found
    elif not isinstance(found, BacklogError):
        ours(lambda: list(audit.verify(replace(kit, store=store))))
        kept = {row for row in lines[FILES[1]] if how != "torn"} - {lines[spoiled][number % len(lines[spoiled])]}
        assert kept <= set((place / FILES[1]).read_bytes().splitlines(keepends=True)), "no event is lost"
    store.close()
    shutil.rmtree(place)


def _written(store: JsonlStore) -> None:
    with store.begin() as unit:
        unit.value("SELECT count(*) FROM entries")


DOORS = [
    Door(name="journal", inputs=spoilt(), check=check_journal, world=journaled, examples=40),
    Door(name="bundles", inputs=bundles(), check=check_bundles, world=in_folder, examples=40),
    Door(name="recordings", inputs=hostile.edited(RECORDING), check=check_recordings, world=in_folder, examples=25),
]
