"""docs/failure-modes.md names, for each failure mode, a control and a test that exists."""

import re
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "failure-modes.md").read_text()
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in PAGE.splitlines()
    if line.startswith("|") and not line.startswith(("| mode", "|--"))
]


def functions(path):
    return re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)


def test_e_every_failure_mode_has_what_is_seen_a_control_and_a_test():
    assert len(ROWS) >= 50
    assert [row for row in ROWS if len(row) != 4 or not all(row)] == []
    assert [row[0] for row in ROWS if not re.fullmatch(r"(`[\w/.:*]+`(, )?)+", row[3])] == []


@pytest.mark.parametrize("name", sorted({name for row in ROWS for name in re.findall(r"`([^`]+)`", row[3])}))
def test_e_every_test_that_the_page_names_exists(name):
    path, _, function = name.rpartition("::")
    if path:
        assert function in functions(ROOT / path)
        return
    found = [each for file in (ROOT / "tests").rglob("test_*.py") for each in functions(file)]
    assert any(fnmatchcase(each, name) for each in found)


@pytest.mark.parametrize("part", ["Trackers", "Broker", "Database", "Workers", "Schedules", "Webhooks", "Agents", "Definitions", "People", "Disk", "Environments", "Evidence"])  # fmt: skip
def test_e_every_part_of_the_integration_layer_stands_on_the_page(part):
    (section,) = [each for each in PAGE.split("\n## ") if each.startswith(part)]
    assert section.count("\n| ") >= 3
