"""P5: from commit and bell to the start of the first stage under light load, against Celery's own."""

import os
import statistics
import tempfile
import time
from pathlib import Path

import redis

from backlog_worker.domain.measures import quantile
from tests.acceptance.fleet import Fleet
from tests.benchmarks import throughput
from tests.benchmarks.servers import Servers, until


def compared(servers: Servers, number: int = 200) -> dict[str, object]:
    """Milliseconds, p50 and p99, of both; one at a time, with a pause between."""
    ours, peer = _ours(servers, number), _peer(servers, number)
    return {
        "ours_ms": {"p50": quantile(ours, 0.5), "p99": quantile(ours, 0.99)},
        "peer_ms": {"p50": quantile(peer, 0.5), "p99": quantile(peer, 0.99)},
        "ratio_p50": quantile(ours, 0.5) / quantile(peer, 0.5),
        "ratio_p99": quantile(ours, 0.99) / quantile(peer, 0.99),
    }


def _ours(servers: Servers, number: int) -> list[float]:
    folder = Path(tempfile.mkdtemp(prefix="lat"))
    job = "name: spec\nversion: 1\njobs:\n  - { id: a, python: 'tests.benchmarks.jobs:stamp', inline: true }\n"
    made = Fleet(folder, servers.valkey, servers.database(), throughput.POLICY.format(batch=1), (job,))
    os.environ |= {"BACKLOG_DIR": str(made.root / ".backlog-worker"), "BACKLOG_BROKER_URL": servers.valkey}
    from backlog_worker import celery
    from backlog_worker.lifecycle import dispatch

    celery.app.conf.broker_url = servers.valkey
    started, sent = made.root / ".backlog-worker" / "started", []
    try:
        made.worker("stages", queues="stages")
        until(lambda: made.value("SELECT count(*) FROM workers") == 1)
        for done in range(number):
            made.file(1)
            with made.kit.store.begin() as unit:
                unit.run("UPDATE leases SET until = {now}")
            bells = dispatch.tick(made.kit)
            sent.append(time.time())
            celery.ring(bells)
            until(lambda count=done: started.exists() and len(started.read_text().split()) > count)
    finally:
        made.stop()
        for name in ("BACKLOG_DIR", "BACKLOG_BROKER_URL"):
            os.environ.pop(name)
    begun = [float(text) for text in started.read_text().split()]
    return [1000 * (b - s) for s, b in zip(sent, begun, strict=True)][number // 10 :]


def _peer(servers: Servers, number: int) -> list[float]:
    from tests.benchmarks import peer

    os.environ["PEER_BROKER"] = servers.valkey
    peer.app.conf.broker_url = servers.valkey
    client = redis.Redis(unix_socket_path=servers.valkey.removeprefix("redis+socket://"))
    client.delete("peer:latency")
    worker = throughput.peer_worker(servers)
    try:
        for done in range(number):
            peer.stamp.delay(time.time())
            until(lambda count=done: client.llen("peer:latency") > count)
    finally:
        os.killpg(worker.pid, 9)
        worker.wait()
    found = [1000 * float(value) for value in client.lrange("peer:latency", 0, -1)]
    client.close()
    assert statistics.median(found) > 0
    return found[number // 10 :]
