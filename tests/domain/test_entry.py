"""The table of transitions, and what is made of it."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backlog_worker.domain.entry import FINAL, PERSONAL, TRANSITIONS, Change, Status, after, target
from backlog_worker.domain.errors import ConflictError


def test_every_change_has_a_row_and_every_status_can_be_left_or_is_final():
    assert set(TRANSITIONS) == set(Change)
    left = {status for change in Change for status in TRANSITIONS[change]}
    assert set(Status) - left == {Status.COMPLETED}, "completed is for good; everything else has a way out"


def test_only_a_person_leaves_a_final_status():
    for change, moves in TRANSITIONS.items():
        if set(moves) & FINAL:
            assert change in PERSONAL


@pytest.mark.parametrize(("change", "status"), list(itertools.product(Change, Status)))
def test_what_the_table_does_not_allow_is_refused(change, status):
    if status in TRANSITIONS[change]:
        assert target(change, status) == TRANSITIONS[change][status]
    else:
        with pytest.raises(ConflictError, match="cannot be"):
            target(change, status)


@given(st.lists(st.sampled_from([each for each in Change if each is not Change.FILED]), max_size=40))
def test_folding_never_leaves_the_table(changes):
    values = after(None, Change.FILED, {"set": {"id": "bl_1"}})
    for change in changes:
        before = values["status"]
        try:
            values = after(values, change, {"set": {"reason": "x"}})
        except ConflictError:
            assert before not in (FINAL if change is Change.RETIRED else TRANSITIONS[change])
            continue
        if change is Change.RETIRED:
            assert (before in FINAL, values) == (True, {})
            return
        assert values["status"] == TRANSITIONS[change][before]


def test_a_history_begins_with_filed():
    with pytest.raises(ConflictError, match="begins with"):
        after(None, Change.CLEARED, {})
