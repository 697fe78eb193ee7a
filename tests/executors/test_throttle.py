"""When a provider says that its limit is over: whatever it says, nothing stands still for longer than the cap."""

import json
import math
from datetime import UTC, datetime, timedelta

import httpx2
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from backlog_worker.domain import throttle
from backlog_worker.domain.duration import parsed
from backlog_worker.domain.outcome import Faulted, Throttled
from backlog_worker.executors import answers, exits, openai, presets
from backlog_worker.testing import POLICY, bench

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
MOST = timedelta(hours=24)
said = st.one_of(
    st.text(max_size=30),
    st.integers().map(str),
    st.floats().map(str),
    st.sampled_from(["²", "٣", "9" * 5000, "-5", "NaN", "inf", "1e999", "", " ", "0", "0x10", "1_000", "Wed, 21 Oct 2099 07:28:00 GMT", "Wed, 21 Oct 0001 07:28:00 -2359", "2026-11-25T12:00:00Z"]),
)  # fmt: skip


def waited(result):
    at, why = throttle.resumes(result, NOW, MOST)
    assert throttle.LEAST <= at - NOW <= MOST
    assert ("capped" in why) == ((result.until - NOW if result.until else result.wait) > MOST)
    return at - NOW


@given(said, said)
@settings(max_examples=400, deadline=None)
def test_e_a_header_of_any_text_waits_for_a_time_between_a_second_and_the_cap(text, milliseconds):
    answer = httpx2.Response(429, headers=[(b"retry-after", text.encode()), (b"retry-after-ms", milliseconds.encode())])
    waited(openai._unsuccessful(answer))


@pytest.mark.parametrize(("text", "wait"), [
    ("17", 17), ("0", 1), ("1.5", 1.5), ("-5", 60), ("NaN", 60), ("inf", 60), ("²", 60), ("soon", 60), (None, 60), ("9" * 5000, 60), ("999999999", 86400),
    ("Wed, 25 Nov 2026 12:00:30 GMT", 30), ("Wed, 25 Nov 2026 11:00:00 GMT", 60), ("Wed, 21 Oct 2099 07:28:00 GMT", 86400),
])  # fmt: skip
def test_e_a_retry_after_is_taken_as_it_is_meant_and_garbage_as_nothing(text, wait):
    assert waited(throttle.retry_after("429", text)) == timedelta(seconds=wait)


@pytest.mark.parametrize(("text", "wait"), [
    ("usage limit reached; resets in 2h", 7200), ("rate limit, retry after 5 minutes", 300), ("429 retry-after: 12", 12), ("rate limit; resets in 3 days", 86400),
    ("rate limit; resets at 2026-11-25T13:00:00Z", 3600), ("rate limit; reset at 1795608060", 60), ("rate limit; reset at 9999999999", 86400),
    ("rate limit; resets at 2026-13-45T99:00:00Z", 300), ("rate limit; resets at 3pm", 300), ("rate limit; retry after -7", 300), ("rate limit; retry after soon", 300),
    ("rate limit; retry after " + "9" * 5000, 300), ("rate limit; resets in 250 ms", 1), ("rate limit; resets at 12:30", 300), ("rate limit; resets at 2020-01-01 00:00", 60),
])  # fmt: skip
def test_e_the_words_of_an_agent_are_read_or_are_none(text, wait):
    assert waited(presets.throttled(text)) == timedelta(seconds=wait)


@given(st.one_of(said, st.integers(), st.floats(), st.booleans(), st.none(), st.lists(st.integers(), max_size=2)))
@settings(max_examples=300, deadline=None)
@example(math.nan)
@example(-1)
@example(10**400)
@example(None)
def test_e_what_a_command_writes_as_retry_after_never_breaks_and_never_stops_for_long(value):
    said = answers.read({"success": False, "message": "busy", "retryAfterMs": value})
    found = exits.failed(1, said, "")
    assert isinstance(found, Faulted if value is None else Throttled)
    if isinstance(found, Throttled):
        waited(found)


@given(st.text(max_size=60).map(lambda text: f"rate limit: retry after {text}"))
@settings(max_examples=300, deadline=None)
def test_e_any_words_of_an_agent_are_survived(text):
    waited(presets.throttled(text))


@given(st.one_of(st.none(), st.datetimes(), st.datetimes(timezones=st.timezones())), st.timedeltas())
@settings(max_examples=200, deadline=None)
def test_e_whatever_an_executor_of_ones_own_says_is_capped(until, wait):
    at, _ = throttle.resumes(Throttled(reason="x", until=until, wait=wait), NOW, MOST)
    assert throttle.LEAST <= at - NOW <= MOST


@pytest.mark.parametrize(("cap", "seconds"), [("24h", 86400), ("10m", 600)])
def test_e_the_cap_of_the_policy_holds_and_the_record_says_so(cap, seconds):
    table = bench(policy=POLICY.replace("retryDelay: 10s", f"retryDelay: 10s, quotaMax: {cap}"))
    table.executor.results = {"draft": [Throttled(reason="429", until=datetime(2099, 1, 1, tzinfo=UTC))]}
    table.file({"pipeline": "spec"})
    table.run(2)
    with table.kit.store.read() as unit:
        (run,) = unit.runs(most=1)
        entry = unit.entry(run["entry_id"])
        assert timedelta(seconds=seconds - 30) < entry.retry_at - unit.now() <= timedelta(seconds=seconds)
        assert "capped at" in entry.reason
        assert "capped at" in json.dumps([event.data for event in unit.history(entry.id)], default=str)
    table.clock.forward(seconds)
    table.run(2)
    assert table.statuses() == {"completed": 1}


@pytest.mark.parametrize("text", ["9" * 400 + "d", "99999999999h", "-1s", "1e3s", "nan", True, -1, 10**13, 1.5])
def test_e_a_length_of_time_that_is_none_is_refused_as_what_it_is(text):
    with pytest.raises(ValueError, match="not a duration"):
        parsed(text)
