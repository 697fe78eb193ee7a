"""Budgets through ticks and stages: every scope with every mode, prices that nobody knows, costs that are none."""

import math

import pytest

from backlog_worker.domain.budget import Mode, Scope, Usage
from backlog_worker.domain.outcome import Done, FailureKind, Faulted
from backlog_worker.domain.review import Answer, Decided
from backlog_worker.lifecycle import audit, explain, review, watch
from backlog_worker.testing import POLICY, bench

CHAIN = 'name: %s\njobs:\n  - { id: a, python: "f:a" }\n  - { id: b, python: "f:b", dependsOn: a }\n'
PIPELINES = (CHAIN % "spec", CHAIN % "other")
UNKNOWN = Usage(model="nobody-knows-me-9", input_tokens=1000, output_tokens=1000)


def made(scope, mode, usd=1.0, more=""):
    rule = f"budgets: [{{ id: BUD, scope: {scope}, usd: {usd}, onExceeded: {mode} }}]\n"
    return bench(pipelines=PIPELINES, policy=POLICY + rule + more)


def spends(usage, result=None):
    def _spends(job, work):
        work.report.spend(usage)
        return result or Done(output={})

    return _spends


def filed(table, **fields):
    (found,) = table.file({"team": "web", **fields})
    return found.entry_id


def entry(table, entry_id):
    with table.kit.store.read() as unit:
        return unit.entry(entry_id)


def codes(table, entry_id):
    return [code for code, _ in explain.explain(table.kit, entry_id).reasons]


def approve(table, entry_id):
    with table.kit.store.read() as unit:
        (asked,) = unit.open_reviews(entry_id)
    assert asked.kind == "budget"
    assert asked.role == "operator"
    _, bells = review.decide(table.kit, asked.id, Decided(answer=Answer.APPROVE, actor="li", reason="go on"))
    table.bells += bells
    table.run(4)
    return asked


def sound(table):
    assert watch.verify(table.kit) == []
    assert list(audit.verify(table.kit)) == []


@pytest.mark.parametrize("scope", list(Scope))
@pytest.mark.parametrize("usage", [Usage(model="m", usd=1.0), UNKNOWN], ids=["spent", "unknown"])
@pytest.mark.parametrize("mode", [Mode.WARN, Mode.ASK, Mode.PAUSE])
def test_a2_every_scope_with_every_mode(scope, mode, usage):
    """What is used up holds the next stage, the queue, or nobody; a price that nobody knows holds like a cap."""
    table = made(scope, mode)
    table.executor.results["a"] = [spends(usage)]
    first = filed(table)
    table.tick()
    table.ring()
    parks = mode == Mode.ASK or (mode == Mode.PAUSE and not scope.renews)
    if parks:
        assert entry(table, first).bars == ["APPROVAL_REQUIRED"]
        assert "BUD:" in approve(table, first).question
    assert entry(table, first).status == "completed"
    same, other_team, other_pipeline = filed(table), filed(table, team="ops"), filed(table, pipeline="other")
    waits = {
        Scope.DAY: {same, other_team, other_pipeline},
        Scope.TEAM: {same, other_pipeline},
        Scope.PIPELINE: {same, other_team},
    }.get(scope, set())
    asks, waits = (waits, set()) if mode == Mode.ASK else (set(), waits if mode == Mode.PAUSE else set())
    for each in (same, other_team, other_pipeline):
        assert codes(table, each) == (["BUDGET_EXHAUSTED"] if each in waits else [])
    table.run(4)
    for each in (same, other_team, other_pipeline):
        wanted = "queued" if each in waits else "blocked" if each in asks else "completed"
        assert entry(table, each).status == wanted
    sound(table)


@pytest.mark.parametrize("scope", list(Scope))
def test_a2_a_tick_never_ends_with_an_error_whatever_the_scope(scope):
    table = made(scope, "pause", usd=0.1)
    table.executor.results["a"] = [
        spends(Usage(model="m", usd=5.0), Faulted(kind=FailureKind.INFRASTRUCTURE, reason="x"))
    ]
    first = filed(table)
    table.run(12)
    held = {Scope.RUN: "completed", Scope.ENTRY: "queued"}
    assert entry(table, first).status in {held.get(scope, "queued"), "retrying"}
    if scope != Scope.RUN:
        assert codes(table, first) == ["BUDGET_EXHAUSTED"]
    sound(table)


def test_a2_an_entry_over_its_own_cap_is_read_once_in_minutes_and_woken_by_a_new_policy():
    table = made("entry", "pause", usd=0.1)
    table.executor.results["a"] = [
        spends(Usage(model="m", usd=5.0), Faulted(kind=FailureKind.INFRASTRUCTURE, reason="x"))
    ]
    first = filed(table)
    table.run(12)
    assert entry(table, first).wake_at is not None
    body = table.texts.texts[0].body.replace("usd: 0.1", "usd: 50.0")
    table.texts.texts[0] = type(table.texts.texts[0])(kind="policy", file="policy.yml", body=body)
    table.run(2)
    assert entry(table, first).status == "completed"


def test_a2_a_price_that_the_policy_learns_counts_for_calls_already_made():
    table = made("day", "pause", usd=1.0)
    table.executor.results["a"] = [spends(UNKNOWN)]
    filed(table)
    table.run(2)
    waiting = filed(table)
    text = dict(explain.explain(table.kit, waiting).reasons)["BUDGET_EXHAUSTED"]
    assert "nobody-knows-me-9" in text
    assert "prices" in text
    body = table.texts.texts[0].body + "prices: { nobody-knows-me-9: { input: 100, output: 100 } }\n"
    table.texts.texts[0] = type(table.texts.texts[0])(kind="policy", file="policy.yml", body=body)
    table.run(2)
    assert entry(table, waiting).status == "completed", "0.20 USD of 1.00 are spent"


@pytest.mark.parametrize(
    "usd", [-1_000_000, math.nan, math.inf, -math.inf, "12", True, 10**400], ids=lambda usd: str(usd)[:9]
)
@pytest.mark.parametrize("mode", ["ask", "pause"])
def test_a2_a_cost_that_is_none_is_a_finding_of_its_stage_and_opens_no_cap(usd, mode):
    """42 USD under a cap of 10 stay over it, whatever a job claims to have earned."""
    table = made("day", mode, usd=10)
    table.executor.results["a"] = [spends(Usage(model="m", usd=42.0)), spends(Usage(model="m", usd=usd))]
    table.executor.results["b"] = [spends(Usage(model="m", usd=usd))] * 3
    first = filed(table)
    table.tick()
    table.ring()
    while entry(table, first).status == "blocked":
        approve(table, first)  # the same sum again each time, until 42 have room
    table.run(2)
    with table.kit.store.read() as unit:
        assert unit.spent("prod", Scope.DAY) == 42.0
        found = unit.entry(first)
        stages = unit.stages({first: found.pipeline_hash})[first]
        (body,) = [each["body"] for each in unit.wishes(first)]
    assert any("is not a number" in text for text in stages["b"].cost["findings"])
    assert stages["b"].cost["usd"] is None
    assert body["cost_usd"] is None, "what is not known is not said to be 42"
    second = filed(table)
    assert codes(table, second) == (["BUDGET_EXHAUSTED"] if mode == "pause" else [])
    table.run(2)
    assert entry(table, second).status == ("queued" if mode == "pause" else "blocked")
    sound(table)


def test_a2_a_ledger_of_an_older_release_is_not_summed_where_it_holds_no_price():
    table = made("day", "pause", usd=10)
    with table.kit.store.begin() as unit:
        common = {"env": "prod", "entry_id": "e", "run_id": "r", "job_id": "a", "pipeline": "spec", "team": "web"}
        rows = [(4.0, "m"), (-1_000_000.0, "m")]
        unit.spend([{**common, "id": f"s{n}", "usd": usd, "model": m} for n, (usd, m) in enumerate(rows)])
        assert unit.tally("prod", Scope.DAY) == (4.0, 1)
        assert unit.costs("prod", "pipeline", 1)[0]["usd"] == 4.0
        assert unit.usage("r")["a"]["unknown"] == 1
