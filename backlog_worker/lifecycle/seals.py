"""Seals: made once a day, stored elsewhere by third parties, and compared with the present histories."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from backlog_worker.domain.errors import StoreError
from backlog_worker.domain.merkle import is_tree, seal_hash
from backlog_worker.domain.seal import FLAT, TREE, seal_fault
from backlog_worker.lifecycle import Kit
from backlog_worker.store import Unit, Violation

SETTLED = timedelta(minutes=5)  # no transaction lasts longer, so older events are complete
LONG_AGO = datetime.fromtimestamp(0, UTC)
NAMED = 3  # at most this many wrong rows are named


def seal(kit: Kit) -> dict[str, Any]:
    """Seal every history up to five minutes ago, and return the seal in its external form."""
    with kit.store.begin(actor=kit.worker) as unit:
        last = unit.last_seal()
        since, at = (last["at"] if last else LONG_AGO), unit.now() - SETTLED
        if at <= since:
            return sealed(last) if last else {}
        return sealed(unit.seal(kit.new_id("seal"), since, at, last["hash"] if last else ""))


def sealed(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a seal in its external form."""
    said = {name: each.isoformat() if isinstance(each, datetime) else each for name, each in row.items()}
    return {"schema": TREE if is_tree(row) else FLAT, **said}


def verify_seals(kit: Kit, outside: Mapping[str, Any] | None = None) -> Iterator[Violation]:
    """Compare every seal with the histories, and an external seal with ours."""
    prev, known = "", {}
    with kit.store.read() as unit:
        rows = unit.seals()
    for row in rows:
        known[row["id"]] = sealed(row)
        with kit.store.read() as unit:
            root = unit.root(row["id"]) if is_tree(row) else unit.flat_root(row["id"])
            if row["prev"] != prev or seal_hash(row) != row["hash"] or root != row["root"]:
                yield Violation(invariant="I8", subject=row["id"], text="this seal or an earlier one was altered")
            for entry_id, seq in unit.unsealed(row, 20):
                text = f"event {seq} was altered or removed after it was sealed at {row['at'].isoformat()}"
                yield Violation(invariant="I8", subject=entry_id, text=text)
            yield from _rows(unit, row)
        prev = row["hash"]
    if outside is not None:
        yield from _outside(outside, known)


def _rows(unit: Unit, seal: Mapping[str, Any]) -> Iterator[Violation]:
    if not is_tree(seal):
        return
    try:
        found = unit.unsealed_rows(dict(seal))
    except (ValueError, StoreError) as error:  # a row was written by something else
        yield Violation(invariant="I8", subject=seal["id"], text=f"a row under this seal cannot be read: {error}")
        return
    for table, wrong in found.items():
        parts = [f"{len(names)} {what} ({_named(names)})" for what, names in wrong.items()]
        text = f"rows sealed at {seal['at'].isoformat()}: {', '.join(parts)}"
        yield Violation(invariant="I8", subject=table, text=text)


def _named(names: list[str]) -> str:
    listed = ", ".join(name.partition(":")[2] for name in names[:NAMED])
    return listed + (" ..." if len(names) > NAMED else "")


def _outside(outside: Mapping[str, Any], known: Mapping[str, Mapping[str, Any]]) -> Iterator[Violation]:
    mine = known.get(str(outside.get("id")))
    fault = seal_fault(outside)
    if fault.startswith("not a seal") or "its own hash" in fault:
        yield Violation(invariant="I8", subject=str(outside.get("id")), text=fault)
    elif mine is None:
        text = "the external seal is not here: the history was truncated or restored from an older state"
        yield Violation(invariant="I8", subject=str(outside.get("id")), text=text)
    elif mine != dict(outside):
        text = "the seal differs from the external one"
        yield Violation(invariant="I8", subject=str(outside["id"]), text=text)
