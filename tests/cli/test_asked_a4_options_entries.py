"""Options of entry, dlq and review, each with and without: what it promises is seen in the backlog."""

import json

import pytest


def put(story, name, value):
    (story.folder / name).write_text(json.dumps(value))
    return name


def test_entry_add_fields_are_those_of_the_entry(story):
    given = put(story, "given.json", {"n": 7})
    story("entry add plain --label ai-ok")
    story('entry add worded --label ai-ok --body "It loops." --key worded')
    story(f"entry add full --key full --add-label ai-ok --input {given} --depends-on wait-0")
    plain, worded, full = (
        story.data(f"entry show {story.id(key)}")
        for key in (next(key for key, each in story.entries().items() if each["title"] == "plain"), "worded", "full")
    )
    assert [each["input"] for each in (plain, worded, full)] == [
        {"title": "plain", "body": ""},
        {"title": "worded", "body": "It loops."},
        {"n": 7},
    ]
    assert full["entry"]["labels"] == ["ai-ok"]
    assert [each["entry"]["status"] for each in (worded, full)] == ["queued", "blocked"]
    assert [bool(each["entry"]["bars"]) for each in (worded, full)] == [False, True], "wait-0 comes first"


def test_entry_edit_changes_labels_pipeline_and_input(story):
    given = put(story, "given.json", {"n": 8})
    story("entry edit wait-0 --reason r --add-label one --add-label two")
    assert story.entries()["wait-0"]["labels"] == ["ai-ok", "one", "two"]
    story("entry edit wait-0 --reason r --remove-label one")
    assert story.entries()["wait-0"]["labels"] == ["ai-ok", "two"]
    story("entry edit wait-0 --reason r --pipeline sign")
    assert story.entries()["wait-0"]["pipeline"] == "sign"
    before = story.data(f"entry show {story.id('wait-0')}")["input"]
    story(f"entry edit wait-0 --reason r --input {given}")
    assert (before != {"n": 8}, story.data(f"entry show {story.id('wait-0')}")["input"]) == (True, {"n": 8})


@pytest.mark.parametrize(
    ("command", "most"),
    [("entry next", 3), ("dlq list", 3), ("run list", 6), ("writeback list", 5), ("entry list", 10)],
)
def test_limit_is_the_most_that_a_list_shows(story, command, most):
    assert len(story.data(command)) >= most
    assert len(story.data(f"{command} --limit 2")) == 2


@pytest.mark.parametrize(
    ("command", "where", "status", "most"),
    [
        ("entry cancel", "status:queued", "canceled", 3),
        ("entry requeue", "status:escalated", "queued", 3),
        ("dlq requeue", "priority:low", "queued", 3),
        ("dlq discard", "priority:low", "canceled", 3),
    ],
)
def test_bulk_commands_take_what_the_filter_finds_ask_and_change_nothing_in_a_dry_run(
    story, command, where, status, most
):
    before = story.entries()
    line = f"{command} --reason because --where '{where}'"

    def changed():
        after = story.entries()
        return [key for key in before if after[key]["status"] != before[key]["status"]]

    dry = story(f"{line} --dry-run --yes")
    assert f"{most} " in dry.stderr
    assert changed() == []
    story(line, code=1, given="n\n")
    assert changed() == [], "without --yes it asks"
    story(f"{line} --limit 1")
    assert len(changed()) == 1, "one needs no question"
    story(f"{line} --limit 1 --dry-run")
    story(f"{line} --yes")
    assert len(changed()) == most
    assert {story.entries()[key]["status"] for key in changed()} == {status}
    last = story.history(changed()[0])
    assert any("because" in json.dumps(event["data"]) for event in last)


def test_dlq_list_where_keeps_what_matches(story):
    assert len(story.data("dlq list")) == 3
    assert len(story.data("dlq list --where priority:low")) == 3
    assert story.data("dlq list --where priority:high") == []


@pytest.mark.parametrize("command", ["entry hold", "entry cancel", "dlq discard", "entry edit --title t"])
def test_a_reason_stands_in_the_history_and_a_blank_one_is_refused(story, command):
    key = "dead-0" if "dlq" in command else "wait-0"
    verb, _, more = command.partition(" --")
    line = f"{verb} {key if 'dlq' not in command else story.id(key)}{' --' + more if more else ''}"
    story(f"{line} --reason ' '", code=2)
    story(f"{line} --reason 'for the test'")
    assert "for the test" in json.dumps(story.history(key))


def test_review_list_answered_lists_those_that_were(story):
    assert story.data("review list --answered") == []
    story(f"review decide {story.id('dead-0')} discard --reason r")
    assert [each["answer"] for each in story.data("review list --answered")] == ["discard"]
    assert all(each["answer"] is None for each in story.data("review list"))


def test_review_decide_seq_answers_only_what_was_shown(story):
    shown = story.data(f"review show {story.id('dead-0')}")["seq"]
    story(f"review decide {story.id('dead-0')} discard --reason r --seq {shown - 1}", code=5)
    assert story.entries()["dead-0"]["status"] == "escalated"
    story(f"review decide {story.id('dead-0')} discard --reason r --seq {shown}")
    assert story.entries()["dead-0"]["status"] == "canceled"


def test_review_decide_input_requeues_with_another_input(story):
    given = put(story, "given.json", {"n": 9})
    story(f"review decide {story.id('dead-0')} requeue --reason r --input {given}")
    story(f"review decide {story.id('dead-1')} requeue --reason r")
    assert [story.data(f"entry show {story.id(key)}")["input"] for key in ("dead-0", "dead-1")] == [
        {"n": 9},
        {"body": "It loops."},
    ]


@pytest.mark.parametrize(("value", "output"), [("7", 7), ('\'{"teams": ["api"]}\'', {"teams": ["api"]})])
def test_review_decide_value_is_the_output_of_the_question(story, value, output):
    story(f"review decide {story.id('question')} answer --reason r", code=2)
    story(f"review decide {story.id('question')} answer --reason r --value {value}")
    (given,) = [each["value"] for each in story.data("review list --answered")]
    assert given == output
