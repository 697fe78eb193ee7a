"""C3: the outer edge: a version, one sentence for a fault that nobody foresaw, and the file of its details."""

import re
from pathlib import Path

import pytest

from backlog_worker.cli import machine
from tests.fuzz.cli import answer

SECRET = "sk-ant-api03-" + "a1B2c3D4e5" * 9


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_c3_the_version_is_printed(project):
    code, said = answer(["--version"])
    assert code == 0
    assert re.fullmatch(r"backlog-worker \d+\.\d+\.\d+\S*\n", said)
    assert list(project.iterdir()) == []


@pytest.mark.parametrize("begun", [True, False])
@pytest.mark.parametrize("form", [[], ["--json"], ["--quiet"]])
def test_c3_a_fault_that_nobody_foresaw_names_its_class_and_the_file_of_its_details(project, monkeypatch, begun, form):
    if begun:
        (project / ".backlog-worker" / "state").mkdir(parents=True)
    monkeypatch.setattr(machine, "write_files", lambda *_, **__: {}[f"\x1b[2J token {SECRET}"])
    code, said = answer([*form, "init"])
    assert code == 1
    assert "KeyError" in said
    assert "this is a fault of backlog-worker" in said
    assert "Traceback" not in said
    assert "\x1b" not in said
    kept = Path(re.search(r"the details are in ([^;]+);", said).group(1))
    assert kept.is_relative_to(project) == begun
    assert kept.stat().st_mode & 0o077 == 0
    details = kept.read_text()
    assert "Traceback" in details
    assert SECRET not in details
    if not begun:
        kept.unlink()
        assert list(project.iterdir()) == []
