"""Retention: removal of final entries and of bulk data of runs; histories have a retention of their own.

The dedupe key of a retired entry stays taken, so that its work is not done twice.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from backlog_worker.domain.entry import FINAL, Change
from backlog_worker.domain.events import Event
from backlog_worker.domain.measures import life
from backlog_worker.store.sql.entries import LISTED, in_order
from backlog_worker.store.sql.search import Search
from backlog_worker.store.sql.statements import HERE, Row
from backlog_worker.store.sql.tables import FINAL_SQL

_FINAL = ", ".join(f"'{status}'" for status in sorted(FINAL))
# The tables deleted with the row of an entry; events, redactions, seals and spending stay.
_BELONGINGS = (
    ("receipts", "entry_id"),
    ("stages", "entry_id"),
    ("entry_inputs", "entry_id"),
    ("reviews", "entry_id"),
    ("outbox", "entry_id"),
    ("results", "entry_id"),
    ("links", "from_id"),
    ("runs", "entry_id"),
    ("entries", "id"),
)
# Compared as text: tampered data may be invalid JSON, and must not stop the search.
_FILED_HERE = """(CAST(v.data AS text) LIKE '%"env":"' || :env || '"%'
 OR CAST(v.data AS text) LIKE '%"env": "' || :env || '"%')"""
_RETIRED = "env, dedupe_key, entry_id, status, seq, hash, at, evidence_until, legal_hold, tally, cleared_at, waited"
# kind -> its table and the condition for old rows
BULK: Mapping[str, tuple[str, str]] = {
    "logs": ("log_chunks", "run_id IN (SELECT id FROM runs WHERE env = :env) AND at < {past}"),
    "receipts": ("receipts", "decision_id IN (SELECT id FROM decisions WHERE env = :env AND at < {past})"),
    "snapshots": ("snapshots", "env = :env AND at < {past}"),
    "results": ("results", "env = :env AND until < {past}"),
    "writebacks": ("outbox", "env = :env AND status IN ('sent', 'given_up') AND put_at < {past} AND entry_id = ''"),
}


class Retired(Search):
    """Methods for retention."""

    def retirable(self, env: str, seconds: float, most: int) -> list[str]:
        """Return entries that have been final for longer than *seconds*, oldest first.

        Entries under a legal hold, with an open review, or with open dependents are excluded.
        """
        text = (
            f"SELECT id FROM entries e WHERE env = :env AND {FINAL_SQL} AND changed_at < {self.past()}"
            " AND legal_hold = '' AND NOT EXISTS (SELECT 1 FROM reviews r WHERE r.entry_id = e.id"
            " AND r.answer IS NULL) AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.entry_id = e.id"
            " AND o.status = 'due') AND NOT EXISTS (SELECT 1 FROM links l JOIN entries o ON o.id = l.from_id"
            f" WHERE l.to_id = e.id AND o.status NOT IN ({_FINAL})) ORDER BY changed_at LIMIT :most"
        )
        return [row[0] for row in self.run(text, env=env, seconds=seconds, most=most)]

    def retire(self, entry_ids: Sequence[str], reason: str, evidence: float) -> list[str]:
        """Retire held final entries, each with a last event; returns their ids.

        Their histories stay for *evidence* more seconds, and their keys permanently.
        """
        chosen = [self.held[each] for each in entry_ids if each in self.held]
        going = [held for held in chosen if held.entry.status in FINAL and not held.entry.legal_hold]
        until = self.now() + timedelta(seconds=evidence)
        for held in going:
            said = {"reason": reason, "status": str(held.entry.status), "evidence_until": until.isoformat()}
            self._event(held, Change.RETIRED, said, None)
        self.flush()
        text = (
            "INSERT INTO retired (env, dedupe_key, entry_id, status, seq, hash, at, evidence_until) SELECT e.env,"
            f" e.dedupe_key, e.id, e.status, e.seq, v.hash, v.at, {self._moment('until')} FROM entries e"
            " JOIN events v ON v.entry_id = e.id AND v.seq = e.seq WHERE e.id {ids}"
        )
        ids = self.dialect.bind([held.entry.id for held in going])
        self.run(text, ids=ids, until=until.timestamp())
        self.keep_tally([held.entry.id for held in going])
        runs = "DELETE FROM log_chunks WHERE run_id IN (SELECT id FROM runs WHERE entry_id {ids})"
        self.count(runs, ids=ids)
        for table, column in _BELONGINGS:
            self.count(f"DELETE FROM {table} WHERE {column} {{ids}}", ids=ids)
        return [self.held.pop(held.entry.id).entry.id for held in going]

    def keep_tally(self, entry_ids: Sequence[str]) -> None:
        """Store the tallies of retired entries, so that measures do not change when their rows are deleted."""
        rows = []
        for entry_id, events in self.histories(entry_ids).items():
            found = life(events, self.now())
            waits = found.cleared and found.claimed and (found.claimed - found.cleared).total_seconds()
            row = {"tally": found.kept, "cleared_at": found.cleared, "waited": max(0.0, waits) if waits else waits}
            rows.append({**row, "entry_id__": entry_id})
        self.update("retired", rows, "retired.entry_id = r.entry_id__ AND retired.env = :env", env=self.env)

    def retired(self, entry_id: str) -> Row | None:
        """Return the row of one retired entry, by its id or a unique prefix."""
        begins = "{0} >= :entry AND {0} < :past"
        text = (
            f"SELECT {_RETIRED} FROM retired WHERE {HERE} AND (entry_id = :entry OR ({begins.format('entry_id')}"
            f" AND NOT EXISTS (SELECT 1 FROM entries e WHERE {begins.format('e.id')} AND e.{HERE})))"
            " ORDER BY entry_id LIMIT 2"
        )
        rows = self.select("retired", text, entry=entry_id, past=f"{entry_id}~", env=self.env)
        exact = [row for row in rows if row["entry_id"] == entry_id]
        return exact[0] if exact else rows[0] if len(rows) == 1 and entry_id else None

    def all_retired(self, env: str) -> list[Row]:
        """Return the rows of all retired entries, by id."""
        return self.select("retired", f"SELECT {_RETIRED} FROM retired WHERE env = :env ORDER BY entry_id", env=env)

    def hold_retired(self, entry_id: str, words: str) -> bool:
        """Set or remove a legal hold on the history of a retired entry; False if there is no such entry."""
        text = f"UPDATE retired SET legal_hold = :words WHERE entry_id = :entry AND {HERE}"
        return bool(self.count(text, entry=entry_id, words=words, env=self.env))

    def outlived(self, env: str, most: int) -> list[str]:
        """Return retired entries whose evidence has expired and is not under a legal hold."""
        text = (
            "SELECT entry_id FROM retired r WHERE env = :env AND legal_hold = '' AND evidence_until < {now}"
            " AND EXISTS (SELECT 1 FROM events v WHERE v.entry_id = r.entry_id AND v.seq = 1)"
            " ORDER BY evidence_until LIMIT :most"
        )
        return [row[0] for row in self.run(text, env=env, most=most)]

    def forget_histories(self, entry_ids: Sequence[str]) -> int:
        """Delete the events of retired entries; a trigger refuses this before they expire."""
        return self.count("DELETE FROM events WHERE entry_id {ids}", ids=self.dialect.bind(entry_ids))

    def old_bulk(self, kind: str, env: str, seconds: float) -> int:
        """Count rows of one kind of bulk data older than *seconds*, except those under a legal hold."""
        table, where = BULK[kind]
        text = f"SELECT count(*) FROM {table} WHERE {self._bulk(kind, where)}"
        return int(self.value(text, **self._bulk_values(text, env, seconds)))

    def forget_bulk(self, kind: str, env: str, seconds: float, most: int) -> int:
        """Delete up to *most* rows of one kind of bulk data older than *seconds*; records, histories, outputs stay.

        A decision is deleted with its last receipt.
        """
        table, where = BULK[kind]
        self.plan_freely()
        if self.dialect.name == "postgresql":
            chosen = f"ctid = ANY(ARRAY(SELECT ctid FROM {table} WHERE {self._bulk(kind, where)} LIMIT :most))"
        else:
            chosen = f"rowid IN (SELECT rowid FROM {table} WHERE {self._bulk(kind, where)} LIMIT :most)"
        removed = self.count(
            f"DELETE FROM {table} WHERE {chosen}", **self._bulk_values(chosen, env, seconds), most=most
        )
        if kind == "receipts" and removed < most:
            self.count(f"DELETE FROM decisions WHERE env = :env AND at < {self.past()}", env=env, seconds=seconds)
        return removed

    def artifacts_of(self, entry_id: str) -> list[str]:
        """Return the digests of the artifacts that the stages of an entry name."""
        rows = self.select("stages", "SELECT artifacts FROM stages WHERE entry_id = :entry", entry=entry_id)
        return sorted({str(each["sha256"]) for row in rows for each in row["artifacts"]})

    def artifacts_kept(self, digests: Sequence[str]) -> set[str]:
        """Return which artifacts a stage or stored result still names, in any environment.

        Older releases stored the artifacts of all environments in one folder, so all references count there.
        """
        text = "SELECT artifacts FROM {table} WHERE CAST(artifacts AS text) <> '[]'"
        found: set[str] = set()
        for table in ("stages", "results"):
            for row in self.select(table, text.replace("{table}", table)):
                found |= {str(each["sha256"]) for each in row["artifacts"]}
        return found & set(digests)

    def page(self, env: str, after: str, most: int) -> list[str]:
        """Return ids of entries, including retired ones, in order, from a cursor on."""
        text = (
            "SELECT id FROM (SELECT id FROM (SELECT id FROM entries WHERE env = :env AND id > :after ORDER BY id"
            " LIMIT :most) a UNION ALL SELECT id FROM (SELECT entry_id AS id FROM retired WHERE env = :env"
            " AND entry_id > :after ORDER BY entry_id LIMIT :most) b) c ORDER BY id LIMIT :most"
        )
        return [row[0] for row in self.run(text, env=env, after=after, most=most)]

    def rows(self, entry_ids: Sequence[str]) -> dict[str, Row]:
        """Return the rows of entries by id, without locking them."""
        text = f"SELECT {LISTED} FROM entries WHERE id {{ids}} AND {HERE}"
        found = self.select("entries", text, ids=self.dialect.bind(entry_ids), env=self.env)
        return {row["id"]: row for row in found}

    def retired_rows(self, entry_ids: Sequence[str]) -> dict[str, Row]:
        """Return the rows of retired entries by id."""
        text = f"SELECT {_RETIRED} FROM retired WHERE entry_id {{ids}} AND {HERE}"
        rows = self.select("retired", text, ids=self.dialect.bind(entry_ids), env=self.env)
        return {row["entry_id"]: row for row in rows}

    def snapshot(self) -> None:
        """Read from one snapshot; this must be the first statement of a read-only transaction."""
        if self.dialect.name == "postgresql":
            self.run("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")

    def inputs_of(self, entry_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return every version of the inputs of entries by digest, by entry."""
        text = "SELECT entry_id, sha256, value FROM entry_inputs WHERE entry_id {ids} ORDER BY entry_id, sha256"
        found: dict[str, dict[str, Any]] = {}
        for row in self.select("entry_inputs", text, ids=self.dialect.bind(entry_ids)):
            found.setdefault(row["entry_id"], {})[row["sha256"]] = row["value"]
        return found

    def strayed(self, most: int) -> list[str]:
        """Return entries that were filed in this environment and are now in another one."""
        self.plan_freely()
        text = (
            "SELECT e.id FROM entries e JOIN events v ON v.entry_id = e.id AND v.seq = 1"
            f" WHERE e.env <> :env AND {_FILED_HERE} LIMIT :most"
        )
        return [row[0] for row in self.run(text, most=most, env=self.env)]

    def orphans(self, most: int) -> list[str]:
        """Return histories without a live or retired entry, whose row was deleted by somebody."""
        self.plan_freely()
        text = (
            "SELECT v.entry_id FROM events v WHERE v.seq = 1 AND NOT EXISTS (SELECT 1 FROM entries e"
            " WHERE e.id = v.entry_id) AND NOT EXISTS (SELECT 1 FROM retired r WHERE r.entry_id = v.entry_id)"
            f" AND {_FILED_HERE} LIMIT :most"
        )
        return [row[0] for row in self.run(text, most=most, env=self.env)]

    def restore(self, row: Mapping[str, Any], *, missing: bool) -> None:
        """Write an entry's row from its history, without an event; only for `audit rebuild`."""
        if missing:
            self.insert("entries", [row])
            return
        values = {name: value for name, value in row.items() if name != "id"}
        self.update("entries", [{**values, "id__": row["id"]}], "entries.id = r.id__")

    def adopt(
        self,
        rows: Sequence[Mapping[str, Any]],
        events: Sequence[Event],
        inputs: Mapping[str, Mapping[str, object]],
    ) -> None:
        """Insert entries filed by another store, with their histories; existing keys and events stay."""
        self.insert("entries", in_order(rows), "ON CONFLICT DO NOTHING")
        listed = [{name: getattr(event, name) for name in event.__dataclass_fields__} for event in events]
        self.insert("events", listed, "ON CONFLICT DO NOTHING")
        kept = [
            {"entry_id": entry_id, "sha256": sha, "value": value}
            for entry_id, versions in inputs.items()
            for sha, value in versions.items()
        ]
        self.insert("entry_inputs", kept, "ON CONFLICT DO NOTHING")

    def _bulk(self, kind: str, where: str) -> str:
        held = (
            " AND run_id NOT IN (SELECT r.id FROM runs r JOIN entries e ON e.id = r.entry_id WHERE e.legal_hold <> '')"
        )
        return where.replace("{past}", self.past()) + (held if kind == "logs" else "")

    def _bulk_values(self, text: str, env: str, seconds: float) -> dict[str, object]:
        return {"seconds": seconds} | ({"env": env} if ":env" in text else {})
