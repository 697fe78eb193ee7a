"""The decision of one tick: which entries are dispatched and, for every candidate, why or why not."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from backlog_worker.domain.admission import Load, Waiting, admit
from backlog_worker.domain.entry import Entry
from backlog_worker.domain.policy import Policy
from backlog_worker.domain.priority import Scored, rank
from backlog_worker.domain.reasons import ROOM, Wait


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The state of the backlog and the fleet at one moment: the candidates and the load."""

    candidates: Sequence[Entry]
    load: Load


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The decision about one entry: its position (from 1), its score, and its waits if it is not dispatched."""

    scored: Scored
    position: int
    waits: tuple[Waiting, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The receipts of one tick, one for every candidate."""

    policy: str
    at: datetime
    receipts: tuple[Receipt, ...]

    @property
    def chosen(self) -> tuple[Receipt, ...]:
        """Return the receipts of the dispatched entries."""
        return tuple(receipt for receipt in self.receipts if not receipt.waits)


class Deciding:
    """A decision in progress: it takes the candidates best first and decides on each immediately.

    No entry overtakes a better one that only lacked capacity: the first entry without capacity closes the tick.
    """

    def __init__(self, load: Load, policy: Policy, now: datetime) -> None:
        self.load = load
        self.closed = False  # once true, no further candidate can be dispatched
        self._policy = policy
        self._now = now
        self._said = 0

    def say(self, scored: Scored) -> Receipt:
        """Decide on the next candidate, and add it to the load if it is dispatched."""
        waits = admit(scored, self.load, self._policy, self._now)
        if not waits:
            self.load = self.load.plus(scored.entry, self._policy)
        elif waits[0].code in ROOM:
            self.closed = True
            if waits[0].code == Wait.NO_SLOT:
                self.load = replace(self.load, full=True)
        self._said += 1
        return Receipt(scored=scored, position=self._said, waits=waits)


def decide(snapshot: Snapshot, policy: Policy, now: datetime) -> Decision:
    """Return which entries are dispatched now and, for every candidate, why or why not."""
    deciding = Deciding(snapshot.load, policy, now)
    receipts = tuple(deciding.say(scored) for scored in rank(snapshot.candidates, policy, now))
    return Decision(policy=policy.stamp, at=now, receipts=receipts)
