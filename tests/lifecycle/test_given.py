"""Whatever way an output comes in, it passes the contract of its job and all of its gates, or nothing goes on with it."""

import json
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backlog_worker.domain.errors import InvalidInputError
from backlog_worker.domain.outcome import Done, FailureKind, Faulted
from backlog_worker.domain.review import Answer, Decided
from backlog_worker.lifecycle import again, review
from backlog_worker.testing import POLICY, Bench, bench

CHECKED = """
      output: { type: object, required: [n], properties: { n: { type: number } } }
      gates:
        - { id: G-CEL, check: "output.n > 0.0" }
        - { id: G-CMD, run: "! grep -q 13 $BACKLOG_OUTPUT" }
        - { id: G-ASK, check: "output.n != 7.0", onFail: ask }
        - { id: G-TWO, check: "output.n != 7.0", onFail: ask }
"""
CHILD = "name: child\nversion: 1\njobs:\n  - { id: made, python: 'f:made' }\n"


def pipeline(does):
    return f"""\
name: spec
version: 1
jobs:
  - {{ id: before, python: "f:before" }}
  - id: mid
    dependsOn: before
    {does}{CHECKED.replace(chr(10) + "  ", chr(10))}
  - {{ id: publish, python: "f:publish", dependsOn: mid }}
"""


OUTPUTS = {
    "breaks the contract": {"n": "many"},
    "fails the expression": {"n": -1},
    "fails the command": {"n": 13},
    "asks": {"n": 7},
    "passes": {"n": 1},
}


def filed(table):
    (one,) = table.file({"pipeline": "spec"})
    assert not one.bars, one.reason
    table.run(6)
    return one.entry_id


def entry(table, entry_id):
    with table.kit.store.read() as unit:
        return unit.entry(entry_id)


def by_executor(output):
    table = bench(pipelines=[pipeline('python: "f:mid"')])
    table.executor.results = {"mid": [Done(output=output)]}
    return table, filed(table)


def by_fork(output):
    table = bench(pipelines=[pipeline('python: "f:mid"')])
    table.executor.results = {"mid": [Done(output={"n": 1})]}
    first = filed(table)
    table.executor.performed.clear()
    with table.kit.store.read() as unit:
        (run,) = unit.runs(first)
    new = again.fork(table.kit, run["id"], "mid", actor="ana", reason="what if", output=output)
    table.run(6)
    return table, new


def by_answer(output):
    table = bench(pipelines=[pipeline("interactive: true\n    prompt: How many?")])
    entry_id = filed(table)
    decided = Decided(answer=Answer.ANSWER, actor="ana", reason="counted", value=output)
    _, bells = review.decide(table.kit, entry_id, decided)
    table.bells += bells
    table.run(6)
    return table, entry_id


def by_call(output):
    table = bench(pipelines=[pipeline("pipeline: child"), CHILD])
    table.executor.results = {"made": [Done(output=output)]}
    return table, filed(table)


def by_fallback(output):
    table = bench(pipelines=[pipeline(f'python: "f:mid"\n    fallback: {{ value: {json.dumps(output)} }}')])
    table.executor.results = {"mid": [Faulted(kind=FailureKind.EXECUTION, reason="no")] * 9}
    return table, filed(table)


def by_cache(output):
    """Take a stored result whose output was altered where it is stored, beside the verdicts that it once got."""
    table = bench(pipelines=[pipeline('python: "f:mid"\n    cache: { ttl: 1d }')])
    table.executor.results = {"mid": [Done(output={"n": 1}), Done(output=output)]}
    filed(table)
    with table.kit.store.begin() as unit:
        unit.run("UPDATE results SET output = :output", output=json.dumps(output))
    table.executor.performed.clear()
    return table, filed(table)


WAYS = {
    "executor": by_executor,
    "fork": by_fork,
    "answer": by_answer,
    "call": by_call,
    "fallback": by_fallback,
    "cache": by_cache,
}


@pytest.mark.parametrize("kind", OUTPUTS)
@pytest.mark.parametrize("way", WAYS)
def test_b6_an_output_goes_on_only_where_contract_and_gates_let_it(way, kind):
    try:
        table, entry_id = WAYS[way](OUTPUTS[kind])
    except InvalidInputError as error:
        assert kind == "breaks the contract"
        assert way in {"fork", "answer"}, "who gives it is told at once"
        assert "'many' is not of type 'number'" in str(error)
        return
    found = entry(table, entry_id)
    published = "publish" in [job for of, job in table.executor.performed if of == entry_id]
    with table.kit.store.read() as unit:
        mid = unit.stages({found.id: found.pipeline_hash})[found.id].get("mid")
        history = json.dumps([event.data for event in unit.history(entry_id)], default=str)
    assert published == (kind == "passes"), found.reason
    if kind == "passes":
        assert (found.status, mid.output) == ("completed", OUTPUTS[kind])
        assert {each["id"]: each["result"] for each in mid.gates} == dict.fromkeys(
            ["G-CEL", "G-CMD", "G-ASK", "G-TWO"], "pass"
        )
        assert mid.sha256 in history
    elif kind == "asks":
        assert (found.status, mid.status) == ("blocked", "waiting")
    else:
        assert found.status == "escalated"
        assert mid.status == "failed"
        assert {"breaks the contract": "contract", "fails the expression": "G-CEL", "fails the command": "G-CMD"}[
            kind
        ] in found.reason
    assert "given" not in (mid.approval or {}), "the value itself is kept once, as the output"


@pytest.mark.parametrize("way", WAYS)
def test_b6_each_gate_that_asks_is_answered_by_name_before_anything_goes_on(way):
    table, entry_id = WAYS[way](OUTPUTS["asks"])
    for gate in ("G-ASK", "G-TWO"):
        assert "publish" not in [job for of, job in table.executor.performed if of == entry_id]
        with table.kit.store.read() as unit:
            (only,) = unit.open_reviews(entry_id)
        assert only.detail == f"gate:{gate}"
        _, bells = review.decide(
            table.kit, only.id, Decided(answer=Answer.APPROVE, actor="ana", reason="seven is fine")
        )
        table.bells += bells
        table.run(6)
    found = entry(table, entry_id)
    assert found.status == "completed"
    with table.kit.store.read() as unit:
        mid = unit.stages({found.id: found.pipeline_hash})[found.id]["mid"]
    assert mid.output == OUTPUTS["asks"]
    assert set(mid.approval["waived"]) == {"G-ASK", "G-TWO"}


@pytest.mark.parametrize("way", ["fork", "answer", "call"])
def test_b6_a_given_output_outlives_the_worker_that_took_it(way, monkeypatch):
    from backlog_worker.lifecycle import perform, stage

    dead, real = [], perform.done

    def _dies(kit, taken):
        if (taken.approval or {}).get("given") and not dead:
            dead.append(taken.job.id)
            raise SystemExit
        return real(kit, taken)

    answer = Bench.answer

    def _survived(self, bell):
        with suppress(SystemExit):  # the worker is gone; the next one hears the bells
            answer(self, bell)

    monkeypatch.setattr(stage, "done", _dies)
    monkeypatch.setattr(Bench, "answer", _survived)
    table, entry_id = WAYS[way](OUTPUTS["passes"])
    table.run(6)
    assert (dead, entry(table, entry_id).status) == (["mid"], "completed")


def test_b6_an_edited_output_of_a_job_that_never_ran_counts_too():
    table = bench(pipelines=[pipeline('python: "f:mid"')])
    table.executor.results = {"before": [Faulted(kind=FailureKind.EXECUTION, reason="no")] * 9}
    first = filed(table)
    for _ in range(20):
        table.clock.forward(120)
        table.run(2)
    with table.kit.store.read() as unit:
        run = unit.runs(first)[0]
    table.executor.results = {}
    new = again.fork(table.kit, run["id"], "mid", actor="ana", reason="what if", output={"n": 2})
    table.run(6)
    assert [job for of, job in table.executor.performed if of == new] == ["before", "publish"]
    assert entry(table, new).status == "completed"


def test_b6_after_a_refusal_a_resumed_run_asks_or_works_anew_and_takes_the_edit_no_more():
    table, entry_id = by_fork({"n": -1})
    table.executor.results = {"mid": [Done(output={"n": 5})]}
    again.resume(table.kit, entry_id, actor="ana", reason="do it really")
    table.run(6)
    assert entry(table, entry_id).status == "completed"
    assert [job for of, job in table.executor.performed if of == entry_id] == ["mid", "publish"]


@given(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-20, 20),
        st.text(max_size=5),
        st.dictionaries(st.sampled_from(["n", "m"]), st.integers(-20, 20)),
    )
)
@settings(max_examples=40, deadline=None)
def test_b6_no_edited_output_is_published_that_the_gates_would_not_let_by(output):
    fine = isinstance(output, dict) and "n" in output and output["n"] > 0 and output["n"] not in {7, 13}
    try:
        table, entry_id = by_fork(output)
    except InvalidInputError:
        assert not fine
        return
    assert (("publish") in [job for of, job in table.executor.performed if of == entry_id]) == fine


@pytest.mark.parametrize(("stored", "runs"), [({"n": 1}, True), ({"n": "many"}, False), (None, False)])
def test_b6_a_result_that_was_edited_in_a_folder_of_results_breaks_no_contract_unseen(tmp_path, stored, runs):
    from backlog_worker.domain import pipeline as pipelines
    from backlog_worker.domain import policy as policies
    from backlog_worker.lifecycle import solo

    found = pipelines.load(pipeline('python: "f:mid"'))
    (tmp_path / "before.json").write_text(json.dumps({"status": "completed", "output": {}}))
    (tmp_path / "mid.json").write_text(json.dumps({"status": "completed", "output": stored}))
    kit, policy = bench().kit, policies.load(POLICY)
    if runs:
        assert solo.perform_one(kit, found, policy, "publish", {}, tmp_path)[0] == "completed"
        return
    with pytest.raises(InvalidInputError, match=r"mid\.json breaks the contract of mid"):
        solo.perform_one(kit, found, policy, "publish", {}, tmp_path)
