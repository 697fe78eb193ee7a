"""Every key, column, option and variable stands in a table with a test that uses it; a new one is missed at once.

`table.json` has the test of each name, by kind.
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
KINDS = ("policy", "pipeline", "agent", "draft", "column", "option", "variable")


@cache
def functions(file: str) -> dict[str, str]:
    """Return the tests of a file, by name, and under "" the text of the whole file."""
    text = (TESTS / file).read_text(encoding="utf-8")
    found = {each.name: "" for each in ast.parse(text).body if isinstance(each, ast.FunctionDef)}
    return {**found, "": text}


@pytest.mark.parametrize("kind", KINDS)
def test_every_name_that_can_be_set_is_in_the_table_and_no_other(kind):
    assert sorted(TABLE[kind]) == sorted(every()[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_every_test_of_the_table_is_there_and_its_file_speaks_of_the_name(kind):
    for name, place in TABLE[kind].items():
        file, _, test = place.partition("::")
        found = functions(file)
        assert test.startswith("test_"), place
        assert test in found, f"{name}: there is no {place}"
        last = re.split(r"[ .]", name)[-1]
        snake = re.sub(r"(?<!^)(?=[A-Z])", "_", last).lower()
        words = {last, snake, last.removeprefix("BACKLOG_"), last.removeprefix("--").replace("-", "_")}
        assert any(each in found[""] for each in words), f"{name}: {file} does not speak of it"
