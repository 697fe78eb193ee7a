"""Bundles as people read them, bundles and stores of older releases, and what stays of an entry that was retired."""

import hashlib
import json
import re
import sqlite3
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from proof_story import CHILD, told

from backlog_worker.domain import merkle, policy, render
from backlog_worker.domain.account import Section, account, proved
from backlog_worker.domain.errors import NotFoundError
from backlog_worker.domain.outcome import Done
from backlog_worker.lifecycle import audit, evidence, retire, seals, unowned
from backlog_worker.lifecycle.remembered import record, remembered
from backlog_worker.store import migrate
from backlog_worker.store.sql.bound import BoundRows
from backlog_worker.testing import POLICY, bench

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "evidence"
DOCS = (ROOT / "docs" / "evidence.md").read_text()


@pytest.fixture(scope="module")
def story():
    return told()


@pytest.fixture(scope="module")
def bundle(story):
    return story.exported(story.main)


# Trees.


def test_c1_a_tree_is_that_of_rfc_6962():
    """The test vectors of Certificate Transparency."""
    texts = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
    leaves = [hashlib.sha256(b"\x00" + bytes.fromhex(each)).digest() for each in texts]
    assert merkle.root([]) == merkle.SCHEME + hashlib.sha256(b"").hexdigest()
    roots = [merkle.root(leaves[:size]).removeprefix(merkle.SCHEME)[:8] for size in range(1, 9)]
    assert roots == ["6e340b9c", "fac54203", "aeb6bcfe", "d37ee418", "4e3bbb1f", "76e67dad", "ddb89be4", "5dc9da79"]


@given(st.integers(1, 70), st.data())
@settings(max_examples=150, deadline=None)
def test_c1_a_path_leads_from_its_leaf_to_its_root_and_from_nothing_else(size, data):
    leaves = [merkle.leaf(f"bl_{n}", n, "h") for n in range(size)]
    index = data.draw(st.integers(0, size - 1))
    path, root = merkle.path(leaves, index), merkle.root(leaves)
    assert merkle.led_to(leaves[index], index, size, path) == root
    other = data.draw(st.integers(0, size - 1).filter(lambda each: each != index) if size > 1 else st.just(-1))
    assert merkle.led_to(leaves[index], other, size, path) != root
    assert merkle.led_to(merkle.leaf("bl_x", 1, "h"), index, size, path) != root
    assert merkle.led_to(leaves[index], index, size, [*path, "00" * 32]) != root
    for at in range(len(path)):
        assert merkle.led_to(leaves[index], index, size, [*path[:at], "00" * 32, *path[at + 1 :]]) != root
        assert merkle.led_to(leaves[index], index, size, path[:at]) != root


# What older releases wrote.


def test_c1_a_bundle_of_an_older_release_is_read_and_never_called_whole():
    value = json.loads((GOLDEN / "bundle-1.json").read_text())
    found = evidence.checked(value)
    assert found.faults == []
    assert found.rows == 0
    assert found.unbound == {"runs": 4, "stages": 6, "reviews": 4, "outbox": 1, "links": 1, "receipts": 2}
    words = " ".join(proved(value, found))
    assert "whole" not in words
    assert "Not evidence: 1 links, 1 outbox, 2 receipts, 4 reviews, 4 runs, 6 stages" in words
    assert account(value, found), "people can read it"
    forged = {**value, "runs": [{**value["runs"][0], "worker": "eve"}, *value["runs"][1:]]}
    assert evidence.verify(forged)


def test_c1_a_store_of_an_older_release_verifies_as_far_as_it_goes_and_binds_what_comes(tmp_path):
    path = tmp_path / "old.db"
    with sqlite3.connect(path) as opened:
        opened.executescript((GOLDEN / "store-1.sql").read_text())
        (body,) = opened.execute("SELECT body FROM definitions WHERE kind = 'policy'").fetchone()
    opened.close()
    table = bench(url=f"sqlite:///{path}", pipelines=[CHILD], policy=body)
    table.clock.forward(86_400 * 300)
    kit = table.kit
    migrate.upgrade(kit.store)
    counted = audit.Proved()
    assert [*audit.verify(kit, counted), *unowned.verify(kit, counted), *seals.verify_seals(kit)] == []
    words = " ".join(audit.words(counted, broken=False, sealed=False))
    assert "whole" not in words
    assert {"runs", "stages", "reviews", "outbox", "links", "receipts"} <= set(counted.unbound)
    flat = seals.sealed(_seals(kit)[0])
    assert flat == json.loads((GOLDEN / "seal-1.json").read_text())
    assert list(seals.verify_seals(kit, flat)) == [], "it goes on to prove the database"
    (new,) = table.file({"pipeline": "child"})
    table.run(3)
    table.clock.forward(3600)
    tree = seals.seal(kit)
    assert [tree["schema"], flat["schema"]] == ["backlog-worker/seal@2", "backlog-worker/seal@1"]
    assert list(seals.verify_seals(kit, tree)) == []
    fresh = json.loads(json.dumps(evidence.export(kit, new.entry_id)))
    assert evidence.checked(fresh, tree).whole
    assert "from an older release" in evidence.verify(fresh, flat)[0]
    with kit.store.begin() as unit:
        unit.run("DROP TRIGGER operations_no_update")
        unit.run("UPDATE operations SET actor = 'eve' WHERE action = 'token.create'")
    assert {each.subject for each in seals.verify_seals(kit)} == {"operations"}, "the plain digest of then still speaks"


def _seals(kit):
    with kit.store.read() as unit:
        return unit.seals()


# As people read it.


def test_c2_a_bundle_is_read_by_a_person_on_80_columns(bundle):
    text = render.text(account(bundle, evidence.checked(bundle)))
    assert max(len(line) for line in text.splitlines()) <= 80
    for words in (
        *("Login <b>loop</b>", "The history is whole", "No seal was given", "ELIG-LABEL", "label +2.00, age +5.00"),
        *(
            "boom",
            "G-1",
            "budget of pipeline spec",
            "li",
            "fine",
            "a.txt",
            '"body": "better"',
            "worker@bench",
            policy.load(POLICY).stamp,
        ),
        *(hash_ for hash_ in bundle["definitions"]),
    ):
        assert words in text.replace("\n" + " " * 10, ""), words
    assert bundle["events"][-1]["hash"] in text
    faulty = {**bundle, "sha256": "0"}
    assert "This bundle proves nothing" in render.text(account(faulty, evidence.checked(faulty)))


TEXTS = st.one_of(
    st.text(max_size=40),
    st.sampled_from(
        [
            "<script>alert(1)</script>", "</style><img src=x onerror=alert(1)>", "&lt;", '"><a href="javascript:x">',
            "![x](http://evil)", "[x](http://evil)", "@everyone", "#1", "| a | b |", "~~~~\n# head", "\x1b[31mred", "\u202egnp",
            "-->", "`code`", "</pre></body>", "\n\n# head", "ghp_" + "a" * 30,
        ]
    ),
)  # fmt: skip


class Tags(HTMLParser):
    """The tags and attributes of a page, and its text."""

    def __init__(self):
        super().__init__()
        self.tags, self.attributes, self.words = set(), set(), []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data):
        self.words.append(data)


@given(TEXTS, TEXTS, TEXTS)
@settings(max_examples=150, deadline=None)
def test_c2_what_others_wrote_stays_text_in_every_form(title, cell, block):
    sections = [
        Section(title=title),
        Section(title="t", lead=[cell], columns=("a", "b"), rows=[(cell, title)], blocks=[(cell, block)]),
    ]
    page = Tags()
    page.feed(render.html(sections))
    assert page.tags == {
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "h1",
        "h2",
        "p",
        "table",
        "tr",
        "th",
        "td",
        "pre",
    }
    assert page.attributes <= {"lang", "charset", "http-equiv", "content"}
    assert "ghp_aaaa" not in "".join(page.words)
    text, marked = render.text(sections), render.markdown(sections)
    assert not [c for c in text if not c.isprintable() and c != "\n"]
    outside = re.sub(r"^~~~~json\n.*?^~~~~$", "", marked, flags=re.DOTALL | re.MULTILINE)
    assert "<" not in outside
    assert not re.search(r"(?<!\\)\]\(", outside)
    assert not re.search(r"@\w", outside)
    heads = [line for line in outside.splitlines() if line.startswith("#")]
    assert len(heads) == 2, "no text makes a heading"
    assert marked.count("\n~~~~") == 2 * len([1 for section in sections for _ in section.blocks])


def test_c2_a_page_of_the_whole_story_carries_no_html_of_others(bundle):
    page = render.html(account(bundle, evidence.checked(bundle)))
    assert "<b>loop" not in page
    assert "&lt;b&gt;loop" in page
    assert "<script" not in page
    assert "default-src &#x27;none&#x27;" in page or "default-src 'none'" in page


# After retention.


def taken():
    """What the document says that retention takes from a bundle."""
    part = DOCS.partition("| effect of retention | in the bundle |\n")[2].partition("\n\n")[0]
    return set(re.findall(r"`([\w.\[\]]+)`", part))


def different(one, other, path=""):
    if isinstance(one, dict) and isinstance(other, dict):
        for name in {*one, *other}:
            yield from different(one.get(name, ...), other.get(name, ...), f"{path}.{name}" if path else name)
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for left, right in zip(one, other, strict=True):
            yield from different(left, right, f"{path}[]")
    elif (isinstance(one, list) and isinstance(other, list) and other[: len(one)] == one) or one != other:
        yield path


def test_c2_a_bundle_before_and_after_retirement_differs_by_what_retention_names():
    story = told()
    table, kit = story.table, story.table.kit
    table.tick()
    table.file({"title": "waits", "labels": ["ai-ok"]})
    ids = [story.main, story.fork, story.dead, story.redacted]
    seals.seal(kit)
    before = {each: story.exported(each) for each in ids}
    table.clock.forward(86_400 * 200)
    retire.cleanup(kit)
    named = taken()
    for entry_id in ids:
        after = story.exported(entry_id)
        assert after["retired"]
        paths = {re.sub(r"^inputs\..*", "inputs", path) for path in different(before[entry_id], after)} - {"sha256"}
        paths = {re.sub(r"^(retired|proof|artifacts)\b.*", r"\1", path) for path in paths}
        assert paths <= named, entry_id
        found = evidence.checked(after)
        assert found.whole, found.faults
        assert [event["hash"] for event in after["events"][:-1]] == [row["hash"] for row in before[entry_id]["events"]]
        assert set(after["inputs"]) == set(before[entry_id]["inputs"]), "the digests of inputs stay"
        forged = json.loads(json.dumps(after).replace('"worker@bench"', '"worker@eve"'))
        assert evidence.verify(forged) or entry_id == story.redacted
    assert audit.Proved().rows == 0
    assert [*audit.verify(kit), *unowned.verify(kit), *seals.verify_seals(kit)] == []
    seal = _later(table)
    assert evidence.checked(story.exported(story.main), seal).included.fault == ""


def _later(table):
    table.clock.forward(3600)
    return seals.seal(table.kit)


def test_c2_retired_entries_answer_from_their_history():
    story = told()
    table, kit = story.table, story.table.kit
    with kit.store.read() as unit:
        runs, wishes = unit.runs(story.main), unit.wishes(story.main)
    table.clock.forward(86_400 * 200)
    retire.cleanup(kit)
    old = remembered(kit, story.main)
    assert re.fullmatch(r"retired on \d{4}-\d\d-\d\d, evidence until \d{4}-\d\d-\d\d", old.words)
    assert {row["id"] for row in old.tables["runs"]} == {run["id"] for run in runs}
    assert [row["answered_by"] for row in old.tables["reviews"]] == ["li"] * 4
    assert {row["job_id"]: row["status"] for row in old.tables["stages"]}["never"] == "skipped"
    assert record(kit, story.main) == wishes[0]["body"]
    assert remembered(kit, story.old[:-1]).entry.id == story.old, "the beginning of an id is enough"
    assert remembered(kit, "bl_") is None, "several begin so"
    assert record(kit, story.redacted)["entry"]["title"] == "[redacted]"
    assert remembered(kit, story.second) is None
    with pytest.raises(NotFoundError):
        record(kit, "bl_nobody")
    table.clock.forward(86_400 * 3000)
    retire.cleanup(kit)
    with pytest.raises(NotFoundError, match="was kept until"):
        remembered(kit, story.main)


def test_c2_rows_that_somebody_removed_or_put_in_are_made_again_from_the_history(story):
    story = told()
    kit = story.table.kit
    before = story.exported(story.main)
    with kit.store.begin() as unit:
        unit.run("DELETE FROM reviews WHERE entry_id = :entry", entry=story.main)
        unit.run("DELETE FROM links WHERE from_id = :entry", entry=story.main)
        unit.run("DELETE FROM outbox WHERE entry_id = :entry", entry=story.main)
        unit.run("UPDATE stages SET worker = 'eve', attempts = 9 WHERE entry_id = :entry", entry=story.main)
        unit.run("UPDATE runs SET worker = 'eve' WHERE entry_id = :entry", entry=story.main)
    assert list(audit.verify(kit))
    audit.rebuild(kit, apply=True, reason="somebody wrote into the tables")
    assert list(audit.verify(kit)) == []
    assert story.exported(story.main) == before


def test_c1_no_statement_more_for_an_entry_that_runs(monkeypatch):
    """What is bound is read from the statements that write: with nothing bound there are as many."""
    counts = []
    for bound in (True, False):
        table = bench()
        table.file(*({} for _ in range(5)))
        if not bound:
            monkeypatch.setattr(BoundRows, "_keep", lambda *_: None)
        before = table.kit.store.statements
        table.tick()
        table.ring()
        assert table.statuses() == {"completed": 5}
        counts.append(table.kit.store.statements - before)
    assert counts[0] == counts[1]


def test_c1_an_output_stored_under_its_old_digest_is_found():
    table = bench(pipelines=[CHILD.replace("child", "spec")])
    table.file({})
    table.executor.results = {"only": [Done(output={"n": 1})]}
    table.run(3)
    with table.kit.store.begin() as unit:
        unit.run("UPDATE stages SET output = '{\"n\":2}'")
    (found,) = audit.verify(table.kit)
    assert "the output of only does not match its digest" in found.text


def test_c1_what_is_exported_fits_the_schema_of_its_version_and_older_ones_are_shipped(story, bundle):
    import jsonschema

    from backlog_worker.cli.definitions import stored_schema

    seal = seals.seal(story.table.kit)
    old = json.loads((GOLDEN / "bundle-1.json").read_text())
    cases = [
        ("evidence", 2, story.exported(story.main)), ("evidence", 2, bundle), ("seal", 2, seal), ("event", 3, bundle["events"][5]),
        ("evidence", 1, old), ("seal", 1, json.loads((GOLDEN / "seal-1.json").read_text())), ("event", 2, old["events"][5]),
    ]  # fmt: skip
    for kind, version, value in cases:
        jsonschema.validate(value, stored_schema(kind, version))
        assert version in {1, 2} or stored_schema(kind)["$id"].endswith("@3")
