"""Doors of files that we wrote and somebody may have edited: bundles of evidence, seals, recordings."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from tests.fuzz import cli, hostile
from tests.fuzz.backlog import written
from tests.fuzz.door import Door

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


DOORS = [
    Door(name="bundles", inputs=bundles(), check=check_bundles, world=in_folder, examples=40),
    Door(name="recordings", inputs=hostile.edited(RECORDING), check=check_recordings, world=in_folder, examples=25),
]
