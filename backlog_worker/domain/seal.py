"""Seals kept elsewhere: their required fields, and why a seal proves nothing about a single history."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from backlog_worker.domain import merkle

NAMES = ("id", "at", "since", "entries", "events", "root", "prev", "hash")
TREE, FLAT = "backlog-worker/seal@2", "backlog-worker/seal@1"


def seal_fault(seal: Mapping[str, Any]) -> str:
    """Return why *seal* proves nothing about a single history, or ""."""
    if seal.get("schema") not in {TREE, FLAT}:
        return f"not a seal: its schema is {seal.get('schema')!r}, expected {TREE}"
    if wrong := _misshapen(seal):
        return f"not a seal: {wrong}"
    if not matches(seal):
        return f"the seal {seal['id']} does not match its own hash: it was altered"
    if seal["schema"] == FLAT or not merkle.is_tree(seal):
        return (
            f"not provable under this seal: {seal['id']} is from an older release, a plain hash that proves a whole"
            " database (`audit verify --seal FILE`) but not a single history"
        )
    return ""


def _misshapen(seal: Mapping[str, Any]) -> str:
    strange = sorted(set(seal) - {*NAMES, "schema"})
    if strange or (missing := [name for name in NAMES if name not in seal]):
        return f"it has no {', '.join(missing)}" if not strange else f"it has unknown fields: {', '.join(strange)}"
    for name in NAMES:
        whole = isinstance(seal[name], int) and not isinstance(seal[name], bool)
        if not (whole if name in {"entries", "events"} else isinstance(seal[name], str)):
            return f"its {name} is {seal[name]!r}"
    for name in ("at", "since"):
        try:
            if datetime.fromisoformat(seal[name]).tzinfo is None:
                return f"its {name} has no time zone"
        except ValueError:
            return f"its {name} is {seal[name]!r}"
    return ""


def matches(seal: Mapping[str, Any]) -> bool:
    """Return whether a seal, with its moments as texts, matches its own hash."""
    moments = {name: datetime.fromisoformat(seal[name]) for name in ("at", "since")}
    return merkle.seal_hash({**seal, **moments}) == str(seal["hash"])
