"""C3: `explain-code` knows every code there is, taken from the enums, registries and sources that make them."""

import ast
import re
from pathlib import Path

import pytest

import backlog_worker
from backlog_worker.cli import codes, output
from backlog_worker.domain import errors, reasons
from backlog_worker.domain.document import CODES
from backlog_worker.domain.entry import Status
from backlog_worker.domain.governing import ALERTS
from backlog_worker.domain.outcome import FailureKind
from tests.fuzz.cli import answer

PACKAGE = Path(backlog_worker.__file__).parent


def classes(kind=errors.BacklogError):
    return [kind.__name__, *(name for each in kind.__subclasses__() for name in classes(each))]


def written():
    """Return every finding code that stands in the sources, whole or as a number for `finding`."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and re.fullmatch(r"BW\d{3}", str(node.value)):
                yield node.value
            if isinstance(node, ast.Call) and re.search("finding$|warning$", ast.unparse(node.func), re.IGNORECASE):
                given = (each.value for each in node.args if isinstance(each, ast.Constant))
                yield from (f"BW2{each}" for each in given if re.fullmatch(r"\d\d", str(each)))
    yield from (f"BW{group}{number}" for group in "123456" for number in CODES)


EVERY = [
    *map(str, [*reasons.Bar, *reasons.Wait, *reasons.Standing, *FailureKind, *Status]),
    *(str(each["id"]) for each in ALERTS),
    *classes(),
    *sorted(set(written())),
    *map(str, {0, 1, output.FINDINGS, output.INTERRUPTED, *output.EXIT_CODES.values()}),
]


@pytest.mark.parametrize("case", [str, str.upper, str.lower])
def test_c3_every_code_is_explained_in_any_case(case):
    unknown = [code for code in EVERY if codes.explained(case(code)) is None]
    assert not unknown, unknown
    assert answer(["explain-code", case("BW233")])[0] == 0
    code, said = answer(["explain-code", "NOT_ELIGIBEL"])
    assert code == 3
    assert "NOT_ELIGIBLE" in said
