"""Every key, column, option and variable stands in a table with a test that uses it; a new one is missed at once.

`table.json` has, under `used`, the test of each name, and under `open` the names that no test uses yet. The second list
may only become shorter.
"""

import ast
import json
import re
from functools import cache
from pathlib import Path

import pytest

from tests.effects.names import every

TESTS = Path(__file__).parents[1]
TABLE = json.loads((Path(__file__).parent / "table.json").read_text(encoding="utf-8"))
OPEN_MOST = 52
KINDS = ("policy", "pipeline", "agent", "draft", "column", "option", "variable")


@cache
def functions(file: str) -> dict[str, str]:
    """Return the tests of a file, by name, and under "" the text of the whole file."""
    text = (TESTS / file).read_text(encoding="utf-8")
    found = {each.name: "" for each in ast.parse(text).body if isinstance(each, ast.FunctionDef)}
    return {**found, "": text}


@pytest.mark.parametrize("kind", KINDS)
def test_every_name_that_can_be_set_is_in_the_table_and_no_other(kind):
    used, left = TABLE["used"][kind], TABLE["open"].get(kind, [])
    assert not set(used) & set(left)
    assert sorted([*used, *left]) == sorted(every()[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_every_test_of_the_table_is_there_and_its_file_speaks_of_the_name(kind):
    for name, place in TABLE["used"][kind].items():
        file, _, test = place.partition("::")
        found = functions(file)
        assert test.startswith("test_"), place
        assert test in found, f"{name}: there is no {place}"
        last = re.split(r"[ .]", name)[-1]
        snake = re.sub(r"(?<!^)(?=[A-Z])", "_", last).lower()
        words = {last, snake, last.removeprefix("BACKLOG_")}
        assert any(each in found[""] for each in words), f"{name}: {file} does not speak of it"


def test_the_list_of_names_that_no_test_uses_becomes_no_longer():
    assert sum(map(len, TABLE["open"].values())) <= OPEN_MOST
