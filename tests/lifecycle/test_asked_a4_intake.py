"""What a record asks for is done, or the record says why not: constraints, categories, and unknown names."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from backlog_worker.domain.draft import Constraints
from backlog_worker.integrations import files
from backlog_worker.lifecycle import explain, intake, operate
from backlog_worker.testing import PIPELINE, bench

NIGHT = {"days": "mon-sun", "hours": "02:00-03:00", "timezone": "UTC"}
NOON = datetime(2027, 1, 15, 12, tzinfo=UTC).timestamp()
ISSUE = {
    "number": 7,
    "title": "Login loop",
    "labels": [{"name": "ai-ok"}],
    "url": "https://github.com/acme/shop/issues/7",
    "createdAt": "2027-01-10T08:00:00Z",
}


def imported(table, tmp_path, *records):
    """Import records from a JSON file, as `entry import` does."""
    path = tmp_path / "issues.json"
    path.write_text(json.dumps(records))
    return list(intake.file(table.kit, files.records(path), actor="ana", channel="import"))


def entry(table, filed):
    with table.kit.store.read() as unit:
        return unit.entry(filed.entry_id)


def bars(table, filed):
    return list(entry(table, filed).bars)


CONSTRAINTS = {
    "windows": [NIGHT],
    "sign_off_before": ["publish"],
    "not_before": "2027-02-01T00:00:00Z",
}


def test_every_constraint_has_a_case_here():
    assert set(CONSTRAINTS) == set(Constraints.model_fields)


@pytest.mark.parametrize("name", CONSTRAINTS)
def test_a_constraint_of_an_imported_issue_holds_it(tmp_path, name):
    table = bench()
    table.clock.now = NOON
    (filed,) = imported(table, tmp_path, {**ISSUE, "constraints": {name: CONSTRAINTS[name]}})
    assert filed.status == "queued", filed
    table.run(12)
    found = entry(table, filed)
    if name == "sign_off_before":
        assert [each for _, each in table.executor.performed] == ["draft", "check"], "publish waits for a person"
        assert found.status == "blocked"
        assert bars(table, filed) == ["APPROVAL_REQUIRED"]
    else:
        assert table.executor.performed == []
        (receipt,) = [each for each in explain.next_up(table.kit, 5) if each.scored.entry.id == found.id] or [None]
        assert found.status == "queued"
        assert receipt is None or receipt.waits[0].code == "OUTSIDE_WINDOW"


@pytest.mark.parametrize("name", ["windows", "sign_off_before", "not_before"])
def test_a_constraint_at_the_wrong_place_is_refused(tmp_path, name):
    (filed,) = imported(bench(), tmp_path, {**ISSUE, name: CONSTRAINTS[name]})
    assert name in filed.error


@pytest.mark.parametrize(
    ("given", "near"),
    [
        ({"window": [NIGHT]}, "windows"),
        ({"signoff_before": ["publish"]}, "sign_off_before"),
        ({"notBefore": "2027-02-01"}, "not_before"),
        ({"windows": [{"day": "mon"}]}, "days"),
        ({"windows": [{**NIGHT, "time_zone": "UTC"}]}, "timezone"),
    ],
)
def test_an_unknown_constraint_is_refused_with_the_nearest_one(tmp_path, given, near):
    (filed,) = imported(bench(), tmp_path, {**ISSUE, "constraints": given})
    assert filed.entry_id == ""
    assert f'did you mean "{near}"?' in filed.error


def test_a_sign_off_before_a_job_that_is_not_there_never_runs_unsigned(tmp_path):
    table = bench()
    (filed,) = imported(table, tmp_path, {**ISSUE, "constraints": {"sign_off_before": ["publich"]}})
    assert (filed.status, filed.bars) == ("blocked", ("INPUT_INVALID",))
    assert 'did you mean "publish"?' in filed.reason
    table.run(5)
    assert table.executor.performed == []
    operate.edit(
        table.kit, filed.entry_id, {"constraints": {"sign_off_before": ["publish"]}}, actor="ana", reason="a typo"
    )
    table.run(12)
    assert [each for _, each in table.executor.performed] == ["draft", "check"]


def test_an_edit_or_another_pipeline_cannot_lose_a_sign_off(tmp_path):
    other = PIPELINE.replace("name: spec", "name: other").replace("publish", "release")
    table = bench(pipelines=(PIPELINE, other))
    (filed,) = imported(table, tmp_path, {**ISSUE, "constraints": {"sign_off_before": ["publish"]}})
    operate.edit(table.kit, filed.entry_id, {"pipeline": "other"}, actor="ana", reason="moved")
    assert bars(table, filed) == ["INPUT_INVALID"]
    assert "publish" in entry(table, filed).reason


def test_a_sign_off_is_asked_again_at_the_claim(tmp_path):
    table = bench()
    (filed,) = imported(table, tmp_path, {**ISSUE, "constraints": {"sign_off_before": ["publish"]}})
    table.tick()
    assert entry(table, filed).status == "ready"
    bells = list(table.bells)
    table.bells.clear()
    body = PIPELINE.replace("publish", "release").replace("version: 1", "version: 2")
    table.texts.texts[1] = replace(table.texts.texts[1], body=body)
    table.clock.forward(120)
    table.tick()
    table.bells.extend(bells)
    table.ring()
    assert bars(table, filed) == ["INPUT_INVALID"]
    assert "refused at the claim: constraints.sign_off_before" in entry(table, filed).reason
    assert table.executor.performed == []


@pytest.mark.parametrize(("category", "priority", "days"), [("reliability", "high", 14), ("debt", "low", 60)])
def test_the_category_of_a_record_gives_its_priority_and_due_date(tmp_path, category, priority, days):
    table = bench()
    (filed,) = imported(table, tmp_path, {**ISSUE, "category": category})
    found = entry(table, filed)
    assert (found.category, found.priority) == (category, priority)
    assert abs(found.due_date.timestamp() - table.clock.now - timedelta(days=days).total_seconds()) < 5


def test_what_a_record_says_itself_goes_before_its_category(tmp_path):
    table = bench()
    due = "2027-03-01T00:00:00+00:00"
    labels = [{"name": "ai-ok"}, {"name": "priority: low"}]
    (filed,) = imported(table, tmp_path, {**ISSUE, "labels": labels, "category": "risk", "due_date": due})
    found = entry(table, filed)
    assert (found.priority, found.due_date.isoformat()) == ("low", due)


def test_a_category_that_the_policy_does_not_have_is_said(tmp_path):
    table = bench()
    (filed,) = imported(table, tmp_path, {**ISSUE, "category": "reliabilty"})
    assert (filed.status, entry(table, filed).priority) == ("queued", "medium")
    assert 'no category "reliabilty"' in filed.reason
    assert 'did you mean "reliability"?' in filed.reason
