"""Generation, digests, retention, alerts and governed jobs: what the runbook of seed 002 asks for."""

import json
from datetime import timedelta

import pytest

from backlog_worker.domain import digest as digests
from backlog_worker.domain import policy
from backlog_worker.domain.errors import (
    ConflictError,
    InvalidFileError,
    InvalidInputError,
    NotAllowedError,
    NotFoundError,
    StoreError,
)
from backlog_worker.domain.outcome import FailureKind, Refused
from backlog_worker.domain.roles import ROLES, SCOPES, Caller, everything
from backlog_worker.domain.search import parsed
from backlog_worker.lifecycle import alerts, audit, evidence, intake, operate, retire, send, tools, watch, writebacks
from backlog_worker.lifecycle.dashboard import dashboard
from backlog_worker.testing import POLICY, bench, draft

ANA = everything("ana")
RULES = """\
defaults: { retention_days: 180, max_items_per_run: 3 }
categories: { reliability: { priority: high, due_days: 14 }, debt: { priority: low, due_days: 60 } }
generation: { labels: [ai-ok] }
ownership: { default_owner: oncall, overrides: { gateway: team-edge } }
"""


@pytest.fixture(params=["memory", "postgres"])
def table(request):
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else "memory://"
    made = bench(url=url, policy=POLICY + RULES)
    yield made
    assert watch.verify(made.kit) == []
    assert list(audit.verify(made.kit)) == []


@pytest.fixture
def quick():
    return bench(policy=POLICY + RULES)


def digest_of(kit, *services, period="2026-47"):
    value = {
        "schema": "backlog-worker/digest@1",
        "kind": "platform",
        "env": "prod",
        "period": period,
        "generated_at": "2026-11-16T06:00:00Z",
        "services": list(services),
    }
    kit.reports.write("platform", period, value)


def service(name, score, *categories):
    found = [{"category": each, "title": f"{each} of {name}"} for each in categories]
    return {"service": name, "score": score, "findings": found}


def run(table, action, *, tool="backlog_tool", caller=ANA, dry_run=False, **params):
    return tools.execute(table.kit, caller, tool, action, params, dry_run=dry_run)


def entries(table):
    with table.kit.store.read() as unit:
        return {each.dedupe_key: each for each in unit.search("prod", parsed(""), most=1000)}


def test_a_missing_digest_is_said_in_the_runbooks_words(table):
    words = "No platform digest found. Run architecture_pressure_tool.digest first."
    with pytest.raises(ConflictError, match=words):
        run(table, "auto_generate_weekly")
    with table.kit.store.read() as unit:
        assert [row["result"] for row in unit.acts("prod")] == ["failed"]


def test_a_week_is_generated_once_with_owner_priority_and_due_date(table):
    digest_of(table.kit, service("gateway", 9, "reliability"), service("billing", 4, "debt"), service("calm", 0))
    dry = run(table, "auto_generate_weekly", dry_run=True)
    assert (dry["created"], entries(table)) == (2, {})
    done = run(table, "auto_generate_weekly")
    assert {name: done[name] for name in ("week", "created", "updated", "skipped", "capped")} == {
        "week": "2026-47", "created": 2, "updated": 0, "skipped": 0, "capped": 0,
    }  # fmt: skip
    found = entries(table)
    assert set(found) == {
        "platform_backlog:prod:2026-47:gateway:reliability",
        "platform_backlog:prod:2026-47:billing:debt",
    }
    entry = found["platform_backlog:prod:2026-47:gateway:reliability"]
    assert (entry.owner, entry.priority, entry.service, entry.category) == (
        "team-edge",
        "high",
        "gateway",
        "reliability",
    )
    assert entry.status == "queued", "the policy declared it fit by its labels"
    assert timedelta(days=13) < entry.due_date - entry.created_at <= timedelta(days=14)
    assert found["platform_backlog:prod:2026-47:billing:debt"].owner == "oncall"
    again = run(table, "auto_generate_weekly")
    assert (again["created"], again["updated"], again["skipped"]) == (0, 0, 2)


def test_another_week_files_the_same_trouble_again(table):
    for week in ("2026-47", "2026-48"):
        digest_of(table.kit, service("gateway", 9, "reliability"), period=week)
        run(table, "auto_generate_weekly")
    assert len(entries(table)) == 2


def test_an_update_keeps_the_owner_that_a_person_set(table):
    digest_of(table.kit, service("gateway", 9, "reliability"))
    run(table, "auto_generate_weekly")
    (entry,) = entries(table).values()
    operate.edit(table.kit, entry.id, {"owner": "li"}, actor="ana", reason="she knows it")
    digest_of(table.kit, service("gateway", 12, "reliability", "reliability"))
    assert run(table, "auto_generate_weekly")["updated"] == 1
    (after,) = entries(table).values()
    assert (after.owner, after.title) == ("li", "[gateway] reliability: 2 findings")
    upserted = run(table, "upsert", entry={"dedupe_key": entry.dedupe_key, "owner": "oncall"})
    assert upserted["updated"]
    assert next(iter(entries(table).values())).owner == "oncall", "an explicit owner goes before"


def test_the_cap_takes_the_services_under_most_pressure(quick):
    digest_of(quick.kit, *(service(f"s{n}", n, "debt") for n in range(5)))
    done = run(quick, "auto_generate_weekly")
    assert (done["created"], done["capped"]) == (3, 2)
    assert {each.service for each in entries(quick).values()} == {"s4", "s3", "s2"}


def test_what_is_under_way_or_done_is_not_changed_and_an_unknown_category_is_said(quick):
    digest_of(quick.kit, service("gateway", 9, "reliability", "unheard"))
    first = run(quick, "auto_generate_weekly")
    assert first["skipped"] == 1
    assert "no category unheard" in first["why"][0]
    quick.run(3)
    digest_of(quick.kit, service("gateway", 10, "reliability"))
    again = run(quick, "auto_generate_weekly")
    assert (again["updated"], again["why"]) == (0, [f"{first['entries'][0]}: it is completed"])


def test_switches_of_the_policy_turn_generation_off_and_say_so():
    off = bench(policy=POLICY + "generation: { weekly_from_pressure_digest: false }\n")
    digest_of(off.kit, service("gateway", 9, "reliability"))
    done = run(off, "auto_generate_weekly")
    assert done["created"] == 0
    assert "weekly_from_pressure_digest is false" in done["why"][0]
    assert "daily_from_risk_digest is false" in run(off, "auto_generate_daily")["why"][0]


def test_priorities_of_other_names_fit_the_built_in_categories_and_wrong_ones_are_refused():
    labels = "priority: { labels: { P0: 4, P1: 3, P2: 2, P3: 1 } }\n"
    found = policy.load(POLICY + labels).categories
    assert {name: each.priority for name, each in found.items()} == {"reliability": "P0", "risk": "P0", "debt": "P3"}
    with pytest.raises(InvalidFileError, match="unknown priority") as caught:
        policy.load(POLICY + labels + "categories: { debt: { priority: low, due_days: 60 } }\n")
    assert "one of: P0, P1, P2, P3" in str(caught.value)


def test_a_wrong_digest_names_the_file_and_the_place(quick):
    quick.kit.reports.write("platform", "2026-47", {"kind": "platform", "services": [{"service": "a b"}]})
    with pytest.raises(InvalidFileError, match=r"2026-47\.json") as caught:
        run(quick, "auto_generate_weekly")
    assert "services.0.service" in str(caught.value)
    assert "env" in str(caught.value)
    path = quick.kit.reports.folder / "platform" / "2026-48.json"
    path.write_text("{\n torn")
    with pytest.raises(InvalidFileError, match="BW401"):
        run(quick, "auto_generate_weekly")


def test_our_own_history_makes_the_digest_and_the_loop_closes(table):
    table.executor.results = {"draft": [Refused(kind=FailureKind.VALIDATION, reason="no")] * 4}
    table.file(*({"service": "gateway", "due_date": "2027-01-15T08:00:30Z"} for _ in range(4)))
    table.file({"service": "calm"})
    table.run(2)
    table.clock.forward(600)
    done = run(table, "digest", tool="architecture_pressure_tool")
    path, value = table.kit.reports.read("platform")
    digest = digests.checked(value, file=path)
    assert [each.service for each in digest.services] == ["gateway", "calm"]
    assert {each.category for each in digest.services[0].findings} >= {"reliability"}
    assert done["files"][1].endswith(".md")
    generated = run(table, "auto_generate_weekly")
    assert generated["created"] >= 1
    assert generated["week"] == digests.week_of(digest.generated_at)


def test_risk_is_remembered_by_the_hour_and_told_of_by_the_day(quick):
    run(quick, "snapshot", tool="risk_history_tool")
    quick.executor.results = {"draft": [Refused(kind=FailureKind.VALIDATION, reason="no")] * 3}
    quick.file(*({"service": "gateway"} for _ in range(3)))
    quick.run(2)
    quick.clock.forward(3600)
    run(quick, "snapshot", tool="risk_history_tool")
    done = run(quick, "digest", tool="risk_history_tool")
    assert done["findings"] == 1
    with pytest.raises(InvalidInputError, match="retention_days"):
        run(quick, "cleanup", tool="risk_history_tool", retention_days=-1)
    quick.clock.forward(86_400 * 100)
    assert run(quick, "cleanup", tool="risk_history_tool", dry_run=True) == {"found": 2, "removed": 0, "dry_run": True}
    assert run(quick, "cleanup", tool="risk_history_tool")["removed"] == 2


def test_retention_takes_the_row_and_leaves_the_history_and_the_key(table):
    (done, held, waiting) = [each.entry_id for each in table.file({"dedupe_key": "k1"}, {}, {"labels": []})]
    table.run(3)
    send.send(table.kit)
    evidence.legal_hold(table.kit, held, actor="ana", reason="a lawsuit", on=True)
    pretend_later(table, 181)
    dry = run(table, "cleanup", dry_run=True)
    assert (dry["removed"]["entries"], len(entries(table))) == (1, 3)
    assert run(table, "cleanup")["removed"]["entries"] == 1
    assert {each.id for each in entries(table).values()} == {held, waiting}
    assert list(audit.verify(table.kit)) == []
    assert writebacks.verify(table.kit) == [], "a record at its source outlives the row, and is no stranger"
    bundle = json.loads(json.dumps(evidence.export(table.kit, done)))
    assert evidence.verify(bundle) == []
    assert any(event["change"] == "recorded" for event in bundle["events"]), "the record outlives the row"
    bundle["events"].pop()
    assert evidence.verify(bundle)
    again = next(iter(intake.file(table.kit, [("x", draft(dedupe_key="k1"))], actor="ana", channel="import")))
    assert (again.new, again.entry_id) == (False, done), "nothing is done twice because its row is gone"
    for text in ("DELETE FROM events", "DELETE FROM entries"):
        with pytest.raises(StoreError, match=r"insert only|retired"), table.kit.store.begin() as unit:
            unit.run(text)


def test_a_history_goes_when_its_own_time_is_over_unless_it_is_held(quick):
    one, two = (each.entry_id for each in quick.file({}, {}))
    quick.run(3)
    quick.clock.forward(86_400 * 181)
    retire.cleanup(quick.kit)
    evidence.legal_hold(quick.kit, two, actor="ana", reason="a lawsuit", on=True)
    quick.clock.forward(86_400 * 2556)
    assert retire.cleanup(quick.kit, dry_run=True)["removed"]["histories"] == 1
    assert retire.cleanup(quick.kit)["removed"]["histories"] == 1
    with quick.kit.store.read() as unit:
        assert unit.history(one) == []
        assert unit.history(two) != []
    assert list(audit.verify(quick.kit)) == []
    with pytest.raises(NotFoundError, match="is gone"):
        evidence.export(quick.kit, one)


def test_what_something_open_depends_on_is_not_retired(quick):
    (first,) = quick.file({"dedupe_key": "base"})
    quick.run(3)
    quick.file({"depends_on": ["base"], "labels": []})
    quick.clock.forward(86_400 * 200)
    assert retire.cleanup(quick.kit)["removed"]["entries"] == 0
    assert first.entry_id in {each.id for each in entries(quick).values()}


def test_artifacts_that_nobody_names_any_more_are_removed(quick):
    _, digest = quick.kit.artifacts.keep(b"old")
    assert retire.cleanup(quick.kit)["removed"]["artifacts"] == 0
    path = quick.kit.artifacts.folder / digest[:2] / digest
    import os

    os.utime(path, (1, 1))
    assert retire.cleanup(quick.kit, dry_run=True)["removed"]["artifacts"] == 1
    assert path.exists()
    assert retire.cleanup(quick.kit)["removed"]["artifacts"] == 1
    assert not path.exists()


def test_the_dashboard_has_the_shape_of_the_runbook(table):
    table.executor.results = {"draft": [Refused(kind=FailureKind.VALIDATION, reason="no")]}
    table.file({"service": "gateway", "priority": "high"}, {"service": "gateway"}, {"labels": []})
    table.run(2)
    table.file({"service": "billing", "due_date": "2026-02-10T00:00:00Z", "labels": []})
    found = dashboard(table.kit)
    assert found["total"] == 4
    assert found["status_counts"] == {"open": 0, "in_progress": 0, "blocked": 3, "done": 1, "canceled": 0}
    assert found["priority_counts"] == {"high": 1, "medium": 3, "low": 0}
    assert found["overdue_count"] == 1
    assert found["overdue"][0]["due_date"] == "2026-02-10"
    assert {"id", "service", "priority", "due_date"} <= set(found["overdue"][0])
    assert found["top_services"][0] == {"service": "billing", "count": 1}
    json.dumps(found)


def test_an_alert_fires_once_is_told_acknowledged_and_ends_once():
    policy = POLICY + 'alerts: [{ id: overdue, when: "dashboard.overdue_count > 1", for: 10m, notify: [oncall] }]\n'
    table = bench(policy=policy)
    ids = [each.entry_id for each in table.file(*({"due_date": "2026-02-10", "labels": []} for _ in range(2)))]
    assert alerts.evaluate(table.kit)["fired"] == [], "it has not held for ten minutes"
    table.clock.forward(300)
    assert alerts.evaluate(table.kit)["fired"] == []
    table.clock.forward(301)
    assert alerts.evaluate(table.kit)["fired"] == ["overdue"]
    table.clock.forward(60)
    assert alerts.evaluate(table.kit)["fired"] == [], "once"
    assert send.send(table.kit) == 1
    with pytest.raises(NotFoundError, match="no alert"):
        alerts.acknowledge(table.kit, "unheard", actor="ana", reason="x")
    alerts.acknowledge(table.kit, "overdue", actor="ana", reason="on it")
    with table.kit.store.read() as unit:
        (row,) = unit.alerts("prod", 10)
    assert (row["acked_by"], row["reason"]) == ("ana", "on it")
    operate.cancel(table.kit, ids[0], actor="ana", reason="never mind")
    table.clock.forward(60)
    assert alerts.evaluate(table.kit)["resolved"] == ["overdue"]
    assert send.send(table.kit) >= 1
    table.clock.forward(60)
    assert alerts.evaluate(table.kit) == {"fired": [], "resolved": []}


def test_a_rule_that_cannot_be_asked_is_loud():
    table = bench(policy=POLICY + 'alerts: [{ id: odd, when: "dashboard.overdue[7].days > 1.0" }]\n')
    assert alerts.evaluate(table.kit)["fired"] == ["odd"]
    (rule,) = alerts.rehearse(table.kit, "odd")
    assert "cannot be evaluated" in rule["words"]
    assert rule["routes"] == {"oncall": "log:"}
    assert alerts.told(table.kit, "odd") == {"oncall": "logged"}


def test_the_thresholds_of_the_runbook_stand_without_a_word_in_the_policy(quick):
    quick.file(*({"due_date": "2026-02-10", "labels": [], "priority": "high"} for _ in range(6)))
    assert alerts.evaluate(quick.kit)["fired"] == ["overdue"]
    quick.clock.forward(601)
    assert alerts.evaluate(quick.kit)["fired"] == ["top-late"], "what is most urgent and late is told to more people"


def test_scopes_are_asked_and_a_refusal_is_on_record(quick):
    viewer = Caller(name="token vi", scopes=ROLES["viewer"])
    assert run(quick, "list", caller=viewer) == []
    with pytest.raises(NotAllowedError, match=r"has no scope tools\.backlog\.admin") as caught:
        run(quick, "cleanup", caller=viewer)
    assert "governor" in caught.value.hint
    with quick.kit.store.read() as unit:
        (row,) = unit.acts("prod", result="denied")
    assert (row["actor"], row["action"]) == ("token vi", "backlog_tool.cleanup")


def test_every_job_of_the_clock_is_a_tool_and_the_scheduler_may_run_it(quick):
    assert {tool.scope for tool in tools.TOOLS} <= set(SCOPES)
    for name in tools.JOBS:
        tool = tools.wanted(*tools.JOBS[name])
        if tool.tool in {"backlog_tool", "architecture_pressure_tool", "risk_history_tool"}:
            assert tool.scope in ROLES["scheduler"], name
    for name in (
        "weekly_platform_priority_digest",
        "weekly_backlog_generate",
        "daily_backlog_cleanup",
        "hourly_check",
        "daily_verify",
    ):
        tools.job(quick.kit, name)
    with quick.kit.store.read() as unit:
        assert {row["actor"] for row in unit.acts("prod")} == {"scheduler"}
    with pytest.raises(NotFoundError, match="no job"):
        tools.job(quick.kit, "unheard")


def test_what_a_tool_does_not_know_is_said_with_what_it_does(quick):
    with pytest.raises(NotFoundError, match="has no action 'cleanpu'") as caught:
        run(quick, "cleanpu")
    assert 'did you mean "cleanup"' in caught.value.hint
    with pytest.raises(NotFoundError, match="no tool 'backlog_tol'"):
        run(quick, "list", tool="backlog_tol")
    with pytest.raises(InvalidInputError, match="unheard: Extra"):
        run(quick, "list", unheard=1)


def test_people_bring_entries_where_they_want_them(table):
    (waiting, letter) = [each.entry_id for each in table.file({"labels": []}, {})]
    run(table, "add_comment", id=waiting, text="I look at it")
    with table.kit.store.read() as unit:
        assert unit.history(waiting)[-1].change == "commented"
    assert run(table, "set_status", id=waiting, status="done", reason="by hand", dry_run=True)["to"] == "completed"
    run(table, "set_status", id=waiting, status="done", reason="by hand")
    run(table, "set_status", id=letter, status="blocked", reason="wait")
    run(table, "set_status", id=letter, status="open", reason="go on")
    run(table, "set_status", id=letter, status="canceled", reason="never mind")
    run(table, "set_status", id=letter, status="open", reason="do it all the same")
    with pytest.raises(InvalidInputError, match="cannot be set by hand"):
        run(table, "set_status", id=letter, status="in_progress", reason="x")
    with pytest.raises(ConflictError, match="already"):
        run(table, "close", id=waiting, reason="x")
    assert table.statuses() == {"completed": 1, "queued": 1}
    with table.kit.store.read() as unit:
        record = next(event for event in unit.history(waiting) if event.change == "recorded").data["record"]
    assert (record["status"], record["run"]) == ("completed", None)
    assert "ana: by hand" in record["reason"]["text"]


def pretend_later(table, days):
    """Let time pass; on a real server the rows are made older instead."""
    table.clock.forward(86_400 * days)
    if table.kit.store.dialect.name == "postgresql":
        with table.kit.store.begin() as unit:
            unit.run(f"UPDATE entries SET changed_at = changed_at - interval '{days} days'")
