"""A gate says in the words of who wrote it what is wrong."""

import pytest

from backlog_worker.domain import pipeline, writeback
from backlog_worker.domain.errors import InvalidFileError
from backlog_worker.domain.gates import Gate, GateResult, asks, evaluated, judged, worded
from backlog_worker.domain.outcome import Done
from backlog_worker.testing import bench

SPEC = """\
name: spec
version: 1
jobs:
  - id: draft
    python: "fake:draft"
    gates:
      - id: SPEC-001
        check: "size(output.risks) > 0"
        onFail: {on_fail}
        message: "The draft of ${{{{ entry.title }}}} names ${{{{ size(output.risks) }}}} risks."
"""
VALUES = {"entry.title": "Login", "output": {"risks": []}, "inputs": {}}


def test_the_message_is_filled_and_says_why_too():
    gate = Gate.made("G-1", "size(output.risks) > 0", None, "ask", message="${{ entry.title }}: no risks")
    checked = worded(gate, evaluated(gate, VALUES), VALUES)
    assert checked.message == "Login: no risks"
    assert checked.as_data()["message"] == "Login: no risks"
    assert "Login: no risks" in asks(gate.id, checked.words, "draft").question
    assert gate.rule_sha256 == Gate.made("G-1", "size(output.risks) > 0", None, "ask").rule_sha256


def test_a_gate_that_passes_and_one_without_a_message_say_nothing_more():
    gate = Gate.made("G-1", "true", None, "fail", message="never")
    assert "message" not in worded(gate, judged(gate, passed=True, why=""), VALUES).as_data()
    silent = Gate.made("G-1", "false", None, "fail")
    assert "message" not in worded(silent, judged(silent, passed=False, why="no"), VALUES).as_data()


def test_what_cannot_be_filled_is_said_in_its_place_and_fails_nothing_more():
    gate = Gate.made("G-1", "false", None, "fail", message="at ${{ output.nothing }}")
    checked = worded(gate, judged(gate, passed=False, why="no"), VALUES)
    assert checked.result == GateResult.FAIL
    assert checked.message.startswith("at (not known: ")


def test_an_unknown_name_in_a_message_is_found_when_the_file_is_loaded():
    text = SPEC.format(on_fail="fail").replace("entry.title", "enrty.title")
    with pytest.raises(InvalidFileError, match="the message of gate"):
        pipeline.load(text)


@pytest.mark.parametrize("on_fail", ["fail", "ask"])
def test_the_message_stands_in_the_review_the_stage_and_the_record(on_fail):
    table = bench(pipelines=[SPEC.format(on_fail=on_fail)])
    table.executor.results["draft"] = [Done(output={"risks": []})]
    table.file({"title": "Login", "pipeline": "spec"})
    table.run(3)
    with table.kit.store.read() as unit:
        (review,) = unit.reviews("prod")
        records = [wish["body"] for wish in unit.wishes()]
    assert "The draft of Login names 0 risks." in review.question
    assert all("names 0 risks" in writeback.markdown(each) for each in records)
    assert bool(records) == (on_fail == "fail")
