"""Whatever a job does to its folders, it hands out nothing that lies outside of them."""

import pytest

from backlog_worker.domain import pipeline
from backlog_worker.domain.outcome import Faulted
from backlog_worker.executors import Work, isolation
from backlog_worker.executors.command import CommandExecutor

OUTSIDE = "belongs-to-the-system"
PLACE, FOLDER = "$BACKLOG_WORKSPACE", '$(dirname "$BACKLOG_WORKSPACE")'
TRICKS = {
    "the workspace is a link": f'rm -rf "{PLACE}"; ln -s SYSTEM "{PLACE}"',
    "a parent is a link": f"mv {FOLDER} SYSTEM/moved; mkdir SYSTEM/work; cp SYSTEM/kept.txt SYSTEM/work; ln -s SYSTEM {FOLDER}",
    "all workspaces are a link": "cd /; mkdir -p SYSTEM/run_b3/j.1/work; cp SYSTEM/kept.txt SYSTEM/run_b3/j.1/work; mv ROOT ROOT.gone; ln -s SYSTEM ROOT",
    "a folder in it is a link": f'ln -s SYSTEM "{PLACE}/sub"',
    "a file is a link": f'ln -s SYSTEM/kept.txt "{PLACE}/kept.txt"',
    "a file is a hard link": f'ln SYSTEM/kept.txt "{PLACE}/kept.txt"',
    "the output is a link": 'ln -s SYSTEM/output.json "$BACKLOG_OUTPUT"',
    "the output is a hard link": 'ln SYSTEM/output.json "$BACKLOG_OUTPUT"',
    "a file is a named pipe": f'mkfifo "{PLACE}/kept.txt"',
    "a file is a device": f'ln -s /dev/zero "{PLACE}/kept.txt"',
}


@pytest.fixture(autouse=True)
def _own_files_only():
    isolation.choose("subreaper")  # namespaces would keep the job from most of it
    yield
    isolation.choose("")


@pytest.mark.parametrize("name", TRICKS)
@pytest.mark.parametrize("pattern", ["*.txt", "**/*.txt", "sub/kept.txt"])
def test_no_trick_hands_out_what_lies_outside(tmp_path, name, pattern):
    system = tmp_path / "system"
    system.mkdir()
    (system / "kept.txt").write_text(OUTSIDE)
    (system / "output.json").write_text(f'{{"data": "{OUTSIDE}"}}')
    root = tmp_path / "workspaces"
    trick = TRICKS[name].replace("SYSTEM", str(system)).replace("ROOT", str(root))
    text = f"name: p\njobs:\n  - id: j\n    run: |\n      {trick}\n    execution: {{ isolation: isolated }}\n    artifacts: ['{pattern}']\n"
    result = CommandExecutor(tmp_path, root).perform(
        pipeline.load(text).jobs[0],
        Work(run_id="run_b3", entry_id="bl_b3", take=1, entry={}, input={}, previous={}, timeout=_seconds(20)),
    )
    assert OUTSIDE not in repr(result)
    if name.startswith(("the output", "a file is a hard link")) and pattern != "sub/kept.txt":
        assert isinstance(result, Faulted), result
    assert (system / "kept.txt").read_text() == OUTSIDE, "nor is anything outside removed"


def _seconds(number: int):
    from datetime import timedelta

    return timedelta(seconds=number)
