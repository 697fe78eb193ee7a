"""decide(), admit(), judge(), windows: the decisions."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backlog_worker.domain import policy as policies
from backlog_worker.domain.admission import Load
from backlog_worker.domain.decision import Snapshot, decide
from backlog_worker.domain.entry import Change, Entry, Status
from backlog_worker.domain.outcome import (
    Asked,
    FailureKind,
    Faulted,
    Refused,
    Stopped,
    Succeeded,
    Throttled,
    judge,
)
from backlog_worker.domain.policy import ClaimsFile
from backlog_worker.domain.window import Window, opens
from backlog_worker.testing import POLICY

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)  # a Friday
RULES = policies.load(POLICY.replace("top: 20, ahead: 10", "top: 3, ahead: 0"))


def entry(name: str, days: float = 0, **fields) -> Entry:
    values = {"priority": "low", "status": Status.QUEUED, "created_at": NOW - timedelta(days=days), **fields}
    return Entry(id=name, env="prod", title=name, dedupe_key=name, pipeline="spec", **values)


def codes(candidates, load):
    decision = decide(Snapshot(candidates=candidates, load=load), RULES, NOW)
    return {each.scored.entry.id: [wait.code.value for wait in each.waits] for each in decision.receipts}


def test_the_best_go_until_the_top_and_the_rest_are_below_the_cutoff():
    found = codes([entry(f"e{n}", days=n * 7) for n in range(5)], Load(held=0, slots_held=0, slots=9))
    assert found == {"e4": [], "e3": [], "e2": [], "e1": ["BELOW_CUTOFF"], "e0": ["BELOW_CUTOFF"]}


def test_without_a_worker_or_a_slot_nothing_goes():
    assert codes([entry("a")], Load(held=0, slots_held=0, slots=0)) == {"a": ["NO_WORKER"]}
    assert codes([entry("a")], Load(held=2, slots_held=2, slots=2)) == {"a": ["NO_SLOT"]}
    assert codes([entry("a")], Load(held=100, slots_held=0, slots=200)) == {"a": ["NO_SLOT"]}


def test_nobody_goes_before_a_better_one_that_only_lacked_room():
    heavy, light = entry("heavy", days=70), entry("light")
    light = Entry(**{**{name: getattr(light, name) for name in light.__slots__}, "pipeline": "quick"})
    load = Load(held=1, slots_held=0.5, slots=1, light=frozenset({"quick"}))
    assert codes([heavy, light], load) == {"heavy": ["NO_SLOT"], "light": ["NO_SLOT"]}


def test_a_closed_window_and_a_backing_off_entry_wait_for_their_time():
    window = {"windows": [{"days": "mon-fri", "hours": "13:00-20:00", "timezone": "UTC"}]}
    later = (NOW + timedelta(hours=3)).isoformat()
    found = decide(
        Snapshot(
            candidates=[
                entry("w", constraints=window),
                entry("n", constraints={"not_before": later}),
                entry("r", status=Status.RETRYING, retry_at=NOW + timedelta(minutes=5)),
            ],
            load=Load(held=0, slots_held=0, slots=5),
        ),
        RULES,
        NOW,
    )
    waits = {each.scored.entry.id: each.waits[0] for each in found.receipts}
    assert waits["w"].until == NOW + timedelta(hours=1)
    assert waits["n"].until == NOW + timedelta(hours=3)
    assert waits["r"].code == "BACKING_OFF"


@given(
    st.lists(st.tuples(st.sampled_from(["high", "medium", "low", "?"]), st.integers(0, 100)), max_size=30),
    st.integers(0, 10),
)
def test_whoever_goes_is_better_than_whoever_stays(pairs, slots):
    candidates = [entry(f"e{n:02d}", days=days, priority=priority) for n, (priority, days) in enumerate(pairs)]
    decision = decide(Snapshot(candidates=candidates, load=Load(held=0, slots_held=0, slots=slots)), RULES, NOW)
    gone = [each.scored.place for each in decision.chosen]
    stayed = [each.scored.place for each in decision.receipts if each.waits]
    assert len(gone) <= min(3, slots)
    assert not gone or not stayed or max(gone) <= min(stayed)
    assert decision == decide(Snapshot(candidates=candidates, load=Load(held=0, slots_held=0, slots=slots)), RULES, NOW)


@pytest.mark.parametrize(
    ("days", "hours", "zone", "opening"),
    [
        ("mon-fri", "08:00-20:00", "UTC", None),
        ("sat,sun", "00:00-24:00", "UTC", datetime(2026, 11, 21, tzinfo=UTC)),
        ("mon-fri", "22:00-06:00", "UTC", datetime(2026, 11, 20, 22, tzinfo=UTC)),
        ("fri-mon", "11:00-12:30", "UTC", None),
        ("mon-sun", "08:00-10:00", "America/New_York", datetime(2026, 11, 20, 13, tzinfo=UTC)),
        ("thu", "22:00-14:00", "UTC", None),
    ],
)
def test_windows_open_at_the_right_moment(days, hours, zone, opening):
    assert Window(days=days, hours=hours, timezone=zone).opens(NOW) == opening


def test_of_several_windows_the_first_to_open_counts():
    assert opens([Window(days="sun"), Window(days="sat")], NOW) == datetime(2026, 11, 21, tzinfo=UTC)
    assert opens([], NOW) is None


CLAIMS = ClaimsFile(maxAttempts=3, retryDelay="10s", retryDelayMax="15s")


@pytest.mark.parametrize(
    ("result", "faults", "change"),
    [
        (None, 0, Change.COMPLETED),
        (Asked(question="?"), 0, Change.BLOCKED),
        (Throttled(reason="limit", wait=timedelta(minutes=5)), 2, Change.RETRIED),
        (Faulted(kind=FailureKind.TIMEOUT, reason="slow"), 0, Change.ESCALATED),
        (Faulted(kind=FailureKind.INFRASTRUCTURE, reason="away"), 0, Change.RETRIED),
        (Refused(kind=FailureKind.GATE, reason="no", rule="SPEC-001"), 0, Change.ESCALATED),
    ],
)
def test_what_an_outcome_means(result, faults, change):
    outcome = Succeeded(job_id="j") if result is None else Stopped(job_id="j", result=result)
    verdict = judge(outcome, entry("a", faults=faults), claims=CLAIMS, now=NOW, jitter=0.5)
    assert verdict.change == change
    assert (verdict.retry_at is not None) == (change == Change.RETRIED)
    assert verdict.faults + verdict.outages == isinstance(result, Faulted)


def test_retries_back_off_exponentially_with_jitter_up_to_a_cap():
    assert [CLAIMS.delay(n, 0.5).total_seconds() for n in range(3)] == [5.0, 7.5, 7.5]
    assert CLAIMS.delay(500, 0.999).total_seconds() < 15
