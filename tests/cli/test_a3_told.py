"""Where people are told: a bad address is named by doctor, and messages of alerts are listed like any other."""

import json

import pytest

from backlog_worker.lifecycle import alerts, send
from tests.fuzz import cli


@pytest.fixture
def project(tmp_path):
    with cli.project(tmp_path):
        yield tmp_path


def _fired(monkeypatch, address):
    from backlog_worker.cli.access import kit

    monkeypatch.setenv("BACKLOG_NOTIFY_ONCALL", address)
    made, _ = kit()
    return made, alerts.evaluate(made)["fired"]


def test_a3_messages_of_an_alert_are_listed_when_they_fail_and_when_they_arrive(project, monkeypatch):
    made, fired = _fired(monkeypatch, "http://127.0.0.1:99999/x")
    assert "no-worker" in fired
    assert send.send(made) == 0
    code, said = cli.answer(["writeback", "list"])
    assert (code, "alert.fired no-worker" in said, "due" in said, "port" in said) == (0, True, True, True), said
    with made.store.begin() as unit:
        unit.send_again([wish["id"] for wish in unit.wishes()])
    made, _ = _fired(monkeypatch, "log:")
    assert send.send(made) == len(fired)
    code, said = cli.answer(["writeback", "list"])
    assert (code, "logged" in said) == (0, True), said
    rows = json.loads(cli.answer(["--json", "writeback", "list"])[1])["data"]
    assert {(row["entry_id"], row["status"]) for row in rows} == {("", "sent")}
    assert cli.answer(["audit", "verify"])[0] == cli.answer(["db", "verify"])[0] == 0


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("http://127.0.0.1:99999/x", "port"),
        ("http://127.0.0.1:x/", "port"),
        ("https://", "no host"),
        ("https://[::1", "InvalidURL"),
        ("nowhere://x", "apprise does not support"),
        ("oncall", "apprise does not support"),
    ],
)
def test_a3_doctor_names_each_address_where_nobody_can_be_told(project, monkeypatch, address, words):
    monkeypatch.setenv("BACKLOG_NOTIFY_ONCALL", address)
    monkeypatch.setenv("BACKLOG_NOTIFY_OTHERS", "log:")
    found = {
        row["found"].partition(":")[0]: row
        for row in json.loads(cli.answer(["--json", "doctor"])[1].splitlines()[0])["data"]
    }
    assert found["BACKLOG_NOTIFY_ONCALL"]["bad"], found
    assert words.lower() in found["BACKLOG_NOTIFY_ONCALL"]["found"].lower()
    assert "set BACKLOG_NOTIFY_ONCALL to" in found["BACKLOG_NOTIFY_ONCALL"]["repair"]
    assert not found["BACKLOG_NOTIFY_OTHERS"]["bad"]
