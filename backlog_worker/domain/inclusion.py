"""Inclusion proofs: they prove that the history in a bundle is the one that a seal covers.

A bundle holds the chain of seals since the first tree with its entry and, for each seal over the head of its history,
the path from that head to the root.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from backlog_worker.domain import merkle
from backlog_worker.domain.events import Event
from backlog_worker.domain.seal import NAMES, matches, seal_fault

Leaves = Callable[[str], Sequence[tuple[str, bytes]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Included:
    """What a seal proves: the events up to `seq` existed in this form at `at`; or why it proves nothing."""

    seal: str
    seq: int = 0
    at: str = ""
    fault: str = ""


def proof(
    seals: Sequence[Mapping[str, Any]], heads: Sequence[tuple[str, int, str]], leaves: Leaves, entry_id: str
) -> dict[str, Any] | None:
    """Return the proof of one entry from *seals* in order, its *heads* in them, and the leaves of a seal by id."""
    trees = {str(seal["id"]): seal for seal in seals if merkle.is_tree(seal)}
    found = []
    for seal_id, seq, digest in heads:
        if seal_id in trees:
            listed = leaves(seal_id)
            index = [name for name, _ in listed].index(entry_id)
            path = merkle.path([leaf for _, leaf in listed], index)
            found.append(
                {"seal": seal_id, "seq": seq, "hash": digest, "index": index, "size": len(listed), "path": path}
            )
    if not found:
        return None
    first = [seal["id"] for seal in seals].index(found[0]["seal"])
    return {"seals": [_shown(seal) for seal in seals[first:]], "heads": found}


def faults(given: Mapping[str, Any], events: Sequence[Event]) -> Iterator[str]:
    """Yield the errors in a proof: in its seals, their chain, and each path from the history to a root."""
    prev, roots = None, {}
    for seal in given["seals"]:
        if not matches(seal) or (prev is not None and seal["prev"] != prev):
            yield f"proof: seal {seal['id']} was altered, or one before it"
        prev, roots[seal["id"]] = seal["hash"], seal["root"]
    hashes = {event.seq: event.hash for event in events}
    entry_id = events[0].entry_id if events else ""
    for head in given["heads"]:
        leaf = merkle.leaf(entry_id, head["seq"], head["hash"])
        if hashes.get(head["seq"]) != head["hash"]:
            yield f"proof: event {head['seq']} is not the one that seal {head['seal']} covers"
        elif merkle.led_to(leaf, head["index"], head["size"], head["path"]) != roots.get(head["seal"]):
            yield f"proof: event {head['seq']} does not lead to the root of seal {head['seal']}"


def under(given: Mapping[str, Any] | None, seal: Mapping[str, Any], entry_id: str) -> Included:
    """Return what a seal kept elsewhere proves about a bundle with a valid proof; a fault if it proves nothing."""
    seal_id = str(seal.get("id"))
    if fault := seal_fault(seal):
        return Included(seal=seal_id, fault=fault)
    seals: list[Mapping[str, Any]] = list(given["seals"]) if given else []
    order = [each["id"] for each in seals]
    if given is None or seal_id not in order:
        why = "is not in this bundle: it is older than the entry, newer than the export, or from another database"
        return Included(seal=seal_id, fault=f"not proved under this seal: {seal_id} {why}")
    place = order.index(seal_id)
    if {name: seals[place][name] for name in NAMES} != {name: seal[name] for name in NAMES}:
        return Included(seal=seal_id, fault=f"not proved under this seal: the bundle has another seal {seal_id}")
    before = [head for head in given["heads"] if order.index(head["seal"]) <= place]
    if not before:
        return Included(seal=seal_id, fault=f"not proved under this seal: {entry_id} is not under it")
    last = max(before, key=lambda head: order.index(head["seal"]))
    return Included(seal=seal_id, seq=last["seq"], at=str(seals[order.index(last["seal"])]["at"]))


def _shown(seal: Mapping[str, Any]) -> dict[str, Any]:
    return {name: seal[name].isoformat() if isinstance(seal[name], datetime) else seal[name] for name in NAMES}
