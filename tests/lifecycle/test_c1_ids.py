"""People name things by a few letters: what names one is taken, what names several lists them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backlog_worker.domain import handle, ident
from backlog_worker.domain.errors import NotFoundError, UsageError
from backlog_worker.lifecycle import again, lookup, named, operation, review
from backlog_worker.store.sql.columns import METADATA
from backlog_worker.testing import bench
from backlog_worker.wiring import new_id

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
RANDOM_PARTS = ("entries", "retired", "runs", "reviews", "outbox")


@pytest.fixture(params=["memory", "postgres"])
def table(request):
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else "memory://"
    return bench(url=url)


def renamed(table, ids):
    """Let entries have these ids."""
    filed = table.file(*({"title": f"about {each}"} for each in ids))
    with table.kit.store.begin() as unit:
        for one, entry_id in zip(filed, ids, strict=True):
            unit.run("UPDATE entries SET id = :new WHERE id = :old", new=entry_id, old=one.entry_id)


def test_ids_of_one_import_differ_in_their_first_random_letters_and_keep_their_order():
    made = [new_id("bl") for _ in range(3000)]
    assert made == sorted(made)
    short = ident.short_ids(made)
    assert len(set(short.values())) == 3000
    assert all(len(each) == len("bl_") + ident.SHORT for each in short.values())


def test_short_ids_grow_until_they_tell_apart_and_other_ids_stay_whole():
    one, other = "bl_01JC7Q2XYZ" + "A" * 16, "bl_01JC7Q2XYZ" + "A" * 8 + "B" * 8
    assert ident.short_ids([one, other]) == {one: "bl_AAAAAAAAA", other: "bl_AAAAAAAAB"}
    assert ident.short_ids(["bl_1", "stranger"]) == {"bl_1": "bl_1", "stranger": "stranger"}


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.text("0A", min_size=26, max_size=26), min_size=1, max_size=12, unique=True),
    st.integers(1, 26),
    st.booleans(),
    st.data(),
)
def test_a_beginning_names_what_begins_so_and_nothing_else(parts, length, from_time, data):
    table = bench(url="memory://")
    ids = [f"bl_{part}" for part in parts]
    renamed(table, ids)
    place = 0 if from_time else ident.TIME
    start = data.draw(st.sampled_from(parts))[place:][:length]
    wanted = {each for each in ids if each[3:].startswith(start) or each[3 + ident.TIME :].startswith(start)}
    for text in (f"bl_{start}", f"bl_{start.lower()}"):
        if len(wanted) == 1:
            assert lookup.id_of(table.kit, text) in wanted
            assert operation.wanted(table.kit, text).id in wanted
        else:
            with pytest.raises(UsageError) as refused:
                lookup.id_of(table.kit, text)
            assert all(each in str(refused.value) for each in sorted(wanted)[: lookup.NAMED_MOST])
            assert "about bl_" in str(refused.value)


def test_every_id_is_found_by_its_short_form_with_the_prefix_or_without(table):
    filed = [each.entry_id for each in table.file(*({"title": f"t {n}"} for n in range(20)))]
    for entry_id, short in ident.short_ids(filed).items():
        assert lookup.id_of(table.kit, short) == entry_id
        assert lookup.id_of(table.kit, short.removeprefix("bl_")) == entry_id
        assert lookup.id_of(table.kit, short.lower()) == entry_id


def test_runs_reviews_and_write_backs_are_found_so_too(table):
    (filed,) = table.file({"title": "Login loop", "dedupe_key": "github:acme/api#329"})
    table.run(3)
    with table.kit.store.read() as unit:
        (run,), (wish, *_) = unit.runs(), unit.wishes()
    names = {run["id"], run["id"][14:20], f"run_{run['id'][14:20]}", filed.entry_id, "#329", "acme/api#329"}
    for name in names:
        assert named.run_of(table.kit, name) == run["id"], name
        assert again.entry_of(table.kit, name)[0]["id"] == run["id"]
    for name in (wish["id"], f"wb_{wish['id'][13:20]}", "#329", filed.entry_id):
        assert named.told_of(table.kit, name) == filed.entry_id
    with pytest.raises(NotFoundError, match="no run"):
        named.run_of(table.kit, "run_ZZZZZZZ")
    with pytest.raises(NotFoundError, match="no review"):
        named.review_of(table.kit, "#329")
    with pytest.raises(NotFoundError):
        named.run_of(table.kit, f"rev_{run['id'][14:20]}")


def test_several_runs_and_reviews_that_begin_so_are_listed(table):
    filed = table.file(*({"title": f"t {n}"} for n in range(40)))
    table.run(3)
    with table.kit.store.read() as unit:
        runs = [each["id"] for each in unit.runs(most=100)]
    with pytest.raises(UsageError, match="matches more than 10 runs") as refused:
        named.run_of(table.kit, "run_01")
    assert sum(each in str(refused.value) for each in runs) == lookup.NAMED_MOST
    assert any(each.entry_id in str(refused.value) for each in filed)


def test_a_review_is_decided_by_the_short_id_or_the_number_of_its_issue():
    from backlog_worker.domain.review import Answer, Decided

    pipeline = 'name: spec\nversion: 1\njobs:\n  - { id: a, python: "f:a", approval: { roles: [lead] } }\n'
    table = bench(url="memory://", pipelines=[pipeline])
    table.file({"pipeline": "spec", "dedupe_key": "github:acme/api#7"})
    table.run(3)
    with table.kit.store.read() as unit:
        (opened,) = unit.reviews(table.kit.env)
    for name in (opened.id, f"rev_{opened.id[14:20]}", opened.id[14:21], "#7", opened.entry_id[13:20]):
        assert named.review_of(table.kit, name) == opened.id, name
    decided = Decided(answer=Answer.REJECT, actor="ana", reason="no")
    assert review.decide(table.kit, f"rev_{opened.id[14:20]}", decided)[0].status == "canceled"


def test_nothing_of_another_environment_is_named(table):
    (filed,) = table.file({"title": "here"})
    elsewhere = table.kit.elsewhere("staging")
    for text in (filed.entry_id, f"bl_{filed.entry_id[13:20]}", filed.entry_id[13:20]):
        with pytest.raises(NotFoundError):
            lookup.id_of(elsewhere, text)


def test_names_of_the_source_say_the_repository_only_where_there_are_several():
    one = {"dedupe_key": "github:acme/api#329", "url": "", "external_ref": ""}
    other = {"dedupe_key": "x", "url": "https://github.com/acme/web/issues/5", "external_ref": ""}
    none = {"dedupe_key": "manual:1", "url": "", "external_ref": ""}
    assert handle.source_names([one, none]) == ["#329", ""]
    assert handle.source_names([one, other]) == ["api#329", "web#5"]


def test_look_ups_use_an_index_that_the_migrations_and_the_tables_have(table):
    with table.kit.store.read() as unit:
        for each in RANDOM_PARTS:
            place = next(i.expressions[0].text for i in METADATA.tables[each].indexes if "random" in str(i.name))
            explain = "EXPLAIN QUERY PLAN" if unit.dialect.name == "sqlite" else "EXPLAIN"
            plan = unit.run(f"{explain} SELECT 1 FROM {each} WHERE {place} BETWEEN 'A' AND 'B'")
            assert f"{each}_by_random_part" in str(plan), plan
