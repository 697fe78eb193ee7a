"""Reviews: open, assign, remind, and answer once, for the entry as it was shown."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

from backlog_worker.domain.review import Decided, Review, ReviewKind
from backlog_worker.store.sql.dialect import moment
from backlog_worker.store.sql.stages import Stages
from backlog_worker.store.sql.statements import HERE

_COLUMNS = tuple(each.name for each in fields(Review))
_LISTED = ", ".join(_COLUMNS)


class Reviews(Stages):
    """Methods for reviews."""

    def ask(self, row: Mapping[str, Any]) -> None:
        """Open a review; a unique index refuses a second open one for a job of an entry."""
        self.insert_bound("reviews", [row])

    def reviews(self, env: str, *, kind: str | None = None, answered: bool = False, most: int = 1000) -> list[Review]:
        """Return reviews, the most urgent first."""
        text = (
            f"SELECT {_LISTED} FROM reviews WHERE env = :env AND (answer IS NOT NULL) = :answered"
            " AND kind = coalesce(:kind, kind) ORDER BY due_at, id LIMIT :most"
        )
        rows = self.select("reviews", text, env=env, kind=kind, answered=answered, most=most)
        return [_review(row) for row in rows]

    def review(self, review_id: str) -> Review | None:
        """Return one review by its id, or the open one of an entry by the entry's id."""
        text = (
            f"SELECT {_LISTED} FROM reviews WHERE (id = :id OR (entry_id = :id AND answer IS NULL)) AND {HERE}"
            " ORDER BY opened_at DESC LIMIT 1"
        )
        rows = self.select("reviews", text, id=review_id, env=self.env)
        return _review(rows[0]) if rows else None

    def answer(self, review: Review, decided: Decided) -> bool:
        """Store a person's answer if there is none yet and the entry has not changed since it was shown."""
        text = (
            "UPDATE reviews SET answer = :answer, answered_by = :actor, answered_at = {now}, reason = :reason,"
            " value = :value WHERE id = :id AND answer IS NULL AND seq = :seq"
        )
        values = {"answer": decided.answer.value, "actor": decided.actor, "reason": decided.reason}
        given = None if decided.value is None else json.dumps(decided.value)
        if self.dialect.name == "postgresql":
            text = text.replace(":value", "CAST(:value AS jsonb)")
        return bool(self.write_bound("reviews", text, id=review.id, seq=review.seq, value=given, **values))

    def close(self, entry_id: str, actor: str, reason: str) -> list[str]:
        """Close the open reviews of an entry that continues without answers; returns their ids."""
        text = (
            "UPDATE reviews SET answer = 'withdrawn', answered_by = :actor, answered_at = {now}, reason = :reason"
            " WHERE entry_id = :entry AND answer IS NULL"
        )
        rows = self.write_bound("reviews", text, entry=entry_id, actor=actor, reason=reason)
        closed = [str(row["id"]) for row in rows]
        if closed:
            self.unwait(entry_id)
        return closed

    def dead_letters_open(self, env: str) -> int:
        """Count the unanswered dead letters."""
        text = "SELECT count(*) FROM reviews WHERE env = :env AND kind = 'dead_letter' AND answer IS NULL"
        return int(self.value(text, env=env))

    def approved(self, entry_id: str, kind: str) -> int:
        """Count the approvals of a kind of an entry."""
        text = "SELECT count(*) FROM reviews WHERE entry_id = :entry AND kind = :kind AND answer = 'approve'"
        return int(self.value(text, entry=entry_id, kind=kind))

    def approved_at(self, entry_id: str, kind: str) -> datetime | None:
        """Return the time of the last approval of a kind of an entry."""
        text = "SELECT max(answered_at) FROM reviews WHERE entry_id = :entry AND kind = :kind AND answer = 'approve'"
        value = self.value(text, entry=entry_id, kind=kind)
        return None if value is None else moment(value)

    def open_reviews(self, entry_id: str) -> list[Review]:
        """Return the open reviews of an entry, oldest first."""
        text = f"SELECT {_LISTED} FROM reviews WHERE entry_id = :entry AND answer IS NULL ORDER BY opened_at, id"
        return [_review(row) for row in self.select("reviews", text, entry=entry_id)]

    def show_again(self, entry_id: str, seq: int) -> None:
        """Bind the open review of an entry to the current version of the entry."""
        text = "UPDATE reviews SET seq = :seq WHERE entry_id = :entry AND answer IS NULL"
        self.write_bound("reviews", text, entry=entry_id, seq=seq)

    def assign(self, entry_id: str) -> Review | None:
        """Mark the open dead letter of an entry as assigned, once; None if there is none or it already was."""
        text = (
            "UPDATE reviews SET assigned_at = {now} WHERE entry_id = :entry AND kind = 'dead_letter'"
            f" AND answer IS NULL AND assigned_at IS NULL AND {HERE} RETURNING {_LISTED}"
        )
        rows = self.select("reviews", text, entry=entry_id, env=self.env)
        return _review(rows[0]) if rows else None

    def ring_reviews(self, env: str, lost_after: float, most: int) -> list[str]:
        """Return the entries of dead letters without a notification whose bell counts as lost, to ring again."""
        text = (
            "UPDATE reviews SET rung_at = {now} WHERE id IN (SELECT id FROM reviews WHERE env = :env"
            " AND kind = 'dead_letter' AND answer IS NULL AND assigned_at IS NULL"
            f" AND (rung_at IS NULL OR rung_at < {self.past('ago')}) ORDER BY opened_at LIMIT :most {{skip_locked}})"
            " RETURNING entry_id"
        )
        return [row[0] for row in self.run(text, env=env, ago=lost_after, most=most)]

    def reviews_unheard(self, entry_ids: Sequence[str]) -> None:
        """Record that bells for dead letters were never sent."""
        text = f"UPDATE reviews SET rung_at = NULL WHERE entry_id {{ids}} AND answer IS NULL AND {HERE}"
        self.count(text, ids=self.dialect.bind(entry_ids), env=self.env)

    def late_ids(self, env: str, remind_after: float, most: int) -> list[str]:
        """Return overdue open reviews without a reminder in the last *remind_after* seconds."""
        text = f"SELECT id {_late(self.dialect.name)} ORDER BY due_at LIMIT :most {{skip_locked}}"
        return [row[0] for row in self.run(text, env=env, after=remind_after, most=most)]

    def late(self, env: str, remind_after: float, review_ids: Sequence[str]) -> Sequence[Review]:
        """Mark the overdue reviews out of *review_ids* as reminded, and return them."""
        text = (
            f"UPDATE reviews SET reminded_at = {{now}} WHERE env = :env AND id IN (SELECT id {_late(self.dialect.name)}"
            f" AND id {{ids}} {{skip_locked}}) RETURNING {_LISTED}"
        )
        ids = self.dialect.bind(review_ids)
        return [_review(row) for row in self.select("reviews", text, env=env, after=remind_after, ids=ids)]


def _late(dialect: str) -> str:
    return (
        "FROM reviews WHERE env = :env AND answer IS NULL AND due_at < {now}"
        f" AND (reminded_at IS NULL OR {_ago(dialect)} > :after)"
    )


def _ago(dialect: str) -> str:
    return "extract(epoch FROM {now} - reminded_at)" if dialect == "postgresql" else "({now} - reminded_at)"


def _review(row: Mapping[str, Any]) -> Review:
    return Review(**{**row, "kind": ReviewKind(row["kind"])})
