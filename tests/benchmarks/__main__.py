"""`python -m tests.benchmarks --list`, `python -m tests.benchmarks p1 p6 --json`: each prints its ratio."""

import argparse
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version

from backlog_worker import telemetry
from tests.benchmarks import analysis, crowds, graphs, latency, replay, servers, storage, throughput

Bench = Callable[[servers.Servers, argparse.Namespace], dict[str, object]]
BENCHMARKS: dict[str, tuple[str, Bench]] = {
    "p1": ("3 no-op stages, a bell per stage / Celery chain; at least 1.0", lambda s, g: throughput.compared(s, g.rounds, g.entries, inline=False, batch=1)),
    "p2": ("3 inline stages, one entry a bell / Celery chain; at least 2", lambda s, g: throughput.compared(s, g.rounds, g.entries, inline=True, batch=1)),
    "p3": ("3 inline stages, 20 and 100 entries a bell / Celery chain; at least 10 and 18", lambda s, g: {
        str(batch): throughput.compared(s, g.rounds, g.entries * 4, inline=True, batch=batch) for batch in (20, 100)}),
    "p4": ("claim and event, 10 and 100 / raw psycopg and a one-row update; 0.6, and 1.5 and 3", lambda s, _g: {str(n): storage.claims(s, n) for n in (10, 100)}),
    "p5": ("bell to start / Celery's own, p50 and p99; at most 1.5 and 3", lambda s, _g: latency.compared(s)),
    "p6": ("top 100 of 1 M / of 10 k, also after a policy change; under 3, and 5 ms", lambda s, g: storage.queue_sizes(s, tuple(g.sizes))),
    "p7": ("a whole tick at 1 M / at 10 k; under 2, and 100 ms (printed by p6)", lambda s, g: storage.queue_sizes(s, tuple(g.sizes))),
    "p8": ("import of 100,000 / COPY of the same rows; at least 0.1", lambda s, _g: storage.imports(s, 100_000)),
    "p9": ("replay with verification of every history / reading the same rows; at least 0.3, flat memory", lambda s, g: replay.compared(s, tuple(g.sizes))),
    "p10": ("a plan of 1,000 jobs under 10 ms; a finished job costs the same early and late; 100 jobs and a join / Celery", lambda s, g: graphs.compared(s, g.rounds)),
    "p11": ("SQLite / PostgreSQL, P2's work; at least 1.0", lambda s, g: throughput.sqlite_against_postgres(s, g.rounds, g.entries)),
    "p12": ("a slot that waits for an agent / a Celery slot that sleeps; at most 1.3, CPU under 0.002", lambda s, _g: throughput.waiting_slot(s)),
    "p13": ("a tick behind 1 M entries of one full key / behind 10 k; under 2", lambda s, g: crowds.compared(s, tuple(g.sizes))),
    "p14": ("analysis of an issue without a model: median under 2 ms; ten times the text under 30 times as long", analysis.measured),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*BENCHMARKS, []], help="which; none: all")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--entries", type=int, default=2000)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    given = parser.parse_args()
    if given.list:
        for name, (words, _) in BENCHMARKS.items():
            print(f"{name:<4} {words}")
        return
    telemetry.configure(level="ERROR")
    found: dict[str, object] = {"environment": environment()}
    with servers.started() as running:
        for name in given.names or BENCHMARKS:
            began = time.monotonic()
            found[name] = BENCHMARKS[name][1](running, given)
            if not given.json:
                print(f"{name}  {BENCHMARKS[name][0]}  [{time.monotonic() - began:.0f} s]")
                print(json.dumps(found[name], indent=2, default=str), flush=True)
    if given.json:
        json.dump(found, sys.stdout, default=str)


def environment() -> dict[str, str]:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout
    names = ("celery", "kombu", "sqlalchemy", "psycopg", "redis")
    return {"commit": commit.strip(), "python": platform.python_version(), **{name: version(name) for name in names}}


if __name__ == "__main__":
    main()
