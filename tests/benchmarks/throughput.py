"""P1, P2, P3, P11, P12: stages a fleet does, against a plain Celery chain of the same shape on the same broker."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import redis

from tests.acceptance.fleet import Fleet
from tests.benchmarks.servers import Servers, cpu_seconds, memory_mb, until

ROOT = Path(__file__).parents[2]
POLICY = """\
version: 1
eligibility:
  - {{ id: ELIG-LABEL, check: "'ai-ok' in entry.labels" }}
dispatch: {{ top: 2000, ahead: 10000, batch: {batch} }}
claims: {{ timeout: 2m, heartbeat: 30s }}
admission: {{ maxInProgress: 100000 }}
"""
NOOP = "  - {{ id: {id}, python: 'tests.benchmarks.jobs:noop', inline: {inline}{after} }}\n"


def pipeline(*, inline: bool) -> str:
    after = {"a": "", "b": ", dependsOn: a", "c": ", dependsOn: b"}
    jobs = "".join(NOOP.format(id=name, inline=str(inline).lower(), after=after[name]) for name in after)
    return f"name: spec\nversion: 1\njobs:\n{jobs}"


def ours(servers: Servers, entries: int, *, inline: bool, batch: int, database: str = "") -> dict[str, float]:
    """Entries a second, CPU milliseconds of the workers an entry, and what the database was asked."""
    folder = Path(tempfile.mkdtemp(prefix="fleet"))
    url = database or servers.database()
    made = Fleet(folder, servers.valkey, url, POLICY.format(batch=batch), (pipeline(inline=inline),))
    try:
        made.file(entries)
        made.both()
        until(lambda: made.counts().get("completed", 0) >= entries)
        seconds = float(made.value(_SPAN if url.startswith("postgres") else _SPAN_SQLITE))
        cpu = sum(cpu_seconds(made.processes[name].pid) for name in ("stages",))
        made.sound()
    finally:
        made.stop()
        made.kit.store.close()
        flush(servers)
    return {"rate": entries / seconds, "cpu_ms": 1000 * cpu / entries}


_SPAN = "SELECT extract(epoch FROM max(ended_at) - min(claimed_at)) FROM runs"
_SPAN_SQLITE = "SELECT max(ended_at) - min(claimed_at) FROM runs"


def celery_chain(servers: Servers, entries: int) -> dict[str, float]:
    """The same three no-ops as a plain Celery chain; the queue is filled first."""
    os.environ["PEER_BROKER"] = servers.valkey
    from tests.benchmarks import peer

    peer.app.conf.broker_url = servers.valkey
    client = redis.Redis(unix_socket_path=servers.valkey.removeprefix("redis+socket://"))
    client.delete("peer:done")
    for _ in range(entries):
        peer.three().apply_async()
    worker = peer_worker(servers)
    try:
        until(lambda: client.llen("peer") < entries)  # a queue is first in, first out: the last links come at the end
        began = time.monotonic()
        until(lambda: int(client.get("peer:done") or 0) >= entries)
        seconds = time.monotonic() - began
        cpu = cpu_seconds(worker.pid)
    finally:
        os.killpg(worker.pid, 9)
        worker.wait()
        client.close()
        flush(servers)
    return {"rate": entries / seconds, "cpu_ms": 1000 * cpu / entries}


def peer_worker(servers: Servers, slots: int = 2) -> subprocess.Popen:
    env = {**os.environ, "PEER_BROKER": servers.valkey, "PYTHONPATH": str(ROOT)}
    arguments = ["worker", "-P", "prefork", "-c", str(slots), "-Q", "peer", "--without-gossip", "--without-mingle"]
    return subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "tests.benchmarks.peer", *arguments],
        env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip


def compared(servers: Servers, rounds: int, entries: int, *, inline: bool, batch: int) -> dict[str, object]:
    """Interleaved rounds A B A B; medians with minimum and maximum."""
    our, peer = [], []
    for _ in range(rounds):
        our.append(ours(servers, entries, inline=inline, batch=batch))
        peer.append(celery_chain(servers, min(entries, 1500)))
    return summary(our, peer) | {"transactions_per_entry": transactions(inline=inline, batch=batch)}


def summary(our: list[dict[str, float]], peer: list[dict[str, float]]) -> dict[str, object]:
    return {
        "ours_per_s": spread(each["rate"] for each in our),
        "peer_per_s": spread(each["rate"] for each in peer),
        "ratio": statistics.median(e["rate"] for e in our) / statistics.median(e["rate"] for e in peer),
        "ours_cpu_ms": statistics.median(e["cpu_ms"] for e in our),
        "peer_cpu_ms": statistics.median(e["cpu_ms"] for e in peer),
    }


def spread(values) -> str:
    listed = sorted(values)
    return f"{statistics.median(listed):.0f} ({listed[0]:.0f} to {listed[-1]:.0f})"


def transactions(*, inline: bool, batch: int) -> str:
    """Count, on a bench without a broker, what one entry costs; no clock is needed for that."""
    from backlog_worker.testing import bench

    made = bench(policy=POLICY.format(batch=batch), pipelines=[pipeline(inline=inline)], slots=100)
    made.file(*({} for _ in range(batch)))
    made.tick()
    store = made.kit.store
    transactions_before, statements_before, messages = store.transactions, store.statements, 0
    while made.bells:
        bell = made.bells.popleft()
        if bell.step in {"claim", "stage"}:
            messages += 1
            made.answer(bell)
    spent = (store.transactions - transactions_before, store.statements - statements_before, messages)
    return "{:.2f} transactions, {:.2f} statements, {:.2f} messages".format(*(number / batch for number in spent))


def sqlite_against_postgres(servers: Servers, rounds: int, entries: int) -> dict[str, object]:
    """P11: P2's work on the embedded default."""
    our, peer = [], []
    for _ in range(rounds):
        folder = Path(tempfile.mkdtemp(prefix="lite"))
        our.append(ours(servers, entries, inline=True, batch=1, database=f"sqlite:///{folder / 'b.db'}"))
        peer.append(ours(servers, entries, inline=True, batch=1))
    return summary(our, peer)


def waiting_slot(servers: Servers) -> dict[str, object]:
    """P12: what a slot costs while it waits for an agent, against a plain Celery slot that sleeps."""
    folder = Path(tempfile.mkdtemp(prefix="wait"))
    slow = "name: spec\nversion: 1\njobs:\n  - { id: a, run: 'echo x >> waits; sleep 30' }\n"
    made = Fleet(folder, servers.valkey, servers.database(), POLICY.format(batch=1), (slow,))
    peer = peer_worker(servers)
    try:
        from tests.benchmarks import peer as peer_app

        made.file(2)
        made.both()
        for _ in range(2):
            peer_app.sleep.delay(30)
        until(lambda: (folder / "waits").exists() and len((folder / "waits").read_text().split()) == 2)
        group = made.processes["stages"].pid
        before, began = cpu_seconds(group), time.monotonic()
        time.sleep(8)
        share = (cpu_seconds(group) - before) / (time.monotonic() - began) / 2
        mine = [mb for mb in memory_mb(group) if mb > 10]
        theirs = [mb for mb in memory_mb(peer.pid) if mb > 10]
    finally:
        made.stop()
        os.killpg(peer.pid, 9)
        peer.wait()
        flush(servers)
    return {
        "ours_mb_per_slot": round(sum(mine) / 2, 1),
        "peer_mb_per_slot": round(sum(theirs) / 2, 1),
        "ratio": sum(mine) / sum(theirs),
        "cpu_share_per_slot": round(share, 4),
    }


def flush(servers: Servers) -> None:
    client = redis.Redis(unix_socket_path=servers.valkey.removeprefix("redis+socket://"))
    client.flushall()
    client.close()
