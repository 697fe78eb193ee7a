"""D: environments are walls. Whatever is done in one of them, no row and no file of another changes."""

import importlib
import inspect
import json
import pkgutil
from dataclasses import dataclass

import pytest

from backlog_worker import lifecycle
from backlog_worker.domain.bell import Bell, Step, claim_bell, stage_bell
from backlog_worker.domain.errors import BacklogError
from backlog_worker.domain.outcome import FailureKind, Refused
from backlog_worker.domain.review import Answer, Decided
from backlog_worker.domain.roles import everything
from backlog_worker.domain.search import parsed
from backlog_worker.lifecycle import Kit, access, audit, claim, dispatch, evidence, inbox, operate, retire, stage, tools
from backlog_worker.lifecycle.definitions import reload
from backlog_worker.lifecycle.follow import Cursor
from backlog_worker.lifecycle.waiting import LIVE_MAX, Census
from backlog_worker.store.sql.dialect import METADATA, kind_of
from backlog_worker.testing import POLICY, bench

RULES = """\
generation: { labels: [ai-ok], pipeline: solo }
alerts:
  - { id: always, when: "dashboard.total >= 0", notify: [oncall] }
"""
WIDE = """\
name: wide
clocks: { total: 1h, queue: 1m }
jobs:
  - { id: draft, python: "fake:draft" }
  - { id: lint, python: "fake:lint" }
  - { id: publish, python: "fake:publish", dependsOn: [draft, lint] }
"""
SOLO = """\
name: solo
jobs: [{ id: only, python: "fake:only" }]
"""
ANA = everything("ana")
PEPPER = b"pepper"
LONG = 500 * 86_400.0


@dataclass
class World:
    kit: Kit
    found: dict


def rows(store):
    """Every row of every table, as text."""
    found = {}
    with store.read() as unit:
        for table in METADATA.tables:
            listed = unit.run(f"SELECT * FROM {table}")
            found[table] = {json.dumps(dict(row._mapping), default=str, sort_keys=True) for row in listed}
    return found


def files(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


CLOCKED = pytest.mark.parametrize("table", ["memory", "jsonl"], indirect=True)  # whose clock can be set


@pytest.fixture(params=["memory", "jsonl", "postgres"])
def table(request, tmp_path):
    if request.param == "postgres":
        return bench(url=request.getfixturevalue("postgres_url"), policy=POLICY + RULES, pipelines=[WIDE, SOLO])
    url = {"memory": "memory://", "jsonl": f"jsonl://{tmp_path / 'files'}"}[request.param]
    return bench(url=url, policy=POLICY + RULES, pipelines=[WIDE, SOLO])


@pytest.fixture
def world(table, monkeypatch):
    """A backlog in which every table has rows, and everything that a clock or a person could touch is due."""
    kit = table.kit
    (old,) = table.file({"pipeline": "solo", "dedupe_key": "old"})
    table.run(2)
    forward(table, LONG)
    assert retire.cleanup(kit)["removed"]["entries"] == 1
    done, held, kept = table.file(*({"pipeline": "solo", "service": "gateway"} for _ in range(3)))
    table.run(2)
    evidence.redact(kit, held.entry_id, actor="ana", reason="asked for")
    evidence.legal_hold(kit, kept.entry_id, actor="ana", reason="a case", on=True)
    table.executor.results = {"only": [Refused(kind=FailureKind.VALIDATION, reason="no")]}
    (letter,) = table.file({"pipeline": "solo", "dedupe_key": "letter"})
    tick(kit)
    claim.take(kit, [letter.entry_id])  # its bells are lost: nobody is told, nothing is sent
    with monkeypatch.context() as patch:  # a worker that took a stage and died; nobody heard the other one's bell
        patch.setattr(stage, "work", lambda _kit, _taken, bells: bells)
        (running,) = table.file({"pipeline": "wide", "dedupe_key": "running"})
        tick(kit)
        claim.take(kit, [running.entry_id])
        table.clock.forward(2)
    table.file({"pipeline": "solo", "dedupe_key": "ready"})
    tick(kit)
    first, _ = table.file(
        {"dedupe_key": "late", "pipeline": "solo", "due_date": "2026-12-02T00:00:00Z", "service": "gateway"},
        {"dedupe_key": "behind", "pipeline": "solo", "depends_on": ["letter"]},
    )
    operate.hold(kit, first.entry_id, actor="ana", reason="wait")
    operate.release(kit, first.entry_id, actor="ana", reason="go")
    for name, action in (("risk_history_tool", "snapshot"), ("architecture_pressure_tool", "digest")):
        tools.execute(kit, ANA, name, action, {})
    token = access.create(kit, PEPPER, access.Asked(name="robot", role="admin"), actor="ana")
    tools.execute(kit, ANA, "alert_tool", "evaluate", {})
    tools.execute(kit, ANA, "audit_tool", "seal", {})
    with kit.store.begin() as unit:
        run = unit.runs(running.entry_id)[0]["id"]
        unit.add_log({"run_id": run, "job_id": "draft", "take": 1, "n": 0, "text": "said"}, keep=10)
        line = {"entry_id": running.entry_id, "run_id": run, "job_id": "draft", "pipeline": "wide"}
        unit.spend([{**line, "id": "s1", "env": kit.env, "usd": 1.0}])
        unit.keep_result({**line, "env": kit.env, "key": "k", "sha256": "x", "output": {}, "usd": 1.0}, 60.0)
        unit.take_slot("beat:weekly_backlog_generate", unit.now())
        unit.identity("x" * 32)
        letter_review = unit.review(letter.entry_id)
    forward(table, LONG)
    found = {
        "entry_id": [each.entry_id for each in (old, done, held, kept, letter, running, first)],
        "run_id": [run],
        "review": letter_review,
        "token": token,
    }
    return World(table.kit, found)


def tick(kit):
    """Tick at once, also where the clock is a real one."""
    with kit.store.begin() as unit:
        unit.run("DELETE FROM leases")
    assert dispatch.tick(kit)


def forward(table, seconds):
    """Let time pass; a real database is aged instead, where that is possible."""
    table.clock.forward(seconds)
    if table.kit.store.dialect.name == "postgresql":
        fixed = {"events", "redactions", "operations", "seals", "seal_heads", "enactments"}
        with table.kit.store.begin() as unit:
            for name, columns in METADATA.tables.items():
                moments = [each.name for each in columns.c if kind_of(name, each.name) == "moment"]
                if moments and name not in fixed:
                    said = ", ".join(f"{each} = {each} - make_interval(secs => :length)" for each in moments)
                    unit.run(f"UPDATE {name} SET {said}", length=seconds)


def other(table):  # of a bench, or of a world
    """The kit of another environment of the same project over the same database, with a worker and some work."""
    kit = table.kit.elsewhere("staging")
    reload(kit.store, kit.book, kit.definitions, author="file", first=True)
    return kit


def public():
    """Every function of the lifecycle that a door calls: those that are given what another step holds are left out."""
    inner = {"unit", "act", "taken", "recording", "folder", "starts"}
    for module in pkgutil.iter_modules(lifecycle.__path__):
        of = importlib.import_module(f"backlog_worker.lifecycle.{module.name}")
        for name, found in vars(of).items():
            if not inspect.isfunction(found) or found.__module__ != of.__name__ or name.startswith("_"):
                continue
            names = set(inspect.signature(found).parameters)
            if "kit" in names and not names & inner:
                yield f"{module.name}.{name}", found


def given(kit, world):
    """What is given for a parameter, by its name: ids of the other environment, and a person who means it."""
    with kit.store.read() as unit:
        now = unit.now()
    ids, runs, review = world["entry_id"], world["run_id"], world["review"]
    return {
        "entry_id": ids,
        "run_id": [*runs, *ids],
        "again.compare first": runs,
        "again.compare second": runs,
        "audit.diff first": [now],
        "audit.diff second": [now],
        "review_id": [review.id, review.entry_id],
        "reviews": [[review]],
        "token_id": [world["token"].split("_")[1]],
        "token": [world["token"]],
        "pepper": [PEPPER],
        "asked": [access.Asked(name="robot", role="admin")],
        "entry_ids": [ids],
        "run_ids": [runs],
        "job_id": ["draft", "lint"],
        "stage": ["draft"],
        "decided": [Decided(answer=each, actor="eve", reason="x") for each in (Answer.REQUEUE, Answer.DISCARD)],
        "actor": ["eve"],
        "reason": ["because"],
        "why": ["because"],
        "text": ["words"],
        "changes": [{"title": "taken over", "input": {"body": "x"}}],
        "record": [{"title": "t", "dedupe_key": key} for key in ("letter", "fresh")],
        "records": [[("r", {"title": "t", "dedupe_key": "late", "created_at": now.isoformat()})]],
        "channel": ["test"],
        "pipeline": ["solo"],
        "given": [{}],
        "wanted": [parsed("is:live,retired")],
        "action": ["entry.edit"],
        "subject": ids,
        "detail": [{}],
        "bells": [
            [claim_bell(tuple(ids), 1), stage_bell(runs[0], "draft", 1), Bell(step=Step.HUMAN_REVIEW, ids=(ids[0],))]
        ],
        "found": [Census(at=now, reasons={"KEY_LIMIT": LIVE_MAX + 1}, next=0, stalled=0, samples={})],
        "ending": [""],
        "inbox.decide given": [inbox.DecideParams(id=review.id, answer=Answer.DISCARD, reason="x")],
        "kind": [FailureKind.TIMEOUT],
        "moment": [now],
        "on": [True, False],
        "apply": [True],
        "dry_run": [False],
        "repair": [True],
        "retention_days": [1],
        "most": [100],
        "days": [1],
        "caller": [ANA],
        "cursor": [Cursor()],
        "rule_id": ["always"],
        "body": [b"{}"],
        "headers": [{}],
        "name": [*tools.JOBS, "always", "wide"],
        "files": [[]],
        "follows": [False],
        "enact.withdraw name": ["unheard"],
    }


def everything_done(kit, world):
    """Call every public function of the lifecycle with whatever fits; returns what was called."""
    done = set()
    for name, function in public():
        if name == "tools.execute":
            continue  # below, action by action
        pool = given(kit, world)
        wanted = [p for p in inspect.signature(function).parameters.values() if p.name != "kit"]
        lists = []
        for each in wanted:
            key = f"{name} {each.name}" if f"{name} {each.name}" in pool else each.name
            if key in pool:
                lists.append((each.name, pool[key]))
            else:
                assert each.default is not each.empty, f"say in `given` what {name} is given as {each.name}"
        for turn in range(max([len(values) for _, values in lists], default=1)):
            arguments = {key: values[turn % len(values)] for key, values in lists}
            attempt(function, kit, arguments)
        done.add(name)
    for tool in tools.TOOLS:
        for entry_id in world["entry_id"]:
            more = {"id": entry_id, "reason": "x", "text": "x", "status": "canceled", "q": "", "retention_days": 1}
            params = {key: value for key, value in more.items() if key in tool.params.model_fields}
            params |= {"entry": {"title": "t", "dedupe_key": "letter"}} if "entry" in tool.params.model_fields else {}
            arguments = {"caller": ANA, "tool": tool.tool, "action": tool.action, "params": params}
            attempt(tools.execute, kit, arguments)
        done.add(tool.name)
    return done


def attempt(function, kit, arguments):
    try:
        found = function(kit, **arguments)
        if inspect.isgenerator(found):
            list(found)
    except BacklogError:  # what it may not touch it must not find
        return


def test_d_whatever_is_done_in_one_environment_no_row_or_file_of_another_changes(world):
    folder = world.kit.artifacts.folder.parents[1]
    kit = other(world)
    with kit.store.begin() as unit:
        unit.see_worker({"name": "w", "queues": ["stages"], "slots": 4, "schema_min": 1, "schema_max": 9})
    before, kept = rows(world.kit.store), files(world.kit.artifacts.folder.parent)
    empty = [name for name in METADATA.tables if not before[name]]
    assert empty == [], "every table has a row that could be taken"
    done = everything_done(kit, world.found)
    assert len(done) > 60
    after = rows(world.kit.store)
    for name in METADATA.tables:
        assert before[name] <= after[name], f"a row of {name} changed"
    assert files(world.kit.artifacts.folder.parent) == kept
    assert folder.exists()
    with kit.store.read() as unit:
        assert all(each.env == "staging" for each in unit.search("staging", parsed(""), most=1000))


@CLOCKED
def test_d_the_same_done_at_home_changes_nearly_every_table(world):
    """Else the test above could not fail."""
    before = rows(world.kit.store)
    everything_done(world.kit, world.found)
    after = rows(world.kit.store)
    touched = {name for name in METADATA.tables if not before[name] <= after[name]}
    assert touched >= {"entries", "stages", "runs", "outbox", "reviews", "leases", "alerts", "log_chunks"}
    assert touched >= {"tokens", "snapshots", "results", "receipts", "decisions"}


def test_d_nothing_of_another_environment_is_shown(world):
    kit = other(world)
    with kit.store.read() as unit:
        assert unit.workers() == []
        assert unit.slots("stages", 1e12) == 0
        assert (unit.runs(), unit.wishes(), unit.leases()) == ([], [], [])
        assert (unit.wishes_due(), unit.wishes_given_up()) == (0, 0)
        assert unit.late_by("dispatch:prod") is None
        assert unit.digest("staging", "platform") is None
        assert [unit.entry(each) for each in world.found["entry_id"]] == [None] * 7
        assert [unit.run_of(each) for each in world.found["run_id"]] == [None]
        assert unit.review(world.found["review"].id) is None
    assert kit.reports.read("platform") is None
    assert kit.tracker.topics() == []
    assert list(audit.verify(kit)) == []


@CLOCKED
def test_d_an_invariant_that_is_broken_in_one_environment_is_said_there_alone(world):
    kit = other(world)
    with world.kit.store.begin() as unit:
        unit.run("UPDATE entries SET leased_until = 1 WHERE status IN ('ready', 'in_progress')")
        assert "I5" in {each.invariant for each in unit.violations()}
    with kit.store.read() as unit:
        assert unit.violations(limits={"I11": 0, "I16": 0}) == []


def test_d_one_wish_one_slot_and_one_worker_of_each_name_in_each_environment(table):
    kits = [table.kit, other(table)]
    with table.kit.store.read() as unit:
        slot = unit.now()
    for kit in kits:
        with kit.store.begin() as unit:
            wish = {"id": kit.new_id("wb"), "target": "folder", "topic": "same", "entry_id": "", "run_id": None}
            unit.put({**wish, "seq": 1, "body": {"env": kit.env}, "sha256": kit.env, "put_at": unit.now()})
            assert unit.take_slot("beat:weekly", slot), "the job of the other environment is not mine"
            assert unit.take_lease("tick", kit.env, 1000.0)
            unit.see_worker({"name": "same", "queues": ["stages"], "slots": 3, "schema_min": 1, "schema_max": 9})
            assert unit.slots("stages", 60.0) in {3, 7}
    for kit in kits:
        with kit.store.begin() as unit:
            assert [each["body"] for each in unit.take_wishes(60.0, 10)] == [{"env": kit.env}]
            unit.lose_worker("same")
            assert "same" not in [each["name"] for each in unit.workers()]


def test_d_a_kit_for_another_environment_works_in_folders_of_its_own(table):
    one, two = table.kit, other(table)
    for place in (lambda k: k.artifacts.folder, lambda k: k.tracker.folder, lambda k: k.gates.workspaces):
        assert place(one) != place(two)
    one.artifacts.keep(b"one")
    assert two.artifacts.older(-1e9) == []
