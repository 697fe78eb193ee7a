"""Whatever a bundle or the database says is bound by the history, or the documents list it as no evidence."""

import copy
import json
import random
import re
from datetime import timedelta
from functools import lru_cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from proof_story import told

from backlog_worker.domain import evidence as bundles
from backlog_worker.domain import merkle
from backlog_worker.domain.binding import BOUND
from backlog_worker.domain.entry import DEFAULTS
from backlog_worker.domain.events import chained, digest
from backlog_worker.domain.evidence import event_of
from backlog_worker.lifecycle import audit, evidence, seals, unowned
from backlog_worker.store.sql.dialect import METADATA, kind_of
from backlog_worker.testing import bench

GOLDEN = Path(__file__).parents[1] / "golden" / "evidence"
DOCS = (Path(__file__).parents[2] / "docs" / "evidence.md").read_text()


def listed(heading):
    """The names in the first column of the table under a heading of the document."""
    part = DOCS.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in part.splitlines() if line.startswith("| `")]
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row)}


LOOSE = listed("Not evidence")


@pytest.fixture(scope="module")
def story():
    return told()


@pytest.fixture(scope="module")
def seal(story):
    return seals.seal(story.table.kit)


@pytest.fixture(scope="module")
def bundle(story, seal):
    return story.exported(story.main)


@lru_cache
def _pinned(text):
    return evidence.pinned(json.loads(text))


def faults(value, seal=None):
    """What a check finds; definitions are parsed once."""
    return bundles.checked(value, lambda each: _pinned(json.dumps(each)), seal).faults


def faulty(value):
    """Whether a check finds anything, without looking for more."""
    if value.get("schema") not in bundles.SCHEMAS:
        return True
    try:
        return next(bundles._faults(value, lambda each: _pinned(json.dumps(each)), bundles.Checked()), None) is not None
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):
        return True  # what `checked` says of what it cannot read


def closed(value):
    return {**value, "sha256": digest({name: each for name, each in value.items() if name != "sha256"})}


def leaves(value, path=()):
    if isinstance(value, dict) and value:
        for key, each in value.items():
            yield from leaves(each, (*path, key))
    elif isinstance(value, list) and value:
        for at, each in enumerate(value):
            yield from leaves(each, (*path, at))
    else:
        yield path


def others(value):
    """What may stand in place of a leaf."""
    if isinstance(value, bool):
        return [not value, None]
    if isinstance(value, int | float):
        return [value + 1, None]
    if isinstance(value, str):
        return [f"{value}x", ("y" + value[1:]) if value[:1] != "y" else "z", None]
    return ["x", 1]


def put(value, path, other):
    """The same value with another leaf; what the way to it does not touch is shared."""
    step, rest = path[0], path[1:]
    copied = dict(value) if isinstance(value, dict) else list(value)
    if rest:
        copied[step] = put(value[step], rest, other)
    elif other is ...:
        del copied[step]
    else:
        copied[step] = other
    return copied


def at(value, path):
    for step in path:
        value = value[step]
    return value


def is_loose(path):
    return f"bundle.{path[0]}" in LOOSE


def inner(value):
    """Recompute what an attacker finds beside the values: digests of outputs, bodies, records, inputs and artifacts."""
    for row in [*value["stages"], *value["writebacks"]]:
        name = "output" if "job_id" in row else "body"
        if name in row and "sha256" in row:
            row["sha256"] = digest(row[name])
    value["inputs"] = {digest(each): each for each in value["inputs"].values()}
    for event in value["events"]:
        if event["change"] == "recorded":
            event["data"]["sha256"] = digest(event["data"]["record"])
    return value


def rehashed(value):
    """Forge everything: the history tells of the rows as they stand, its chain is new, and so is the tree over it."""
    value = inner(value)
    prev, events = "", []
    for row in value["events"]:
        fields = {name: getattr(event_of(row), name) for name in ("entry_id", "seq", "at", "change", "actor", "run_id")}
        event = chained({**fields, "data": row["data"]}, prev, version=row["version"])
        prev = event.hash
        events.append({**row, "canonical": event.canonical, "prev": event.prev, "hash": event.hash})
    value["events"] = events
    hashes = {row["seq"]: row["hash"] for row in events}
    for head in (value["proof"] or {"heads": []})["heads"]:
        head["hash"] = hashes.get(head["seq"], "0" * 64)
        leaf = merkle.leaf(value["entry"]["id"], head["seq"], head["hash"])
        for each in value["proof"]["seals"]:
            if each["id"] == head["seal"]:
                each["root"] = merkle.led_to(leaf, head["index"], head["size"], head["path"])
    prev = None
    for each in (value["proof"] or {"seals": []})["seals"]:
        moments = {name: bundles.datetime.fromisoformat(each[name]) for name in ("at", "since")}
        each["prev"] = each["prev"] if prev is None else prev
        prev = each["hash"] = merkle.seal_hash({**each, **moments})
    return value


def test_c1_the_story_has_everything_in_it_that_a_bundle_may_hold(bundle, seal):
    assert faults(bundle, seal) == []
    changes = {event["change"] for event in bundle["events"]}
    assert {"asked", "answered", "decided", "checkpointed", "recorded", "sent", "edited", "commented"} <= changes
    assert {row["kind"] for row in bundle["reviews"]} == {"budget", "question", "approval"}
    assert any(row.get("tries") for row in bundle["stages"])
    assert any(row.get("gates") for row in bundle["stages"])
    assert bundle["artifacts"]
    assert bundle["lineage"]["calls"]
    assert bundle["proof"]["heads"]


def test_c1_every_leaf_of_a_bundle_is_bound_or_listed_as_no_evidence(bundle, seal):
    """Outer and inner digests made anew: found without any seal, or the documents say that it is no evidence."""
    missed, seen = [], 0
    for path in leaves(bundle):
        if path == ("sha256",):
            continue
        found = [*others(at(bundle, path)), *([] if isinstance(path[-1], int) else [...])]
        if path[0] == "entry" and at(bundle, path) == DEFAULTS.get(path[1], ...):
            found = found[:-1]  # a column at its default may be left out: it says the same
        for other in found[:1] if path[0] == "events" else found:  # one digest is over all data of an event
            forged = closed(put(bundle, path, other))
            seen += 1
            if not is_loose(path) and not faulty(forged):
                missed.append((path, other))
    assert seen > 2000
    assert not missed


def test_c1_every_leaf_is_found_with_the_digests_beside_it_made_anew(bundle):
    missed = []
    for path in leaves(bundle):
        if path[0] == "events" and bundle["events"][path[1]]["change"] != "recorded":
            continue  # the chain is left as it is: nothing beside these is made anew
        forged = put(bundle, path, others(at(bundle, path))[0])
        try:
            forged = closed(inner(copy.deepcopy(forged)))
        except (KeyError, TypeError, AttributeError):
            continue  # not even the forger can go on
        if forged != bundle and path != ("sha256",) and not is_loose(path) and not faulty(forged):
            missed.append(path)
    assert not missed


def test_c1_a_history_that_was_forged_as_a_whole_is_found_by_a_seal(bundle, seal):
    """Each leaf of each event altered, its rows made to fit, all chained anew: only who holds the seal finds it."""
    unseen, missed = 0, []
    inside = [path for path in leaves(bundle) if path[0] == "events" and path[2] == "data"]
    for path in random.Random(7).sample(inside, 200):
        try:
            forged = closed(rehashed(copy.deepcopy(put(bundle, path, others(at(bundle, path))[0]))))
        except (KeyError, TypeError, ValueError, AttributeError):
            continue
        if forged == bundle:
            continue  # the digest of a record was made anew, and is what it was
        unseen += not faults(forged)
        if not faults(forged, seal):
            missed.append(path)
    assert unseen > 20, "without a seal a forger of everything is not found, and the check says so"
    assert not missed
    cut = copy.deepcopy(bundle)
    cut["events"] = cut["events"][:-1]
    assert faults(closed(rehashed(cut)), seal)


def test_c1_a_forged_row_that_its_event_was_made_to_tell_of_is_found_by_a_seal(bundle, seal):
    forged = copy.deepcopy(bundle)
    run = forged["runs"][-1]
    run["worker"] = "eve"
    for event in forged["events"]:
        told_of = event["data"].get("rows", {}).get("runs", {})
        if run["id"] in told_of:
            told_of[run["id"]]["worker"] = "eve"
    forged = closed(rehashed(forged))
    assert faults(forged) == []
    assert "not proved under this seal" in " ".join(faults(forged, seal))


def test_c1_parts_that_nobody_knows_and_rows_put_in_are_found(bundle):
    assert faults(closed({**bundle, "more": 1}))
    for part in ("runs", "stages", "reviews", "writebacks", "receipts", "events"):
        doubled = copy.deepcopy(bundle)
        doubled[part].append(copy.deepcopy(doubled[part][0]))
        assert faults(closed(doubled)), part
        strange = copy.deepcopy(bundle)
        more = copy.deepcopy(strange[part][0])
        strange[part].append({**more, "id": "x", "job_id": "x"})
        assert faults(closed(strange)), part
        fewer = copy.deepcopy(bundle)
        fewer[part].pop()
        assert faults(closed(fewer)), part
    hidden = copy.deepcopy(bundle)
    row = next(row for row in hidden["stages"] if "output" in row)
    row["output"] = {"$redacted": row["sha256"]}
    assert faults(closed(hidden)), "what was never redacted cannot say so"


def test_c1_a_seal_proves_what_was_under_it_and_nothing_else(story, seal, bundle):
    kit = story.table.kit
    found = evidence.checked(bundle, seal)
    assert found.included.seq == len(bundle["events"])
    audit_of = evidence.legal_hold
    audit_of(kit, story.fork, actor="ana", reason="later", on=True)
    later = story.exported(story.fork)
    found = evidence.checked(later, seal)
    assert found.faults == []
    assert found.included.seq == len(later["events"]) - 1, "what came after the seal is not under it"
    cases = {
        "not a seal: its schema": {},
        "its schema is 'x'": {**seal, "schema": "x"},
        "it has no root": {name: each for name, each in seal.items() if name != "root"},
        "it has unknown fields: more": {**seal, "more": 1},
        "its entries is '3'": {**seal, "entries": "3"},
        "its entries is True": {**seal, "entries": True},
        "its at is 'then'": {**seal, "at": "then"},
        "does not match its own hash": {**seal, "events": seal["events"] + 1},
        "is not in this bundle": _resealed({**seal, "id": "seal_x"}),
        "has another seal": _resealed({**seal, "root": merkle.root([b"x"])}),
        "from an older release": json.loads((GOLDEN / "seal-1.json").read_text()),
    }
    for words, each in cases.items():
        assert words in " ".join(evidence.verify(bundle, each)), words
    without = closed({**bundle, "proof": None})
    assert evidence.verify(without) == []
    assert "not proved under this seal" in " ".join(evidence.verify(without, seal))


def _resealed(row):
    moments = {name: bundles.datetime.fromisoformat(row[name]) for name in ("at", "since")}
    return {**row, "hash": merkle.seal_hash({**row, **moments})}


def test_c1_a_later_seal_proves_by_an_older_one_and_says_since_when():
    table = bench()
    (one,) = table.file({})
    table.run(3)
    table.clock.forward(3600)
    first = seals.seal(table.kit)
    table.file({})
    table.clock.forward(3600)
    second = seals.seal(table.kit)
    bundle = json.loads(json.dumps(evidence.export(table.kit, one.entry_id)))
    for each in (first, second):
        found = evidence.checked(bundle, each)
        assert (found.faults, found.included.at) == ([], first["at"])
    table.clock.forward(3600)
    newer = seals.seal(table.kit)
    assert "newer than the export" in evidence.verify(bundle, newer)[0]


# The database: cell by cell.


def cells():
    for name, table in sorted(METADATA.tables.items()):
        for column in table.columns:
            if name not in LOOSE and f"{name}.{column.name}" not in LOOSE:
                yield name, column.name


def verified(kit, seal):
    return [*audit.verify(kit), *unowned.verify(kit), *seals.verify_seals(kit, seal)]


def altered(kind, value):
    if kind == "data":
        given = json.loads(value) if value is not None else None
        if isinstance(given, dict):
            return json.dumps({**given, "zz": 1})
        return json.dumps([*given, "x"] if isinstance(given, list) else ["x"])
    if kind == "text":
        return f"{value or ''}x"
    return (value or 0) + 1000 if kind != "bool" else not value


def test_c1_every_cell_of_the_database_is_bound_or_listed_as_no_evidence():
    """One cell altered of each column, where something stands and where nothing does."""
    story = told()
    kit = story.table.kit
    seal = seals.seal(kit)
    assert verified(kit, seal) == []
    missed, empty = [], set()
    with kit.store.connected() as opened:
        _unguarded(opened)
    for table, column in cells():
        rows = _samples(kit, table, column)
        for row in rows:
            _set(kit, table, column, row["rowid"], altered(kind_of(table, column), row[column]))
            if not verified(kit, seal):
                missed.append((table, column, row[column]))
            _set(kit, table, column, row["rowid"], row[column])
        if not rows:
            empty.add(table)
    assert verified(kit, seal) == [], "everything is as it was"
    assert not missed
    assert not empty, "the story fills every table that people rely on"


def _set(kit, table, column, row, value):
    with kit.store.connected() as opened:
        opened.connection.driver_connection.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (value, row))


def _samples(kit, table, column):
    """A row in which something stands there, and one in which nothing does."""
    owned = " WHERE entry_id <> ''" if table == "outbox" else ""
    with kit.store.read() as unit:
        rows = [dict(row._mapping) for row in unit.run(f"SELECT rowid AS rowid, * FROM {table}{owned}")]
    full = [row for row in rows if row[column] not in {None, "", "[]", "{}"}]
    bare = [row for row in rows if row[column] in {None, "", "[]", "{}"}]
    return [*full[:1], *bare[:1]]


def _unguarded(opened):
    raw = opened.connection.driver_connection
    for (name,) in raw.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        raw.execute(f"DROP TRIGGER {name}")
    raw.execute("PRAGMA ignore_check_constraints = ON")
    opened.commit()


def test_c1_every_column_of_a_bound_table_is_bound_or_listed():
    for name, bound in BOUND.items():
        assert {f"{name}.{column}" for column in bound.loose} == {each for each in LOOSE if each.startswith(f"{name}.")}


def test_c1_postgresql_gives_the_same_proof(postgres_url):
    """The whole story there: every row is what its history gives, and every bundle is whole."""
    story = told(url=postgres_url)
    kit = story.table.kit
    counted = audit.Proved()
    assert [*audit.verify(kit, counted), *unowned.verify(kit, counted), *seals.verify_seals(kit)] == []
    assert counted.unbound == {}
    assert counted.rows > 50
    with kit.store.begin() as unit:
        unit.seal("seal_1", seals.LONG_AGO, unit.now() + timedelta(seconds=60), "")
        seal = seals.sealed(unit.last_seal())
    assert list(seals.verify_seals(kit, seal)) == []
    for entry_id in (story.main, story.fork, story.dead, story.redacted, story.old, story.second):
        found = evidence.checked(story.exported(entry_id), seal)
        assert (found.faults, found.whole) == ([], True)
    with kit.store.begin() as unit:
        unit.run("UPDATE stages SET attempts = attempts + 1 WHERE job_id = 'a' AND takes > 0")
        unit.run("UPDATE receipts SET score = score + 1 WHERE entry_id = :entry", entry=story.main)
    assert any("stage a: attempts" in each.text for each in audit.verify(kit))
    assert any(each.subject == story.main for each in unowned.verify(kit))


def test_c1_what_cannot_be_read_is_said_and_ends_no_verification():
    """Text that is no JSON, a list for an object, an unknown word: each is a violation, and the others are still seen."""
    cases = [
        ("stages", "tries", "no json"), ("stages", "artifacts", "[1]"), ("stages", "output", "{"), ("events", "data", "[]"),
        ("events", "data", "no json"), ("events", "at", "then"), ("entries", "labels", "{"), ("entries", "status", "lost"),
        ("reviews", "form", "no"), ("outbox", "body", "no"), ("entry_inputs", "value", "no"), ("operations", "detail", "no"),
        ("receipts", "terms", "no"), ("tokens", "scopes", "no"), ("definitions", "contracts", "no"), ("definitions", "body", "no"),
        ("retired", "at", "then"), ("seal_heads", "hash", "no"), ("spending", "usd", "much"),
    ]  # fmt: skip
    story = told()
    kit = story.table.kit
    seal = seals.seal(kit)
    with kit.store.connected() as opened:
        _unguarded(opened)
    for table, column, text in cases:
        row = next(row for row in _samples(kit, table, column))
        _set(kit, table, column, row["rowid"], text)
        assert verified(kit, seal), (table, column)
        _set(kit, table, column, row["rowid"], row[column])
    assert verified(kit, seal) == []


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_c1_a_mangled_bundle_is_named_as_one_and_raises_nothing(bundle, seal, data):
    paths = list(leaves(bundle))
    path = data.draw(st.sampled_from(paths))
    cut = path[: data.draw(st.integers(1, len(path)))]
    other = data.draw(st.sampled_from([None, 1, "x", [], {}, [1], {"x": 1}, [None], True, "$redacted", -1, 1e308]))
    forged = put(bundle, cut, other)
    for each in (forged, closed(forged)):
        assert faults(each, seal) or forged == bundle or is_loose(cut)
        assert isinstance(evidence.checked(bundle, forged).faults, list)
