"""The walk over the queue: what waits hides nobody, and everybody is told the true reason."""

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backlog_worker.domain import lane
from backlog_worker.domain.budget import Usage
from backlog_worker.domain.decision import Snapshot, decide
from backlog_worker.domain.outcome import Done, FailureKind, Faulted
from backlog_worker.domain.search import parsed
from backlog_worker.integrations import DefinitionFile
from backlog_worker.lifecycle import definitions, dispatch, explain, money
from backlog_worker.lifecycle import walk as walks
from backlog_worker.lifecycle.walk import load_of
from backlog_worker.testing import POLICY, bench

START = datetime.fromtimestamp(1_800_000_000, UTC)


def pipe(name, group=""):
    return f'name: {name}\n{group}jobs:\n  - {{ id: a, python: "f:a" }}\n'


def grouped(name, key, limit=1, conflict="wait"):
    group = f'concurrency: {{ group: {{ key: "{key}", limit: {limit}, onConflict: {conflict} }} }}\n'
    return pipe(name, group)


PIPELINES = (
    pipe("spec"),
    grouped("keyed", "entry.service"),
    grouped("paired", "entry.team", 2),
    pipe("costly"),
    "name: quick\njobs:\n  - { id: a, template: specification }\n",
)


def waiting(unit):
    """Every entry that is queued or tried again, whatever it waits for."""
    ids = unit.run("SELECT id FROM entries WHERE status IN ('queued', 'retrying')")
    return [unit.entry(row[0]) for row in ids]


def oracle(table):
    """What `decide` says of the whole queue, read into memory."""
    with table.kit.store.read() as unit:
        policy, entries = table.kit.book.policy(unit), waiting(unit)
        caps = money.Caps(unit, "prod", policy)
        found = {key: cap for entry in entries for key, cap in caps.of(entry).items()}
        load = load_of(table.kit, unit, policy)
        snapshot = Snapshot(candidates=entries, load=dispatch_load(load, found))
        return decide(snapshot, policy, unit.now()), {entry.id: entry for entry in entries}


def dispatch_load(load, caps):
    return replace(load, caps=caps)


def ticked(table):
    """One tick; returns the ids that it chose, best first."""
    with table.kit.store.begin() as unit:
        unit.run("UPDATE leases SET until = {now} WHERE name LIKE 'dispatch%'")
    table.clock.forward(0.001)
    return [each for bell in dispatch.tick(table.kit) for each in bell.ids]


DRAFTS = st.fixed_dictionaries(
    {
        "pipeline": st.sampled_from(["spec", "keyed", "paired", "costly", "quick"]),
        "priority": st.sampled_from(["high", "medium", "low", "purple"]),
        "service": st.sampled_from(["", "a", "b"]),
        "team": st.sampled_from(["web", "ops"]),
        "days": st.integers(0, 40),
        "wait": st.sampled_from(["", "", "", "window", "open", "not_before", "late", "due"]),
    }
)
BUDGET = st.fixed_dictionaries(
    {
        "scope": st.sampled_from(["day", "team", "pipeline", "entry", "run"]),
        "usd": st.sampled_from([0.5, 1.5, 3.0]),
        "onExceeded": st.sampled_from(["pause", "pause", "ask", "warn"]),
    }
)


def drafted(each, now=START):
    constraints = {
        "window": {"windows": [{"days": "sat", "hours": "03:00-04:00"}]},
        "open": {"windows": [{"days": "mon-sun", "hours": "00:00-24:00"}]},
        "not_before": {"not_before": (now + timedelta(days=3)).isoformat()},
    }.get(each["wait"], {})
    due = {"late": now - timedelta(days=1), "due": now + timedelta(days=9)}.get(each["wait"])
    values = {name: each[name] for name in ("pipeline", "priority", "service", "team")}
    created = now - timedelta(days=each["days"], hours=1)
    more = {"due_date": due.isoformat()} if due else {}
    return {**values, "created_at": created.isoformat(), "constraints": constraints, **more}


def made_policy(budgets, top, deadline):
    lines = [
        f"  - {{ id: BUD-{n}, scope: {b['scope']}, usd: {b['usd']}, onExceeded: {b['onExceeded']} }}"
        for n, b in enumerate(budgets)
    ]
    body = POLICY.replace("top: 20, ahead: 10", f"top: {top}, ahead: 0, batch: 2")
    body = body.replace("owner: team-platform", f"owner: team-platform, onDeadline: {deadline}")
    return body + ("budgets:\n" + "\n".join(lines) + "\n" if lines else "")


def spends(usd, result=None):
    def _spends(job, work):
        work.report.spend(Usage(model="m", usd=usd))
        return result or Done(output={})

    return _spends


def same(table):
    """Hold one tick, and every explanation before it, against `decide` over the whole queue."""
    decision, entries = oracle(table)
    said = {receipt.scored.entry.id: [wait.code.value for wait in receipt.waits] for receipt in decision.receipts}
    place = {receipt.scored.entry.id: receipt.position for receipt in decision.receipts}
    awake = sorted((each for each in entries if entries[each].wake_at is None), key=place.__getitem__)
    for entry_id, entry in list(entries.items())[:: max(1, len(entries) // 6)]:
        found = explain.explain(table.kit, entry_id)
        codes = [code for code, _ in found.reasons]
        assert codes == said[entry_id], f"{entry.title}: {found.reasons}"
        if found.position is not None:
            assert found.position == 1 + awake.index(entry_id)
    wanted = [receipt.scored.entry.id for receipt in decision.chosen]
    light = [each for each in wanted if entries[each].pipeline == "quick"]
    chosen = ticked(table)
    assert sorted(chosen) == sorted(wanted)
    assert [each for each in chosen if each not in light] == [each for each in wanted if each not in light]
    assert [each for each in chosen if each in light] == light


ROUNDS = st.lists(st.sampled_from(["tick", "end", "fault", "sweep", "hour", "policy"]), max_size=4)


def play(table, rounds, slots, policy):
    """Hold the choice and the explanations against the whole queue, again after each of *rounds*."""
    same(table)
    for each in rounds:
        if each in {"end", "fault"}:
            result = Faulted(kind=FailureKind.EXECUTION, reason="boom") if each == "fault" else None
            table.executor.results["a"] = [spends(0.7, result)] * 50
            table.tick()
            table.ring()
        elif each == "sweep":
            table.sweep()
        elif each == "hour":
            table.clock.forward(3600)
            see(table, slots)
        elif each == "policy":
            policy += f"# {len(policy)}\n"
            table.texts.texts[0] = DefinitionFile(kind="policy", file="policy.yml", body=policy)
            ticked(table)
        same(table)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    drafts=st.lists(DRAFTS, min_size=1, max_size=30),
    budgets=st.lists(BUDGET, max_size=3),
    room=st.tuples(st.integers(1, 6), st.integers(0, 6), st.sampled_from([1, 3, 32])),
    deadline=st.sampled_from(["escalate", "ignore"]),
    rounds=ROUNDS,
)
def test_a1_the_walk_chooses_what_decide_chooses_of_the_whole_queue(drafts, budgets, room, deadline, rounds):
    top, slots, page = room
    policy = made_policy(budgets, top, deadline)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(walks, "PAGE", page)
        patch.setattr(walks, "PAGE_MAX", page * 2)
        table = bench(pipelines=PIPELINES, policy=policy, slots=slots)
        table.file(*map(drafted, drafts))
        play(table, rounds, slots, policy)


@pytest.mark.parametrize("seed", range(2))
def test_a1_postgresql_chooses_the_same(postgres_url, monkeypatch, seed):
    monkeypatch.setattr(walks, "PAGE", 4)
    monkeypatch.setattr(walks, "PAGE_MAX", 8)
    dice = random.Random(seed)
    policy = made_policy([{"scope": "team", "usd": 1.5, "onExceeded": "pause"}], 4, "escalate")
    table = bench(url=postgres_url, pipelines=PIPELINES, policy=policy, slots=5)
    now = table_now(table)
    names = ("pipeline", "priority", "service", "team", "wait")
    lists = (
        ["spec", "keyed", "keyed", "paired", "costly", "quick"],
        ["high", "medium", "low", "purple"],
        ["", "a", "b"],
        ["web", "ops"],
        ["", "", "", "not_before", "late"],
    )
    drafts = [
        {**{name: dice.choice(listed) for name, listed in zip(names, lists, strict=True)}, "days": dice.randrange(40)}
        for _ in range(80)
    ]
    table.file(*(drafted(each, now) for each in drafts))
    play(table, ["end", "tick", "fault"], 5, policy)


def table_now(table):
    with table.kit.store.read() as unit:
        return unit.now()


def crowd(number, *, url="memory://", policy=POLICY, pipeline="keyed", **fields):
    """So many entries at the head that all wait for one limit, and one entry behind them that does not."""
    table = bench(url=url, pipelines=PIPELINES, policy=policy)
    first = {"pipeline": pipeline, "priority": "high", "service": "a", "team": "web", **fields}
    table.file(*({**first, "created_at": f"2026-11-01T00:{n // 60 % 60:02d}:{n % 60:02d}Z"} for n in range(number)))
    table.file({"pipeline": "spec", "priority": "low", "team": "ops", "created_at": "2027-01-14T00:00:00Z"})
    return table


def statuses(table, pipeline):
    with table.kit.store.read() as unit:
        return sorted({each.status.value for each in unit.search("prod", parsed(f"pipeline:{pipeline}"), most=5000)})


def test_a1_sixty_five_entries_of_a_full_group_hide_nobody():
    table = crowd(65)
    ticked(table)
    assert statuses(table, "spec") == ["ready"]
    with table.kit.store.read() as unit:
        last = unit.search("prod", parsed("pipeline:keyed status:queued"), most=100)
    for each in (last[0], last[-1]):
        assert [code for code, _ in explain.explain(table.kit, each.id).reasons] == ["KEY_LIMIT"]


DAY = POLICY + "budgets: [{ id: BUD, scope: %s, usd: 0.5, onExceeded: pause }]\n"


@pytest.mark.parametrize("limit", ["key", "team", "pipeline"])
def test_a1_what_is_full_is_passed_over_unread_however_many_wait_for_it(limit):
    """Statements and rows of a tick are the same for ten times the crowd, once the crowd has its lane."""
    read = {}
    for number in (100, 1000):
        table = crowd(number, policy=POLICY if limit == "key" else DAY % limit)
        if limit != "key":
            with table.kit.store.begin() as unit:
                spent = {"id": "s", "env": "prod", "entry_id": "e", "run_id": "r", "job_id": "a", "pipeline": "keyed"}
                unit.spend([{**spent, "team": "web", "usd": 0.6, "take": 1, "input_tokens": 0, "output_tokens": 0}])
        chosen = ticked(table)
        assert statuses(table, "spec") == ["ready"], "in the first tick already"
        assert len(chosen) == (2 if limit == "key" else 1)
        before = table.kit.store.statements
        ticked(table)
        statements = table.kit.store.statements - before
        with table.kit.store.read() as unit:
            policy = table.kit.book.policy(unit)
            queue = walks.Queue(unit, "prod", policy, load_of(table.kit, unit, policy).groups)
            seen = walks.walk(table.kit, unit, policy, load_of(table.kit, unit, policy), receipts=60)
            assert all(receipt.waits for receipt in seen.receipts)
            assert len(seen.receipts) < 5
            assert queue.read == 0
        read[number] = statements
    assert read[1000] <= read[100] + 1


def test_a1_a_crowd_that_comes_after_its_key_has_a_lane_joins_it():
    table = crowd(100)
    ticked(table)
    more = {"pipeline": "keyed", "priority": "high", "service": "a", "team": "web"}
    table.file(*({**more, "created_at": f"2026-12-01T00:00:{n:02d}Z"} for n in range(60)))
    for _ in range(2):
        ticked(table)
        with table.kit.store.read() as unit:
            assert [lane.LIMIT in lane.read(group.key) for group in unit.groups("prod")] == [True]


@pytest.mark.parametrize("change", ["key", "team", "terms"])
def test_a1_a_definition_that_reads_other_fields_changes_no_answer(change):
    """A pipeline with another key, a budget for teams, other terms: before the tick that places entries anew, and after."""
    policy = made_policy([], 3, "escalate")
    table = bench(pipelines=PIPELINES, policy=policy)
    dice = random.Random(change)
    lists = {
        "pipeline": ["keyed", "paired", "spec"],
        "service": ["a", "b"],
        "team": ["web", "ops"],
        "priority": ["high", "low"],
    }
    table.file(*({name: dice.choice(listed) for name, listed in lists.items()} for _ in range(40)))
    same(table)
    body = {
        "key": grouped("keyed", "entry.priority"),
        "team": policy + "budgets: [{ id: BUD, scope: team, usd: 0.5, onExceeded: pause }]\n",
        "terms": policy + "priority: { terms: [{ id: team, value: \"entry.team == 'ops' ? 9.0 : 0.0\" }] }\n",
    }[change]
    place = 2 if change == "key" else 0
    kind = "pipeline" if change == "key" else "policy"
    table.texts.texts[place] = DefinitionFile(kind=kind, file=table.texts.texts[place].file, body=body)
    definitions.reload(table.kit.store, table.kit.book, table.texts, author="file")
    same(table)
    same(table)


def test_a1_a_million_keys_of_one_entry_each_are_one_group():
    table = bench(pipelines=[grouped("spec", "entry.url")], slots=8)
    table.file(*({"url": f"https://x/{n}"} for n in range(300)))
    assert len(ticked(table)) == 20
    with table.kit.store.read() as unit:
        assert len(unit.groups("prod")) == 1


def test_a1_windows_that_close_over_a_crowd_are_read_once():
    window = {"windows": [{"days": "mon-sun", "hours": "07:00-09:00"}]}  # the table stands at 08:00
    table = crowd(300, pipeline="spec", constraints=window)
    table.clock.forward(2 * 3600)
    see(table, 4)
    ticked(table)
    assert statuses(table, "spec") == ["queued", "ready"]
    before = table.kit.store.statements
    ticked(table)
    with table.kit.store.read() as unit:
        assert unit.groups("prod") == [], "all sleep until the moment at which their window opens"
        (moment,) = {row[0] for row in unit.run("SELECT DISTINCT wake_at FROM entries WHERE status = 'queued'")}
    assert datetime.fromtimestamp(moment, UTC).hour == 7
    assert table.kit.store.statements - before < 40


def test_a1_a_group_that_cancels_the_newest_cancels_all_of_a_crowd():
    table = bench(pipelines=[grouped("spec", "entry.service", conflict="cancelNewest")])
    table.file(*({"service": "a"} for _ in range(150)))
    for _ in range(3):
        ticked(table)
    assert table.statuses() == {"ready": 1, "canceled": 149}


def test_a1_a_group_that_replaces_gives_way_once_a_tick():
    table = bench(pipelines=[grouped("spec", "entry.service", conflict="replace")])
    table.file(*({"service": "a"} for _ in range(100)))
    (first,) = ticked(table)
    ticked(table)
    with table.kit.store.read() as unit:
        assert unit.entry(first).status == "canceled"
    assert table.statuses()["queued"] >= 98


def test_a1_receipts_stay_few_whatever_was_read():
    table = crowd(500, pipeline="spec", constraints={"windows": [{"days": "sat", "hours": "03:00-04:00"}]})
    ticked(table)
    with table.kit.store.read() as unit:
        kept = unit.value("SELECT count(*) FROM receipts")
    assert kept == 61, "sixty of those who wait, and whoever goes"


def test_a1_entry_next_says_of_nobody_that_it_goes_who_does_not():
    table = crowd(100)
    found = explain.next_up(table.kit, 20)
    assert [not each.waits for each in found] == [True, False, True], (
        "one of the group, one that waits for it, the other"
    )
    table = bench(pipelines=PIPELINES, slots=0)
    table.file({}, {"pipeline": "keyed"})
    assert {wait.code.value for each in explain.next_up(table.kit, 20) for wait in each.waits} == {"NO_WORKER"}


def see(table, slots):
    row = {"name": "w", "queues": ["stages", "control"], "slots": slots, "schema_min": 1, "schema_max": 9}
    with table.kit.store.begin() as unit:
        unit.see_worker(row)
