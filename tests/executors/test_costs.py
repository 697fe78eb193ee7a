"""What agents and providers tell of their cost is checked where it comes in."""

import json
import math
from datetime import timedelta

import pytest

from backlog_worker.domain.outcome import Done
from backlog_worker.executors import Work, openai, presets
from backlog_worker.executors.replay import answered

BAD = [-1_000_000, math.nan, math.inf, -math.inf, "12.5", True, [], {"usd": 1}, 10**400]


def work():
    return Work(run_id="r", entry_id="e", take=1, entry={}, input={}, previous={}, timeout=timedelta(seconds=1))


@pytest.mark.parametrize("value", BAD, ids=lambda value: str(value)[:9])
@pytest.mark.parametrize("name", ["total_cost_usd", "cost_usd"])
def test_a2_an_agent_that_tells_a_cost_that_is_none_spends_an_unknown_sum(name, value):
    given = work()
    presets._spend({name: value, "usage": {"input_tokens": 10, "output_tokens": 2}, "model": "m"}, given)
    found = given.report.cost()
    assert found["usd"] is None
    assert found["input_tokens"] == 10
    assert "is not a number" in found["findings"][0]


@pytest.mark.parametrize("value", [-5, 1.5, math.nan, "many", True, [1]], ids=str)
def test_a2_tokens_that_are_no_count_are_refused_wherever_they_come_from(value):
    for spent in (_preset, _provider, _recorded):
        given = work()
        spent(value, given)
        found = given.report.cost()
        assert found["input_tokens"] == 0
        assert "input_tokens" in found["findings"][0]


def _preset(value, given):
    presets._spend({"usage": {"input_tokens": value, "output_tokens": 2}}, given)


def _provider(value, given):
    answer = {"model": "m", "usage": {"prompt_tokens": value, "completion_tokens": 1}}
    openai._parsed_response(Done(output={**answer, "choices": [{"message": {"content": json.dumps({"a": 1})}}]}), given)


def _recorded(value, given):
    answered({"usage": {"input_tokens": value, "output_tokens": 1, "more": 1}}, given.report)


@pytest.mark.parametrize("usage", [None, [], "none", 7])
def test_a2_an_answer_without_a_usage_has_no_price(usage):
    given = work()
    openai._parsed_response(
        Done(output={"model": "gpt-4o", "usage": usage, "choices": [{"message": {"content": "{}"}}]}), given
    )
    (found,) = given.report.usages
    assert not found.counted
