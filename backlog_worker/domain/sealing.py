"""Sealed rows without an entry: what a seal contains of each, besides the heads of the histories."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from backlog_worker.domain.binding import plain
from backlog_worker.domain.events import digest

RECEIPTS = "receipts"  # in the counts of a decision: the digest of each of its receipts, by entry
DIGEST_LENGTH = 32  # 128 bits of a digest are enough for one receipt among those of a tick


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """An append-only table: the column with a row's time, its key, and the columns that are not evidence.

    Rows that may *leave* by retention are not reported as missing; rows that may begin *anew* are found elsewhere.
    """

    key: tuple[str, ...] = ("id",)
    at: str = "at"
    loose: frozenset[str] = frozenset()
    leaves: bool = False
    anew: bool = False


SEALED: Mapping[str, Sealed] = {
    "operations": Sealed(),
    "spending": Sealed(),
    "redactions": Sealed(key=("entry_id", "seq")),
    "tokens": Sealed(at="created_at", loose=frozenset({"used_at", "revoked_at", "revoked_by"})),
    "retired": Sealed(key=("entry_id",), loose=frozenset({"legal_hold"})),
    "decisions": Sealed(leaves=True),
    "definitions": Sealed(key=("env", "kind", "hash"), loose=frozenset({"live"}), anew=True),
    "enactments": Sealed(key=("env", "kind", "name", "at")),
    "digests": Sealed(key=("env", "kind", "period"), anew=True),
}


def sealed_name(table: str, row: Mapping[str, Any]) -> str:
    """Return the name of a row among the leaves of a seal."""
    return f"{table}:" + "/".join(str(row[column]) for column in SEALED[table].key)


def sealed_digest(table: str, row: Mapping[str, Any]) -> str:
    """Return the digest of a row without its default values."""
    loose = SEALED[table].loose
    return digest({name: plain(each) for name, each in row.items() if name not in loose})


def receipt_digest(row: Mapping[str, Any]) -> str:
    """Return the digest of a receipt, as stored in its decision."""
    score = None if row["score"] is None else float(row["score"])
    said = [row["position"], score, dict(row["terms"]), list(row["waits"])]
    return digest(said)[:DIGEST_LENGTH]
