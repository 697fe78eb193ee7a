"""A1: whatever a model answers, the end is a valid output or a named failure, and no usage is never a price of 0."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backlog_worker.domain import throttle
from backlog_worker.domain.budget import Usage, price
from backlog_worker.domain.outcome import Asked, Done, Faulted, Refused, Throttled
from backlog_worker.domain.returned import checked
from backlog_worker.domain.usage import claimed, of_provider
from backlog_worker.executors import openai, presets
from tests.executors.test_costs import work

GOOD = {"choices": [{"message": {"content": '{"a": 1}'}}]}


def content(value):
    return {"choices": [{"message": {"content": value}}]}


READ = {
    "parts": content([{"type": "text", "text": '{"a":'}, {"type": "text", "text": " 1}"}]),
    "thoughts": content('<think>\nmaybe {"b": 2}?\n</think>\n\n{"a": 1}'),
    "thoughts without a beginning": content('so {"b": 2}\n</think>{"a": 1}'),
    "a fence": content('Here it is:\n```json\n{"a": 1}\n```\nDone.'),
    "thoughts and a fence": content('<think>```json\n{"b": 2}\n```</think>\n~~~\n{"a": 1}\n~~~'),
    "usage as a text": {**GOOD, "usage": "n/a"},
    "usage below nothing": {**GOOD, "usage": {"prompt_tokens": -5, "completion_tokens": True}},
    "no usage": GOOD,
    "a null error": {**GOOD, "error": None},
}
FAILED = {
    "no object": ([GOOD], "a list, not an object"),
    "choices as an object": ({"choices": {}}, "no message"),
    "no choices": ({"choices": []}, "no message"),
    "null choices": ({"choices": None}, "no message"),
    "a null choice": ({"choices": [None]}, "no message"),
    "a message as a text": ({"choices": [{"message": "hi"}]}, "no message"),
    "no content": (content(None), "no JSON"),
    "a number nobody knows": (content("NaN"), "nan"),
    "10^5000": (content("1" + "0" * 5000), "no JSON"),
    "deep": (content("[" * 200_000), "no JSON"),
    "cut": ({"choices": [{"finish_reason": "length", "message": {"content": '{"a'}}]}, "token limit"),
    "a tool": ({"choices": [{"message": {"content": None, "tool_calls": [{}]}}]}, "called a tool"),
    "an error": ({**GOOD, "error": {"message": "no luck"}}, "an error inside the answer: no luck"),
    "an error as a text": ({"error": "no luck"}, "no luck"),
    "an error with a code": ({"error": {"code": 502, "message": "bad gateway"}}, "bad gateway"),
}


@pytest.mark.parametrize("name", READ)
def test_a1_an_answer_with_a_json_in_it_is_read(name):
    at = work()
    assert checked(openai._parsed_response(Done(output=READ[name]), at)) == Done(output={"a": 1})
    assert at.report.cost()["usd"] is None, "what was not told is not known"


@pytest.mark.parametrize("name", FAILED)
def test_a1_an_answer_without_one_is_a_named_failure(name):
    answer, words = FAILED[name]
    result = checked(openai._parsed_response(Done(output=answer), work()))
    assert isinstance(result, Faulted)
    assert words in result.reason


@pytest.mark.parametrize(("error", "kind"), [({"code": 429}, Throttled), ({"type": "rate_limit_error", "message": "rate limit"}, Throttled), ({"code": 401}, Refused)])  # fmt: skip
def test_a1_an_error_within_a_success_means_what_its_code_means(error, kind):
    assert isinstance(openai._parsed_response(Done(output={"error": error}), work()), kind)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["\ud800", -(10**400)]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["choices", "message", "content", "usage", "error", "code", "text", "prompt_tokens", "model"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(JSON)
@settings(max_examples=300, deadline=None)
def test_a1_fuzz_any_answer_is_an_output_or_a_named_failure(answer):
    for each in (answer, {"choices": [{"message": answer}], "usage": answer}, {"error": answer}):
        result = checked(openai._parsed_response(Done(output=each), work()))
        if isinstance(result, Done):
            json.dumps(result.output, allow_nan=False).encode()
        else:
            assert not isinstance(result, Asked)
            assert result.reason
            result.reason.encode()


def test_a1_tokens_of_a_cache_have_their_own_price():
    told = {"prompt_tokens": 1000, "completion_tokens": 100, "prompt_tokens_details": {"cached_tokens": 900}}
    whole = price(Usage(model="gpt-5-mini", input_tokens=1000, output_tokens=100), {})
    assert price(claimed({"model": "gpt-5-mini", **of_provider(told)}), {}) < whole
    told = {
        "input_tokens": 100,
        "output_tokens": 100,
        "cache_read_input_tokens": 900,
        "cache_creation_input_tokens": 50,
    }
    found = claimed({"model": "claude-sonnet-4-5", **of_provider(told)})
    assert (found.input_tokens, found.cached_tokens, found.stored_tokens) == (1050, 900, 50)
    assert 0 < price(found, {}) < price(Usage(model="claude-sonnet-4-5", input_tokens=1050, output_tokens=100), {})


@pytest.mark.parametrize(
    "text",
    [
        "usage limit, resets at 9999999999",
        "429, resets at 9999-12-31T23:59:59Z",
        "rate limit, retry after 99999999999d",
    ],
)
def test_b3_no_wait_that_a_text_asks_for_is_longer_than_the_cap(text):
    now, most = datetime(2026, 1, 1, tzinfo=UTC), timedelta(hours=24)
    until, why = throttle.resumes(presets.throttled(text), now, most)
    assert until <= now + most
    assert "capped" in why
