"""Filters to SQL, pages by cursor, and the counts that people look at."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from backlog_worker.domain.entry import Entry, Status
from backlog_worker.domain.search import FREE, PLAIN, Clause, Filter, age
from backlog_worker.store.sql import tables
from backlog_worker.store.sql.dialect import decoded, moment
from backlog_worker.store.sql.entries import COLUMNS, entry
from backlog_worker.store.sql.logs import Logs
from backlog_worker.store.sql.statements import HERE

_E = tables.entries.c


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Some ids, and the cursor from which the next page begins."""

    ids: list[str]
    last: str


class Search(Logs):
    """Verbs for people who look."""

    def entry(self, entry_id: str) -> Entry | None:
        """Return one entry of this environment by its id, or by the beginning of it where that names just one."""
        chosen = sa.select(*(_E[name] for name in COLUMNS)).where(_E.env + "" == self.env)  # as HERE says
        found = self._entries(chosen.where(_E.id == entry_id)) or self._entries(
            chosen.where(_E.id.startswith(entry_id, autoescape=True)).limit(2)
        )
        return found[0] if len(found) == 1 else None

    def search(self, env: str, wanted: Filter, *, after: str = "", most: int = 100) -> list[Entry]:
        """Return entries of *env* that match, in the order of their ids, from a cursor on."""
        chosen = sa.select(*(_E[name] for name in COLUMNS)).where(_E.env == env, _E.id > after)
        for clause in wanted.clauses:
            chosen = chosen.where(self._matches(clause))
        return self._entries(chosen.order_by(_E.id).limit(most))

    def input(self, entry_id: str, sha256: str) -> Any:  # noqa: ANN401 - free JSON
        """Return one version of the input of an entry."""
        text = "SELECT value FROM entry_inputs WHERE entry_id = :entry AND sha256 = :sha"
        rows = self.select("entry_inputs", text, entry=entry_id, sha=sha256)
        return rows[0]["value"] if rows else None

    def inputs(self, entries: Sequence[Entry]) -> dict[str, Any]:
        """Return the present inputs of entries, by entry."""
        text = (
            "SELECT i.entry_id, i.value FROM entry_inputs i JOIN entries e ON e.id = i.entry_id"
            " AND e.input_sha256 = i.sha256 WHERE i.entry_id {ids}"
        )
        rows = self.select("entry_inputs", text, ids=self.dialect.bind(each.id for each in entries))
        return {row["entry_id"]: row["value"] for row in rows}

    def input_versions(self, entry_id: str) -> dict[str, Any]:
        """Return every version of the input of an entry by its digest."""
        text = "SELECT sha256, value FROM entry_inputs WHERE entry_id = :entry"
        return {row["sha256"]: row["value"] for row in self.select("entry_inputs", text, entry=entry_id)}

    def with_key(self, env: str, keys: Sequence[str]) -> dict[str, str]:
        """Return the ids of entries by their dedupe keys; the key of one that was retired stays taken."""
        found: dict[str, str] = {}
        for table, column in (("retired", "entry_id"), ("entries", "id")):
            text = f"SELECT dedupe_key, {column} FROM {table} WHERE env = :env AND dedupe_key {{ids}}"
            found |= {row[0]: row[1] for row in self.run(text, env=env, ids=self.dialect.bind(keys))}
        return found

    def link(self, rows: Sequence[tuple[str, str]], kind: str) -> None:
        """Relate the first entry of each pair to the second as *kind* says."""
        listed = [{"from_id": a, "to_id": b, "kind": kind} for a, b in rows]
        self.insert_bound("links", listed, "ON CONFLICT DO NOTHING")

    def depend(self, rows: Sequence[tuple[str, str]]) -> None:
        """Make the first entry of each pair depend on the second, as the event that filed it tells already."""
        listed = [{"from_id": a, "to_id": b, "kind": "depends_on"} for a, b in rows]
        self.insert("links", listed, "ON CONFLICT DO NOTHING")

    def linked(self, entry_id: str, kind: str) -> list[str]:
        """Return the entries to which one is linked, oldest first."""
        text = "SELECT to_id FROM links WHERE from_id = :entry AND kind = :kind ORDER BY to_id"
        return [row[0] for row in self.run(text, entry=entry_id, kind=kind)]

    def open_dependencies(self, entry_ids: Sequence[str]) -> dict[str, list[str]]:
        """Return, by entry, those that it depends on and are not completed, or that it called and have not ended."""
        text = (
            "SELECT l.from_id, l.to_id FROM links l JOIN entries e ON e.id = l.to_id WHERE l.from_id {ids}"
            " AND ((l.kind = 'depends_on' AND e.status <> 'completed') OR (l.kind = 'calls'"
            f" AND e.status NOT IN ('completed', 'failed', 'canceled'))) AND e.{HERE} ORDER BY l.to_id"
        )
        found: dict[str, list[str]] = {}
        for row in self.run(text, ids=self.dialect.bind(entry_ids), env=self.env):
            found.setdefault(row[0], []).append(row[1])
        return found

    def dependents(self, entry_ids: Sequence[str]) -> list[str]:
        """Return the blocked entries that depend on any of these, or called one of them."""
        text = (
            "SELECT DISTINCT l.from_id FROM links l JOIN entries e ON e.id = l.from_id"
            f" WHERE l.to_id {{ids}} AND l.kind IN ('depends_on', 'calls') AND e.status = 'blocked' AND e.{HERE}"
        )
        return [row[0] for row in self.run(text, ids=self.dialect.bind(entry_ids), env=self.env)]

    def unbarred(self, env: str, most: int) -> list[str]:
        """Return blocked entries that wait for others, of which none is open any more."""
        text = (
            f"SELECT id FROM entries w WHERE env = :env AND {tables.WAITS_SQL} AND NOT EXISTS (SELECT 1"
            " FROM links l JOIN entries e ON e.id = l.to_id WHERE l.from_id = w.id AND ((l.kind = 'depends_on'"
            " AND e.status <> 'completed') OR (l.kind = 'calls'"
            " AND e.status NOT IN ('completed', 'failed', 'canceled')))) LIMIT :most"
        )
        return [row[0] for row in self.run(text, env=env, most=most)]

    def barred(self, env: str, bars: Sequence[str], after: str, most: int) -> "Page":
        """Return blocked entries that only have these bars, from a cursor on."""
        text = (
            "SELECT id, bars FROM entries WHERE env = :env AND status = 'blocked' AND id > :after"
            " ORDER BY id LIMIT :most"
        )
        rows = self.select("entries", text, env=env, after=after, most=most)
        ids = [row["id"] for row in rows if set(row["bars"]) <= set(bars)]
        return Page(ids=ids, last=rows[-1]["id"] if rows else after)

    def waiting_for(self, env: str, pipeline: str) -> int:
        """Count the entries that wait in the queue for a pipeline."""
        text = (
            "SELECT count(*) FROM entries WHERE env = :env AND pipeline = :pipeline"
            " AND status IN ('queued', 'ready', 'retrying')"
        )
        return int(self.value(text, env=env, pipeline=pipeline))

    def taken_in(self) -> tuple[int, datetime | None]:
        """Return how many entries there are, and when the first of them was filed; for a journal, which is small."""
        text = (
            "SELECT count(*), min(v.at) FROM entries e JOIN events v ON v.entry_id = e.id AND v.seq = 1"
            " WHERE e.env = :env"
        )
        row = self.run(text, env=self.env)[0]
        return int(row[0]), None if row[1] is None else moment(row[1])

    def environments(self) -> list[str]:
        """Return the environments that have entries here."""
        return [row[0] for row in self.run("SELECT DISTINCT env FROM entries ORDER BY env")]

    def statuses(self, env: str) -> dict[str, int]:
        """Count entries by status."""
        return self._pairs("SELECT status, count(*) FROM entries WHERE env = :env GROUP BY 1", env)

    def standings(self, env: str) -> dict[str, int]:
        """Count entries by where they stand; those that had nothing to do stand apart from the completed."""
        found = self.statuses(env)
        text = "SELECT outcome, count(*) FROM entries WHERE env = :env AND outcome <> '' GROUP BY 1"
        for outcome, number in self._pairs(text, env).items():
            found[Status.COMPLETED] -= number
            found[outcome.replace("_", " ")] = number
        return {status: number for status, number in found.items() if number}

    def _pairs(self, text: str, env: str) -> dict[str, int]:
        return {str(row[0]): int(row[1]) for row in self.run(text, env=env)}

    def _entries(self, chosen: sa.Select[Any]) -> list[Entry]:
        self.statements += 1
        rows = self.connection.execute(chosen).mappings()
        return [entry(decoded("entries", dict(row))) for row in rows]

    def _matches(self, clause: Clause) -> sa.ColumnElement[bool]:
        if clause.key in PLAIN:
            found: sa.ColumnElement[bool] = _E[clause.key].in_(clause.values)
        elif clause.key == "words":
            word = clause.values[0].lower()
            found = sa.or_(*(sa.func.lower(_E[name]).contains(word, autoescape=True) for name in FREE))
        elif clause.key == "is":
            found = sa.true() if "live" in clause.values else sa.false()
        elif clause.key in {"key", "url"}:
            found = (_E.dedupe_key if clause.key == "key" else _E.url).in_(clause.values)
        elif clause.key == "age":
            found = sa.or_(*(self._older(value) for value in clause.values))
        elif clause.key in {"label", "reason"}:
            column = _E.labels if clause.key == "label" else _E.bars
            found = sa.or_(*(self._contains(column, value) for value in clause.values))
        else:
            column = tables.reviews.c[{"failure": "failure", "rule": "rule"}[clause.key]]
            same = tables.reviews.c.entry_id == _E.id
            found = sa.exists().where(same, tables.reviews.c.answer.is_(None), column.in_(clause.values))
        return sa.not_(found) if clause.negated else found

    def _contains(self, column: "sa.Column[Any]", value: str) -> sa.ColumnElement[bool]:
        if self.dialect.name == "postgresql":
            return sa.cast(column, JSONB).contains([value])
        each = sa.func.json_each(column).table_valued("value")
        return sa.exists(sa.select(1).select_from(each).where(each.c.value == value))

    def _older(self, value: str) -> sa.ColumnElement[bool]:
        sign, length = age(value)
        past: Any = self.now() - length
        edge = sa.literal(past, sa.TIMESTAMP(timezone=True)) if self.dialect.name == "postgresql" else past.timestamp()
        return _E.created_at < edge if sign == ">" else _E.created_at > edge
