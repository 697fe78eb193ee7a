"""C4: what is said about installing works from where this was installed, and CI files install what somebody named."""

import re
import shlex
from pathlib import Path

import pytest

import backlog_worker
from backlog_worker import installed
from tests.fuzz.cli import answer

ROOT = Path(backlog_worker.__file__).parent
WAYS = [
    ({"url": "file:///src/bw", "dir_info": {"editable": True}}, ["-e", "/src/bw[postgres]"]),
    ({"url": "file:///src/b%20w", "dir_info": {}}, ["/src/b w[postgres]"]),
    (
        {"url": "https://git.example/bw.git", "vcs_info": {"vcs": "git", "commit_id": "abc1"}},
        ["backlog-worker[postgres] @ git+https://git.example/bw.git@abc1"],
    ),
    (
        {"url": "https://git.example/m.git", "vcs_info": {"vcs": "git", "commit_id": "a"}, "subdirectory": "bw"},
        ["backlog-worker[postgres] @ git+https://git.example/m.git@a#subdirectory=bw"],
    ),
    (
        {"url": "file:///w/bw-1-py3-none-any.whl", "archive_info": {}},
        ["backlog-worker[postgres] @ file:///w/bw-1-py3-none-any.whl"],
    ),
    ({}, ["backlog-worker[postgres]==1.2.3"]),
]


@pytest.mark.parametrize(("direct", "arguments"), WAYS)
def test_c4_a_missing_part_is_installed_from_where_this_was_installed(direct, arguments):
    words = shlex.split(installed.line(direct, "postgres", version="1.2.3"))
    assert words[1:4] == ["-m", "pip", "install"]
    assert words[4:] == arguments


def test_c4_a_password_of_the_address_is_not_shown():
    direct = {"url": "https://me:hunter2hunter2@git.example/bw", "vcs_info": {"vcs": "git", "commit_id": "a"}}
    assert "hunter2hunter2" not in installed.line(direct, "acp", version="1")


def test_c4_no_text_of_the_package_names_a_published_package():
    found = [
        f"{path}:{number}"
        for path in ROOT.rglob("*.py")
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if re.search(r"pip install .?backlog-worker", line) and not line.startswith("INSTALL = ")
    ]
    assert not found, found


@pytest.mark.parametrize("system", ["github-actions", "gitlab-ci", "jenkins"])
def test_c4_an_export_says_how_to_install_only_what_somebody_said(system, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert answer(["init"])[0] == 0
    line = ["pipeline", "export", "spec", "--to", system, "--out", "ci"]
    code, said = answer(line)
    assert code == 6
    assert "--install" in said
    assert "BACKLOG_CI_INSTALL" in said
    assert not Path("ci").exists()
    assert answer([*line, "--install", "uv tool install /wheels/bw.whl"])[0] == 0
    assert "uv tool install /wheels/bw.whl" in Path("ci").read_text()
    monkeypatch.setenv("BACKLOG_CI_INSTALL", "make tools")
    assert answer([*line, "--force"])[0] == 0
    assert "make tools" in Path("ci").read_text()
    assert "pip install backlog-worker" not in Path("ci").read_text()
    assert answer([*line, "--force", "--install", "a\nb"])[0] == 2
