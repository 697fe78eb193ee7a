"""Many processes on a real PostgreSQL: exactly one wins."""

import contextlib
import multiprocessing
import os
import threading
import time
from collections import Counter

import pytest

from backlog_worker.domain.errors import BacklogError
from backlog_worker.domain.outcome import Done
from backlog_worker.domain.review import Answer, Decided
from backlog_worker.domain.search import parsed
from backlog_worker.lifecycle import audit, claim, dispatch, intake, review, stage, watch
from backlog_worker.testing import POLICY, bench, draft
from tests.faults.mutants import mutated

pytestmark = pytest.mark.servers
FORK = multiprocessing.get_context("fork")
PROCESSES = 6


def together(kit_url, work, processes=PROCESSES, policy=POLICY):
    """Run work(kit, number) in so many processes at one moment; returns what each put."""
    barrier, results = FORK.Barrier(processes), FORK.Queue()

    def _body(number):
        made = bench(url=kit_url, policy=policy)
        barrier.wait(20)
        results.put(work(made.kit, number))
        made.kit.store.close()
        results.close()
        results.join_thread()
        os._exit(0)

    children = [FORK.Process(target=_body, args=(number,)) for number in range(processes)]
    for child in children:
        child.start()
    found = [results.get(timeout=60) for _ in children]
    for child in children:
        child.join(20)
    return found


@pytest.fixture
def table(postgres_url):
    made = bench(url=postgres_url, policy=POLICY.replace("top: 20, ahead: 10", "top: 500, ahead: 100"), slots=100)
    yield made
    assert watch.verify(made.kit) == []
    assert list(audit.verify(made.kit)) == []


def test_of_many_claimers_one_gets_each_entry(table, postgres_url):
    table.file(*({} for _ in range(60)))
    table.tick()
    with table.kit.store.read() as unit:
        ids = [each.id for each in unit.search("prod", parsed("status:ready"), most=1000)]
    assert len(ids) == 60
    table.kit.store.close()

    def _claim(kit, _number):
        executor = kit.executors["python"]
        for entry_id in ids:
            claim.take(kit, [entry_id])
        return len(executor.performed)

    performed = together(postgres_url, _claim)
    assert sum(performed) == 60, "each first stage was performed once"
    assert sum(1 for each in performed if each) > 1, "a race with one runner is no race"


def tick_race(postgres_url, rounds=2):
    """Return the most that were ever ready at once under a cap of 6, over many rounds of ticks at one moment."""
    capped = POLICY.replace("maxInProgress: 100", "maxInProgress: 6")
    made = bench(url=postgres_url, policy=capped, slots=100)
    made.file(*({} for _ in range(200)))
    made.kit.store.close()

    inside = FORK.Barrier(2)

    def _ticks(kit, number):
        original, worst = dispatch.walk, 0

        def _meeting(*given, **named):
            """Wait, after the count of what is held, for another tick to have counted too: without a lease it comes."""
            with contextlib.suppress(threading.BrokenBarrierError):
                inside.wait(1.0)
                time.sleep(0.3 * number)
            return original(*given, **named)

        dispatch.walk = _meeting
        for _ in range(rounds):
            dispatch.tick(kit)
            with kit.store.read() as unit:
                worst = max(worst, unit.statuses("prod").get("ready", 0))
            if number == 0:
                with kit.store.begin() as unit:
                    unit.run("UPDATE leases SET until = {now}")
        return worst

    return max(together(postgres_url, _ticks, 2, capped))


def test_ticks_at_one_moment_never_pass_the_cap(postgres_url):
    assert tick_race(postgres_url) <= 6


def test_the_mutant_without_a_tick_lease_is_found(postgres_url):
    with mutated("no_tick_lease"):
        assert tick_race(postgres_url) > 6


def test_the_same_keys_filed_at_one_moment_make_one_entry_each(table, postgres_url):
    keys = [f"k{number}" for number in range(300)]
    table.kit.store.close()

    def _file(kit, number):
        order = keys[number * 50 :] + keys[: number * 50]
        records = [(key, draft(dedupe_key=key)) for key in order]
        return {filed.place: (filed.entry_id, filed.new) for filed in intake.file(kit, records, actor="a", channel="c")}

    found = together(postgres_url, _file)
    for key in keys:
        assert len({each[key][0] for each in found}) == 1, "everybody is told the winner"
        assert sum(each[key][1] for each in found) == 1


def test_two_people_answer_and_one_is_told_of_the_other(table, postgres_url):
    from backlog_worker.domain.outcome import FailureKind, Refused

    table.file({})
    table.executor.results = {"draft": [Refused(kind=FailureKind.VALIDATION, reason="no")]}
    table.run(2)
    with table.kit.store.read() as unit:
        (letter,) = unit.reviews("prod", kind="dead_letter")
    table.kit.store.close()

    def _answer(kit, number):
        try:
            review.decide(kit, letter.id, Decided(answer=Answer.REJECT, actor=f"p{number}", reason="x"), seq=letter.seq)
        except BacklogError as error:
            return str(error)
        return "applied"

    said = Counter(text.split(" ")[0] for text in together(postgres_url, _answer))
    assert said["applied"] == 1


def test_the_hot_statements_use_their_indexes(postgres_url):
    """Under generic plans, as prepared statements get them."""
    made = bench(url=postgres_url)
    made.file(*({"priority": p} for p in ("high", "medium", "low") * 200))
    from backlog_worker.store.sql import queue

    with made.kit.store.begin() as unit:
        unit.run("ANALYZE entries")
        unit.run("SET LOCAL plan_cache_mode = force_generic_plan")
        unit.run("SET LOCAL enable_seqscan = off")
        of = {"env": "prod", "group": '{"priority":"high"}', "at": 0.0, "id": ""}
        for text, values, index in (
            (unit._at(queue._GROUP), {**of, "ids": [], "most": 5}, "entries_rank"),
            (unit._at(queue._BETTER), of, "entries_rank"),
            (queue._MOVED, {"env": "prod", "group": "g", "key": "k", "lane": "l", "most": 5}, "entries_limit"),
            (queue._GROUPS, {"env": "prod"}, "entries_rank"),
            (queue._EXPIRED, {"env": "prod", "most": 5}, "entries_held"),
        ):
            plan = "\n".join(row[0] for row in unit.run("EXPLAIN " + text, **values))
            assert index in plan, plan


DIAMOND = """\
name: spec
jobs:
  - { id: a, python: "f:a" }
  - { id: b, python: "f:b", dependsOn: a }
  - { id: c, python: "f:c", dependsOn: a }
  - { id: d, python: "f:d", dependsOn: [b, c] }
"""


def joins(url, number=40):
    """Let the last two jobs before a join end at one moment; returns how often the join was seen, entry by entry."""
    made = bench(url=url, pipelines=[DIAMOND], policy=POLICY.replace("top: 20", "top: 200"), slots=400)
    made.file(*({} for _ in range(number)))
    made.tick()
    seen = []
    barrier = threading.Barrier(2)

    def meets(job, work):
        with contextlib.suppress(threading.BrokenBarrierError):
            barrier.wait(3)
        return Done(output={})

    made.executor.results = {"b": [meets] * number, "c": [meets] * number}
    for bell in list(made.bells):
        barrier.reset()
        seen.append(_rung_by_two(made.kit, claim.take(made.kit, bell.ids)))
    return seen


def _rung_by_two(kit, bells):
    found = []

    def _advance(bell):
        with contextlib.suppress(BacklogError):  # a write that was refused saw nothing
            found.extend(stage.advance(kit, *bell.ids))

    threads = [threading.Thread(target=_advance, args=(bell,)) for bell in bells]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return sum(each.ids[1:2] == ("d",) for each in found)


def test_of_two_last_jobs_that_end_at_once_exactly_one_sees_the_join(postgres_url):
    assert joins(postgres_url) == [1] * 40


def test_a_join_is_missed_where_stages_come_before_the_entry(postgres_url):
    with mutated("stage_row_first"):
        assert joins(postgres_url, 8) != [1] * 8
