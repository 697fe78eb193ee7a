"""The outbox: messages to other systems (*wishes*), stored with the change that caused them; the newest wins."""

from collections.abc import Mapping, Sequence
from typing import Any

from backlog_worker.domain.events import digest
from backlog_worker.domain.masking import cut
from backlog_worker.store.sql.reviews import Reviews
from backlog_worker.store.sql.statements import HERE

_NEWER = """ON CONFLICT (env, target, topic) DO UPDATE SET body = excluded.body, sha256 = excluded.sha256,
 seq = excluded.seq, run_id = excluded.run_id, status = 'due', put_at = excluded.put_at,
 attempts = CASE WHEN outbox.status = 'due' THEN outbox.attempts ELSE 0 END,
 retry_at = NULL, rung_at = NULL, error = NULL WHERE excluded.seq > outbox.seq AND excluded.sha256 <> outbox.sha256"""

_WISH = "id, target, topic, entry_id, run_id, seq, body, sha256, status, attempts, put_at, sent_at, remote_id, error"


class Outbox(Reviews):
    """Methods for the outbox."""

    def put(self, row: Mapping[str, Any]) -> None:
        """Store a wish with the digest of its body: one row per environment, target and topic.

        An older wish never replaces a newer one.
        """
        wish = {**row, "env": self.env, "sha256": digest(row["body"]), "status": "due"}
        self.insert_bound("outbox", [wish], _NEWER)

    def take_wishes(self, lease: float, most: int) -> list[dict[str, Any]]:
        """Take the oldest due wishes, for *lease* seconds in total; commit before sending them."""
        text = (
            "UPDATE outbox SET attempts = attempts + 1, leased_until = {later} WHERE id IN (SELECT id FROM outbox"
            " WHERE env = :env AND status = 'due' AND (leased_until IS NULL OR leased_until < {now})"
            " AND (retry_at IS NULL OR retry_at <= {now}) ORDER BY id LIMIT :most {skip_locked})"
            " RETURNING id, target, topic, entry_id, run_id, seq, body, sha256, attempts, remote_id"
        )
        return sorted(
            self.select("outbox", text, env=self.env, lease=lease, most=most), key=lambda wish: str(wish["id"])
        )

    def ring_wishes(self, lost_after: float) -> bool:
        """Return whether to ring a bell for due wishes, and record it: one bell for all until they are taken.

        Wishes with a pending bell suppress further bells until that bell counts as lost.
        """
        due = (
            f"status = 'due' AND {HERE} AND (leased_until IS NULL OR leased_until < {{now}})"
            " AND (retry_at IS NULL OR retry_at <= {now})"
        )
        rung = (
            "coalesce(rung_at >= coalesce(retry_at, rung_at) AND rung_at >= coalesce(leased_until, rung_at)"
            f" AND rung_at > {self.past('ago')}, false)"
        )
        values = {"env": self.env, "ago": lost_after}
        heard = int(self.value(f"SELECT count(*) FROM outbox WHERE {due} AND {rung}", **values))
        text = f"UPDATE outbox SET rung_at = {{now}} WHERE {due} AND NOT {rung}"
        return bool(self.count(text, **values)) and not heard

    def wishes_unheard(self) -> None:
        """Record that the bell for due wishes was never sent."""
        self.count(f"UPDATE outbox SET rung_at = NULL WHERE status = 'due' AND {HERE}", env=self.env)

    def sent(self, wish: Mapping[str, Any], remote_id: str) -> bool:
        """Record that a wish was delivered; a newer one stays due, and an outdated sender changes nothing."""
        text = (
            "UPDATE outbox SET status = CASE WHEN seq = :seq THEN 'sent' ELSE 'due' END, sent_at = {now},"
            " remote_id = :remote, leased_until = NULL, error = NULL"
            " WHERE id = :id AND attempts = :attempts"
        )
        values = {"id": wish["id"], "seq": wish["seq"], "attempts": wish["attempts"], "remote": remote_id}
        return bool(self.write_bound("outbox", text, **values))

    def unsent(self, wish: Mapping[str, Any], error: str, wait: float, *, give_up: bool) -> None:
        """Record that a wish was not delivered: it is retried after *wait* seconds, or given up with an alert."""
        text = (
            "UPDATE outbox SET status = :status, error = :error, leased_until = NULL, retry_at = {later}"
            " WHERE id = :id AND attempts = :attempts"
        )
        status = "given_up" if give_up else "due"
        values = {"id": wish["id"], "attempts": wish["attempts"], "error": cut(error, 500), "status": status}
        if give_up:
            self.write_bound("outbox", text, lease=wait, **values)
        else:
            self.count(text, lease=wait, **values)  # when it is tried again is nothing that the history tells

    def wishes(self, entry_id: str | None = None, most: int = 200) -> list[dict[str, Any]]:
        """Return wishes, newest first."""
        text = (
            f"SELECT {_WISH} FROM outbox WHERE env = :env AND entry_id = coalesce(:entry, entry_id)"
            " ORDER BY put_at DESC, id DESC LIMIT :most"
        )
        return self.select("outbox", text, env=self.env, entry=entry_id, most=most)

    def wish(self, wish_id: str) -> dict[str, Any] | None:
        """Return one wish."""
        text = f"SELECT {_WISH} FROM outbox WHERE id = :id AND {HERE}"
        rows = self.select("outbox", text, id=wish_id, env=self.env)
        return rows[0] if rows else None

    def send_again(self, wish_ids: Sequence[str]) -> int:
        """Mark wishes to be sent again, even if they were sent before."""
        text = (
            "UPDATE outbox SET status = 'due', attempts = 0, retry_at = NULL, leased_until = NULL, rung_at = NULL,"
            f" error = NULL WHERE id {{ids}} AND {HERE}"
        )
        return len(self.write_bound("outbox", text, ids=self.dialect.bind(wish_ids), env=self.env))

    def wishes_given_up(self) -> int:
        """Count the wishes that were given up."""
        return int(self.value("SELECT count(*) FROM outbox WHERE env = :env AND status = 'given_up'", env=self.env))

    def wishes_due(self) -> int:
        """Count the wishes that are due."""
        return int(self.value("SELECT count(*) FROM outbox WHERE env = :env AND status = 'due'", env=self.env))
