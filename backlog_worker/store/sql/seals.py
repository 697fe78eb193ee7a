"""Seals over the heads of all histories, and redactions: what lets a stranger see that nothing was altered since.

A seal is the root of a Merkle tree over the head of every history that grew since the seal before it, and over the
rows of that time that belong to no entry; seals form a chain of their own. Kept outside of this database, one seal
proves everything before it.
"""

import hashlib
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from backlog_worker.domain import merkle
from backlog_worker.domain.events import WORDS, compact
from backlog_worker.domain.sealing import RECEIPTS, SEALED, receipt_digest, sealed_digest, sealed_name
from backlog_worker.store.sql.dialect import bare, moment
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
        for table in SEALED:
            leaves = [
                {"seal_id": seal_id, "entry_id": name, "seq": 0, "hash": digest}
                for name, digest in self._present(table, since, at).items()
            ]
            self.insert("seal_heads", leaves)
        row = {"id": seal_id, "at": at, "since": since, "entries": counted[1], "events": counted[0]}
        row |= {"root": self.root(seal_id), "prev": prev}
        row["hash"] = merkle.seal_hash(row)
        self.insert("seals", [row])
        return row

    def leaves(self, seal_id: str) -> list[tuple[str, bytes]]:
        """Return the leaves of a seal by name, in the order of their names."""
        return [(row[0], merkle.leaf(row[0], int(row[1]), str(row[2]))) for row in self._heads(seal_id)]

    def root(self, seal_id: str) -> str:
        """Return the root of a seal made anew."""
        return merkle.root([leaf for _, leaf in self.leaves(seal_id)])

    def flat_root(self, seal_id: str) -> str:
        """Return what a seal of an older release has for a root: a plain digest over its heads."""
        summed = hashlib.sha256()
        for row in self._heads(seal_id):
            summed.update(f"{row[0]} {row[1]} {row[2]}\n".encode())
        return summed.hexdigest()

    def sealed_heads(self, entry_id: str) -> list[tuple[str, int, str]]:
        """Return (seal, seq, hash) of every seal that holds the head of a history, oldest first."""
        text = (
            "SELECT h.seal_id, h.seq, h.hash FROM seal_heads h JOIN seals s ON s.id = h.seal_id"
            " WHERE h.entry_id = :entry ORDER BY s.at"
        )
        return [(row[0], int(row[1]), str(row[2])) for row in self.run(text, entry=entry_id)]

    def unsealed(self, seal: Row, most: int) -> list[tuple[str, int]]:
        """Return heads of a seal that the history does not show any more: altered or dropped since it was sealed.

        A history that was forgotten past its time is not among them.
        """
        self.plan_freely()
        text = (
            "SELECT h.entry_id, h.seq FROM seal_heads h LEFT JOIN events v ON v.entry_id = h.entry_id AND v.seq = h.seq"
            " WHERE h.seal_id = :seal AND h.entry_id <> :operations AND h.entry_id NOT LIKE '%:%'"
            " AND (v.hash IS NULL OR v.hash <> h.hash)"
            " AND NOT (v.hash IS NULL AND EXISTS (SELECT 1 FROM retired r WHERE r.entry_id = h.entry_id"
            " AND r.evidence_until < {now})) LIMIT :most"
        )
        found = [(row[0], int(row[1])) for row in self.run(text, seal=seal["id"], operations=OPERATIONS, most=most)]
        return found if merkle.is_tree(seal) else found + self._unsealed_operations(seal)

    def unsealed_rows(self, seal: Row) -> dict[str, dict[str, list[str]]]:
        """Return rows that belong to no entry and are not as this seal has them: table, what happened, their names."""
        self.plan_freely()
        kept: dict[str, dict[str, str]] = {table: {} for table in SEALED}
        for name, _, digest in self._heads(seal["id"]):
            table, colon, _ = name.partition(":")
            if colon:
                kept[table][name] = digest
        found: dict[str, dict[str, list[str]]] = {}
        for table, sealed in kept.items():
            now = self._present(table, seal["since"], seal["at"])
            wrong = {
                "altered": [name for name in now if name in sealed and now[name] != sealed[name]],
                "put in": [name for name in now if name not in sealed],
                "removed": [name for name in sealed if name not in now and self._missed(table, name)],
            }
            found[table] = {what: names for what, names in wrong.items() if names}
        return {table: each for table, each in found.items() if each}

    def wrong_receipts(self, env: str) -> tuple[list[tuple[str, str]], int, int]:
        """Return (decision, entry) of receipts unlike what their decision has, how many are like it, and older ones."""
        self.plan_freely()
        text = (
            "SELECT r.decision_id, r.entry_id, r.position, r.score, r.terms, r.waits FROM receipts r"
            " LEFT JOIN decisions d ON d.id = r.decision_id WHERE d.env = :env OR d.id IS NULL"
            " ORDER BY r.decision_id, r.entry_id"
        )
        digests = {row["id"]: row["counts"].get(RECEIPTS) for row in self._decisions(env)}
        found, bound, unbound = [], 0, 0
        for row in self.select("receipts", text, env=env):
            known = digests.get(row["decision_id"], {})  # one without its decision is nobody's
            if known is None:
                unbound += 1
            elif known.get(row["entry_id"]) == receipt_digest(row):
                bound += 1
            else:
                found.append((row["decision_id"], row["entry_id"]))
        return found, bound, unbound

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
            " reason = NULL, gates = :none, artifacts = :none, approval = CASE WHEN approval IS NULL THEN NULL ELSE"
            f" {self._without_reason()} END WHERE entry_id = :entry"
        )
        if self.dialect.name == "postgresql":
            text = text.replace(":none", "CAST(:none AS jsonb)")
        self.write_bound("stages", text, entry=entry_id, none="[]", words=WORDS)
        self.count("DELETE FROM results WHERE entry_id = :entry", entry=entry_id)
        self.count(
            "DELETE FROM log_chunks WHERE run_id IN (SELECT id FROM runs WHERE entry_id = :entry)", entry=entry_id
        )
        self.write_bound("runs", "UPDATE runs SET reason = :words WHERE entry_id = :entry", entry=entry_id, words=WORDS)
        text = (
            "UPDATE reviews SET question = :words, detail = '', recovery = '', value = NULL,"
            " reason = CASE WHEN reason IS NULL THEN NULL ELSE :words END WHERE entry_id = :entry"
        )
        self.write_bound("reviews", text, entry=entry_id, words=WORDS)

    def rewrite_wish(self, wish_id: str, body: Mapping[str, Any], sha256: str) -> None:
        """Put another body into a wish and send it again, whatever was sent before."""
        rows = [{"id__": wish_id, "body": body, "sha256": sha256, "status": "due", "attempts": 0, "retry_at": None}]
        self.update_bound("outbox", rows, "outbox.id = r.id__")

    def _decisions(self, env: str) -> list[Row]:
        return self.select("decisions", "SELECT id, counts FROM decisions WHERE env = :env", env=env)

    def _heads(self, seal_id: str) -> Iterator[tuple[str, int, str]]:
        after = ""
        binary = ' COLLATE "C"' if self.dialect.name == "postgresql" else ""
        text = (
            f"SELECT entry_id, seq, hash FROM seal_heads WHERE seal_id = :seal AND entry_id{binary} > :after"
            f" ORDER BY entry_id{binary} LIMIT 5000"
        )
        while rows := self.run(text, seal=seal_id, after=after):
            yield from ((str(row[0]), int(row[1]), str(row[2])) for row in rows)
            after = rows[-1][0]

    def _present(self, table: str, since: datetime, until: datetime) -> dict[str, str]:
        """Return the digest of every row that began in a window, by its name."""
        at = SEALED[table].at
        text = f"SELECT * FROM {table} WHERE {at} > {self._moment('first')} AND {at} <= {self._moment('last')}"
        rows = self.select(table, text, first=since.timestamp(), last=until.timestamp())
        return {sealed_name(table, row): sealed_digest(table, bare(table, row)) for row in rows}

    def _missed(self, table: str, name: str) -> bool:
        """Return whether a row that is not in its window any more is missed: not if it began anew, or may leave."""
        if not SEALED[table].anew:
            return not SEALED[table].leaves
        keys = dict(zip(SEALED[table].key, name.partition(":")[2].split("/"), strict=True))
        where = " AND ".join(f"{key} = :{key}" for key in keys)
        return not self.run(f"SELECT 1 FROM {table} WHERE {where}", **keys)

    def _unsealed_operations(self, seal: Row) -> list[tuple[str, int]]:
        """Compare the operations of a window with the one digest that an older seal has of them."""
        text = (
            "SELECT id, env, at, actor, action, subject, reason, result, detail FROM operations"
            f" WHERE at > {self._moment('first')} AND at <= {self._moment('last')} ORDER BY id"
        )
        summed, count = hashlib.sha256(), 0
        for row in self.select("operations", text, first=seal["since"].timestamp(), last=seal["at"].timestamp()):
            summed.update(compact([row[name] for name in sorted(row) if name != "at"]).encode())
            count += 1
        sealed = self.run(
            "SELECT seq, hash FROM seal_heads WHERE seal_id = :seal AND entry_id = :id", seal=seal["id"], id=OPERATIONS
        )
        same = sealed and (int(sealed[0][0]), str(sealed[0][1])) == (count, summed.hexdigest())
        return [] if same else [(OPERATIONS, count)]

    def _without_reason(self) -> str:
        if self.dialect.name == "postgresql":
            return "jsonb_set(approval, '{reason}', to_jsonb(CAST(:words AS text)))"
        return "json_set(approval, '$.reason', :words)"

    def _json_of(self, column: str) -> str:
        if self.dialect.name == "postgresql":
            return f"jsonb_build_object('$redacted', {column})"
        return f"json_object('$redacted', {column})"
