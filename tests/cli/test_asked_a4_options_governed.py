"""Options of audit, alerts, tokens, tools, schedules, budgets and the database, each with and without."""

import json
import sqlite3

import pytest


def test_audit_operations_action_and_result_keep_only_those(story):
    story("audit hold done --reason r")
    story("alert ack many --reason r")
    every = story.data("audit operations")
    acts = story.data("audit operations --action alert.ack")
    assert {each["action"] for each in acts} == {"alert.ack"}
    assert len(every) > len(acts) == 1
    assert story.data("audit operations --result denied") == []
    assert len(story.data("audit operations --result done")) == len(every)


def test_audit_rebuild_apply_writes_the_row_with_a_reason(story):
    path = story.folder / ".backlog-worker" / "state" / "backlog.db"
    with sqlite3.connect(path) as rows:
        rows.execute("UPDATE entries SET title = 'forged' WHERE dedupe_key = 'done'")
    rows.close()
    story("audit rebuild", code=7)
    assert story.entries()["done"]["title"] == "forged"
    story("audit rebuild --apply", code=2)
    story("audit rebuild --apply --reason 'it was forged'")
    assert story.entries()["done"]["title"] == "Login loop"
    assert [each["reason"] for each in story.data("audit operations --action audit.rebuild")] == ["it was forged"]


def test_audit_redact_field_takes_only_that_text(story):
    def texts():
        return json.dumps(story.history("done"))

    assert "Login loop" in texts()
    story("audit redact done --reason r --field question")
    assert "Login loop" in texts()
    story("audit redact done --reason r --field title")
    assert "Login loop" not in texts()


def test_audit_show_seal_checks_the_bundle_against_one_that_was_kept_elsewhere(story):
    story("audit seal --out seal.json")
    story("audit export done --out bundle.json")
    (story.folder / "other.json").write_text(
        json.dumps({**json.loads((story.folder / "seal.json").read_text()), "root": "0" * 64})
    )
    plain = story("audit show bundle.json").stdout
    assert story("audit show bundle.json --seal seal.json").stdout != plain
    assert story("audit verify bundle.json --seal other.json", code=7).stdout != plain


def test_alert_ack_reason_is_on_record(story):
    story("alert ack many --reason ' '", code=2)
    story("alert ack many --reason 'ana looks after it'")
    assert [each["reason"] for each in story.data("audit operations --action alert.ack")] == ["ana looks after it"]


def test_alert_test_send_tells_everybody_of_the_rule(story):
    assert story.data("alert test many")["told"] == {}
    assert list(story.data("alert test many --send")["told"]) == ["oncall"]
    story("alert test --send", code=2)


@pytest.mark.parametrize(("by", "name"), [("pipeline", "spec"), ("model", "m"), ("job_id", "draft")])
def test_budget_list_by_and_days_choose_what_is_added_up(story, by, name):
    assert [each["name"] for each in story.data(f"budget list --by {by} --days 30")["costs"]] == [name]
    assert story.data(f"budget list --by {by} --days 1")["costs"] == [], "it was ten days ago"


@pytest.mark.parametrize(("options", "gone"), [("", 0), ("--days 5", 1), ("--days 5 --dry-run", 1)])
def test_db_retain_days_and_dry_run_say_what_goes(story, options, gone):
    before = len(story.entries())
    assert (story.data(f"db retain {options}")["removed"]["entries"] >= 1) is bool(gone)
    assert (len(story.entries()) < before) is (options == "--days 5")


DIGEST = {
    "schema": "backlog-worker/digest@1", "env": "prod", "generated_at": "2026-11-16T06:00:00Z",
    "services": [{"service": "gateway", "score": 9, "findings": [{"category": "reliability", "title": "It falls."}]}],
}  # fmt: skip


@pytest.mark.parametrize(
    ("command", "kind", "option", "periods"),
    [
        ("generate weekly", "platform", "--week", ("2026-46", "2026-47")),
        ("generate daily", "risk", "--date", ("2026-11-16", "2026-11-17")),
    ],
)
def test_generate_takes_the_digest_of_a_period_and_files_nothing_in_a_dry_run(story, command, kind, option, periods):
    from backlog_worker.cli.access import kit

    for period in periods:
        kit()[0].reports.write(kind, period, {**DIGEST, "kind": kind, "period": period})
    before = set(story.entries())
    assert story.data(f"{command} --dry-run")["created"] == 1
    assert set(story.entries()) == before
    story(f"{command} {option} {periods[0]}")
    (key,) = set(story.entries()) - before
    assert periods[0] in key
    story(command)
    assert len(set(story.entries()) - before) == 2


@pytest.mark.parametrize(
    "command",
    [
        "schedule run daily_backlog_cleanup",
        "tool run --tool backlog_tool --action cleanup --params-json '{\"retention_days\": 5}'",
    ],
)
def test_a_governed_job_changes_nothing_in_a_dry_run(story, command):
    before = len(story.entries())
    assert story.data(f"{command} --dry-run")["dry_run"] is True
    assert len(story.entries()) == before
    assert story.data(command)["dry_run"] is False


def test_schedule_export_user_stands_in_every_line(story):
    def words(text):
        return {line.split()[5] for line in text.splitlines() if "--tool" in line}

    assert words(story("schedule export").stdout) == {"cd"}
    assert words(story("schedule export --user robot").stdout) == {"robot"}


def test_token_create_expires_and_scope_and_revoke_reason_are_kept(story):
    story("token create plain --role viewer")
    story("token create more --role viewer --scope entries:cancel --expires 90d", code=2)
    scope = min(story.data("role list")["scopes"])
    story(f"token create more --role viewer --scope {scope} --expires 90d")
    plain, more = (
        next(each for each in story.data("token list") if each["name"] == name) for name in ("plain", "more")
    )
    assert (plain["expires_at"] is None, more["expires_at"] is None) == (True, False)
    assert scope in more["scopes"]
    story(f"token revoke {more['id']} --reason ' '", code=2)
    story(f"token revoke {more['id']} --reason 'it leaked'")
    assert [each["reason"] for each in story.data("audit operations --action token.revoke")] == ["it leaked"]
