"""What jobs print: chunks in order, of which the last are kept."""

from collections.abc import Mapping, Sequence
from typing import Any

from backlog_worker.store.sql.spending import Spending


class Logs(Spending):
    """Verbs of logs."""

    def add_log(self, row: Mapping[str, Any], *, keep: int) -> None:
        """Add a chunk to the log of a take, and drop what lies more than *keep* chunks behind it."""
        self.insert("log_chunks", [{**row, "at": self.now()}], "ON CONFLICT DO NOTHING")
        if row["n"] >= keep:
            text = "DELETE FROM log_chunks WHERE run_id = :run AND job_id = :job AND take = :take AND n <= :old"
            self.count(text, run=row["run_id"], job=row["job_id"], take=row["take"], old=row["n"] - keep)

    def log(self, run_id: str, *, job_id: str = "", after: Sequence[Any] = ("", 0, -1)) -> list[dict[str, Any]]:
        """Return the chunks of a run, in the order of time; *after* is (job, take, n) of the last that was seen."""
        text = (
            "SELECT run_id, job_id, take, n, at, text FROM log_chunks WHERE run_id = :run"
            " AND (:job = '' OR job_id = :job) ORDER BY at, job_id, take, n"
        )
        rows = self.select("log_chunks", text, run=run_id, job=job_id)
        keys = [(row["job_id"], row["take"], row["n"]) for row in rows]
        at = keys.index(tuple(after)) + 1 if tuple(after) in keys else 0
        return rows[at:]

    def relaxed(self) -> None:
        """Let this transaction be lost in a crash of the server: what it writes is said again, or not missed."""
        if self.dialect.name == "postgresql":
            self.run("SET LOCAL synchronous_commit = off")
