"""The chain: any change is found, any redaction is not a change, and nobody can pass one off for the other."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from backlog_worker.domain.events import REDACTED, broken, chained, content, is_redacted, redacted

TEXT = st.text(max_size=20)
LEAF = (
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False, allow_infinity=False) | TEXT
)
VALUE = st.recursive(
    LEAF, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=12
)
DATA = st.dictionaries(st.sampled_from(["title", "reason", "set", "n", "list"]), VALUE, max_size=5)
START = datetime(2026, 1, 1, tzinfo=UTC)


def chain(datas, version=2):
    made, prev = [], ""
    for number, data in enumerate(datas, start=1):
        fields = {
            "entry_id": "bl_1", "seq": number, "at": START + timedelta(seconds=number), "change": "edited",
            "actor": "ana", "run_id": None, "data": data,
        }  # fmt: skip
        made.append(chained(fields, prev, version=version))
        prev = made[-1].hash
    return made


@given(st.lists(DATA, min_size=1, max_size=5), st.integers(1, 2))
def test_a_chain_holds_whatever_it_carries(datas, version):
    assert broken(chain(datas, version)) is None


@given(st.lists(DATA, min_size=2, max_size=5), st.data())
def test_an_event_that_was_altered_dropped_or_moved_is_found(datas, pick):
    events = chain(datas)
    at = pick.draw(st.integers(0, len(events) - 1))
    for name, value in (
        ("actor", "eve"),
        ("change", "canceled"),
        ("at", events[at].at + timedelta(microseconds=1)),
        ("run_id", "r"),
        ("version", 1),
    ):
        forged = [*events[:at], replace(events[at], **{name: value}), *events[at + 1 :]]
        assert broken(forged), name
    assert broken([*events[:at], *events[at + 1 :]]) or at == len(events) - 1, "a missing end is what seals are for"
    assert broken([events[1], events[0], *events[2:]])


@given(DATA, DATA)
def test_other_data_has_another_digest(one, other):
    assert (content(one, 2) == content(other, 2)) == (canonical(one) == canonical(other))


@given(DATA)
def test_a_redaction_leaves_the_chain_whole_and_is_done_once(data):
    (event,) = chain([data])
    lean = redacted(event, ["title", "reason"])
    assert broken([replace(event, data=lean)]) is None
    again = redacted(replace(event, data=lean), ["title", "reason"])
    assert again == lean
    for name in ("title", "reason"):
        assert not isinstance(lean.get(name), str) or not lean[name], "no text is left under a name that was asked for"


@given(DATA)
def test_a_text_cannot_be_put_back_as_another(data):
    (event,) = chain([{**data, "title": "true words"}])
    lean = redacted(event, ["title"])
    assert is_redacted(lean["title"])
    assert broken([replace(event, data={**lean, "title": "false words"})])
    assert broken([replace(event, data={**lean, "title": {REDACTED: "0" * 64}})])
    assert broken([replace(event, data={**lean, "title": "true words"})]) is None


def canonical(value):
    """Equality as JSON has it: true is not 1, and 1.0 is not 1."""
    if isinstance(value, dict):
        return ("dict", tuple(sorted((key, canonical(each)) for key, each in value.items())))
    if isinstance(value, list):
        return ("list", tuple(canonical(each) for each in value))
    return (type(value).__name__, repr(value))
