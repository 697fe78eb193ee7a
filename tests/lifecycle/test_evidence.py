"""A stranger checks the evidence of an entry without our database, and finds every altered byte of it."""

import copy
import json
import random
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from backlog_worker.domain.entry import fold
from backlog_worker.domain.errors import ConflictError, InvalidInputError, StoreError, UsageError
from backlog_worker.domain.events import broken, chained, redacted
from backlog_worker.domain.measures import measured
from backlog_worker.domain.outcome import Done, FailureKind, Faulted, Refused
from backlog_worker.domain.review import Answer, Decided
from backlog_worker.domain.writeback import SCHEMA, markdown, newest
from backlog_worker.lifecycle import audit, evidence, operate, retire, review, seals, send, writebacks
from backlog_worker.store import seal_hash
from backlog_worker.store.sql.dialect import METADATA
from backlog_worker.testing import bench

GRAPH = """\
name: spec
jobs:
  - { id: a, python: "f:a" }
  - { id: b, python: "f:b", dependsOn: a, gates: [{ id: G-1, check: "output.n > 0.0" }] }
  - { id: ask, interactive: true, task: Well?, dependsOn: a }
  - { id: c, python: "f:c", dependsOn: [b, ask], approval: {} }
"""


@pytest.fixture
def story():
    table = bench(pipelines=[GRAPH])
    (filed,) = table.file({})
    operate.edit(table.kit, filed.entry_id, {"input": {"body": "better"}}, actor="ana", reason="typo")
    table.executor.results = {
        "a": [Faulted(kind=FailureKind.INFRASTRUCTURE, reason="boom"), Done(output={}, artifacts={"a.txt": b"text"})],
        "b": [Done(output={"n": 1})],
    }
    table.run(8)
    review.decide(
        table.kit, filed.entry_id, Decided(answer=Answer.ANSWER, actor="li", reason="so", value={"yes": True})
    )
    table.run(4)
    review.decide(table.kit, filed.entry_id, Decided(answer=Answer.APPROVE, actor="li", reason="fine"))
    table.run(4)
    return table, filed.entry_id


def exported(story):
    return json.loads(json.dumps(evidence.export(story[0].kit, story[1])))


def test_a_bundle_is_whole_and_tells_the_story(story):
    value = exported(story)
    assert evidence.verify(value) == []
    assert value["entry"]["status"] == "completed"
    assert len(value["inputs"]) == 2, "the input that was replaced stays readable"
    assert {each["answered_by"] for each in value["reviews"]} == {"li"}
    assert len(value["runs"]) >= 2
    assert {each["kind"] for each in value["definitions"].values()} == {"policy", "pipeline"}
    assert len(value["artifacts"]) == 1


def test_every_altered_leaf_of_a_bundle_is_found(story):
    value = exported(story)
    chance = random.Random(5)
    leaves = list(_leaves(value, ()))
    for path in chance.sample(leaves, 120):
        broken = copy.deepcopy(value)
        spot = broken
        for step in path[:-1]:
            spot = spot[step]
        spot[path[-1]] = _other(spot[path[-1]])
        assert evidence.verify(broken), path


def test_a_forger_who_closes_the_bundle_again_is_found_by_the_chain(story):
    from backlog_worker.domain import evidence as bundles

    value = exported(story)

    def closed(change):
        forged = copy.deepcopy(value)
        change(forged)
        return evidence.verify(
            bundles.bundle({name: part for name, part in forged.items() if name not in {"schema", "sha256"}})
        )

    assert closed(lambda forged: None) == []
    assert "does not match its hash" in " ".join(closed(lambda forged: forged["events"][3].update(actor="eve")))
    assert closed(lambda forged: forged["events"].pop(2))
    assert closed(lambda forged: forged["events"].insert(1, forged["events"].pop(2)))
    assert "differ from the history" in " ".join(closed(lambda forged: forged["entry"].update(owner="eve")))
    assert "input" in " ".join(closed(lambda forged: forged["inputs"].update({key: {} for key in forged["inputs"]})))
    assert "output of b" in " ".join(
        closed(lambda forged: next(s for s in forged["stages"] if s["job_id"] == "b").update(output={"n": 2}))
    )
    assert "policy" in " ".join(
        closed(
            lambda forged: next(d for d in forged["definitions"].values() if d["kind"] == "policy").update(
                version="9",
                body=next(d for d in forged["definitions"].values() if d["kind"] == "policy")["body"].replace(
                    "ai-ok", "all"
                ),
            )
        )
    )
    assert closed(lambda forged: next(iter(forged["artifacts"].values())).update(base64="QQ=="))


def test_what_is_no_bundle_is_said_so():
    assert "not a bundle" in evidence.verify({})[0]
    assert evidence.verify({"schema": "backlog-worker/evidence@1"})


def test_the_backlog_stands_again_as_it_stood(story):
    table, entry_id = story
    with table.kit.store.read() as unit:
        events = unit.history(entry_id)
        now = unit.now()
    claimed = next(event for event in events if event.change == "claimed")
    assert audit.at(table.kit, claimed.at).statuses[entry_id] in {"in_progress", "ready", "retrying"}
    assert audit.at(table.kit, now).counts == {"completed": 1}
    (changed,) = audit.diff(table.kit, events[0].at, now)
    assert (changed[0], changed[2]) == (entry_id, "completed")


def _leaves(value, path):
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _leaves(each, (*path, key))
    elif isinstance(value, list):
        for at, each in enumerate(value):
            yield from _leaves(each, (*path, at))
    else:
        yield path


def _other(value):
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    return f"{value or ''}x"


TEXT = "a secret that a customer wrote"


def secretive():
    table = bench(pipelines=[GRAPH])
    (filed,) = table.file({"title": TEXT, "author": TEXT, "url": TEXT, "input": {"body": TEXT}})
    table.executor.results = {
        "a": [
            Faulted(kind=FailureKind.EXECUTION, reason=TEXT),
            Done(output={"said": TEXT}, artifacts={"a.txt": TEXT.encode()}),
        ],
        "b": [Refused(kind=FailureKind.VALIDATION, reason=TEXT)],
    }
    table.run(8)
    review.decide(table.kit, filed.entry_id, Decided(answer=Answer.DISCARD, actor="li", reason=f"no: {TEXT}"))
    table.run(1)
    return table, filed.entry_id


def dump(table):
    """Everything that the store and the tracker hold, as one text."""
    found = []
    with table.kit.store.read() as unit:
        for name in METADATA.tables:
            found += [str(row) for row in unit.run(f"SELECT * FROM {name}")]
    folders = (table.kit.tracker.folder, table.kit.artifacts.folder)
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return "\n".join([*found, *(path.read_text() for path in files)])


def test_redaction_takes_texts_out_of_everything_and_leaves_the_chain_and_the_seals_whole():
    table, entry_id = secretive()
    table.clock.forward(3600)
    sealed = seals.seal(table.kit)
    assert sealed["events"] > 5
    assert TEXT in dump(table)
    with pytest.raises(UsageError, match="reason"):
        evidence.redact(table.kit, entry_id, actor="ana", reason=" ")
    assert evidence.redact(table.kit, entry_id, actor="ana", reason="the customer asked") > 3
    send.send(table.kit)
    assert TEXT not in dump(table)
    assert list(audit.verify(table.kit)) == []
    assert list(seals.verify_seals(table.kit, sealed)) == []
    bundle = json.loads(json.dumps(evidence.export(table.kit, entry_id)))
    assert evidence.verify(bundle) == []
    assert TEXT not in json.dumps(bundle)
    record = next(event for event in bundle["events"] if event["change"] == "recorded")["data"]["record"]
    assert record["status"] == "escalated", "what happened stays readable"
    retire.cleanup(table.kit)
    table.clock.forward(86_400 * 200)
    retire.cleanup(table.kit)
    assert evidence.verify(json.loads(json.dumps(evidence.export(table.kit, entry_id)))) == []


def test_a_forged_redaction_is_found():
    table, entry_id = secretive()
    evidence.redact(table.kit, entry_id, actor="ana", reason="asked")
    with table.kit.store.begin() as unit:
        forged = json.dumps({"set": {"title": {"$redacted": "0" * 64}}})
        unit.run("UPDATE events SET data = :data WHERE entry_id = :entry AND seq = 1", data=forged, entry=entry_id)
    assert next(audit.verify(table.kit)).invariant == "I8"
    with pytest.raises(StoreError, match="insert only"), table.kit.store.begin() as unit:
        unit.run("UPDATE events SET actor = 'eve' WHERE entry_id = :entry", entry=entry_id)


def test_what_is_under_way_or_under_a_legal_hold_is_not_redacted():
    table = bench()
    (filed,) = table.file({})
    with pytest.raises(ConflictError, match="is queued"):
        evidence.redact(table.kit, filed.entry_id, actor="ana", reason="asked")
    table.run(3)
    evidence.legal_hold(table.kit, filed.entry_id, actor="ana", reason="a lawsuit", on=True)
    with pytest.raises(ConflictError, match="a lawsuit"):
        evidence.redact(table.kit, filed.entry_id, actor="ana", reason="asked")
    evidence.legal_hold(table.kit, filed.entry_id, actor="ana", reason="settled", on=False)
    assert evidence.redact(table.kit, filed.entry_id, actor="ana", reason="asked")


def test_a_seal_that_is_kept_elsewhere_finds_what_a_chain_alone_does_not():
    """Whoever owns the database may cut the end of a history off and make everything fit again; not unseen."""
    table = bench()
    (one, two) = (each.entry_id for each in table.file({}, {}))
    table.run(3)
    table.clock.forward(3600)
    kept = seals.seal(table.kit)
    assert list(seals.verify_seals(table.kit, kept)) == []
    table.file({})
    table.clock.forward(3600)
    second = seals.seal(table.kit)
    assert second["prev"] == kept["hash"]
    with table.kit.store.begin() as unit:
        for name in ("events_no_delete", "seals_no_delete", "seals_no_update", "seal_heads_no_update"):
            unit.run(f"DROP TRIGGER {name}")
        unit.run("DELETE FROM events WHERE entry_id = :entry AND seq > 2", entry=one)
        unit.run("UPDATE entries SET status = 'queued', seq = 2 WHERE id = :entry", entry=one)
    assert {each.subject for each in seals.verify_seals(table.kit)} == {one}
    with table.kit.store.begin() as unit:
        unit.run(
            "UPDATE seal_heads SET seq = 2, hash = (SELECT hash FROM events v WHERE v.entry_id = :entry AND seq = 2)"
            " WHERE entry_id = :entry",
            entry=one,
        )
        root = unit.root(kept["id"])
        row = {**unit.seals()[0], "root": root}
        unit.run(
            "UPDATE seals SET root = :root, hash = :hash WHERE id = :id", root=root, hash=seal_hash(row), id=kept["id"]
        )
    texts = [each.text for each in seals.verify_seals(table.kit, kept)]
    assert any("external" in text for text in texts), "the forger cannot reach the seal that others hold"
    assert two


def test_an_operation_that_was_altered_is_found_by_its_seal():
    table = bench()
    (filed,) = table.file({})
    table.run(3)
    evidence.legal_hold(table.kit, filed.entry_id, actor="ana", reason="a lawsuit", on=True)
    with pytest.raises(StoreError, match="insert only"), table.kit.store.begin() as unit:
        unit.run("UPDATE operations SET actor = 'eve'")
    table.clock.forward(3600)
    seals.seal(table.kit)
    with table.kit.store.begin() as unit:
        unit.run("DROP TRIGGER operations_no_update")
        unit.run("UPDATE operations SET actor = 'eve'")
    assert [each.subject for each in seals.verify_seals(table.kit)] == ["operations"]


def test_rows_that_somebody_changed_or_removed_are_rebuilt_from_their_histories():
    table = bench()
    (one, two, three) = (each.entry_id for each in table.file({}, {"owner": "ana"}, {"labels": []}))
    table.run(3)
    with table.kit.store.begin() as unit:
        unit.run("DROP TRIGGER entries_leave_retired")
        unit.run("UPDATE entries SET owner = 'eve', status = 'queued' WHERE id = :id", id=two)
        unit.run("DELETE FROM entries WHERE id = :id", id=three)
    assert {each.subject for each in audit.verify(table.kit)} == {two, three}
    assert sorted(audit.rebuild(table.kit)) == sorted([(two, ["owner", "status"]), (three, ["the whole row"])])
    with pytest.raises(UsageError, match="reason"):
        audit.rebuild(table.kit, apply=True)
    audit.rebuild(table.kit, apply=True, reason="somebody wrote into the tables")
    assert list(audit.verify(table.kit)) == []
    assert table.statuses() == {"completed": 2, "blocked": 1}
    with table.kit.store.read() as unit:
        assert unit.entry(two).owner == "ana"
        assert {row["subject"] for row in unit.acts("prod", action="audit.rebuild")} == {two, three}
    assert one


def test_runs_and_outputs_that_somebody_changed_are_found_and_runs_are_rebuilt():
    table = bench()
    (one,) = (each.entry_id for each in table.file({}))
    table.run(3)
    with table.kit.store.begin() as unit:
        unit.run("UPDATE runs SET worker = 'eve', ended_by = 'failed'")
        unit.run("UPDATE stages SET sha256 = 'ff' WHERE job_id = 'check'")
    (found,) = audit.verify(table.kit)
    assert "worker, ended_by" in found.text
    assert "the output of check" in found.text
    audit.rebuild(table.kit, apply=True, reason="somebody wrote into the tables")
    assert list(audit.verify(table.kit)) == [], "the history tells of the digest, and the output gives it"
    with table.kit.store.begin() as unit:
        unit.run("DELETE FROM runs")
    assert "is missing" in next(audit.verify(table.kit)).text
    audit.rebuild(table.kit, apply=True, reason="somebody removed runs")
    with table.kit.store.read() as unit:
        assert [run["ended_by"] for run in unit.runs(one)] == ["completed"]


def test_a_history_of_the_first_version_folds_and_verifies_as_it_was_written():
    """Events are stored for good as they were; what later releases added is filled in while they are read."""
    at = datetime(2026, 1, 1, tzinfo=UTC)
    common = {"entry_id": "bl_1", "at": at, "actor": "ana", "run_id": None}
    born = {"set": {"id": "bl_1", "env": "prod", "title": "old", "bars": ["NOT_ELIGIBLE"]}}
    first = chained({**common, "seq": 1, "change": "filed", "data": born}, "", version=1)
    second = chained({**common, "seq": 2, "change": "canceled", "data": {"set": {"reason": "x"}}}, first.hash)
    assert broken([first, second]) is None
    values = fold([first, second])
    assert (values["service"], values["category"], values["status"]) == ("", "", "canceled")
    assert first.data == born, "what is stored is not touched"
    whole = redacted(first, ["title"])
    assert whole["kept"]["set"]["env"] == "prod", "what is no text is kept, so that the history still folds"
    assert broken([replace(first, data=whole), second]) is None
    assert fold([replace(first, data=whole), second])["bars"] == ["NOT_ELIGIBLE"]
    assert redacted(replace(first, data=whole), ["title"]) == whole
    assert broken([replace(first, data={"set": {}}), second]) is not None


def test_records_of_every_version_stay_readable_and_their_schemas_are_shipped():
    import jsonschema

    from backlog_worker.cli.definitions import record_schema

    golden = Path(__file__).parents[1] / "golden" / "writeback"
    versions = sorted(golden.glob("v*.json"))
    assert [path.stem for path in versions] == ["v1", "v2"]
    for path in versions:
        value = json.loads(path.read_text())
        jsonschema.validate(value, record_schema(int(path.stem[1:])))
        assert newest(value)["schema"] == SCHEMA
        assert markdown(value) == path.with_suffix(".md").read_text(), f"{path.stem} reads as it did"
    with pytest.raises(InvalidInputError, match="writeback@99"):
        newest({"schema": "backlog-worker/writeback@99"})


def test_a_record_of_today_fits_its_schema(story):
    import jsonschema

    from backlog_worker.cli.definitions import record_schema

    found = [event["data"]["record"] for event in exported(story)["events"] if event["change"] == "recorded"]
    assert found
    for record in found:
        jsonschema.validate(record, record_schema(2))


def test_what_sources_show_is_compared_with_the_ledger_and_repaired(story):
    table, entry_id = story
    send.send(table.kit)
    assert writebacks.verify(table.kit) == []
    path = table.kit.tracker.folder / f"{entry_id}.json"
    shown = json.loads(path.read_text())
    path.write_text(json.dumps({**shown, "status": "failed"}))
    (table.kit.tracker.folder / "bl_stranger.json").write_text("{}")
    found = writebacks.verify(table.kit)
    assert [(each.topic, each.what) for each in found] == [(entry_id, "altered"), ("bl_stranger", "unknown")]
    path.unlink()
    assert writebacks.verify(table.kit, repair=True)[0].what == "missing"
    send.send(table.kit)
    assert [each.what for each in writebacks.verify(table.kit)] == ["unknown"], "what is not ours is left alone"


def test_measures_of_a_past_moment_are_those_of_then(story):
    table, _ = story
    with table.kit.store.read() as unit:
        now, counts = unit.now(), unit.counts("prod")
    past = audit.at(table.kit, now)
    assert past.measures == measured(replace(counts, reviews_open=0))
