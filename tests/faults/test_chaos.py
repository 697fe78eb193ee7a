"""Real processes, a real database, SIGKILL and SIGSTOP: nothing lost, nothing done twice, every late write refused.

There is no broker here: each process ticks, sweeps and hears bells of its own, and loses those of its last life. The
processes are forked from one that has imported everything, so that a life costs milliseconds.
"""

import contextlib
import multiprocessing
import os
import random
import signal
import time

import pytest

from backlog_worker.domain.bell import Step
from backlog_worker.domain.errors import BacklogError
from backlog_worker.domain.outcome import Done
from backlog_worker.lifecycle import audit, watch
from backlog_worker.testing import bench

pytestmark = [pytest.mark.servers, pytest.mark.timeout(600)]
FORK = multiprocessing.get_context("fork")
POLICY = """\
version: 1
eligibility:
  - { id: ELIG-LABEL, check: "'ai-ok' in entry.labels" }
dispatch: { top: 20, ahead: 2, batch: 5 }
claims: { timeout: 1500ms, heartbeat: 300ms, maxAttempts: 40, retryDelay: 100ms }
"""
MIXED = [
    "name: spec\nversion: 1\njobs:\n  - { id: a, python: 'fake:a' }\n  - { id: b, python: 'fake:b', dependsOn: a }\n  - { id: c, python: 'fake:c', dependsOn: b }\n",
    "name: light\nversion: 1\njobs:\n  - { id: a, python: 'fake:a', inline: true }\n  - { id: b, python: 'fake:b', dependsOn: a, inline: true }\n",
]


def live(url: str) -> None:
    """One worker's life: tick, sweep, hear bells, until somebody kills it."""
    made = bench(url=url, policy=POLICY, pipelines=MIXED, clock=time.time)
    chance = random.Random()

    def _slowly(job, work):
        time.sleep(chance.uniform(0.0, 0.03))
        return Done(output={"job": job.id, "run": work.run_id})

    made.kit.executors["python"] = type("Slow", (), {"perform": staticmethod(_slowly)})()
    while True:
        with contextlib.suppress(BacklogError):
            made.tick()
            made.sweep()
            while made.bells:
                bell = made.bells.popleft()
                if chance.random() < 0.1:
                    continue  # lost
                if bell.step != Step.SEND and chance.random() < 0.2:
                    made.bells.append(bell)  # doubled
                made.answer(bell)
        time.sleep(0.02)


def spawn(url: str):
    child = FORK.Process(target=live, args=(url,), daemon=True)
    child.start()
    return child


@pytest.mark.parametrize(("backend", "kills", "entries"), [("postgres", 200, 120), ("sqlite", 60, 60)])
def test_hundreds_of_kills_lose_nothing_and_double_nothing(backend, kills, entries, request, tmp_path, eventually):
    url = request.getfixturevalue("postgres_url") if backend == "postgres" else f"sqlite:///{tmp_path / 'b.db'}"
    made = bench(url=url, policy=POLICY, pipelines=MIXED, clock=time.time)
    made.file(*({"pipeline": ("spec", "light")[n % 2]} for n in range(entries)))
    made.kit.store.close()
    chance = random.Random(7)
    workers = [spawn(url) for _ in range(3)]
    struck = {"killed": 0, "frozen": 0}
    at_risk = 0
    try:
        while struck["killed"] < kills:
            time.sleep(chance.uniform(0.05, 0.25))
            victim = chance.randrange(len(workers))
            if chance.random() < 0.08 and workers[victim].is_alive():
                os.kill(workers[victim].pid, signal.SIGSTOP)
                time.sleep(1.8)  # past the lease: the fault itself, not a wait for a result
                os.kill(workers[victim].pid, signal.SIGCONT)
                struck["frozen"] += 1
                continue
            assert workers[victim].is_alive(), "a worker died of itself"
            os.kill(workers[victim].pid, signal.SIGKILL)
            workers[victim].join()
            struck["killed"] += 1
            workers[victim] = spawn(url)
            if struck["killed"] % 4 == 0:
                with made.kit.store.read() as unit:
                    held = unit.statuses("prod")
                at_risk += held.get("in_progress", 0)
                if held.get("completed", 0) > entries * 0.6:  # keep something at risk
                    made.file(*({"pipeline": ("spec", "light")[n % 2]} for n in range(entries)))
                    made.kit.store.close()
                    entries += entries

        def _done() -> bool:
            with made.kit.store.read() as unit:
                counts = unit.statuses("prod")
            return set(counts) <= {"completed", "escalated"}

        eventually(_done, within=120, what="the end of every entry")
    finally:
        for worker in workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker.pid, signal.SIGCONT)
                worker.kill()
    counts = made.statuses()
    print(f"{struck}, {sum(counts.values())} entries, {at_risk} seen at risk, {counts}")
    assert watch.verify(made.kit) == []
    assert list(audit.verify(made.kit)) == []
    assert struck["frozen"] > 0
    assert at_risk > 0
    with made.kit.store.read() as unit:
        expired = unit.value("SELECT count(*) FROM events WHERE change = 'expired' AND run_id IS NOT NULL")
        repeated = unit.value("SELECT count(*) FROM stages WHERE takes > 1")
    print(f"{expired} leases of the dead taken back, {repeated} stages repeated")
    assert expired > 0, "no kill ever hit a claim"
