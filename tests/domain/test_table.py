"""The planner against the table: every graph of up to three jobs, a fixed sample of those of four.

All graphs of four jobs are some millions of runs: `python -m tests.benchmarks.table` goes through them all.
"""

import random
from dataclasses import replace
from functools import cache

import pytest

from backlog_worker.domain import condition, pipeline
from backlog_worker.domain.frontier import Stage, StageStatus, Unbegun, outcome, plan
from backlog_worker.domain.outcome import Stopped, Succeeded
from tests.domain import table

BASE = pipeline.load("name: p\njobs:\n  - { id: a, run: x }\n")
IDS = "abcd"
WORDS = {Unbegun.CONDITION: "nothing", Unbegun.DEPENDENCY: "unmet", Unbegun.FAILURE: "canceled"}
FATES = (("completed", False), ("failed", False), ("failed", True))


@cache
def job(at, node):
    source = f"{IDS[node.about]}.status == '{node.condition}'" if node.about >= 0 else node.condition
    when = condition.compiled(source, {each: each for each in IDS[:4] if each != IDS[at]}) if source else None
    needs = tuple(IDS[each] for each in node.needs)
    after = tuple(dict.fromkeys((*needs, *(IDS[each] for each in node.waits))))
    return replace(BASE.jobs[0], id=IDS[at], depends_on=needs, after=after, when=when, continue_on_error=node.tolerant)


def made(graph):
    masks = tuple(sum(1 << each for each in table.before(graph, at)) for at in range(len(graph)))
    jobs = tuple(job(at, node) for at, node in enumerate(graph))
    ids = tuple(IDS[: len(graph)])
    return replace(BASE, jobs=jobs, index={each: at for at, each in enumerate(ids)}, order=ids, masks=masks)


def stage(at, stands):
    kind = next((kind for kind, word in WORDS.items() if word == stands), None)
    status = {"nothing": "skipped", "unmet": "skipped"}.get(stands, stands)
    return Stage(
        entry_id="e",
        pipeline_hash="h",
        job_id=IDS[at],
        status=StageStatus(status),
        run_id="r",
        reason={"kind": kind, "text": "x"} if kind else None,
    )


def planned(graph, stands):
    """Ask the planner what follows; returns where every job stands then, which may begin, and the end of the run."""
    of = made(graph)
    stages = {IDS[at]: stage(at, each) for at, each in enumerate(stands) if each != "pending"}
    now = plan(of, stages)
    stands = list(stands)
    while now.decided:
        for job_id, (_, _, kind) in now.decided.items():
            at = of.index[job_id]
            stands[at] = WORDS[kind]
            stages[job_id] = stage(at, stands[at])
        now = plan(of, stages)
    return stands, [of.index[each] for each in now.ready], outcome(of, stages, now)


def compared(graph, *, at_once, stands=None):
    """Run a graph in all ways in which it can go, and compare each step; returns how many ways there are."""
    stands = stands or ["pending"] * len(graph)
    wanted, ready = table.decided(graph, stands)
    found, begins, end = planned(graph, stands)
    assert (found, begins) == (wanted, ready), (graph, stands)
    if not ready:
        ended(graph, wanted, end)
        return 1
    begun = ready if at_once else ready[-1:]
    ways = 0
    for fates in every(len(begun)):
        after, then = list(wanted), list(graph)
        for at, (fate, tolerant) in zip(begun, fates, strict=True):
            after[at], then[at] = fate, replace(graph[at], tolerant=tolerant)
        ways += compared(tuple(then), at_once=at_once, stands=after)
    return ways


def every(number):
    return [(fate, *rest) for fate in FATES for rest in every(number - 1)] if number else [()]


def ended(graph, stands, end):
    assert "pending" not in stands, "nothing is left without a word"
    failed = table.standing(graph, stands)
    assert isinstance(end, Stopped if failed else Succeeded), (graph, stands)
    if failed:
        assert IDS.index(end.job_id) in failed
        return
    assert "canceled" not in stands, "a run that comes to its end has canceled nothing"
    assert end.idle == ({"completed", "failed"}.isdisjoint(stands)), (graph, stands)
    assert end.job_id == "" or stands[IDS.index(end.job_id)] == "completed"


@pytest.mark.parametrize(("number", "graphs"), [(1, 6), (2, 96), (3, 3840)])
def test_b1_every_graph_of_up_to_three_jobs_goes_as_the_table_says(number, graphs):
    found = [compared(graph, at_once=True) for graph in table.graphs(number)]
    assert len(found) == graphs


@pytest.mark.parametrize("at_once", [True, False])
def test_b1_graphs_of_four_jobs_go_as_the_table_says(at_once):
    chosen = random.Random(4)
    for _ in range(700):
        compared(sample(chosen), at_once=at_once)


def sample(chosen):
    graph = []
    for at in range(4):
        needs = tuple(each for each in range(at) if chosen.random() < 0.6)
        graph.append(table.Node(needs, *chosen.choice(table.conditions(at))))
    return tuple(graph)
