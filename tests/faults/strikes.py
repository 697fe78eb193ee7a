"""Strikes at a fleet that `up` runs: its own processes, its servers, its messages and its locks; all seeded."""

import contextlib
import os
import random
import signal
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import redis

LOCKED = ("workers", "leases", "entries", "stages", "outbox", "events")


@dataclass
class Strikes:
    """What may befall one fleet; each strike is one method, chosen by a seeded chance."""

    up_pid: int
    socket: Path
    server: object
    url: str
    chance: random.Random
    struck: Counter = field(default_factory=Counter)
    threads: list[threading.Thread] = field(default_factory=list)

    def one(self) -> None:
        """Let one thing happen."""
        strike = self.chance.choice(
            [self.kill_job, self.kill_child, self.kill_worker, self.freeze, self.double_messages, self.lock]
            + [self.restart_database, self.restart_broker] * (self.chance.random() < 0.5)
        )
        if strike():
            self.struck[strike.__name__] += 1

    def kill_job(self) -> bool:
        """Kill what a pool child started for a job."""
        return self._kill([job for child in self._pool() for job in children(child)])

    def kill_child(self) -> bool:
        """Kill one child of the stage worker's pool, as the kernel does when memory runs out."""
        return self._kill(self._pool())

    def kill_worker(self) -> bool:
        """Kill a worker or the beat with all that it started; `up` starts it again."""
        found = [pid for word in ("stages@", "control@", " beat ") for pid in self._service(word)]
        if not found:
            return False
        victim = self.chance.choice(found)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(os.getpgid(victim), signal.SIGKILL)
        return True

    def freeze(self) -> bool:
        """Stop the stage worker's whole group for longer than its leases, then let it go on."""
        found = self._service("stages@")
        if not found:
            return False
        with contextlib.suppress(ProcessLookupError):
            group = os.getpgid(found[0])
            os.killpg(group, signal.SIGSTOP)
            time.sleep(6.0)  # past the lease: the fault itself
            os.killpg(group, signal.SIGCONT)
        return True

    def double_messages(self) -> bool:
        """Put a copy of everything that waits in the broker beside it."""
        with contextlib.suppress(redis.RedisError, OSError), redis.Redis(unix_socket_path=str(self.socket)) as client:
            for key in client.scan_iter(count=1000):
                if not key.startswith(b"_kombu") and client.type(key) == b"list":
                    for message in client.lrange(key, 0, -1):
                        client.rpush(key, message)
            return True
        return False

    def lock(self) -> bool:
        """Hold a whole table for longer than a lock may be waited for."""
        table, seconds = self.chance.choice(LOCKED), self.chance.choice([1.0, 12.0])
        holder = threading.Thread(target=self._hold, args=(table, seconds), daemon=True)
        holder.start()
        self.threads.append(holder)
        return True

    def restart_database(self) -> bool:
        """Stop PostgreSQL at once, and start it two seconds later."""
        self.server.stop()
        time.sleep(2.0)
        self.server.start()
        return True

    def restart_broker(self) -> bool:
        """Kill the broker; `up` starts it again."""
        return self._kill(self._service("valkey-server") or self._service("redis-server"))

    def calm(self) -> None:
        """Wait until nothing is held any more."""
        for thread in self.threads:
            thread.join(30)

    def _hold(self, table: str, seconds: float) -> None:
        with contextlib.suppress(psycopg.Error), psycopg.connect(self.url, connect_timeout=3) as connection:
            connection.execute("SET lock_timeout = '5s'")
            connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
            time.sleep(seconds)

    def _kill(self, pids: list[int]) -> bool:
        if not pids:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.chance.choice(pids), signal.SIGKILL)
        return True

    def _service(self, word: str) -> list[int]:
        return [pid for pid in children(self.up_pid) if word in words(pid)]

    def _pool(self) -> list[int]:
        return [child for pid in self._service("stages@") for child in children(pid)]


def children(pid: int) -> list[int]:
    """The processes that *pid* started itself."""
    with contextlib.suppress(OSError, ValueError):
        listed = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
        return [int(each) for text in listed for each in text.split()]
    return []


def words(pid: int) -> str:
    """The command line of a process."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""
