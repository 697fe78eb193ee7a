"""P13: a tick whose head of the queue waits for one full key, at several sizes of that crowd."""

import time

import psycopg

from backlog_worker.domain import lane
from backlog_worker.domain.admission import group_of
from backlog_worker.lifecycle import dispatch
from backlog_worker.testing import bench
from tests.benchmarks.servers import Servers
from tests.benchmarks.storage import SEEDED_EVENTS, timed

KEYED = """\
name: keyed
concurrency: { group: { key: "entry.service", limit: 1 } }
jobs: [{ id: a, python: "f:a" }]
"""
SEEDED = """
INSERT INTO entries (id, env, schema_version, title, dedupe_key, pipeline, service, labels, priority, input_sha256,
  created_at, status, seq, cleared_at, changed_at, rank_group, limit_key)
SELECT 'bl_' || lpad(n::text, 26, '0'), 'prod', 1, 'entry ' || n, 'k' || n, 'keyed', 'a', '["ai-ok"]', 'high', 'x',
  now() - interval '100 days' + n * interval '1 ms', 'queued', 2, now(), now(), '{group}', '{key}'
FROM generate_series({first}, {last}) n"""


def compared(servers: Servers, sizes: tuple[int, ...]) -> dict[str, object]:
    """Seconds and statements of the first tick, and of a tick once the crowd has its lane, for each size."""
    made = bench(url=servers.database(), pipelines=[KEYED, KEYED.replace("keyed", "spec").replace("service", "url")])
    url, have = made.kit.store.url, 0
    made.file({"pipeline": "keyed", "service": "a", "priority": "high", "created_at": "2020-01-01T00:00:00Z"})
    made.tick()  # the key is held
    with made.kit.store.read() as unit:
        held = unit.entry(unit.value("SELECT id FROM entries WHERE status = 'ready'"))
        group = group_of(made.kit.book.pipeline(unit, "keyed"))
        place = lane.lane_of(held, made.kit.book.policy(unit), group)
    first, later, statements, ticks = {}, {}, {}, {}
    for size in sizes:
        text = SEEDED.replace("{group}", place["rank_group"]).replace("{key}", place["limit_key"])
        with psycopg.connect(url, autocommit=True) as raw:
            raw.execute("SET session_replication_role = replica")
            raw.execute(text.replace("{first}", str(have + 1)).replace("{last}", str(size)))
            raw.execute(SEEDED_EVENTS % {"first": have + 1, "last": size})
            raw.execute("VACUUM ANALYZE entries")
        have = size
        began = time.perf_counter()
        assert _tick(made), "somebody behind the crowd goes in the first tick already"
        first[size] = time.perf_counter() - began
        ticks[size] = 1
        while _left(made, place) and ticks[size] < size:
            _tick(made)
            ticks[size] += 1
        before = made.kit.store.statements
        _tick(made)
        statements[size] = made.kit.store.statements - before
        later[size] = timed(lambda: _tick(made), 9)
    return {
        "first_tick_ms": {size: round(1000 * value, 1) for size, value in first.items()},
        "ticks_until_the_crowd_has_its_lane": ticks,
        "tick_ms": {size: round(1000 * value, 1) for size, value in later.items()},
        "statements": statements,
        "tick_ratio": later[sizes[-1]] / later[sizes[0]],
    }


def _tick(made) -> bool:
    """File one entry that is free to go, and tick; returns whether it went."""
    (filed,) = made.file({"pipeline": "spec", "url": f"https://x/{time.time()}", "priority": "low"})
    with made.kit.store.begin() as unit:
        unit.run("UPDATE leases SET until = {now} WHERE name LIKE 'dispatch%'")
    went = filed.entry_id in {each for bell in dispatch.tick(made.kit) for each in bell.ids}
    with made.kit.store.begin() as unit:
        unit.hold([filed.entry_id])
        unit.move(filed.entry_id, "canceled", "bench")
    return went


def _left(made, place) -> bool:
    with made.kit.store.read() as unit:
        text = "SELECT 1 FROM entries WHERE status = 'queued' AND rank_group = :group AND limit_key = :key LIMIT 1"
        return bool(unit.run(text, group=place["rank_group"], key=place["limit_key"]))
