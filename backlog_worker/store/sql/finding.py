"""Look-up of entries, including retired ones, by parts of keys, numbers, addresses and titles."""

from collections.abc import Mapping, Sequence

from backlog_worker.domain.entry import Change, Entry, entry_of, fold
from backlog_worker.domain.handle import NAMED
from backlog_worker.domain.ident import RANDOM, TIME
from backlog_worker.store.sql.health import Health
from backlog_worker.store.sql.statements import HERE, Row

_TOLD = (
    "EXISTS (SELECT 1 FROM events v WHERE v.entry_id = r.entry_id AND v.change IN ('filed', 'edited')"
    " AND lower(CAST(v.data AS text)) LIKE {piece})"
)


# The offset of the random part of an id, after its prefix and the ten characters of its time.
_IDS: Mapping[str, tuple[str, str]] = {
    "entries": ("id", "bl_"),
    "retired": ("entry_id", "bl_"),
    "runs": ("id", "run_"),
    "reviews": ("id", "rev_"),
    "outbox": ("id", "wb_"),
}


class Finding(Health):
    """Methods that find what a person names."""

    def beginning(self, table: str, part: str, most: int) -> list[str]:
        """Return ids of a table whose random part begins with *part*, or that begin with it as a whole, in order."""
        column, prefix = _IDS[table]
        chosen = f"SELECT {column} FROM {table} WHERE {HERE} AND {{0}} BETWEEN :{{1}}low AND :{{1}}high"
        both = (
            chosen.format(column, "whole_"),
            chosen.format(f"substr({column}, {len(prefix) + TIME + 1})", "random_"),
        )
        bounds = {
            "whole_low": prefix + part.ljust(TIME + RANDOM, "0"),
            "whole_high": prefix + part.ljust(TIME + RANDOM, "Z"),
            "random_low": part.ljust(RANDOM, "0"),
            "random_high": part.ljust(RANDOM, "Z"),
        }
        text = f"{' UNION '.join(both)} ORDER BY {column} LIMIT :most"
        return [row[0] for row in self.run(text, env=self.env, most=most, **bounds)]

    def named(self, env: str, pieces: Sequence[str], after: str, most: int) -> list[Row]:
        """Return the naming fields of entries that contain every piece, in the order of their ids."""
        where = "".join(f" AND ({_held(piece, name)})" for piece, name in zip(pieces, _names(pieces), strict=True))
        text = f"SELECT {', '.join(NAMED)} FROM entries WHERE env = :env AND id > :after{where} ORDER BY id LIMIT :most"
        return self.select("entries", text, env=env, after=after, most=most, **_bound(pieces))

    def retired_named(self, env: str, pieces: Sequence[str], after: str, most: int) -> list[str]:
        """Return retired entries that contain every piece in their key or their history."""
        where = "".join(
            f" AND (lower(r.dedupe_key) LIKE :{name} OR r.entry_id LIKE :{name}"
            f" OR {_TOLD.replace('{piece}', f':{name}')})"
            for name in _names(pieces)
        )
        text = f"SELECT entry_id FROM retired r WHERE env = :env AND entry_id > :after{where}"
        ordered = f"{text} ORDER BY entry_id LIMIT :most"
        return [row[0] for row in self.run(ordered, env=env, after=after, most=most, **_bound(pieces))]

    def as_they_ended(self, entry_ids: Sequence[str]) -> dict[str, Entry]:
        """Return retired entries in their final state; without a history an entry has only its key."""
        histories, rows = self.histories(entry_ids), self.retired_rows(entry_ids)
        found = {}
        for entry_id, row in rows.items():
            values = fold(event for event in histories.get(entry_id, ()) if event.change != Change.RETIRED)
            found[entry_id] = entry_of(values) if values else _bare(row)
        return found


def _held(piece: str, name: str) -> str:
    """Return the condition that a field of NAMED contains a piece; digits need no conversion of case."""
    fields = NAMED if piece.isdigit() else [f"lower({field})" for field in NAMED]
    return " OR ".join(f"{field} LIKE :{name}" for field in fields)


def _bare(row: Mapping[str, object]) -> Entry:
    named = {"id": row["entry_id"], "env": row["env"], "dedupe_key": row["dedupe_key"], "status": row["status"]}
    return entry_of({**named, "title": "", "pipeline": "", "created_at": row["at"]})


def _bound(pieces: Sequence[str]) -> dict[str, str]:
    escaped = [
        each.replace("_", "%") for each in pieces
    ]  # `_` matches any character in LIKE; a coarse filter may find too much
    return {name: f"%{each}%" for name, each in zip(_names(pieces), escaped, strict=True)}


def _names(pieces: Sequence[str]) -> list[str]:
    return ["piece" + "_" * number for number in range(len(pieces))]
