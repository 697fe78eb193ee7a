"""Columns of an entry: what each decides or tells, seen in what changes when it stands otherwise."""

from datetime import UTC, datetime

import pytest

from backlog_worker.domain.outcome import Done
from backlog_worker.domain.search import parsed
from backlog_worker.integrations import DefinitionFile
from backlog_worker.lifecycle import evidence, retire, watch
from backlog_worker.testing import POLICY, bench

ONE = 'name: spec\nbudget: { usd: 4 }\njobs:\n  - { id: draft, python: "f:draft" }\n'
TWO = ONE + '  - { id: check, python: "f:check", dependsOn: draft }\n'
KEYED = ONE + "concurrency: { group: { key: entry.service, limit: 1, onConflict: wait } }\n"
DAY = 86_400


def table(more="", pipeline=ONE):
    return bench(policy=POLICY + more, pipelines=[pipeline])


def found(made, filed):
    with made.kit.store.read() as unit:
        return unit.entry(filed.entry_id)


def put(made, filed, column, value):
    """Write a column as nothing else would."""
    with made.kit.store.begin() as unit:
        text = f"UPDATE entries SET {column} = :value WHERE id = :id"
        assert unit.count(text, value=value, id=filed.entry_id) == 1


def at(made, seconds=0.0):
    return datetime.fromtimestamp(made.clock.now + seconds, UTC)


def test_changed_at_is_when_the_time_of_retention_begins():
    made = table()
    (old,) = made.file({})
    made.run(2)
    made.clock.forward(100 * DAY)
    (young,) = made.file({})
    made.run(2)
    made.clock.forward(100 * DAY)
    assert found(made, young).changed_at - found(made, old).changed_at > (at(made) - at(made, -99 * DAY))
    assert retire.cleanup(made.kit)["removed"]["entries"] == 1
    assert (found(made, old), found(made, young) is None) == (None, False)


def test_claimed_at_tells_a_run_that_nobody_works_in_from_one_that_begins():
    made = table(pipeline=TWO)
    (filed,) = made.file({})
    made.tick()
    made.answer(made.bells.popleft())  # the first job is done, and the second is rung for
    began = found(made, filed).claimed_at
    assert abs((began - at(made)).total_seconds()) < 5
    with made.kit.store.begin() as unit:
        unit.count("DELETE FROM stages WHERE entry_id = :id", id=filed.entry_id)
    assert "I22" not in {each.invariant for each in watch.verify(made.kit)}
    made.clock.forward(90)
    put(made, filed, "leased_until", made.clock.now + 60)
    assert "I22" in {each.invariant for each in watch.verify(made.kit)}


def test_cleared_at_bounds_the_entries_whose_waiting_time_is_measured():
    made = table()
    (filed,) = made.file({})
    made.clock.forward(60)
    made.run(2)
    assert watch.report(made.kit).measures.wait_p50["medium"] == pytest.approx(60, abs=5)
    put(made, filed, "cleared_at", None)
    assert not watch.report(made.kit).measures.wait_p50


def test_group_key_says_who_holds_a_concurrency_key():
    made = table(pipeline=KEYED)
    first, second = made.file({"service": "api"}, {"service": "api"})
    made.tick()
    made.tick()
    assert made.statuses() == {"ready": 1, "queued": 1}
    holder = first if found(made, first).status == "ready" else second
    assert "api" in found(made, holder).group_key
    put(made, holder, "group_key", None)
    made.tick()
    assert made.statuses() == {"ready": 2}


@pytest.mark.parametrize(("over", "changes"), [(False, []), (True, ["expired"])])
def test_leased_until_is_when_a_claim_is_taken_back(over, changes):
    made = table()
    (filed,) = made.file({})
    seen = []

    def slow(job, work):
        if over:
            put(made, filed, "leased_until", made.clock.now - 1)
        made.clock.forward(10)
        made.sweep()
        with made.kit.store.read() as unit:
            seen.extend(each.change for each in unit.history(filed.entry_id) if each.change == "expired")
        return Done(output={})

    made.executor.results["draft"] = [slow]
    made.sweep()  # the first one gives every lease more time
    made.tick()
    made.ring()
    assert seen == changes


def test_limit_key_keeps_back_only_those_whose_key_is_full():
    made = table(pipeline=KEYED)
    one, other, free = made.file({"service": "api"}, {"service": "api"}, {"service": "web"})
    keys = [found(made, each).limit_key for each in (one, other, free)]
    assert keys[0] == keys[1] != keys[2]
    made.tick()
    made.tick()
    assert made.statuses() == {"ready": 2, "queued": 1}
    assert found(made, free).status == "ready"


def test_rank_group_holds_what_the_policy_scores_by_and_is_made_anew_with_it():
    made = table()
    made.file({"team": "b"}, {"team": "a"})
    assert len({each.rank_group for each in every(made)}) == 1
    by_team = "priority: { terms: [{ id: t, value: \"entry.team == 'a' ? 9.0 : 1.0\" }] }\ndispatch: { top: 1 }\n"
    text = POLICY.replace("dispatch: { top: 20, ahead: 10 }\n", by_team).replace("version: 1", "version: 2")
    made.texts.texts = [DefinitionFile(kind="policy", file="policy.yml", body=text), *made.texts.texts[1:]]
    made.tick()
    assert len({each.rank_group for each in every(made)}) == 2
    assert {each.team: str(each.status) for each in every(made)} == {"a": "ready", "b": "queued"}


def every(made):
    with made.kit.store.read() as unit:
        return unit.search("prod", parsed(""), most=50)


def test_reserved_usd_counts_against_a_budget_before_it_is_spent():
    made = table("budgets: [{ id: B, scope: day, usd: 6 }]\n")
    one, two = made.file({}, {})
    made.tick()
    assert made.statuses() == {"ready": 1, "queued": 1}, "two runs of 4 USD are more than 6"
    first = one if found(made, one).status == "ready" else two
    assert found(made, first).reserved_usd == 4
    put(made, first, "reserved_usd", 1.0)
    made.tick()
    assert made.statuses() == {"ready": 2}


def test_rung_at_is_when_a_bell_counts_as_lost():
    made = table()
    (filed,) = made.file({})
    made.tick()
    made.bells.clear()
    made.sweep()
    assert not made.bells
    put(made, filed, "rung_at", made.clock.now - 3600)
    made.clock.forward(20)
    made.sweep()
    assert [bell.ids for bell in made.bells] == [(filed.entry_id,)]


def test_schema_version_is_told_to_whoever_reads_an_entry_outside():
    made = table()
    (filed,) = made.file({})
    (event, *_) = evidence.export(made.kit, filed.entry_id)["events"]
    assert event["data"]["set"]["schema_version"] == found(made, filed).schema_version == 1


def test_scored_by_names_the_policy_that_chose_the_entry():
    made = table()
    (one,) = made.file({})
    made.tick()
    text = POLICY.replace("version: 1", "version: 2")
    made.texts.texts = [DefinitionFile(kind="policy", file="policy.yml", body=text), *made.texts.texts[1:]]
    (two,) = made.file({})
    made.run(2)
    assert [found(made, each).scored_by.partition(" ")[0] for each in (one, two)] == ["1", "2"]
