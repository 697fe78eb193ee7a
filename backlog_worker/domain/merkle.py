"""Merkle trees as in RFC 6962, section 2.1: one hash over many leaves, and short proofs of inclusion.

Leaves and nodes are hashed with different first bytes, so one cannot be mistaken for the other.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from backlog_worker.domain.events import compact

LEAF, NODE = b"\x00", b"\x01"
SCHEME = "rfc6962:"  # the prefix of a seal's root; an older seal has a plain hash over its heads


def leaf(name: str, seq: int, digest: str) -> bytes:
    """Return the hash of one leaf: a history by its last event, or a row by its digest."""
    return hashlib.sha256(LEAF + compact([name, seq, digest]).encode()).digest()


def root(leaves: Sequence[bytes]) -> str:
    """Return the root over leaves in order, in the format of a seal."""
    return SCHEME + _root(leaves).hex()


def path(leaves: Sequence[bytes], index: int) -> list[str]:
    """Return the audit path of one leaf: the sibling hashes on its way to the root, lowest first."""
    if len(leaves) == 1:
        return []
    split = _split(len(leaves))
    if index < split:
        return [*path(leaves[:split], index), _root(leaves[split:]).hex()]
    return [*path(leaves[split:], index - split), _root(leaves[:split]).hex()]


def led_to(found: bytes, index: int, size: int, beside: Sequence[str]) -> str | None:
    """Return the root to which an audit path leads from a leaf; None if it does not fit a tree of that size."""
    if not 0 <= index < size:
        return None
    last = size - 1
    for each in beside:
        if last == 0:
            return None
        other = bytes.fromhex(each)
        if index % 2 or index == last:
            found = _node(other, found)
            while index and not index % 2:
                index, last = index // 2, last // 2
        else:
            found = _node(found, other)
        index, last = index // 2, last // 2
    return SCHEME + found.hex() if last == 0 else None


def is_tree(seal: Mapping[str, Any]) -> bool:
    """Return whether a seal is the root of a tree; older seals prove nothing about a single history."""
    return str(seal["root"]).startswith(SCHEME)


def seal_hash(row: Mapping[str, Any]) -> str:
    """Return the hash of a seal over its predecessor, window, counts and root; moments are datetimes."""
    times = [round(row[name].timestamp(), 6) for name in ("since", "at")]
    said = compact([row["id"], *times, row["entries"], row["events"], row["root"]])
    return hashlib.sha256((row["prev"] + said).encode()).hexdigest()


def _root(leaves: Sequence[bytes]) -> bytes:
    level = list(leaves) or [hashlib.sha256(b"").digest()]
    while len(level) > 1:  # pairs from the left; an odd node moves up unchanged, which gives the same tree as splitting
        pairs = [_node(level[at], level[at + 1]) for at in range(0, len(level) - 1, 2)]
        level = pairs + level[len(level) - len(level) % 2 :]
    return level[0]


def _node(one: bytes, other: bytes) -> bytes:
    return hashlib.sha256(NODE + one + other).digest()


def _split(size: int) -> int:
    """Return the greatest power of two below *size*."""
    return 1 << (size - 1).bit_length() - 1
