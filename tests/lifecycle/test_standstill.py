"""A queue that stands still is said: why entries wait, what alerts by itself, and what the dashboard holds."""

import json
from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backlog_worker.domain import alert, policy
from backlog_worker.domain.admission import admit
from backlog_worker.domain.decision import Snapshot, decide
from backlog_worker.domain.errors import InvalidFileError
from backlog_worker.domain.governing import ALERTS
from backlog_worker.domain.outcome import Done, FailureKind, Refused
from backlog_worker.domain.priority import scored
from backlog_worker.domain.reasons import Bar, Wait
from backlog_worker.domain.search import parsed
from backlog_worker.lifecycle import alerts, dispatch, money, operate, send, waiting, watch
from backlog_worker.lifecycle.dashboard import dashboard
from backlog_worker.lifecycle.walk import load_of
from backlog_worker.testing import PIPELINE, POLICY, bench

GROUPED = """\
name: grouped
jobs: [{ id: draft, python: "fake:draft" }]
concurrency: { group: { key: "entry.service", limit: 1 } }
"""
LIGHT = PIPELINE.replace("name: spec", "name: other")
RANDOM = (
    POLICY.replace("dispatch: { top: 20, ahead: 10 }", "dispatch: { top: TOP, ahead: 1 }")
    + """\
priority:
  labels: { high: 3, medium: 2, low: 1 }
  terms: [{ id: label, value: "labels[entry.priority]" }, { id: age, value: "entry.age_days / 7.0", cap: 5 }]
budgets: [{ id: BUD-TEAM, scope: team, usd: 5.0 }]
prices: {}
"""
)


def with_rule(rule):
    return POLICY + f"alerts: [{json.dumps(rule)}]\n"


def whole(table):
    """What `decide` says over everything that is awake, and `admit` of what sleeps, with the load as it is then."""
    kit = table.kit
    with kit.store.read() as unit:
        rules, now = kit.book.policy(unit), unit.now()
        entries = unit.search("prod", parsed("status:queued,retrying"), most=10_000)
        budgets = money.Caps(unit, "prod", rules)
        caps = {key: cap for entry in entries for key, cap in budgets.of(entry).items()}
        load = replace(load_of(kit, unit, rules), caps=caps)
        asleep = [entry for entry in entries if entry.wake_at and entry.wake_at > now]
        receipts = decide(Snapshot(candidates=[e for e in entries if e not in asleep], load=load), rules, now).receipts
        blocked = unit.search("prod", parsed("status:blocked"), most=10_000)
    found = Counter(r.waits[0].code.value if r.waits else "next" for r in receipts)
    for receipt in receipts:
        load = load if receipt.waits else load.plus(receipt.scored.entry, rules)
        load = replace(load, full=load.full or any(wait.code == Wait.NO_SLOT for wait in receipt.waits))
    for entry in asleep:
        waits = admit(scored(rules, entry, now), load, rules, now)
        found[waits[0].code.value if waits else "BACKING_OFF"] += 1
    return found + Counter(min(e.bars, key=[*Bar].index) for e in blocked)


def same_as_decide(table):
    with table.kit.store.read() as unit:
        found = waiting.counted(table.kit, unit)
    assert Counter(found.reasons) + Counter(next=found.next) == whole(table)
    return found


entries = st.lists(
    st.fixed_dictionaries(
        {
            "priority": st.sampled_from(["high", "medium", "low", "unheard"]),
            "pipeline": st.sampled_from(["spec", "grouped", "other", "missing"]),
            "service": st.sampled_from(["a", "b", ""]),
            "team": st.sampled_from(["x", "y"]),
            "labels": st.sampled_from([["ai-ok"], ["ai-ok"], ["ai-ok"], []]),
            "created_at": st.sampled_from(["2026-12-01T00:00:00Z", "2027-01-10T00:00:00Z", "2025-01-01T00:00:00Z"]),
            "constraints": st.sampled_from(
                [{}, {}, {"not_before": "2027-02-01T00:00:00Z"}, {"not_before": "2027-01-15T08:00:03Z"}]
            ),
        }
    ),
    max_size=25,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    filed=entries,
    slots=st.sampled_from([0, 1, 3, 50]),
    top=st.sampled_from([1, 3, 20]),
    ticks=st.integers(min_value=0, max_value=2),
    spent=st.sampled_from([0.0, 4.9, 6.0]),
    faulty=st.booleans(),
)
def test_a5_why_entries_wait_is_what_decide_says_over_the_whole_queue(filed, slots, top, ticks, spent, faulty):
    table = bench(policy=RANDOM.replace("TOP", str(top)), pipelines=(PIPELINE, GROUPED, LIGHT), slots=slots)
    table.executor.results = {"draft": [Refused(kind=FailureKind.TIMEOUT, reason="slow")] * (5 if faulty else 0)}
    table.file(*filed)
    for _ in range(ticks):
        table.tick()
        if faulty:
            table.ring(3)
    if spent:
        with table.kit.store.begin() as unit:
            row = {"env": "prod", "entry_id": "bl_0", "run_id": "r", "job_id": "j", "pipeline": "spec", "take": 1}
            unit.insert(
                "spending",
                [
                    {
                        **row,
                        "id": "sp_1",
                        "team": "x",
                        "at": unit.now(),
                        "usd": spent,
                        "input_tokens": 0,
                        "output_tokens": 0,
                    }
                ],
            )
    same_as_decide(table)
    table.clock.forward(5)
    same_as_decide(table)
    table.kit.store.close()


def test_a5_a_long_queue_is_counted_by_the_alert_job_and_shown_with_its_time(monkeypatch):
    table = bench(slots=0)
    table.file(*({"priority": "high"} for _ in range(6)))
    monkeypatch.setattr(waiting, "LIVE_MAX", 5)
    alerts.evaluate(table.kit)
    counted_at = dashboard(table.kit)["waiting_at"]
    table.clock.forward(30)
    table.file({})
    seen = dashboard(table.kit)
    assert (seen["waiting"]["NO_WORKER"], seen["waiting_at"]) == (6, counted_at), "as of when it was counted"
    alerts.evaluate(table.kit)
    assert dashboard(table.kit)["waiting"]["NO_WORKER"] == 7
    table.clock.forward(600)
    assert dashboard(table.kit)["waiting_at"] > counted_at, "an old count is no news: it is counted anew"


def test_a5_a_policy_that_gives_every_entry_a_score_error_is_said_everywhere():
    broken = POLICY + 'priority: { terms: [{ id: odd, value: "entry.signals.unheard" }] }\n'
    table = bench(policy=broken)
    table.file(*({} for _ in range(30)))
    table.tick()
    report = watch.report(table.kit)
    assert report.waiting == {"SCORE_ERROR": 30}
    assert "SCORE_ERROR 30" in report.alerts["entries-faulty"]
    assert "entries-faulty" in alerts.evaluate(table.kit)["fired"]


class Teller:
    """Remembers who was told what."""

    def __init__(self, told):
        self.told = told

    def route(self, name):
        return name

    def tell(self, name, _title, _text, body):
        self.told.append((name, body["kind"], body["rule"]))
        return "told"


class Condition:
    """Makes one built-in alert true in the store, and ends it."""

    def __init__(self, table):
        self.table, self.kit, self.ids = table, table.kit, []

    def run(self, text, **values):
        with self.kit.store.begin() as unit:
            unit.run(text, **values)

    def work(self, number=1, **fields):
        self.ids = [each.entry_id for each in self.table.file(*({**fields} for _ in range(number)))]

    def cancel(self):
        for entry_id in self.ids:
            operate.cancel(self.kit, entry_id, actor="ana", reason="over")

    def beat(self):
        """Tick and sweep, so that only what is meant is late."""
        dispatch.tick(self.kit)
        self.table.sweep()


def overdue(c):
    c.work(6, due_date="2026-02-10T00:00:00Z", labels=[])
    return c.cancel


def top_late(c):
    c.work(1, due_date="2026-02-10T00:00:00Z", labels=[], priority="high")
    return c.cancel


def definition_invalid(c):
    before = c.table.texts.texts
    c.table.texts.texts = [replace(before[0], body="version: ["), *before[1:]]
    c.beat()
    assert c.kit.book.findings

    def _end():
        c.table.texts.texts = before
        c.beat()

    return _end


def invariant_broken(c):
    row = {"id": "op_1", "env": "prod", "actor": "scheduler", "action": "audit_tool.check", "result": "done"}

    def _checked(op, number):
        with c.kit.store.begin() as unit:
            unit.act({**row, "id": op, "subject": "", "reason": "", "detail": {"broken": number}})

    _checked("op_1", 2)
    return lambda: (c.table.clock.forward(1), _checked("op_2", 0))


def job_missed(c):
    c.table.clock.forward(3 * 3600)  # an hourly job was due, and never ran

    def _end():
        with c.kit.store.begin() as unit:
            for number, each in enumerate(c.kit.cadences()):
                row = {"id": f"op_j{number}", "env": "prod", "actor": "scheduler", "action": each.action}
                unit.act({**row, "result": "done", "subject": "", "reason": "", "detail": {}})

    return _end


def wish(c, status, seconds=0.0):
    with c.kit.store.begin() as unit:
        row = {
            "id": "wb_1",
            "env": "prod",
            "target": "folder",
            "topic": "t",
            "entry_id": "",
            "run_id": None,
            "seq": 1,
            "body": {},
        }
        row["retry_at"] = unit.now() + timedelta(days=1)  # it was tried, and nobody took it
        unit.insert(
            "outbox", [{**row, "sha256": "0", "status": status, "put_at": unit.now() - timedelta(seconds=seconds)}]
        )
    return lambda: c.run("UPDATE outbox SET status = 'sent' WHERE id = 'wb_1'")


def writebacks_given_up(c):
    return wish(c, "given_up")


def writebacks_late(c):
    return wish(c, "due", 1000)


def slots_idle(c):
    c.work(1)
    dispatch.tick(c.kit)  # it is ready, its bell is lost, and four slots are idle
    c.table.clock.forward(61)
    c.beat()
    return c.cancel


def no_worker(c):
    c.work(1)
    c.run("UPDATE workers SET slots = 0")
    c.beat()
    return lambda: c.run("UPDATE workers SET slots = 4")


def tick_late(c):
    c.work(1, constraints={"not_before": "2028-01-01T00:00:00Z"})
    c.beat()
    c.table.clock.forward(61)
    c.table.sweep()
    return lambda: dispatch.tick(c.kit)


def sweep_late(c):
    c.work(1, constraints={"not_before": "2028-01-01T00:00:00Z"})
    c.beat()
    c.table.clock.forward(61)
    dispatch.tick(c.kit)
    return c.table.sweep


def entries_faulty(c):
    c.work(1, priority="unheard")
    c.beat()
    return c.cancel


def reviews_overdue(c):
    c.table.executor.results = {"draft": [Refused(kind=FailureKind.VALIDATION, reason="no")]}
    c.work(1)
    c.table.run(2)
    c.table.clock.forward(24 * 3600 + 60)
    return c.cancel


CONDITIONS = {each.__name__.replace("_", "-"): each for each in (
    *(overdue, top_late, definition_invalid, invariant_broken, job_missed, writebacks_given_up, writebacks_late),
    *(slots_idle, no_worker, tick_late, sweep_late, entries_faulty, reviews_overdue),
)}  # fmt: skip


def test_a5_every_built_in_alert_has_its_condition_in_a_test():
    in_outage = {"store-fallback"}  # tests/lifecycle/test_standstill.py cannot take its own database away
    assert {str(each["id"]) for each in ALERTS} == {*CONDITIONS, *in_outage}


@pytest.mark.parametrize("rule", CONDITIONS)
def test_a5_a_built_in_alert_fires_is_told_once_and_ends(rule):
    lasts = {str(each["id"]): each.get("for") for each in ALERTS}
    table = bench()
    condition = Condition(table)
    assert alerts.evaluate(table.kit) == {"fired": [], "resolved": []}, "a new backlog has nothing to say"
    end = CONDITIONS[rule](condition)
    table.kit = replace(table.kit, notifier=Teller(told := []))
    table.clock.forward(21)
    fired = alerts.evaluate(table.kit)["fired"]
    if lasts[rule]:
        table.clock.forward(601)
        fired += alerts.evaluate(table.kit)["fired"]
    assert rule in fired
    assert rule in watch.report(table.kit).alerts, "`status` and `doctor` say it too"
    table.clock.forward(21)
    assert rule not in alerts.evaluate(table.kit)["fired"], "once"
    send.send(table.kit)
    names = next(each["notify"] for each in ALERTS if each["id"] == rule)
    assert [each for each in told if each[2] == rule] == [(name, "alert.fired", rule) for name in names]
    end()
    table.clock.forward(21)
    assert rule in alerts.evaluate(table.kit)["resolved"]
    send.send(table.kit)
    assert [each[1] for each in told if each[2] == rule] == ["alert.fired"] * len(names) + ["alert.resolved"] * len(
        names
    )
    assert rule not in watch.report(table.kit).alerts


@pytest.mark.parametrize("rule", [str(each["id"]) for each in ALERTS])
def test_a5_a_policy_switches_off_or_changes_a_built_in_alert_by_its_id(rule):
    off = policy.load(with_rule({"id": rule, "enabled": False}))
    assert rule not in {each.id for each in off.alerts}
    changed = policy.load(with_rule({"id": rule, "threshold": 7, "notify": ["ana"], "for": "3m"}))
    (found,) = [each for each in changed.alerts if each.id == rule]
    usual = next(each for each in policy.load(POLICY).alerts if each.id == rule)
    assert (found.threshold, found.notify, found.lasts) == (7.0, ("ana",), timedelta(minutes=3))
    assert found.source == usual.source
    assert len(changed.alerts) == len(ALERTS)


def test_a5_a_changed_threshold_is_the_one_that_counts():
    table = bench(policy=with_rule({"id": "overdue", "threshold": 1}))
    table.file(*({"due_date": "2026-02-10T00:00:00Z", "labels": []} for _ in range(2)))
    assert alerts.evaluate(table.kit)["fired"] == ["overdue"]


def test_a5_an_alert_of_a_policy_that_has_no_condition_is_refused_with_the_ids_that_have():
    with pytest.raises(InvalidFileError, match=r"the alert mine has no `when`[\s\S]*entries-faulty"):
        policy.load(with_rule({"id": "mine", "notify": ["ana"]}))


@pytest.mark.parametrize(
    "when",
    [
        "dashboard.overdue_cuont > 1.0",
        "dashboard.unheard",
        "dashboard.status_counts.opne > 1.0",
        "dashboard.status_detail.done > 1.0",
        "dashboard.waiting.NO_SLOTS > 1.0",
        "dashboard.priority_counts.urgent > 1.0",
        "dashboard.priority_counts['urgent'] > 1.0",
        "dashboard['unheard'] > 1.0",
        "has(dashboard.unheard) && dashboard.unheard > 1.0",
        "dashboard.total > 1.0 || dashboard.totals > 1.0",
        "size(dashboard) > 3",
        "dashbord.total > 1.0",
        "dashboard.status_counts['opne'] > 1.0",
        "dashboard.details.unheard.size() > 0",
        "dashboard.generated_at.year > 1.0",
        "dashboard.total.sum > 1.0",
        "dashboard.overdue.count > 1.0",
        "dashboard . priority_counts . urgent > 1.0",
        'dashboard.priority_counts["urgent"] > 1.0',
    ],
)
def test_a5_a_field_that_the_dashboard_does_not_have_is_an_error_at_load(when):
    with pytest.raises(InvalidFileError, match="BW304") as refused:
        policy.load(with_rule({"id": "mine", "when": when}))
    assert refused.value.findings[0].line > 1


@pytest.mark.parametrize(
    "when",
    [
        "dashboard.overdue_count > 5",
        "dashboard . overdue_count > threshold",
        "dashboard.priority_counts.high > 1.0",
        "dashboard.priority_counts['high'] > 1.0",
        "dashboard.priority_counts.exists(k, k == 'urgent')",
        "dashboard.overdue.exists(o, o.service == 'gateway')",
        "dashboard.top_services[0].count > 3.0",
        "dashboard.details.jobs_missed.size() > 0",
        "dashboard.generated_at == 'dashboard.unheard'",
        "dashboard.waiting.SCORE_ERROR + dashboard.waiting.NO_SLOT > 10.0",
        "dashboard. coverage < 0.5",
    ],
)
def test_a5_a_field_that_the_dashboard_has_is_read(when):
    table = bench(policy=with_rule({"id": "mine", "when": when}))
    table.file({"service": "gateway", "due_date": "2026-02-10T00:00:00Z"})
    dispatch.tick(table.kit)
    (found,) = alerts.rehearse(table.kit, "mine")
    assert "cannot be evaluated" not in found["words"]


def test_a5_the_closed_list_of_the_dashboard_is_what_the_dashboard_returns():
    table = bench()
    table.file({}, {"labels": []})
    shown = dashboard(table.kit)
    assert set(shown) == set(alert.DASHBOARD)
    for name, inside in alert.DASHBOARD.items():
        if inside:
            assert set(shown[name]) == set(inside), name
    for name, _ in alert.names():
        when = f"{name} == {name}"
        assert policy.load(with_rule({"id": "mine", "when": when})).alerts[0].when is not None


def test_a5_every_field_that_has_a_value_can_be_read_by_a_rule():
    table = bench()
    dispatch.tick(table.kit)
    given = alert.values(dashboard(table.kit), 1.0)
    missing = {name for name, _ in alert.names()} - set(given)
    assert not missing


def test_a5_a_policy_in_force_from_before_keeps_working_and_its_odd_alert_is_loud():
    body = with_rule({"id": "mine", "when": "dashboard.unheard > 1.0"})
    table = bench()
    with table.kit.store.begin(actor="ana") as unit:
        row = {"kind": "policy", "name": "policy", "version": "2", "body": body, "contracts": {}, "author": "ana"}
        unit.enact("prod", {**row, "hash": policy.load(body, stored=True).hash})
    table.file({})
    assert alerts.evaluate(table.kit)["fired"] == ["mine"]
    assert "cannot be evaluated" in watch.report(table.kit).alerts["mine"]


def test_a5_jobs_that_never_ran_are_found_however_much_else_was_done():
    table = bench()
    with table.kit.store.begin() as unit:
        born = unit.now()
        done = {"id": "op_old", "env": "prod", "actor": "scheduler", "action": "risk_history_tool.snapshot"}
        unit.act({**done, "result": "done", "subject": "", "reason": "", "detail": {}})
        for number in range(700):
            row = {"id": f"op_{number:04}", "env": "prod", "actor": "ana", "action": "tool.run", "result": "done"}
            unit.act({**row, "subject": "", "reason": "", "detail": {}})
    assert dashboard(table.kit)["details"]["jobs_missed"] == []
    table.clock.forward(8 * 86_400)
    missed = dashboard(table.kit)["details"]["jobs_missed"]
    assert len(missed) == len(table.kit.cadences())
    assert sum("it never ran" in each for each in missed) == len(missed) - 1
    assert any(f"it was last done at {born:%Y-%m-%d %H:%MZ}" in each for each in missed)


def test_a5_the_rules_are_asked_by_workers_where_no_beat_has_them_asked():
    table = bench()
    assert not alerts.watched(table.kit), "a new backlog"
    table.clock.forward(200)
    assert alerts.watched(table.kit)
    assert not alerts.watched(table.kit), "once"


def test_a5_a_queue_that_moves_has_nothing_to_say():
    table = bench()
    table.executor.results = {"draft": [Done(output={})] * 3}
    table.file({}, {}, {})
    for _ in range(5):
        table.tick()
        table.ring()
        table.sweep()
        table.clock.forward(20)
        assert alerts.evaluate(table.kit) == {"fired": [], "resolved": []}
