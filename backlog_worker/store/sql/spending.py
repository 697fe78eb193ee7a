"""What was spent, and results that may be used again: a ledger that is only added to, and a store with an end date."""

from collections.abc import Mapping, Sequence
from typing import Any

from backlog_worker.domain.budget import Scope
from backlog_worker.store.sql.limits import Limits

SCOPES: Mapping[Scope, str] = {
    Scope.DAY: "at >= {day}",
    Scope.TEAM: "at >= {day} AND team = :name",
    Scope.PIPELINE: "at >= {day} AND pipeline = :name",
    Scope.ENTRY: "entry_id = :name",
    Scope.RUN: "entry_id = (SELECT entry_id FROM runs WHERE id = :name) AND run_id = :name",
}
# Older releases took what a job claimed: what is no price counts as not known, and is never summed.
_USD = "CASE WHEN usd >= 0 AND usd < 1e300 THEN usd END"
_WHOLE = f"CASE WHEN count(*) = count({_USD}) THEN sum({_USD}) END"  # no sum where a call of it has no price
_BY = ("pipeline", "team", "agent", "model", "job_id", "entry_id", "run_id")


class Spending(Limits):
    """Verbs of money and of stored results."""

    def spend(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add lines to the ledger; the same id is added once."""
        self.insert("spending", [{**row, "at": self.now()} for row in rows], "ON CONFLICT DO NOTHING")

    def spent(self, env: str, scope: Scope, name: str = "") -> float:
        """Return what was spent in a scope: a day, a team or a pipeline today, an entry or a run ever."""
        return self.tally(env, scope, name)[0]

    def tally(self, env: str, scope: Scope, name: str = "", *, job: str = "") -> tuple[float, int]:
        """Return the known prices of a scope, or of one job in it, added up, and how many calls have no price."""
        where, values = self._scoped(env, scope, name, job)
        text = f"SELECT coalesce(sum({_USD}), 0), count(*) - count({_USD}) FROM spending WHERE env = :env AND {where}"
        ((usd, unknown),) = self.run(text, **values)
        return float(usd), int(unknown)

    def unpriced(self, env: str, scope: Scope, name: str = "", *, job: str = "") -> list[dict[str, Any]]:
        """Return the calls of a scope that have no price, by model: how many tokens, and when the last one was."""
        where, values = self._scoped(env, scope, name, job)
        text = (
            "SELECT model, sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens, max(at) AS at"
            f" FROM spending WHERE env = :env AND {where} AND ({_USD}) IS NULL GROUP BY model ORDER BY model"
        )
        return self.select("spending", text, **values)

    def costs(self, env: str, by: str, days: float) -> list[dict[str, Any]]:
        """Return what was spent in the last days, by one of pipeline, team, agent, model, job, entry or run.

        `usd` adds up the known prices and is None where there is none; `unknown` counts the calls without one.
        """
        column = by if by in _BY else "pipeline"
        text = (
            f"SELECT {column}, count(*), sum({_USD}), count(*) - count({_USD}),"
            " sum(input_tokens), sum(output_tokens), sum(saved_usd) FROM spending"
            f" WHERE env = :env AND at >= {self.past()} GROUP BY {column} ORDER BY coalesce(sum({_USD}), 0) DESC, 1"
        )
        names = ("name", "calls", "usd", "unknown", "input_tokens", "output_tokens", "saved_usd")
        rows = self.run(text, env=env, seconds=days * 86_400)
        return [dict(zip(names, row, strict=True)) for row in rows]

    def usage(self, run_id: str) -> dict[str, dict[str, Any]]:
        """Return tokens and money of one run, by job; the price is None where one of its calls has none."""
        text = (
            f"SELECT job_id, sum(input_tokens), sum(output_tokens), {_WHOLE}, max(model),"
            f" sum(saved_usd), count(*) - count({_USD}) FROM spending WHERE run_id = :run GROUP BY job_id"
        )
        names = ("input_tokens", "output_tokens", "usd", "model", "saved_usd", "unknown")
        return {row[0]: dict(zip(names, row[1:], strict=True)) for row in self.run(text, run=run_id)}

    def reserved(self, env: str) -> list[dict[str, Any]]:
        """Return what entries that are ready or in progress have reserved, with their team and pipeline."""
        text = (
            "SELECT id, team, pipeline, reserved_usd FROM entries WHERE env = :env"
            " AND status IN ('ready', 'in_progress') AND reserved_usd IS NOT NULL"
        )
        return self.select("entries", text, env=env)

    def costs_of_jobs(self, env: str, pipeline: str) -> dict[str, tuple[int, float | None]]:
        """Return the mean price of a run's job by job, from the ledger: (runs, mean US dollars).

        The mean is over the runs in which every call of the job has a price, and None where there is no such run.
        """
        text = (
            "SELECT job_id, count(*), avg(usd) FROM"
            f" (SELECT job_id, run_id, {_WHOLE} AS usd FROM spending"
            " WHERE env = :env AND pipeline = :name GROUP BY job_id, run_id) AS runs GROUP BY job_id"
        )
        rows = self.run(text, env=env, name=pipeline)
        return {row[0]: (row[1], None if row[2] is None else float(row[2])) for row in rows}

    def durations(self, env: str, hashes: Sequence[str], most: int) -> list[tuple[str, float]]:
        """Return (job, seconds) of the last completed stages of a pipeline's versions."""
        seconds = self._between("s.started_at", "s.ended_at")
        text = (
            f"SELECT s.job_id, {seconds} FROM stages s JOIN entries e ON e.id = s.entry_id WHERE e.env = :env"
            " AND s.status = 'completed' AND s.started_at IS NOT NULL AND s.pipeline_hash {ids}"
            " ORDER BY s.ended_at DESC LIMIT :most"
        )
        return [(row[0], float(row[1])) for row in self.run(text, env=env, ids=self.dialect.bind(hashes), most=most)]

    def keep_result(self, row: Mapping[str, Any], ttl: float) -> None:
        """Keep a result under its key for *ttl* seconds, in place of an older one."""
        self.insert(
            "results",
            [{**row, "at": self.now(), "until": self.now().timestamp() + ttl}],
            "ON CONFLICT (env, key) DO UPDATE SET output = excluded.output, sha256 = excluded.sha256,"
            " artifacts = excluded.artifacts, gates = excluded.gates, usd = excluded.usd, at = excluded.at,"
            " until = excluded.until, entry_id = excluded.entry_id, run_id = excluded.run_id",
        )

    def result(self, env: str, key: str) -> dict[str, Any] | None:
        """Return a stored result that is not over, and count that it was used."""
        text = (
            "UPDATE results SET hits = hits + 1 WHERE env = :env AND key = :key AND until > {now}"
            " RETURNING key, pipeline, job_id, entry_id, run_id, sha256, output, artifacts, gates, usd, at"
        )
        rows = self.select("results", text, env=env, key=key)
        return rows[0] if rows else None

    def results(self, env: str, most: int) -> list[dict[str, Any]]:
        """Return stored results, newest first."""
        text = (
            "SELECT key, pipeline, job_id, entry_id, run_id, sha256, usd, at, until, hits FROM results"
            " WHERE env = :env ORDER BY at DESC LIMIT :most"
        )
        return self.select("results", text, env=env, most=most)

    def forget_results(self, env: str, *, pipeline: str = "", everything: bool = False) -> int:
        """Drop stored results: of one pipeline, all, or those that are over."""
        if everything:
            return self.count("DELETE FROM results WHERE env = :env", env=env)
        if pipeline:
            return self.count("DELETE FROM results WHERE env = :env AND pipeline = :name", env=env, name=pipeline)
        return self.count("DELETE FROM results WHERE env = :env AND until < {now}", env=env)

    def _scoped(self, env: str, scope: Scope, name: str, job: str) -> tuple[str, dict[str, str]]:
        """Return the condition of a scope, or of one job in it, with its values."""
        where = SCOPES[scope].replace("{day}", self._day())
        values = {"env": env, "name": name} if ":name" in where else {"env": env}
        return (f"{where} AND job_id = :job", values | {"job": job}) if job else (where, values)

    def _day(self) -> str:
        if self.dialect.name == "postgresql":
            return "date_trunc('day', {now} AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'"
        return "CAST({now} / 86400 AS INTEGER) * 86400"

    def _between(self, first: str, last: str) -> str:
        return f"extract(epoch FROM {last} - {first})" if self.dialect.name == "postgresql" else f"{last} - {first}"
