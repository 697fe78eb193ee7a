"""Logs of jobs: ordered chunks, of which the last ones are kept."""

from collections.abc import Mapping, Sequence
from typing import Any

from backlog_worker.store.sql.spending import Spending


class Logs(Spending):
    """Methods for logs."""

    def add_log(self, row: Mapping[str, Any], *, keep: int) -> None:
        """Add a chunk to the log of a take, and delete all but the last *keep* chunks."""
        self.insert("log_chunks", [{**row, "at": self.now()}], "ON CONFLICT DO NOTHING")
        if row["n"] >= keep:
            text = "DELETE FROM log_chunks WHERE run_id = :run AND job_id = :job AND take = :take AND n <= :old"
            self.count(text, run=row["run_id"], job=row["job_id"], take=row["take"], old=row["n"] - keep)

    def log(self, run_id: str, *, job_id: str = "", after: Sequence[Any] = ("", 0, -1)) -> list[dict[str, Any]]:
        """Return the chunks of a run in time order, after the chunk (job, take, n) in *after*."""
        text = (
            "SELECT run_id, job_id, take, n, at, text FROM log_chunks WHERE run_id = :run"
            " AND (:job = '' OR job_id = :job) ORDER BY at, job_id, take, n"
        )
        rows = self.select("log_chunks", text, run=run_id, job=job_id)
        keys = [(row["job_id"], row["take"], row["n"]) for row in rows]
        at = keys.index(tuple(after)) + 1 if tuple(after) in keys else 0
        return rows[at:]

    def relaxed(self) -> None:
        """Allow this transaction to be lost in a server crash: its data is written again or dispensable."""
        if self.dialect.name == "postgresql":
            self.run("SET LOCAL synchronous_commit = off")
