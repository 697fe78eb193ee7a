"""Tokens, operations, alerts, snapshots, digests, and the queries of the dashboard."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from backlog_worker.domain.entry import FINAL
from backlog_worker.domain.outcome import PAUSES
from backlog_worker.store.sql.dialect import moment
from backlog_worker.store.sql.seals import Seals
from backlog_worker.store.sql.statements import Row

_TOKEN = "id, env, name, role, hash, created_by, scopes, created_at, expires_at, used_at, revoked_at, revoked_by"  # noqa: S105 - names of columns
_ACT = "id, env, at, actor, action, result, subject, reason, detail"
_ALERT = "id, env, rule, words, notify, since, fired_at, resolved_at, acked_at, acked_by, reason"
_PAUSES = ", ".join(f"'{kind}'" for kind in sorted(PAUSES))
_OPEN = "status NOT IN (" + ", ".join(f"'{status}'" for status in sorted(FINAL)) + ")"


class Access(Seals):
    """Methods for tokens, operations, alerts and the dashboard."""

    def add_token(self, row: Mapping[str, Any]) -> None:
        """Store a token; only its keyed hash is stored."""
        self.insert("tokens", [{**row, "created_at": self.now()}])

    def token(self, token_id: str) -> Row | None:
        """Return one token by its id, valid or not."""
        rows = self.select("tokens", f"SELECT {_TOKEN} FROM tokens WHERE id = :id", id=token_id)
        return rows[0] if rows else None

    def tokens(self, env: str) -> list[Row]:
        """Return the tokens of an environment, newest first."""
        text = f"SELECT {_TOKEN} FROM tokens WHERE env = :env ORDER BY created_at DESC, id"
        return self.select("tokens", text, env=env)

    def use_token(self, token_id: str) -> None:
        """Record the use of a token, at most once a minute."""
        minute = "{now} - " + self._seconds_of("60")
        text = f"UPDATE tokens SET used_at = {{now}} WHERE id = :id AND (used_at IS NULL OR used_at < {minute})"
        self.count(text, id=token_id)

    def revoke_token(self, env: str, token_id: str, actor: str) -> bool:
        """Revoke a token permanently; False if there is no valid one."""
        text = (
            f"UPDATE tokens SET revoked_at = {self._moment('at')}, revoked_by = :actor WHERE env = :env AND id = :id"
            " AND revoked_at IS NULL"
        )
        return bool(self.count(text, env=env, id=token_id, actor=actor, at=self.now().timestamp()))

    def act(self, row: Mapping[str, Any]) -> None:
        """Record an operation or a denied attempt; it never changes afterwards."""
        self.insert("operations", [{**row, "at": self.now()}])

    def adopt_acts(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Insert operations from a journal, each once, with the current time."""
        self.insert("operations", [{**row, "at": self.now()} for row in rows], "ON CONFLICT DO NOTHING")

    def acts(self, env: str, *, action: str = "", result: str = "", most: int = 100) -> list[Row]:
        """Return operations, newest first."""
        text = (
            f"SELECT {_ACT} FROM operations WHERE env = :env AND (:action = '' OR action = :action)"
            " AND (:result = '' OR result = :result) ORDER BY at DESC, id DESC LIMIT :most"
        )
        return self.select("operations", text, env=env, action=action, result=result, most=most)

    def open_alerts(self, env: str) -> dict[str, Row]:
        """Return the unresolved alerts by rule."""
        text = f"SELECT {_ALERT} FROM alerts WHERE env = :env AND resolved_at IS NULL"
        return {row["rule"]: row for row in self.select("alerts", text, env=env)}

    def alerts(self, env: str, most: int) -> list[Row]:
        """Return alerts, including resolved ones, newest first."""
        text = f"SELECT {_ALERT} FROM alerts WHERE env = :env ORDER BY since DESC, id DESC LIMIT :most"
        return self.select("alerts", text, env=env, most=most)

    def begin_alert(self, row: Mapping[str, Any]) -> None:
        """Record that a rule became true; a unique index allows one open alert per rule."""
        self.insert("alerts", [{**row, "since": self.now()}], "ON CONFLICT DO NOTHING")

    def fire_alert(self, alert_id: str, words: str) -> bool:
        """Mark an alert as fired, once."""
        text = "UPDATE alerts SET fired_at = {now}, words = :words WHERE id = :id AND fired_at IS NULL"
        return bool(self.count(text, id=alert_id, words=words))

    def resolve_alert(self, alert_id: str) -> bool:
        """Mark an alert as resolved, once."""
        return bool(
            self.count("UPDATE alerts SET resolved_at = {now} WHERE id = :id AND resolved_at IS NULL", id=alert_id)
        )

    def ack_alert(self, env: str, alert_id: str, actor: str, reason: str) -> bool:
        """Record who handles an alert, named by id or rule; False if none is open and unacknowledged."""
        text = (
            "UPDATE alerts SET acked_at = {now}, acked_by = :actor, reason = :reason WHERE env = :env"
            " AND (id = :id OR rule = :id) AND resolved_at IS NULL AND acked_at IS NULL"
        )
        return bool(self.count(text, env=env, id=alert_id, actor=actor, reason=reason))

    def keep_snapshot(self, env: str, kind: str, at: datetime, data: Mapping[str, Any]) -> None:
        """Store the measurement of a moment; each moment is stored once."""
        self.insert("snapshots", [{"env": env, "kind": kind, "at": at, "data": data}], "ON CONFLICT DO NOTHING")

    def snapshots(self, env: str, kind: str, since: datetime) -> list[Row]:
        """Return the measurements since a moment, oldest first."""
        text = (
            "SELECT env, kind, at, data FROM snapshots WHERE env = :env AND kind = :kind"
            f" AND at >= {self._moment('since')} ORDER BY at"
        )
        return self.select("snapshots", text, env=env, kind=kind, since=since.timestamp())

    def keep_digest(self, env: str, row: Mapping[str, Any]) -> None:
        """Store a digest, replacing the one of the same kind and period."""
        tail = (
            "ON CONFLICT (env, kind, period) DO UPDATE SET sha256 = excluded.sha256, body = excluded.body,"
            " at = excluded.at"
        )
        self.insert("digests", [{**row, "env": env, "at": self.now()}], tail)

    def digest(self, env: str, kind: str, period: str = "") -> Row | None:
        """Return the digest of a period; without *period*, the newest."""
        text = (
            "SELECT kind, period, sha256, body, at FROM digests WHERE env = :env AND kind = :kind"
            " AND (:period = '' OR period = :period) ORDER BY period DESC LIMIT 1"
        )
        rows = self.select("digests", text, env=env, kind=kind, period=period)
        return rows[0] if rows else None

    def overdue_entries(self, env: str, most: int) -> tuple[int, list[Row]]:
        """Count open entries past their due date, and return the most overdue ones."""
        where = f"FROM entries WHERE env = :env AND due_date < {{now}} AND {_OPEN}"
        count = int(self.value(f"SELECT count(*) {where}", env=env))
        text = f"SELECT id, title, service, category, owner, priority, status, due_date {where} ORDER BY due_date, id"
        return count, self.select("entries", f"{text} LIMIT :most", env=env, most=most)

    def overdue_by_priority(self, env: str) -> dict[str, int]:
        """Count open entries past their due date, by priority."""
        text = f"SELECT priority, count(*) FROM entries WHERE env = :env AND due_date < {{now}} AND {_OPEN} GROUP BY 1"
        return self._pairs(text, env)

    def priorities(self, env: str) -> dict[str, int]:
        """Count entries by priority."""
        return self._pairs("SELECT priority, count(*) FROM entries WHERE env = :env GROUP BY 1", env)

    def services(self, env: str, most: int) -> list[tuple[str, int]]:
        """Return the services with the most open entries."""
        text = (
            f"SELECT service, count(*) FROM entries WHERE env = :env AND service <> '' AND {_OPEN}"
            " GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT :most"
        )
        return [(row[0], int(row[1])) for row in self.run(text, env=env, most=most)]

    def pressure(self, env: str, days: float) -> list[Row]:
        """Return, by service, the numbers of open, overdue, escalated and retrying entries, and of failed runs.

        Entries created from digests, their forks and the entries that they called are excluded, so that digests do not
        influence themselves.
        """
        self.plan_freely()
        text = (
            f"SELECT e.service, sum(CASE WHEN {_OPEN} THEN 1 ELSE 0 END) AS open,"
            f" sum(CASE WHEN {_OPEN} AND e.due_date < {{now}} THEN 1 ELSE 0 END) AS overdue,"
            " sum(CASE WHEN e.status = 'escalated' THEN 1 ELSE 0 END) AS escalated,"
            " sum(CASE WHEN e.status = 'retrying' THEN 1 ELSE 0 END) AS retrying,"
            f" sum((SELECT count(*) FROM runs r WHERE r.entry_id = e.id AND r.claimed_at > {self.past()})) AS runs,"
            " sum((SELECT count(*) FROM runs r WHERE r.entry_id = e.id AND r.ended_by IN ('retried', 'escalated',"
            f" 'failed', 'expired') AND coalesce(r.kind, '') NOT IN ({_PAUSES})"
            f" AND r.claimed_at > {self.past()})) AS failed,"
            f" min(CASE WHEN {_OPEN} THEN e.created_at END) AS oldest"
            " FROM entries e WHERE e.env = :env AND e.service <> '' AND coalesce(e.provenance ->> 'channel', '') <>"
            " 'digest' GROUP BY e.service ORDER BY e.service"
        )
        names = ("service", "open", "overdue", "escalated", "retrying", "runs", "failed", "oldest")
        rows: Sequence[Any] = self.run(text, env=env, seconds=days * 86_400)
        found = [dict(zip(names, row, strict=True)) for row in rows]
        return [{**row, "oldest": None if row["oldest"] is None else moment(row["oldest"])} for row in found]
