"""Bundles and recordings that somebody edited are refused with their place, and good ones are still taken."""

import copy
import json

import pytest

from tests.fuzz import cli, kept


@pytest.fixture
def folder(tmp_path):
    with kept.in_folder(tmp_path) as folder:
        yield folder


def bundle(**more):
    return {**json.loads((kept.GOLDEN / "bundle-1.json").read_text()), **more}


def test_a3_a_bundle_of_the_last_release_is_verified_and_shown(folder):
    (folder / "b.json").write_text(json.dumps(bundle()))
    assert cli.answer(["audit", "verify", "b.json"])[0] == 0
    assert cli.answer(["audit", "show", "b.json"])[0] == 0


@pytest.mark.parametrize(
    ("more", "place"),
    [
        ({"runs": [{}]}, "runs/0: 'attempt' is a required property"),
        ({"stages": [{"job_id": 1}]}, "stages/0/job_id: 1 is not of type 'string'"),
        ({"events": [1]}, "events/0: 1 is not of type 'object'"),
        ({"entry": []}, "entry: [] is not of type 'object'"),
        ({"lineage": {"calls": 5}}, "lineage/calls: 5 is not of type 'array'"),
        ({"artifacts": {"a": 1}}, "artifacts/a: 1 is not of type 'object'"),
    ],
)
def test_a3_a_bundle_that_does_not_fit_its_schema_is_refused_with_the_place(folder, more, place):
    (folder / "b.json").write_text(json.dumps(bundle(**more)))
    code, said = cli.answer(["audit", "verify", "b.json"])
    assert (code, "This bundle proves nothing" in said, place in said) == (7, True, True), said
    code, said = cli.answer(["audit", "show", "b.json"])
    assert (code, "cannot be shown" in said, place in " ".join(said.split())) == (2, True, True), said


def test_a3_a_good_recording_is_run(folder):
    good = copy.deepcopy(kept.RECORDING)
    good["answers"]["publish"] = [{"output": {}}]
    (folder / "r.json").write_text(json.dumps(good))
    code, said = cli.answer(["pipeline", "test", "r.json"])
    assert (code, said.split()[0]) == (0, "ok"), said


@pytest.mark.parametrize(
    ("more", "place"),
    [
        ({"answers": {"draft": 5}}, "answers.draft: Input should be a valid list"),
        ({"answers": {"draft": [{"kind": "odd"}]}}, "answers.draft.0.kind"),
        ({"answers": {"draft": [{"waitMs": -1}]}}, "answers.draft.0.waitMs"),
        ({"people": {"publish": {"answer": "perhaps"}}}, "people.publish.answer"),
        ({"expect": []}, "expect"),
        ({"pipeline": None}, "pipeline: Input should be a valid string"),
        ({"entry": {"inputs": {}}}, "entry.inputs: Extra inputs are not permitted"),
    ],
)
def test_a3_a_recording_of_another_shape_is_refused_with_file_and_place(folder, more, place):
    (folder / "r.json").write_text(json.dumps({**kept.RECORDING, **more}))
    code, said = cli.answer(["pipeline", "test", "r.json"])
    assert (code, f"r.json: {place}" in " ".join(said.split())) == (2, True), said


@pytest.mark.parametrize("spoil", ["junk", "cut", "middle"])
def test_a3_a_database_file_that_was_spoiled_is_named_with_the_way_out(tmp_path, spoil):
    with cli.project(tmp_path):
        (path,) = (tmp_path / ".backlog-worker").rglob("*.db")
        good = path.read_bytes()
        for each in path.parent.glob("*.db-*"):
            each.unlink()
        middle = good[:40_000] + b"\xff" * 20_000 + good[60_000:]
        path.write_bytes({"junk": b"junk" * 1000, "cut": good[: len(good) // 2], "middle": middle}[spoil])
        for line in (["status"], ["entry", "list"], ["audit", "verify"], ["db", "backup", "b"], ["db", "compact"]):
            code, said = cli.answer(line)
            assert (code, "is spoiled" in said, "restore the file from a backup" in said) == (1, True, True), said
        code, said = cli.answer(["doctor"])
        assert (code, "restore the file" in " ".join(said.split())) == (7, True), said


@pytest.mark.parametrize("place", ["/proc/x.db", "/dev/null/x.db", "/proc/a/x.db"])
def test_a3_a_database_file_that_cannot_be_made_is_named(tmp_path, monkeypatch, place):
    from backlog_worker import settings, wiring
    from backlog_worker.domain.errors import UnreachableError

    monkeypatch.setenv("BACKLOG_DATABASE_URL", f"sqlite:///{place}")
    with pytest.raises(UnreachableError, match="cannot be used"):
        wiring.store_of(settings.load())
