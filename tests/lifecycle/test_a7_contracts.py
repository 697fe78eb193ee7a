"""Contracts hold until the claim: what was queued before `accepts` changed is named, not run, and goes on once mended."""

from dataclasses import replace

import pytest

from backlog_worker.lifecycle import audit, explain, operate
from backlog_worker.testing import PIPELINE, bench

ASKS = PIPELINE + "accepts: { type: object, required: [severity], properties: { severity: { type: string } } }\n"
WRONG = PIPELINE.replace("version: 1", "version: 3") + "accepts: { properties: { body: { type: integer } } }\n"


def change(table, body):
    table.texts.texts[1] = replace(table.texts.texts[1], body=body)


def go(table, most=5):
    """Tick and answer; a real database's clock does not move for us, so the lease of the tick is given back."""
    for _ in range(most):
        with table.kit.store.begin() as unit:
            unit.run("DELETE FROM leases WHERE name LIKE 'dispatch%'")
        table.tick()
        table.ring()


def entry(table, entry_id):
    with table.kit.store.read() as unit:
        return unit.entry(entry_id)


@pytest.mark.parametrize("database_url", ["sqlite", "postgres"], indirect=True)
def test_a7_what_breaks_a_new_contract_is_blocked_as_it_is_chosen_and_goes_on_once_edited(database_url):
    table = bench(url=database_url)
    bad, good = table.file({}, {"input": {"severity": "high"}})
    change(table, ASKS)
    go(table, 5)
    found = entry(table, bad.entry_id)
    assert (found.status, found.bars) == ("blocked", ["INPUT_INVALID"])
    assert "'severity' is a required property" in found.reason
    assert {each for each, _ in table.executor.performed} == {good.entry_id}
    operate.edit(table.kit, bad.entry_id, {"input": {"severity": "low"}}, actor="ana", reason="mended")
    go(table, 5)
    assert entry(table, bad.entry_id).status == "completed"
    assert list(audit.verify(table.kit)) == []


def test_a7_explain_names_the_field_before_any_tick_does():
    table = bench(slots=0)
    (filed,) = table.file({})
    change(table, WRONG)
    table.tick()
    found = explain.explain(table.kit, filed.entry_id)
    assert found.entry.status == "queued", "no worker is there, so it was not chosen"
    code, words = found.reasons[0]
    assert code == "INPUT_INVALID"
    assert "body: 'It loops.' is not of type 'integer'" in words


def test_a7_what_was_chosen_before_the_contract_changed_is_not_run():
    table = bench()
    (filed,) = table.file({})
    table.tick()
    assert entry(table, filed.entry_id).status == "ready"
    change(table, WRONG)
    bells = list(table.bells)
    table.bells.clear()
    table.tick()  # the definition comes into force
    table.bells.extend(bells)
    table.ring()
    found = entry(table, filed.entry_id)
    assert (found.status, found.bars, table.executor.performed) == ("blocked", ["INPUT_INVALID"], [])
    assert "body" in found.reason


def test_a7_it_goes_on_when_the_pipeline_is_mended():
    table = bench()
    table.file({})
    change(table, WRONG)
    go(table, 3)
    assert table.statuses() == {"blocked": 1}
    change(table, PIPELINE.replace("version: 1", "version: 4"))
    go(table, 5)
    assert table.statuses() == {"completed": 1}


def test_a7_many_that_break_the_contract_keep_nobody_back():
    table = bench(pipelines=[PIPELINE, PIPELINE.replace("name: spec", "name: other")])
    table.file(*({"priority": "high"} for _ in range(60)))
    (other,) = table.file({"pipeline": "other"})
    change(table, WRONG)
    go(table, 2)
    assert entry(table, other.entry_id).status == "completed"
    assert table.statuses() == {"blocked": 60, "completed": 1}
