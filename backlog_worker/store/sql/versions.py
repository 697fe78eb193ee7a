"""Definitions by content hash, the decisions of the dispatcher with their receipts, and runs."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from backlog_worker.domain.sealing import RECEIPTS, receipt_digest
from backlog_worker.store.sql.dialect import decoded
from backlog_worker.store.sql.outbox import Outbox
from backlog_worker.store.sql.statements import HERE

POLICY = "policy"
PIPELINE = "pipeline"
_LISTED = "kind, name, version, hash, body, contracts, live, at, author"
_RUN = (
    "id, entry_id, attempt, worker, pipeline_hash, policy_hash, claimed_at, ended_at, ended_by, kind, reason,"
    " ends_by, outcome, goes_on"
)


class Versions(Outbox):
    """Verbs of definitions, decisions and runs."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._hashes: dict[str, dict[str, str]] = {}

    def live(self, env: str, kind: str) -> list[dict[str, Any]]:
        """Return the definitions of one kind that are in force."""
        text = f"SELECT {_LISTED} FROM definitions WHERE env = :env AND kind = :kind AND live ORDER BY name"
        return self.select("definitions", text, env=env, kind=kind)

    def live_hashes(self, env: str) -> dict[str, str]:
        """Return the hash in force by kind and name, such as ``pipeline/spec``; read once in a transaction."""
        if env not in self._hashes:
            text = "SELECT kind, name, hash FROM definitions WHERE env = :env AND live"
            self._hashes[env] = {f"{row[0]}/{row[1]}": row[2] for row in self.run(text, env=env)}
        return self._hashes[env]

    def definition(self, env: str, kind: str, digest: str) -> dict[str, Any] | None:
        """Return one definition by its hash, in force or not."""
        text = f"SELECT {_LISTED} FROM definitions WHERE env = :env AND kind = :kind AND hash = :hash"
        rows = self.select("definitions", text, env=env, kind=kind, hash=digest)
        return rows[0] if rows else None

    def definitions(self, env: str, kind: str) -> list[dict[str, Any]]:
        """Return every definition of one kind, newest first."""
        text = f"SELECT {_LISTED} FROM definitions WHERE env = :env AND kind = :kind ORDER BY at DESC"
        return self.select("definitions", text, env=env, kind=kind)

    def enact(self, env: str, row: Mapping[str, Any]) -> None:
        """Put a definition in force in place of the one with its name; older ones stay readable."""
        text = "UPDATE definitions SET live = :off WHERE env = :env AND kind = :kind AND name = :name AND live"
        self.count(text, env=env, kind=row["kind"], name=row["name"], off=False)
        self._hashes.clear()
        tail = (
            "ON CONFLICT (env, kind, hash) DO UPDATE SET live = excluded.live, at = excluded.at,"
            " author = excluded.author"
        )
        self.insert("definitions", [{**row, "env": env, "live": True, "at": self.now()}], tail)
        named = {name: row[name] for name in ("kind", "name", "hash", "author")}
        again = "ON CONFLICT (env, kind, name, at) DO NOTHING"
        self.insert("enactments", [{**named, "env": env, "at": self.now()}], again)

    def retire_definition(self, env: str, kind: str, name: str, author: str) -> None:
        """Take a definition out of force; an enactment without a hash says so, and every version stays readable."""
        text = "UPDATE definitions SET live = :off WHERE env = :env AND kind = :kind AND name = :name AND live"
        self.count(text, env=env, kind=kind, name=name, off=False)
        self._hashes.clear()
        row = {"env": env, "kind": kind, "name": name, "hash": "", "author": author, "at": self.now()}
        self.insert("enactments", [row], "ON CONFLICT (env, kind, name, at) DO NOTHING")

    def retired_by(self, env: str, kind: str, name: str) -> str:
        """Return who took the definition of a name out of force, where that was the last thing that happened to it."""
        found = self.enactments(env, kind, name)
        return str(found[-1]["author"]) if found and not found[-1]["hash"] else ""

    def retirements(self, env: str, kind: str) -> dict[str, datetime]:
        """Return when definitions were last taken out of force, by name, whether they came back or not."""
        text = "SELECT name, at FROM enactments WHERE env = :env AND kind = :kind AND hash = '' ORDER BY at"
        return {row["name"]: row["at"] for row in self.select("enactments", text, env=env, kind=kind)}

    def enactments(self, env: str, kind: str, name: str) -> list[dict[str, Any]]:
        """Return when which definition of a name came into force, oldest first; it began when that was recorded."""
        text = (
            "SELECT env, kind, name, at, hash, author FROM enactments WHERE env = :env AND kind = :kind"
            " AND name = :name ORDER BY at"
        )
        return self.select("enactments", text, env=env, kind=kind, name=name)

    def definitions_like(self, env: str, kind: str, digest: str) -> list[dict[str, Any]]:
        """Return the definitions whose hash begins so."""
        text = f"SELECT {_LISTED} FROM definitions WHERE env = :env AND kind = :kind AND hash LIKE :like ORDER BY hash"
        return self.select("definitions", text, env=env, kind=kind, like=f"{digest}%")

    def keep_decision(self, row: Mapping[str, Any], receipts: Sequence[Mapping[str, Any]]) -> None:
        """Store what one tick said."""
        digests = {str(receipt["entry_id"]): receipt_digest(receipt) for receipt in receipts}
        self.insert("decisions", [{**row, "counts": {**row["counts"], RECEIPTS: digests}}])
        self.insert("receipts", ({**receipt, "decision_id": row["id"]} for receipt in receipts))

    def last_decision(self, env: str, *, before: datetime | None = None) -> dict[str, Any] | None:
        """Return the last decision, or the last one up to a moment."""
        text = "SELECT id, at, policy, digest, counts FROM decisions WHERE env = :env ORDER BY at DESC LIMIT 1"
        if before is not None:
            text = text.replace("ORDER BY", f"AND at <= {self._moment('before')} ORDER BY")
            rows = self.select("decisions", text, env=env, before=before.timestamp())
        else:
            rows = self.select("decisions", text, env=env)
        return rows[0] if rows else None

    def receipts_of(self, entry_id: str, most: int = 20, *, before: datetime | None = None) -> list[dict[str, Any]]:
        """Return what the last decisions said about one entry, newest first; with *before*, up to that moment."""
        edge = f" AND d.at <= {self._moment('before')}" if before else ""
        values = {"before": before.timestamp()} if before else {}
        text = (
            "SELECT r.position, r.score, r.terms, r.waits, d.at, d.policy FROM receipts r"
            f" JOIN decisions d ON d.id = r.decision_id WHERE r.entry_id = :entry{edge} ORDER BY d.at DESC LIMIT :most"
        )
        rows = []
        for row in self.run(text, entry=entry_id, most=most, **values):
            found = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's public name
            found |= decoded("receipts", {"terms": found["terms"], "waits": found["waits"]})
            rows.append(found | decoded("decisions", {"at": found["at"]}))
        return rows

    def forget_decisions(self, env: str, keep: int) -> int:
        """Drop all but the last *keep* decisions with their receipts."""
        text = "SELECT id FROM decisions WHERE env = :env ORDER BY at DESC LIMIT 500 OFFSET :keep"
        old = self.dialect.bind([row[0] for row in self.run(text, env=env, keep=keep)])
        self.count("DELETE FROM receipts WHERE decision_id {ids}", ids=old)
        return self.count("DELETE FROM decisions WHERE id {ids}", ids=old)

    def begin_runs(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Store new runs; a unique index refuses a second live one for an entry."""
        self.insert_bound("runs", [{**row, "env": self.env} for row in rows])

    def runs(self, entry_id: str | None = None, *, live: bool = False, most: int = 50) -> list[dict[str, Any]]:
        """Return runs, newest first."""
        text = (
            f"SELECT {_RUN} FROM runs WHERE "
            + ("env = :env" if entry_id is None else f"entry_id = :entry AND {HERE}")
            + (" AND ended_at IS NULL" if live else "")
            + " ORDER BY claimed_at DESC, id DESC LIMIT :most"
        )
        return self.select("runs", text, env=self.env, most=most, **({"entry": entry_id} if entry_id else {}))

    def last_runs(self, entry_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return the last run of each of these entries that has one, by entry."""
        if not entry_ids:
            return {}
        text = f"SELECT {_RUN} FROM runs WHERE entry_id {{ids}} ORDER BY attempt"
        return {row["entry_id"]: row for row in self.select("runs", text, ids=self.dialect.bind(entry_ids))}

    def run_of(self, run_id: str) -> dict[str, Any] | None:
        """Return one run."""
        rows = self.select("runs", f"SELECT {_RUN} FROM runs WHERE id = :id AND {HERE}", id=run_id, env=self.env)
        return rows[0] if rows else None

    def runs_by_id(self, run_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return runs by id."""
        text = f"SELECT {_RUN} FROM runs WHERE id {{ids}} AND {HERE}"
        return {row["id"]: row for row in self.select("runs", text, ids=self.dialect.bind(run_ids), env=self.env)}
