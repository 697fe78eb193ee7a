"""One tick: who goes now and, for every candidate, why or why not."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from backlog_worker.domain.admission import Load, Waiting, admit
from backlog_worker.domain.entry import Entry
from backlog_worker.domain.policy import Policy
from backlog_worker.domain.priority import Scored, rank
from backlog_worker.domain.reasons import Wait


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The backlog and the fleet as they stood at one moment: the best candidates, and the load."""

    candidates: Sequence[Entry]
    load: Load


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What a decision said about one entry: its position (from 1), its score, and its waits if it stays."""

    scored: Scored
    position: int
    waits: tuple[Waiting, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What one tick said about every candidate."""

    policy: str
    at: datetime
    receipts: tuple[Receipt, ...]

    @property
    def chosen(self) -> tuple[Receipt, ...]:
        """Return the receipts of those who go."""
        return tuple(receipt for receipt in self.receipts if not receipt.waits)


def decide(snapshot: Snapshot, policy: Policy, now: datetime) -> Decision:
    """Say who goes now and, for every candidate, why or why not.

    Nobody goes before a better one that only lacked room: the first that finds none closes the tick.
    """
    load, receipts = snapshot.load, []
    for position, scored in enumerate(rank(snapshot.candidates, policy, now), start=1):
        waits = admit(scored, load, policy, now)
        if not waits:
            load = load.plus(scored.entry, policy)
        elif waits[0].code == Wait.NO_SLOT:
            load = replace(load, full=True)
        receipts.append(Receipt(scored=scored, position=position, waits=waits))
    return Decision(policy=policy.stamp, at=now, receipts=tuple(receipts))
