"""The score, and the seed's question: given these three entries, which one runs first?"""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backlog_worker.domain import examples
from backlog_worker.domain import policy as policies
from backlog_worker.domain.entry import Entry
from backlog_worker.domain.errors import InvalidFileError
from backlog_worker.domain.priority import rank, scored

NOW = datetime(2026, 11, 20, tzinfo=UTC)
TEXT = """\
version: 7
eligibility:
  - { id: ELIG, check: "'ai-ok' in entry.labels" }
priority:
  tests:
    - name: an old low overtakes a fresh high
      entries: { a: { priority: high, age_days: 3 }, b: { priority: low, age_days: 40 }, c: { priority: medium, age_days: 1 } }
      order: [b, a, c]
"""
POLICY = policies.load(TEXT)


def entry(name: str, priority: str, days: float, **fields) -> Entry:
    created = NOW - timedelta(days=days)
    return Entry(
        id=name,
        env="prod",
        title=name,
        dedupe_key=name,
        pipeline="spec",
        priority=priority,
        created_at=created,
        **fields,
    )


def test_given_these_three_entries_the_old_low_runs_first():
    ranked = rank([entry("a", "high", 3), entry("b", "low", 40), entry("c", "medium", 1)], POLICY, NOW)
    assert [(each.entry.id, each.score) for each in ranked] == [("b", 6.0), ("a", 3.0), ("c", 2.0)]
    assert ranked[0].terms == {"label": 1.0, "age": 5.0}


@pytest.mark.parametrize(
    ("priority", "days", "score"),
    [("high", 0, 3), ("medium", 6.99, 2), ("medium", 7, 3), ("low", 34.9, 5), ("low", 35, 6), ("low", 4000, 6)],
)
def test_the_default_formula_is_label_plus_weeks_at_most_five(priority, days, score):
    assert scored(POLICY, entry("x", priority, days), NOW).score == score


def test_an_unknown_priority_is_an_error_of_its_entry_alone():
    ranked = rank([entry("x", "purple", 90), entry("y", "low", 0)], POLICY, NOW)
    assert [each.entry.id for each in ranked] == ["y", "x"]
    assert ranked[1].score is None
    assert "purple" in ranked[1].error


def test_ties_go_to_the_older_and_then_by_id():
    ranked = rank([entry("b", "low", 1), entry("a", "low", 1), entry("c", "low", 2)], POLICY, NOW)
    assert [each.entry.id for each in ranked] == ["c", "a", "b"]


def test_examples_of_a_policy_are_run():
    (found,) = examples.orders(POLICY, file="policy.yml")
    assert tuple(each.entry.id for each in found.given) == found.wanted
    assert found.holds


@given(st.sampled_from(["high", "medium", "low", "?"]), st.floats(0, 5000), st.floats(0, 5000))
def test_the_score_is_deterministic_and_never_falls_with_age(priority, first, more):
    young, old = (
        scored(POLICY, entry("x", priority, first), NOW),
        scored(POLICY, entry("x", priority, first + more), NOW),
    )
    assert scored(POLICY, entry("x", priority, first), NOW) == young
    assert young.score is None or old.score is None or old.score >= young.score


def test_signals_and_labels_may_count():
    text = TEXT.replace(
        "priority:\n",
        """priority:
  terms:
    - { id: votes, value: "'votes' in entry.signals ? entry.signals.votes : 0.0", weight: 0.5, cap: 10 }
    - { id: regression, value: "'regression' in entry.labels ? 1.0 : 0.0", weight: 4 }
""",
    )
    found = policies.load(text)
    assert found.reads == ("labels", "signals")
    assert scored(found, entry("x", "low", 0, signals={"votes": 30}, labels=["regression"]), NOW).score == 9.0


def refused(text: str) -> str:
    with pytest.raises(InvalidFileError) as caught:
        policies.load(text)
    return str(caught.value)


def test_a_term_that_falls_with_age_is_refused_with_its_place():
    text = TEXT.replace("priority:\n", 'priority:\n  terms:\n    - { id: young, value: "0.0 - entry.age_days" }\n')
    said = refused(text)
    assert "decreases while an entry grows older" in said
    assert "policy.yml:6:" in said


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("entry.age_day", 'did you mean "entry.age_days"'),
        ("entry.age_days / 7", "no matching overload"),
        ("'x'", "wanted number"),
        ("labels[", "Syntax error"),
    ],
)
def test_a_wrong_expression_says_where_and_what(value, words):
    said = refused(TEXT.replace("priority:\n", f'priority:\n  terms:\n    - {{ id: t, value: "{value}" }}\n'))
    assert words in said
    assert "BW304" in said
    assert "policy.yml:6:" in said


def test_all_mistakes_come_at_once():
    said = refused("version: 0\neligibility: []\npriority: { lables: { high: 1 } }\nclaims: { timeout: soon }\n")
    assert said.count("error[BW303]") == 4
    assert 'did you mean "labels"?' in said
    assert "30s, 45m, 2h, 7d" in said
