"""What a job says while it runs, into the store: its log in chunks, its progress, what it spends; secrets masked.

A chunk is written once a second at most, in a transaction of its own that may be lost: nothing that counts is in it.
What a call cost is written at once and synced, for a worker that dies has spent it all the same.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from backlog_worker.domain.budget import Usage, price
from backlog_worker.domain.masking import masked
from backlog_worker.domain.usage import checked
from backlog_worker.executors import Report
from backlog_worker.lifecycle import Kit
from backlog_worker.lifecycle.held import Taken
from backlog_worker.lifecycle.loops import Loop, attempt
from backlog_worker.lifecycle.money import line
from backlog_worker.telemetry import emit

FLUSH_SECONDS = 1.0
CHUNK_BYTES = 16 * 1024
CHUNKS_KEPT = 64  # of the newest: a job that talks for hours keeps its last megabyte


class StageReport(Report):
    """The report of one take."""

    def __init__(self, kit: Kit, taken: Taken, secrets: Sequence[str]) -> None:
        super().__init__()
        self._kit, self._taken, self._secrets = kit, taken, tuple(secrets)
        self._waiting: list[str] = []
        self._unpaid: list[dict[str, Any]] = []
        self._bytes = self._chunks = 0
        self._said: int | None = None
        self._lock = threading.Lock()
        self._closed = False
        self._loop = Loop("report", self.flush, self._pause)

    def line(self, text: str) -> None:
        """Keep a line for the log."""
        text = masked(text, self._secrets)
        self.heard(text)
        with self._lock:
            self._waiting.append(text)
            self._bytes += len(text)
            full = self._bytes >= CHUNK_BYTES
        self._loop.start()
        if full:
            self.flush()

    def progress(self, percent: int) -> None:
        """Keep how far the job is; it never goes back."""
        with self._lock:
            self.percent = max(self.percent or 0, min(100, percent))
        self._loop.start()

    def spend(self, usage: Usage) -> None:
        """Write what a call used into the ledger, with its price where somebody knows it."""
        told = checked(usage)
        usd = price(told, self._taken.policy.prices)
        refused = list(told.refused)
        if usd is None:
            emit("price_unknown", model=told.model, job=self._taken.job.id)
            refused.append(f"nobody knows what a call of {told.model or 'an unnamed model'} cost")
        for text in told.refused:
            emit("cost_refused", entry=self._taken.entry.id, job=self._taken.job.id, why=text)
            self.line(f"[cost] {text}")
        self.usages.append(replace(told, usd=usd, refused=tuple(refused)))
        with self._lock:
            self._unpaid.append({**line(self._taken, told, usd), "id": self._kit.new_id("usd")})
        self._pay()

    def flush(self) -> None:
        """Write what waits; a store that is away loses a part of a log, and nothing else."""
        self._pay()
        attempt("report", self._tell)

    def _tell(self) -> None:
        with self._lock:
            text, self._waiting, self._bytes = "\n".join(self._waiting), [], 0
            said, self._said = self.percent != self._said, self.percent
            number, self._chunks = self._chunks, self._chunks + bool(text)
        if not text and not said:
            return
        run_id, job_id, take = self._taken.key
        with self._kit.store.begin(actor=self._kit.worker) as unit:
            unit.relaxed()
            if text:
                row = {"run_id": run_id, "job_id": job_id, "take": take, "n": number, "text": text}
                unit.add_log(row, keep=CHUNKS_KEPT)
            if said and self.percent is not None:
                unit.progress(run_id, job_id, take, self.percent)

    def close(self) -> None:
        """Write the rest; what was spent and cannot be written now is tried again as long as this process lives."""
        self._closed = True
        self.flush()
        self._loop.wake()

    def _pay(self) -> None:
        """Write what was spent into the ledger; while the store is away it is kept, and tried again with the log."""
        with self._lock:
            rows, self._unpaid = self._unpaid, []
        if not rows:
            return
        if attempt("report", partial(self._spent, rows)).error is not None:
            with self._lock:
                self._unpaid = rows + self._unpaid
            self._loop.start()

    def _spent(self, rows: Sequence[Mapping[str, Any]]) -> None:
        with self._kit.store.begin(actor=self._kit.worker) as unit:
            unit.spend(rows)

    def _pause(self) -> float | None:
        return None if self._closed and not self._unpaid else FLUSH_SECONDS
