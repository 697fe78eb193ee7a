"""A8: `entry add` and `entry edit` set every field that a policy, a window or a report reads, each with its event."""

import json

import pytest
from typer.testing import CliRunner

from backlog_worker.cli import app
from backlog_worker.domain.draft import EDITABLE
from backlog_worker.domain.errors import InvalidInputError, UsageError
from backlog_worker.domain.policy import ENTRY_NAMES
from backlog_worker.lifecycle import audit, operate, watch
from backlog_worker.testing import bench

# option, value, field, what the entry then holds
FIELDS = [
    ("--priority", "high", "priority", "high"),
    ("--service", "gateway", "service", "gateway"),
    ("--category", "debt", "category", "debt"),
    ("--team", "edge", "team", "edge"),
    ("--owner", "li", "owner", "li"),
    ("--url", "https://github.com/acme/api/issues/9", "url", "https://github.com/acme/api/issues/9"),
    ("--source", "github:acme/api", "source", "github:acme/api"),
    ("--due", "2026-12-24", "due_date", "2026-12-24T00:00:00+00:00"),
    ("--created-at", "2026-10-01T00:00:00+02:00", "created_at", "2026-09-30T22:00:00+00:00"),
    ("--label", "bug", "labels", ["bug"]),
    ("--signal", "risk=0.5", "signals", {"risk": 0.5}),
    (
        *("--window", "mon-fri 08:00-20:00 Europe/Berlin", "constraints"),
        {"windows": [{"days": "mon-fri", "hours": "08:00-20:00", "timezone": "Europe/Berlin"}]},
    ),
    ("--sign-off-before", "publish", "constraints", {"sign_off_before": ["publish"]}),
    ("--not-before", "2026-12-24", "constraints", {"not_before": "2026-12-24T00:00:00Z"}),
]
AWAY = [
    *(
        ("--due", "", "due_date", None),
        ("--window", "", "constraints", {}),
        ("--sign-off-before", "", "constraints", {}),
    ),
    *(
        ("--not-before", "", "constraints", {}),
        ("--signal", "risk=", "signals", {}),
        ("--unlabel", "bug", "labels", []),
    ),
    *(("--owner", "", "owner", ""), ("--team", "", "team", ""), ("--service", "", "service", "")),
]
WRONG = [
    *(
        ("--due", "tomorrow"),
        ("--due", "46015"),
        ("--signal", "risk"),
        ("--signal", "risk=much"),
        ("--signal", "risk=nan"),
    ),
    *(("--window", "whenever"), ("--window", "mon 25:00-26:00"), ("--not-before", "soon"), ("--label", "x" * 301)),
    *(("--title", " "), ("--title", "x" * 513), ("--created-at", "5"), ("--owner", "a\x00b"), ("--url", "u" * 2001)),
]


@pytest.fixture(scope="module")
def table():
    made = bench()
    yield made
    assert watch.verify(made.kit) == []
    assert list(audit.verify(made.kit)) == []


@pytest.fixture
def run(table, monkeypatch):
    from backlog_worker.cli import edits

    class Given:
        who = "ana"

    monkeypatch.setattr(edits, "kit", lambda: (table.kit, Given))

    def _run(*arguments, code=0):
        done = CliRunner().invoke(app, ["--json", "entry", *arguments])
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == code, done.output
        return json.loads(done.stdout)["data"]

    return _run


def held(table, entry_id, field):
    with table.kit.store.read() as unit:
        value = getattr(unit.entry(entry_id), field)
        change = unit.history(entry_id)[-1]
    return (value.isoformat() if hasattr(value, "isoformat") else value), change


def test_every_field_that_rules_read_can_be_set_by_hand():
    read = {name.removeprefix("entry.") for name, _ in ENTRY_NAMES if name.startswith("entry.")}
    computed = {"provenance", "age_days", "eligible_days", "due_in_hours", "attempt", "id", "env", "status"}
    named = {field for _, _, field, _ in FIELDS} | {"title", "pipeline"}
    assert read - computed <= named
    assert set(EDITABLE) == named


def test_adding_and_editing_set_every_field(table, run):
    bare = run("add", "Bare", "--key", "bare")["entry_id"]
    for number, (option, value, field, wanted) in enumerate(FIELDS):
        filed = run("add", f"Work {number}", option, value)["entry_id"]
        assert held(table, filed, field)[0] == wanted, option
        run("edit", bare, option, value, "--reason", "so")
        found, _ = held(table, bare, field)
        assert found == wanted or wanted.items() <= found.items(), option
        with table.kit.store.read() as unit:
            edited = [each for each in unit.history(bare) if each.change == "edited"][-1]
        assert edited.data["fields"] == [field]
        assert edited.data["reason"] == "so"
    for option, value, field, wanted in AWAY:
        run("edit", bare, option, value, "--reason", "away")
        found, _ = held(table, bare, field)
        gone = {"--window": "windows", "--sign-off-before": "sign_off_before", "--not-before": "not_before"}.get(option)
        assert (gone not in found) if gone else found == wanted, option


def test_a_value_that_a_draft_may_not_have_is_refused_and_changes_nothing(table, run):
    filed = run("add", "Kept as it is")["entry_id"]
    with table.kit.store.read() as unit:
        before = unit.history(filed)
    for option, value in WRONG:
        with pytest.raises((InvalidInputError, UsageError)):
            run("edit", filed, option, value, "--reason", "no")
        if option != "--title":
            with pytest.raises((InvalidInputError, UsageError)):
                run("add", "New", option, value)
    with pytest.raises(InvalidInputError, match="ownr") as caught:
        operate.edit(table.kit, filed, {"ownr": "li"}, actor="ana", reason="typo")
    assert "owner" in caught.value.hint
    with table.kit.store.read() as unit:
        assert unit.history(filed) == before
