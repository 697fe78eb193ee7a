"""P4, P6, P7, P8: the store alone, against raw SQL and against itself at other sizes."""

import io
import json
import math
import resource
import statistics
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import islice

import psycopg

from backlog_worker.domain.entry import Change
from backlog_worker.lifecycle import definitions, dispatch, intake
from backlog_worker.lifecycle.walk import Queue
from backlog_worker.testing import POLICY, bench, draft
from tests.benchmarks.servers import Servers

TOP = 100


def timed(work: Callable[[], object], rounds: int = 5) -> float:
    """The median of several rounds in seconds, after one that warms up."""
    work()
    found = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return statistics.median(found)


def claims(servers: Servers, batch: int) -> dict[str, object]:
    """P4: claim and event through our store, one claimer, against the same SQL in raw psycopg, and a one-row update."""
    made = bench(url=servers.database(), slots=100)
    ids = [filed.entry_id for filed in _filed(made, batch * 60)]
    for start in range(0, len(ids), 500):
        _ready(made, ids[start : start + 500])
    chunks = [ids[at : at + batch] for at in range(0, len(ids), batch)]
    began = time.perf_counter()
    for chunk in chunks:
        with made.kit.store.begin() as unit:
            unit.lease = 120.0
            unit.hold(chunk)
            now = unit.now()
            runs = [(entry, made.kit.new_id("run")) for entry in chunk]
            unit.begin_runs([_run(entry, run, now) for entry, run in runs])
            for entry, run in runs:
                unit.move(entry, Change.CLAIMED, "bench", run_id=run, worker="w", claimed_at=now, attempt=1)
    ours = len(ids) / (time.perf_counter() - began)
    raw = _raw(made.kit.store.url, batch)
    limit = _one_row(made.kit.store.url)
    return {"ours_per_s": round(ours), "raw_per_s": round(raw), "one_row_update_per_s": round(limit),
            "ratio_raw": ours / raw, "ratio_limit": ours / limit}  # fmt: skip


def _run(entry: str, run: str, now: datetime) -> dict[str, object]:
    return {
        "id": run,
        "entry_id": entry,
        "attempt": 1,
        "worker": "w",
        "pipeline_hash": "h",
        "policy_hash": "p",
        "claimed_at": now,
    }


def _ready(made, ids: list[str]) -> None:
    with made.kit.store.begin() as unit:
        unit.lease = 600.0
        unit.hold(ids)
        for each in ids:
            unit.move(each, Change.DISPATCHED, "bench", rung_at=unit.now())


def _raw(url: str, batch: int) -> float:
    """What the same rows cost without us: lock, insert runs, update entries, insert chained events."""
    with psycopg.connect(url, autocommit=True) as raw:
        raw.execute(
            "CREATE TABLE r_entries (id text PRIMARY KEY, status text, seq int, run_id text, leased_until timestamptz)"
        )
        raw.execute(
            "CREATE TABLE r_runs (id text PRIMARY KEY, entry_id text UNIQUE, worker text, claimed_at timestamptz)"
        )
        raw.execute(
            "CREATE TABLE r_events (entry_id text, seq int, at timestamptz, change text, data jsonb, hash text, PRIMARY KEY (entry_id, seq))"
        )
        number = batch * 60
        raw.execute(
            "INSERT INTO r_entries SELECT 'e' || n, 'ready', 1, NULL, now() FROM generate_series(1, %s) n", (number,)
        )
        raw.execute("INSERT INTO r_events SELECT id, 1, now(), 'dispatched', '{}', 'x' FROM r_entries")
        ids = [f"e{n}" for n in range(1, number + 1)]
        data = json.dumps({"set": {"run_id": "run_" + "0" * 26, "worker": "w", "reason": "bench"}})
        began = time.perf_counter()
        for at in range(0, number, batch):
            chunk = ids[at : at + batch]
            with raw.transaction():
                raw.execute("SELECT id, seq FROM r_entries WHERE id = ANY(%s) ORDER BY id FOR UPDATE", (chunk,))
                raw.execute(
                    "SELECT e.id, v.hash FROM r_entries e JOIN r_events v ON v.entry_id = e.id AND v.seq = e.seq WHERE e.id = ANY(%s)",
                    (chunk,),
                )
                raw.execute("INSERT INTO r_runs SELECT 'run' || x, x, 'w', now() FROM unnest(%s::text[]) x", (chunk,))
                raw.execute(
                    "UPDATE r_entries SET status = 'in_progress', seq = seq + 1, run_id = 'run' || id, leased_until = now() + interval '2 min' WHERE id = ANY(%s) AND status = 'ready'",
                    (chunk,),
                )
                raw.execute(
                    "INSERT INTO r_events SELECT x, 2, clock_timestamp(), 'claimed', %s::jsonb, md5(x) FROM unnest(%s::text[]) x",
                    (data, chunk),
                )
        return number / (time.perf_counter() - began)


def _one_row(url: str, seconds: float = 3.0) -> float:
    """One-row updates a second, synced, four clients: the limit of this machine."""
    with psycopg.connect(url, autocommit=True) as raw:
        raw.execute("CREATE TABLE r_limit AS SELECT n AS id, 0 AS v FROM generate_series(1, 1000) n")
        raw.execute("CREATE UNIQUE INDEX ON r_limit (id)")
    done = [0] * 4

    def _client(number: int) -> None:
        with psycopg.connect(url, autocommit=True) as mine:
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                mine.execute("UPDATE r_limit SET v = v + 1 WHERE id = %s", (number * 200 + done[number] % 200 + 1,))
                done[number] += 1

    threads = [threading.Thread(target=_client, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(done) / seconds


def _filed(made, number: int) -> list:
    records = ((f"r{n}", draft(dedupe_key=f"k{n}")) for n in range(number))
    return list(intake.file(made.kit, records, actor="bench", channel="bench"))


SEEDED = """
INSERT INTO entries (id, env, schema_version, title, dedupe_key, pipeline, labels, priority, input_sha256, created_at,
  status, seq, cleared_at, changed_at, rank_group)
SELECT 'bl_' || lpad(n::text, 26, '0'), 'prod', 1, 'entry ' || n, 'k' || n, 'spec', '["ai-ok"]',
  (ARRAY['high','medium','low'])[1 + n %% 3], 'x', now() - (n %% 400) * interval '6 hours' - n * interval '1 ms', 'queued', 2, now(), now(),
  '{"pipeline":"spec","priority":"' || (ARRAY['high','medium','low'])[1 + n %% 3] || '"}'
FROM generate_series(%(first)s, %(last)s) n"""
SEEDED_EVENTS = """
INSERT INTO events (entry_id, seq, at, change, version, actor, data, canonical, prev, hash)
SELECT 'bl_' || lpad(n::text, 26, '0'), s, now(), (ARRAY['filed','cleared'])[s], 1, 'bench', '{}', 'x', '', 'x'
FROM generate_series(%(first)s, %(last)s) n, generate_series(1, 2) s"""


def queue_sizes(servers: Servers, sizes: tuple[int, ...]) -> dict[str, object]:
    """P6 and P7: the exact top 100, and a whole tick, at several sizes; also after the policy changed its weights."""
    policy = POLICY.replace("top: 20, ahead: 10", f"top: {TOP}, ahead: 100").replace(
        "maxInProgress: 100", "maxInProgress: 1000000"
    )
    made = bench(url=servers.database(), policy=policy, slots=100_000)
    url, have = made.kit.store.url, 0
    top, changed, ticks = {}, {}, {}
    for size in sizes:
        with psycopg.connect(url, autocommit=True) as raw:
            raw.execute("SET session_replication_role = replica")
            for statement in (SEEDED, SEEDED_EVENTS):
                raw.execute(statement % {"first": have + 1, "last": size})
            raw.execute("VACUUM ANALYZE entries")
            raw.execute("ANALYZE events")
        have = size
        top[size] = timed(lambda: _best(made), 15)
        _reweigh(made, size)
        changed[size] = timed(lambda: _best(made), 15)
        ticks[size] = timed(lambda: _tick(made), 9)
    return {
        "top_100_ms": {size: round(1000 * value, 2) for size, value in top.items()},
        "after_policy_change_ms": {size: round(1000 * value, 2) for size, value in changed.items()},
        "tick_ms": {size: round(1000 * value, 1) for size, value in ticks.items()},
        "top_ratio": top[sizes[-1]] / top[sizes[0]],
        "tick_ratio": ticks[sizes[-1]] / ticks[sizes[0]],
        "top_exponent": exponent(top),
        "tick_exponent": exponent(ticks),
    }


def _best(made) -> None:
    with made.kit.store.read() as unit:
        found = list(islice(Queue(unit, "prod", made.kit.book.policy(unit), {}), TOP))
        assert len(found) == TOP


def _reweigh(made, size: int) -> None:
    from backlog_worker.integrations import DefinitionFile

    body = (
        made.texts.texts[0].body.partition("priority:")[0]
        + f"priority: {{ labels: {{ high: {size % 97 + 1}, medium: 2, low: 1 }} }}\n"
    )
    made.texts.texts[0] = DefinitionFile(kind="policy", file="policy.yml", body=body)
    definitions.reload(made.kit.store, made.kit.book, made.texts, author="bench")


def _tick(made) -> None:
    with made.kit.store.begin() as unit:
        unit.run("UPDATE leases SET until = {now} WHERE name LIKE 'dispatch%'")
    bells = dispatch.tick(made.kit)
    assert len(bells) == TOP


def imports(servers: Servers, number: int) -> dict[str, object]:
    """P8: an import with validation, deduplication, scoring and history, against COPY of the same rows."""
    made = bench(url=servers.database())
    now = datetime.now(UTC)
    issues = (
        (f"r{n}", draft(dedupe_key=f"github:acme/platform#{n}", title=f"Issue {n}: it does not work",
                        created_at=(now - timedelta(hours=n % 5000)).isoformat(), input={"title": "t", "body": "It fails. " * 40}))
        for n in range(number)
    )  # fmt: skip
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    filed = sum(each.new for each in intake.file(made.kit, issues, actor="bench", channel="bench"))
    ours = filed / (time.perf_counter() - began)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    with psycopg.connect(made.kit.store.url, autocommit=True) as raw:
        for table in ("entries", "entry_inputs", "events"):
            raw.execute(f"CREATE TABLE c_{table} (LIKE {table} INCLUDING ALL)")
        buffers = {}
        for table in ("entries", "entry_inputs", "events"):
            with raw.cursor().copy(f"COPY {table} TO STDOUT") as out:
                buffers[table] = io.BytesIO(b"".join(bytes(block) for block in out))
        began = time.perf_counter()
        for table, buffer in buffers.items():
            with raw.cursor().copy(f"COPY c_{table} FROM STDIN") as into:
                into.write(buffer.getvalue())
        copied = number / (time.perf_counter() - began)
    return {
        "ours_per_s": round(ours),
        "copy_per_s": round(copied),
        "ratio": ours / copied,
        "memory_grew_mb": round(grown, 1),
    }


def exponent(by_size: dict[int, float]) -> float:
    """The slope of log(time) over log(size): 0 is flat, 1 is linear."""
    xs, ys = [math.log(size) for size in by_size], [math.log(value) for value in by_size.values()]
    mean_x, mean_y = statistics.mean(xs), statistics.mean(ys)
    return sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / sum((x - mean_x) ** 2 for x in xs)
