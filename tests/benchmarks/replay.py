"""P9: fold and verify every history against the tables, against only reading the same rows; memory must stay flat."""

import resource
import time
from collections.abc import Iterator
from typing import Any

from backlog_worker.domain import projection
from backlog_worker.domain.events import chained
from backlog_worker.lifecycle import audit
from backlog_worker.testing import bench
from tests.benchmarks.servers import Servers

BATCH = 1000


def compared(servers: Servers, sizes: tuple[int, ...]) -> dict[str, dict[str, float]]:
    """Ratios at several sizes: seconds to read all histories over seconds to replay and verify them."""
    found: dict[str, dict[str, float]] = {}
    for size in sizes:
        made = bench(url=servers.database())
        entries, events = filled(made.kit, size)
        read = timed(lambda kit=made.kit: sum(len(each.events) for each in audit.told(kit)))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        replayed = timed(lambda kit=made.kit: sum(1 for _ in audit.verify(kit)))
        assert read[1] == events
        assert replayed[1] == 0, "a million-event replay equals the tables"
        found[str(size)] = {
            "entries": entries,
            "events": events,
            "read_s": round(read[0], 2),
            "replay_s": round(replayed[0], 2),
            "ratio": round(read[0] / replayed[0], 2),
            "events_per_s": round(events / replayed[0]),
            "memory_grew_mb": round((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, 1),
        }
        with made.kit.store.read() as unit:
            last = unit.value("SELECT max(id) FROM entries")
            began = time.perf_counter()
            unit.history(last)
            found[str(size)] |= {"one_history_ms": round((time.perf_counter() - began) * 1000, 2)}
            size_of = "SELECT pg_total_relation_size('events')" if unit.dialect.name == "postgresql" else "SELECT 0"
            found[str(size)] |= {"bytes_an_event": round(unit.value(size_of) / events)}
        made.kit.store.close()
    return found


def filled(kit: Any, size: int) -> tuple[int, int]:
    """Copy one real history until there are *size* events, each chained anew under an id of its own."""
    source = bench()
    (filed,) = source.file({})
    source.run(3)
    with source.kit.store.read() as unit:
        events = unit.history(filed.entry_id)
        row = unit.rows([filed.entry_id])[filed.entry_id]
        value = unit.input(filed.entry_id, row["input_sha256"])
    number = size // len(events)
    ids = [f"bl_{n:026d}" for n in range(number)]
    for at in range(0, number, BATCH):
        batch = ids[at : at + BATCH]
        rows = [{**row, "id": each, "dedupe_key": each} for each in batch]
        histories = [list(renamed(events, each)) for each in batch]
        runs = [run for each in histories for run in projection.runs(each).values()]
        with kit.store.begin() as unit:
            unit.restore_runs(runs)
            unit.adopt(
                rows,
                [event for each in histories for event in each],
                {each: {row["input_sha256"]: value} for each in batch},
            )
    with kit.store.begin() as unit:
        if unit.dialect.name == "postgresql":
            unit.run("ANALYZE")
    return number, number * len(events)


def renamed(events: Any, entry_id: str) -> Iterator[Any]:
    prev = ""
    for event in events:
        data = dict(event.data)
        if event.change == "filed":
            data["set"] = {**data["set"], "id": entry_id, "dedupe_key": entry_id}
        run_id = f"run_{entry_id}" if event.run_id else None
        if run_id and "run_id" in data.get("set", {}) and data["set"]["run_id"]:
            data["set"] = {**data["set"], "run_id": run_id}
        names = ("seq", "at", "change", "actor")
        fields = {name: getattr(event, name) for name in names} | {"entry_id": entry_id, "run_id": run_id, "data": data}
        made = chained(fields, prev)
        prev = made.hash
        yield made


def timed(act: Any) -> tuple[float, Any]:
    began = time.perf_counter()
    result = act()
    return time.perf_counter() - began, result
