"""Options of run and writeback, each with and without: what it promises is seen in what is printed and stored."""

import json
import sqlite3
import time

import pytest

from backlog_worker.store import Unit


def put(story, name, value):
    (story.folder / name).write_text(json.dumps(value))
    return name


def last_run(story, key):
    return story.data(f"run list --entry {story.id(key)}")[0]["id"]


def test_run_list_entry_and_live_keep_only_those(story):
    every = story.data("run list")
    assert len({each["entry_id"] for each in every}) > 3
    assert {each["entry_id"] for each in story.data("run list --entry done")} == {story.id("done")}
    assert [each["ended_at"] for each in story.data("run list --live")] == []


def test_run_logs_job_prints_only_what_this_job_said(story):
    assert {line.split()[0] for line in story("run logs done").stdout.splitlines()} == {"draft", "publish"}
    assert {line.split()[0] for line in story("run logs done --job publish").stdout.splitlines()} == {"publish"}


@pytest.mark.parametrize(("follow", "waited"), [("", []), (" --follow", [0.5])])
def test_run_logs_follow_goes_on_until_the_run_ends(story, follow, waited, monkeypatch):
    real, pauses = Unit.run_of, []

    def run_of(unit, run_id):
        row = real(unit, run_id)
        return row if pauses or row is None else {**row, "ended_at": None}

    monkeypatch.setattr(Unit, "run_of", run_of)
    monkeypatch.setattr(time, "sleep", pauses.append)
    story(f"run logs done{follow}")
    assert pauses == waited


def test_run_start_title_label_and_input_are_those_of_its_entry(story):
    given = put(story, "given.json", {"n": 1})
    story("run start spec", code=6)  # without a label no rule lets it go
    plain, named = (
        story.data(f"entry show {story(f'run start spec --label ai-ok {options}').stdout.split()[0]}")
        for options in ("", f"--label b --title 'A title' --input {given}")
    )
    assert [each["input"] for each in (plain, named)] == [{}, {"n": 1}]
    assert [sorted(each["entry"]["labels"]) for each in (plain, named)] == [["ai-ok"], ["ai-ok", "b"]]
    assert [each["entry"]["title"] == "A title" for each in (plain, named)] == [False, True]


def test_run_start_wait_and_timeout_wait_for_its_end(story, monkeypatch):
    pauses = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    story("run start spec --label ai-ok")
    assert pauses == []
    story("run start spec --title again --label ai-ok --wait --timeout 0.2", code=124)
    assert pauses


def test_run_watch_timeout_ends_the_watching(story, monkeypatch):
    began = time.monotonic()
    story("run watch done --timeout 60")
    story("run watch dead-0 --timeout 60", code=8)
    monkeypatch.setattr("backlog_worker.engine.STANDS", ())
    story("run watch done --timeout 0.1")
    assert time.monotonic() - began < 60


@pytest.mark.parametrize("verb", ["fork", "rerun"])
def test_run_fork_and_rerun_begin_at_a_job_with_an_output_of_ours(story, verb):
    output = put(story, "output.json", {"text": "ours"})
    run = last_run(story, "done")
    story(f"run {verb} {run} --from draft --reason ' '", code=2)
    story(f"run {verb} {run} --from nothing --reason r", code=3)
    first = story.data(f"run {verb} {run} --from publish --reason 'once more'")["entry"]
    second = story.data(f"run {verb} {run} --from draft --reason 'once more' --edit-output {output}")["entry"]
    whole = story.data(f"run {verb} {run} --from draft --reason r")["entry"]
    jobs = {entry: {(each[0], each[1]) for each in stages(story, entry)} for entry in (first, second, whole)}
    assert ("draft", "completed") in jobs[first], "what comes before is taken over"
    assert ("draft", "completed") not in jobs[whole]
    assert "once more" in json.dumps(story.data(f"entry history {second}"))
    assert "ours" in str(raw(story, second))


def stages(story, entry):
    return [(each["job_id"], each["status"]) for each in raw(story, entry)]


def raw(story, entry):
    with sqlite3.connect(story.folder / ".backlog-worker" / "state" / "backlog.db") as rows:
        rows.row_factory = sqlite3.Row
        found = [dict(each) for each in rows.execute("SELECT * FROM stages WHERE entry_id = ?", (entry,))]
    rows.close()
    return found


def test_run_resume_and_retry_keep_their_reason(story):
    for verb, key in (("resume", "dead-0"), ("retry", "dead-1")):
        run = last_run(story, key)
        story(f"run {verb} {run} --reason ' '", code=2)
        assert story.entries()[key]["status"] == "escalated"
        story(f"run {verb} {run} --reason 'the host is back'")
        assert story.entries()[key]["status"] == "queued"
        assert "the host is back" in json.dumps(story.history(key))


def test_writeback_verify_repair_sends_again_what_differs(story):
    def due():
        return [each for each in story.data("writeback list") if each["entry_id"] and each["status"] == "due"]

    drift = story.data("writeback verify", code=7)
    assert {each["what"] for each in drift} == {"missing"}
    assert due() == []
    story("writeback verify --repair")
    assert len(due()) == len(drift)
    story("writeback send")
    assert story.data("writeback verify") == []
