"""What a job reports while it runs: its log in chunks, its progress, its spending; secrets are masked.

A chunk is written at most once a second, in a transaction of its own that may be lost, since nothing depends on it. The
cost of a call is written and synced at once, because it is spent even if the worker dies.
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
CHUNKS_KEPT = 64  # of the newest lines: a job that logs for hours keeps its last megabyte


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
        """Add a line to the log."""
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
        """Store the progress of the job, which never decreases."""
        with self._lock:
            self.percent = max(self.percent or 0, min(100, percent))
        self._loop.start()

    def spend(self, usage: Usage) -> None:
        """Write the usage of a call into the ledger, with its price if that is known."""
        told = checked(usage)
        usd = price(told, self._taken.policy.prices)
        refused = list(told.refused)
        if usd is None:
            emit("price_unknown", model=told.model, job=self._taken.job.id)
            refused.append(f"the price of a call of {told.model or 'an unnamed model'} is not known")
        for text in told.refused:
            emit("cost_refused", entry=self._taken.entry.id, job=self._taken.job.id, why=text)
            self.line(f"[cost] {text}")
        self.usages.append(replace(told, usd=usd, refused=tuple(refused)))
        with self._lock:
            self._unpaid.append({**line(self._taken, told, usd), "id": self._kit.new_id("usd")})
        self._pay()

    def flush(self) -> None:
        """Write pending lines and progress; if the store is unavailable, only a part of a log is lost."""
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
        """Write the rest; spending that cannot be written now is retried as long as this process lives."""
        self._closed = True
        self.flush()
        self._loop.wake()

    def _pay(self) -> None:
        """Write spending into the ledger; while the store is unavailable it is kept and retried with the log."""
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
