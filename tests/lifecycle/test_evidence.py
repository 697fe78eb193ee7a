"""A stranger checks the evidence of an entry without our database, and finds every altered byte of it."""

import copy
import json
import random

import pytest

from backlog_worker.domain.outcome import Done, FailureKind, Faulted
from backlog_worker.domain.review import Answer, Decided
from backlog_worker.lifecycle import audit, operate, review
from backlog_worker.testing import bench

GRAPH = """\
name: spec
jobs:
  - { id: a, python: "f:a" }
  - { id: b, python: "f:b", dependsOn: a, gates: [{ id: G-1, check: "output.n > 0.0" }] }
  - { id: ask, interactive: true, task: Well?, dependsOn: a }
  - { id: c, python: "f:c", dependsOn: [b, ask], approval: {} }
"""


@pytest.fixture
def story():
    table = bench(pipelines=[GRAPH])
    (filed,) = table.file({})
    operate.edit(table.kit, filed.entry_id, {"input": {"body": "better"}}, actor="ana", reason="typo")
    table.executor.results = {
        "a": [Faulted(kind=FailureKind.EXECUTION, reason="boom"), Done(output={}, artifacts={"a.txt": b"text"})],
        "b": [Done(output={"n": 1})],
    }
    table.run(8)
    review.decide(
        table.kit, filed.entry_id, Decided(answer=Answer.ANSWER, actor="li", reason="so", value={"yes": True})
    )
    table.run(4)
    review.decide(table.kit, filed.entry_id, Decided(answer=Answer.APPROVE, actor="li", reason="fine"))
    table.run(4)
    return table, filed.entry_id


def exported(story):
    return json.loads(json.dumps(audit.export(story[0].kit, story[1])))


def test_a_bundle_is_whole_and_tells_the_story(story):
    value = exported(story)
    assert audit.verify(value) == []
    assert value["entry"]["status"] == "completed"
    assert len(value["inputs"]) == 2, "the input that was replaced stays readable"
    assert {each["answered_by"] for each in value["reviews"]} == {"li"}
    assert len(value["runs"]) >= 2
    assert {each["kind"] for each in value["definitions"].values()} == {"policy", "pipeline"}
    assert len(value["artifacts"]) == 1


def test_every_altered_leaf_of_a_bundle_is_found(story):
    value = exported(story)
    chance = random.Random(5)
    leaves = list(_leaves(value, ()))
    for path in chance.sample(leaves, 120):
        broken = copy.deepcopy(value)
        spot = broken
        for step in path[:-1]:
            spot = spot[step]
        spot[path[-1]] = _other(spot[path[-1]])
        assert audit.verify(broken), path


def test_a_forger_who_closes_the_bundle_again_is_found_by_the_chain(story):
    from backlog_worker.domain import evidence

    value = exported(story)

    def closed(change):
        forged = copy.deepcopy(value)
        change(forged)
        return audit.verify(
            evidence.bundle({name: part for name, part in forged.items() if name not in {"schema", "sha256"}})
        )

    assert closed(lambda forged: None) == []
    assert "does not match its hash" in " ".join(closed(lambda forged: forged["events"][3].update(actor="eve")))
    assert closed(lambda forged: forged["events"].pop(2))
    assert closed(lambda forged: forged["events"].insert(1, forged["events"].pop(2)))
    assert "does not give" in " ".join(closed(lambda forged: forged["entry"].update(owner="eve")))
    assert "input" in " ".join(closed(lambda forged: forged["inputs"].update({key: {} for key in forged["inputs"]})))
    assert "output of b" in " ".join(
        closed(lambda forged: next(s for s in forged["stages"] if s["job_id"] == "b").update(output={"n": 2}))
    )
    assert "policy" in " ".join(
        closed(
            lambda forged: next(d for d in forged["definitions"].values() if d["kind"] == "policy").update(
                version="9",
                body=next(d for d in forged["definitions"].values() if d["kind"] == "policy")["body"].replace(
                    "ai-ok", "all"
                ),
            )
        )
    )
    assert closed(lambda forged: next(iter(forged["artifacts"].values())).update(base64="QQ=="))


def test_what_is_no_bundle_is_said_so():
    assert "not a bundle" in audit.verify({})[0]
    assert audit.verify({"schema": "backlog-worker/evidence@1"})


def test_the_backlog_stands_again_as_it_stood(story):
    table, entry_id = story
    with table.kit.store.read() as unit:
        events = unit.history(entry_id)
        now = unit.now()
    claimed = next(event for event in events if event.change == "claimed")
    assert audit.at(table.kit, claimed.at).statuses[entry_id] in {"in_progress", "ready", "retrying"}
    assert audit.at(table.kit, now).counts == {"completed": 1}
    (changed,) = audit.diff(table.kit, events[0].at, now)
    assert (changed[0], changed[2]) == (entry_id, "completed")


def _leaves(value, path):
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _leaves(each, (*path, key))
    elif isinstance(value, list):
        for at, each in enumerate(value):
            yield from _leaves(each, (*path, at))
    else:
        yield path


def _other(value):
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    return f"{value or ''}x"
