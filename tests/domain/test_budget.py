"""Money: what is a cost and what is none, and the one closed list of scopes."""

import json
import math
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backlog_worker.domain import policy as policies
from backlog_worker.domain.budget import Cap, Scope, Usage, price
from backlog_worker.domain.errors import InvalidFileError
from backlog_worker.domain.governing import BudgetRule
from backlog_worker.domain.usage import TOKENS_MAX, USD_MAX, checked, claimed
from backlog_worker.store.sql.spending import SCOPES
from backlog_worker.testing import POLICY

NUMBERS = st.one_of(st.integers(), st.floats(), st.just(10**400), st.just(-(10**400)))
ANYTHING = st.recursive(
    st.one_of(st.none(), st.booleans(), st.text(max_size=8), NUMBERS),
    lambda each: st.lists(each, max_size=3) | st.dictionaries(st.text(max_size=4), each, max_size=3),
    max_leaves=4,
)
PRICES = {"known": {"input": 1.0, "output": 2.0}, "free": {"input": 0.0, "output": 0.0}}


def sound(value, most):
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= most


@given(ANYTHING, ANYTHING, ANYTHING, st.one_of(ANYTHING, st.sampled_from(["known", "free", "nobody-9"])))
def test_a2_a_cost_that_is_no_number_is_refused_as_what_it_is(usd, read, written, model):
    """Whatever a job tells: the sum stays a number from 0, and what was not taken is named."""
    found = claimed({"usd": usd, "input_tokens": read, "output_tokens": written, "model": model})
    assert checked(found) == found
    for value, most, kept, words in (
        (usd, USD_MAX, found.usd, "cost"),
        (read, TOKENS_MAX, found.input_tokens, "input_tokens"),
        (written, TOKENS_MAX, found.output_tokens, "output_tokens"),
    ):
        whole = words == "cost" or (sound(value, most) and value == int(value))
        if value is None or (sound(value, most) and whole):
            assert not any(words in text for text in found.refused)
            assert kept == value or value is None
        else:
            assert sum(words in text for text in found.refused) == 1
            assert not kept
    known = price(found, PRICES)
    assert known is None or (math.isfinite(known) and known >= 0)
    if not found.counted and found.usd is None and model != "free":
        assert known is None, "without its tokens nobody knows what a call cost"
    json.dumps(found.refused, allow_nan=False)


@given(st.lists(st.one_of(NUMBERS, st.just(-1_000_000)), max_size=6))
def test_a2_no_sum_of_usages_falls_or_overflows(costs):
    from backlog_worker.executors import Report

    report = Report()
    for usd in costs:
        report.spend(Usage(model="m", usd=usd))
    found = report.cost()
    if costs:
        good = [each for each in costs if sound(each, USD_MAX)]
        assert found["usd"] == (pytest.approx(sum(good)) if len(good) == len(costs) else None)
        assert len(found.get("findings", [])) == len(costs) - len(good)


def test_a2_the_scopes_are_one_closed_list():
    assert set(SCOPES) == set(Scope)
    assert BudgetRule.model_fields["scope"].annotation is Scope
    for scope in Scope:
        assert isinstance(scope.name_of(team="t", pipeline="p", entry="e", run="r"), str)
        assert isinstance(scope.renews, bool)
    assert get_args(BudgetRule.model_fields["on_exceeded"].annotation) == ("warn", "ask", "pause")


@pytest.mark.parametrize(
    "line",
    [
        "budgets: [{ id: BUD-A, scope: galaxy, usd: 1 }]",
        "budgets: [{ id: BUD-A, usd: .nan }]",
        "budgets: [{ id: BUD-A, usd: .inf }]",
        "budgets: [{ id: BUD-A, usd: -1 }]",
        "budgets: [{ id: BUD-A, usd: 0 }]",
        "budgets: [{ id: BUD-A, usd: true }]",
        "prices: { m: { input: .inf } }",
        "prices: { m: { output: .nan } }",
        "prices: { m: { output: -1 } }",
        "priority: { labels: { high: .nan } }",
    ],
)
def test_a2_a_policy_with_money_that_is_no_number_is_refused(line):
    with pytest.raises(InvalidFileError, match="BW303"):
        policies.load(POLICY + line + "\n")


def test_a2_a_cap_with_calls_of_unknown_price_takes_nothing():
    assert Cap(usd=10, spent=0, reserved=0).takes(1)
    assert not Cap(usd=10, spent=0, reserved=0, unknown=("m",)).takes(0)
