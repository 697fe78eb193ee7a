"""An upsert changes every field that it names, with an event, or says which one it did not change and why."""

import json
from datetime import UTC, datetime

import pytest

from backlog_worker.domain.draft import Draft
from backlog_worker.domain.refiled import CHANGES, ORIGIN
from backlog_worker.lifecycle import audit, generate
from backlog_worker.testing import PIPELINE, bench

BEFORE = {
    "dedupe_key": "k",
    "title": "before",
    "labels": ["ai-ok"],
    "input": {"a": 1},
    "source": "s",
    "url": "https://h/1",
    "external_ref": "1",
    "author": "li",
    "eligible_by": "li",
    "eligible_at": "2026-01-01T00:00:00Z",
}
AFTER = {
    "title": "after",
    "priority": "high",
    "service": "gateway",
    "category": "risk",
    "team": "web",
    "owner": "ana",
    "labels": ["ai-ok", "urgent"],
    "pipeline": "other",
    "due_date": "2027-06-01T00:00:00Z",
    "constraints": {"not_before": "2027-05-01T00:00:00Z"},
    "signals": {"risk": 0.5},
    "input": {"a": 2},
}
STAYS = {
    "source": "t",
    "url": "https://h/2",
    "external_ref": "2",
    "author": "eve",
    "author_association": "MEMBER",
    "eligible_by": "eve",
    "eligible_at": "2026-02-01T00:00:00Z",
    "created_at": "2020-01-01T00:00:00Z",
    "depends_on": ["j"],
}


@pytest.fixture
def table():
    made = bench(pipelines=(PIPELINE, PIPELINE.replace("name: spec", "name: other")))
    generate.upsert(made.kit, {"dedupe_key": "j", "title": "j", "labels": ["ai-ok"]}, actor="ana")
    generate.upsert(made.kit, BEFORE, actor="ana")
    return made


def entry(table):
    with table.kit.store.read() as unit:
        return unit.entry(unit.with_key("prod", ["k"])["k"])


def events(table):
    found = entry(table)
    with table.kit.store.read() as unit:
        return unit.history(found.id)


def test_every_field_of_a_draft_is_changed_or_stays_here():
    assert {*CHANGES, *ORIGIN, "dedupe_key"} == set(Draft.model_fields)
    assert set(AFTER) == set(CHANGES)
    assert set(STAYS) == set(ORIGIN)


@pytest.mark.parametrize("name", AFTER)
def test_an_upsert_changes_the_field_that_it_names(table, name):
    before = entry(table)
    said = generate.upsert(table.kit, {"dedupe_key": "k", name: AFTER[name]}, actor="ana")
    assert (said["updated"], said["changed"], said["why"]) == (True, [name], "")
    found = entry(table)
    if name == "input":
        with table.kit.store.read() as unit:
            assert unit.input(found.id, found.input_sha256) == {"a": 2}
    elif name == "due_date":
        assert found.due_date == datetime(2027, 6, 1, tzinfo=UTC)
    elif name == "constraints":
        assert found.constraints["not_before"].startswith("2027-05-01")
    else:
        assert getattr(found, name) == AFTER[name]
    assert found.id == before.id
    edits = [each for each in events(table) if each.change == "edited"]
    assert (len(edits), edits[0].actor, edits[0].data["fields"]) == (1, "ana", [name])
    assert list(audit.verify(table.kit)) == []


@pytest.mark.parametrize("name", STAYS)
def test_an_upsert_says_which_field_stays(table, name):
    said = generate.upsert(table.kit, {"dedupe_key": "k", name: STAYS[name]}, actor="ana")
    assert not said["updated"]
    assert said["changed"] == []
    assert f"{name} belong to its provenance and stay" in said["why"]


def test_the_same_again_changes_nothing_and_says_so(table):
    count = len(events(table))
    said = generate.upsert(table.kit, BEFORE, actor="ana")
    assert (said["updated"], said["why"]) == (False, "no given field differs")
    assert len(events(table)) == count


def test_what_ended_or_is_under_way_says_which_fields_it_does_not_take(table):
    table.tick()
    said = generate.upsert(table.kit, {"dedupe_key": "k", "priority": "high"}, actor="ana")
    assert (said["updated"], said["why"]) == (False, "it is in progress, so priority cannot be changed")
    table.run(10)
    said = generate.upsert(table.kit, {"dedupe_key": "k", "team": "web"}, actor="ana")
    assert "it is completed, so team cannot be changed" in said["why"]


def test_an_upsert_with_a_constraint_that_is_wrong_changes_nothing(table):
    with pytest.raises(Exception, match="sign_off_before"):
        generate.upsert(table.kit, {"dedupe_key": "k", "constraints": {"signoff_before": ["x"]}}, actor="ana")
    assert json.dumps(dict(entry(table).constraints)) == "{}"
