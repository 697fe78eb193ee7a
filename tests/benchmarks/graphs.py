"""P10: planning a graph of a thousand jobs, what a finished job costs when many are done, and a plain Celery group."""

import math
import os
import statistics
import tempfile
import time
from pathlib import Path

import redis

from backlog_worker.domain import pipeline
from backlog_worker.domain.frontier import Stage, StageStatus, plan
from backlog_worker.testing import bench
from tests.acceptance.fleet import Fleet
from tests.benchmarks.servers import Servers, until
from tests.benchmarks.throughput import POLICY, flush, peer_worker

SIZES = (10, 100, 1000)
WIDE = 100


def compared(servers: Servers, rounds: int) -> dict[str, object]:
    """Plan in milliseconds by size, with the exponent; cost of a finished job early and late; against a group."""
    plans = {size: planning(size) for size in SIZES}
    costs = {size: finishing(servers, wide(size)) for size in SIZES}
    deep = finishing(servers, graph(SIZES[-1]))
    our, peer = [], []
    for _ in range(rounds):
        our.append(fan(servers, 10))
        peer.append(group(servers, 10))
    return {
        "plan_ms": {size: round(ms, 2) for size, ms in plans.items()},
        "plan_exponent": round(exponent(plans), 2),
        "finished_job_ms": {
            size: {"first tenth": round(a, 1), "last tenth": round(b, 1)} for size, (a, b) in costs.items()
        },
        "last_over_first_at_1000": round(costs[1000][1] / costs[1000][0], 2),
        "finished_job_ms_behind_990_others": {"first tenth": round(deep[0], 1), "last tenth": round(deep[1], 1)},
        "fan_of_100_jobs_per_s": round(statistics.median(our)),
        "celery_group_of_100_per_s": round(statistics.median(peer)),
        "ratio": round(statistics.median(our) / statistics.median(peer), 2),
    }


def graph(size: int, *, inline: bool = False) -> str:
    """Layers of ten, each job behind the ten before, every third with a condition; the file of a real large pipeline."""
    jobs = []
    for at in range(size):
        before = range(max(0, at - at % 10 - 10), at - at % 10)
        when = ', when: "success()"' if at % 3 == 0 and at > 9 else ""
        depends = f", dependsOn: [{', '.join(f'j{each}' for each in before)}]" if at > 9 else ""
        jobs.append(
            f'  - {{ id: j{at}, python: "tests.benchmarks.jobs:noop", inline: {str(inline).lower()}{depends}{when} }}\n'
        )
    return "name: spec\nconcurrency: { maxConcurrentJobs: 1000 }\njobs:\n" + "".join(jobs)


def wide(size: int) -> str:
    """One job, all others behind it side by side: every finished job leaves the same work for the next."""
    jobs = "".join(
        f'  - {{ id: j{n}, python: "tests.benchmarks.jobs:noop", dependsOn: first }}\n' for n in range(size - 1)
    )
    head = '  - { id: first, python: "tests.benchmarks.jobs:noop" }\n'
    return f"name: spec\nconcurrency: {{ maxConcurrentJobs: 1000 }}\njobs:\n{head}{jobs}"


def planning(size: int) -> float:
    """The slowest of three moments of a run: nothing done, half, nearly all; the median of five."""
    made = pipeline.load(graph(size))
    moments = []
    for share in (0.0, 0.5, 0.99):
        stages = {
            f"j{at}": Stage(entry_id="e", pipeline_hash="h", job_id=f"j{at}", status=StageStatus.COMPLETED, run_id="r")
            for at in range(int(size * share))
        }
        times = []
        for _ in range(5):
            began = time.perf_counter()
            plan(made, stages)
            times.append(1000 * (time.perf_counter() - began))
        moments.append(statistics.median(times))
    return max(moments)


def finishing(servers: Servers, body: str) -> tuple[float, float]:
    """Milliseconds to take, do and checkpoint one job, for the first and the last tenth of a run, on PostgreSQL."""
    made = bench(url=servers.database(), pipelines=[body], slots=10)
    made.file({})
    made.tick()
    times = []
    while made.bells:
        began = time.perf_counter()
        made.answer(made.bells.popleft())
        times.append(1000 * (time.perf_counter() - began))
    assert made.statuses() == {"completed": 1}
    made.kit.store.close()
    tenth = max(3, len(times) // 10)
    return statistics.median(times[1 : tenth + 1]), statistics.median(times[-tenth - 3 : -3])


def fan(servers: Servers, entries: int) -> float:
    """Jobs a second of entries with a hundred parallel jobs and a join, a bell per job, on a real fleet."""
    many = "".join(f'  - {{ id: j{n}, python: "tests.benchmarks.jobs:noop" }}\n' for n in range(WIDE))
    last = f'  - {{ id: last, python: "tests.benchmarks.jobs:noop", dependsOn: [{", ".join(f"j{n}" for n in range(WIDE))}] }}\n'
    body = f"name: spec\nconcurrency: {{ maxConcurrentJobs: 1000 }}\njobs:\n{many}{last}"
    made = Fleet(
        Path(tempfile.mkdtemp(prefix="fan")), servers.valkey, servers.database(), POLICY.format(batch=1), (body,)
    )
    try:
        made.file(entries)
        made.both()
        until(lambda: made.counts().get("completed", 0) >= entries)
        seconds = float(made.value("SELECT extract(epoch FROM max(ended_at) - min(claimed_at)) FROM runs"))
        made.sound()
    finally:
        made.stop()
        made.kit.store.close()
        flush(servers)
    return entries * (WIDE + 1) / seconds


def group(servers: Servers, entries: int) -> float:
    """The same fan as plain Celery tasks, counted in Redis; what a chord would add is left out, in its favour."""
    os.environ["PEER_BROKER"] = servers.valkey
    from tests.benchmarks import peer

    peer.app.conf.broker_url = servers.valkey
    client = redis.Redis(unix_socket_path=servers.valkey.removeprefix("redis+socket://"))
    client.delete("peer:done")
    number = entries * (WIDE + 1)
    for _ in range(number):
        peer.last.delay()
    worker = peer_worker(servers)
    try:
        until(lambda: int(client.get("peer:done") or 0) > 0)
        began, before = time.monotonic(), int(client.get("peer:done") or 0)
        until(lambda: int(client.get("peer:done") or 0) >= number)
        seconds = time.monotonic() - began
    finally:
        os.killpg(worker.pid, 9)
        worker.wait()
        client.close()
        flush(servers)
    return (number - before) / seconds


def exponent(times: dict[int, float]) -> float:
    """How the time grows from the second size to the last: 1 is linear."""
    (a, first), (b, last) = list(times.items())[1], list(times.items())[-1]
    return math.log(last / first) / math.log(b / a)
