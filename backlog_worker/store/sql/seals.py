"""Seals over the heads of all histories, and redactions: what lets a stranger see that nothing was altered since.

A seal holds the head of every history that grew since the seal before it, and the digest of the operations of that
time; seals form a chain of their own. Kept outside of this database, one seal proves everything before it.
"""

import hashlib
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from backlog_worker.domain.events import WORDS, compact
from backlog_worker.store.sql.dialect import moment
from backlog_worker.store.sql.retired import Retired
from backlog_worker.store.sql.statements import Row

OPERATIONS = "operations"
_LISTED = "id, at, since, entries, events, root, prev, hash"


class Seals(Retired):
    """Verbs of seals and redactions."""

    def seals(self) -> list[Row]:
        """Return every seal, oldest first."""
        return self.select("seals", f"SELECT {_LISTED} FROM seals ORDER BY at")

    def last_seal(self) -> Row | None:
        """Return the newest seal."""
        rows = self.select("seals", f"SELECT {_LISTED} FROM seals ORDER BY at DESC LIMIT 1")
        return rows[0] if rows else None

    def first_event_at(self) -> datetime | None:
        """Return when the oldest event happened."""
        found = self.value("SELECT min(at) FROM events")
        return None if found is None else moment(found)

    def seal(self, seal_id: str, since: datetime, at: datetime, prev: str) -> Row:
        """Seal what was written after *since*, up to *at*; nothing that began earlier may still be uncommitted."""
        self.plan_freely()
        first, last = self._moment("first"), self._moment("last")
        values = {"first": since.timestamp(), "last": at.timestamp()}
        window = f"at > {first} AND at <= {last}"
        text = (
            "INSERT INTO seal_heads (seal_id, entry_id, seq, hash) SELECT :seal, v.entry_id, v.seq, v.hash"
            f" FROM events v JOIN (SELECT entry_id, max(seq) AS seq FROM events WHERE {window} GROUP BY entry_id) h"
            " ON h.entry_id = v.entry_id AND h.seq = v.seq"
        )
        self.run(text, seal=seal_id, **values)
        counted = self.run(f"SELECT count(*), count(DISTINCT entry_id) FROM events WHERE {window}", **values)[0]
        done, digest = self._operations(window, values)
        head = {"seal_id": seal_id, "entry_id": OPERATIONS, "seq": done, "hash": digest}
        self.insert("seal_heads", [head])
        row = {"id": seal_id, "at": at, "since": since, "entries": counted[1], "events": counted[0]}
        row |= {"root": self.root(seal_id), "prev": prev}
        row["hash"] = seal_hash(row)
        self.insert("seals", [row])
        return row

    def root(self, seal_id: str) -> str:
        """Return the digest over the heads of a seal, in the order of their ids."""
        summed, after = hashlib.sha256(), ""
        binary = ' COLLATE "C"' if self.dialect.name == "postgresql" else ""
        text = (
            f"SELECT entry_id, seq, hash FROM seal_heads WHERE seal_id = :seal AND entry_id{binary} > :after"
            f" ORDER BY entry_id{binary} LIMIT 5000"
        )
        while rows := self.run(text, seal=seal_id, after=after):
            summed.update("".join(f"{row[0]} {row[1]} {row[2]}\n" for row in rows).encode())
            after = rows[-1][0]
        return summed.hexdigest()

    def unsealed(self, seal: Row, most: int) -> list[tuple[str, int]]:
        """Return heads of a seal that the history does not show any more: altered or dropped since it was sealed.

        A history that was forgotten past its time is not among them.
        """
        self.plan_freely()
        text = (
            "SELECT h.entry_id, h.seq FROM seal_heads h LEFT JOIN events v ON v.entry_id = h.entry_id AND v.seq = h.seq"
            " WHERE h.seal_id = :seal AND h.entry_id <> :operations AND (v.hash IS NULL OR v.hash <> h.hash)"
            " AND NOT (v.hash IS NULL AND EXISTS (SELECT 1 FROM retired r WHERE r.entry_id = h.entry_id"
            " AND r.evidence_until < {now})) LIMIT :most"
        )
        found = [(row[0], int(row[1])) for row in self.run(text, seal=seal["id"], operations=OPERATIONS, most=most)]
        values = {"first": seal["since"].timestamp(), "last": seal["at"].timestamp()}
        window = f"at > {self._moment('first')} AND at <= {self._moment('last')}"
        done, digest = self._operations(window, values)
        sealed = self.run(
            "SELECT seq, hash FROM seal_heads WHERE seal_id = :seal AND entry_id = :id", seal=seal["id"], id=OPERATIONS
        )
        if not sealed or (int(sealed[0][0]), str(sealed[0][1])) != (done, digest):
            found.append((OPERATIONS, done))
        return found

    def redact(self, entry_id: str, changed: Mapping[int, Mapping[str, Any]], why: Mapping[str, Any]) -> None:
        """Replace the data of events, by seq, by their redacted form; a trigger wants each redaction on record."""
        rows = [{**why, "entry_id": entry_id, "seq": seq, "at": self.now()} for seq in changed]
        self.insert("redactions", rows, "ON CONFLICT DO NOTHING")
        data = [{"seq__": seq, "entry_id__": entry_id, "data": value} for seq, value in changed.items()]
        self.update("events", data, "events.entry_id = r.entry_id__ AND events.seq = r.seq__")

    def redact_rows(self, entry_id: str, row: Mapping[str, Any]) -> None:
        """Take texts of an entry out of every table but the history: its row, inputs, outputs, logs and reviews."""
        values = {name: value for name, value in row.items() if name not in {"id", "status"}}
        self.update("entries", [{**values, "id__": entry_id}], "entries.id = r.id__")
        hidden = self._json_of("sha256")
        self.count(f"UPDATE entry_inputs SET value = {hidden} WHERE entry_id = :entry", entry=entry_id)
        text = (
            f"UPDATE stages SET output = CASE WHEN output IS NULL THEN NULL ELSE {hidden} END, tries = :none,"
            " reason = NULL, gates = :none, artifacts = :none WHERE entry_id = :entry"
        )
        if self.dialect.name == "postgresql":
            text = text.replace(":none", "CAST(:none AS jsonb)")
        self.count(text, entry=entry_id, none="[]")
        self.count("DELETE FROM results WHERE entry_id = :entry", entry=entry_id)
        self.count(
            "DELETE FROM log_chunks WHERE run_id IN (SELECT id FROM runs WHERE entry_id = :entry)", entry=entry_id
        )
        self.count("UPDATE runs SET reason = :words WHERE entry_id = :entry", entry=entry_id, words=WORDS)
        text = (
            "UPDATE reviews SET question = :words, detail = '', recovery = '', value = NULL,"
            " reason = CASE WHEN reason IS NULL THEN NULL ELSE :words END WHERE entry_id = :entry"
        )
        self.count(text, entry=entry_id, words=WORDS)

    def rewrite_wish(self, wish_id: str, body: Mapping[str, Any], sha256: str) -> None:
        """Put another body into a wish and send it again, whatever was sent before."""
        rows = [{"id__": wish_id, "body": body, "sha256": sha256, "status": "due", "attempts": 0, "retry_at": None}]
        self.update("outbox", rows, "outbox.id = r.id__")

    def _operations(self, window: str, values: Mapping[str, object]) -> tuple[int, str]:
        summed, count = hashlib.sha256(), 0
        for row in self._acts(window, values):
            summed.update(compact([row[name] for name in sorted(row) if name != "at"]).encode())
            count += 1
        return count, summed.hexdigest()

    def _acts(self, window: str, values: Mapping[str, object]) -> Iterator[Row]:
        text = f"SELECT id, env, at, actor, action, subject, reason, result, detail FROM operations WHERE {window}"
        yield from self.select("operations", f"{text} ORDER BY id", **values)

    def _moment(self, name: str) -> str:
        return f"to_timestamp(:{name})" if self.dialect.name == "postgresql" else f":{name}"

    def _json_of(self, column: str) -> str:
        if self.dialect.name == "postgresql":
            return f"jsonb_build_object('$redacted', {column})"
        return f"json_object('$redacted', {column})"


def seal_hash(row: Mapping[str, Any]) -> str:
    """Return the hash of a seal: over the one before it, its window, its counts and its root."""
    times = [round(row[name].timestamp(), 6) for name in ("since", "at")]
    said = compact([row["id"], *times, row["entries"], row["events"], row["root"]])
    return hashlib.sha256((row["prev"] + said).encode()).hexdigest()
