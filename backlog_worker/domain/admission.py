"""Why not now: the waits of one candidate; none means that it goes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from backlog_worker.domain.entry import Entry, Status
from backlog_worker.domain.policy import Policy
from backlog_worker.domain.priority import Scored
from backlog_worker.domain.reasons import Wait
from backlog_worker.domain.window import Window, opens


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """One wait of one candidate: its code, the words, and until when where that is known."""

    code: Wait
    text: str
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What the fleet holds: entries ready or in progress, the slots they fill, and the room there is.

    An entry of a light pipeline shares its bell with `batch` others and fills only that share of a slot.
    """

    held: int
    slots_held: float
    slots: int
    light: frozenset[str] = frozenset()
    chosen: int = 0
    full: bool = False

    def plus(self, entry: Entry, policy: Policy) -> "Load":
        """Count one more."""
        filled = self.slots_held + share(entry.pipeline, self.light, policy)
        return replace(self, held=self.held + 1, slots_held=filled, chosen=self.chosen + 1)


def share(pipeline: str, light: frozenset[str], policy: Policy) -> float:
    """Return how much of a slot one entry of *pipeline* fills."""
    return 1.0 / policy.dispatch.batch if pipeline in light else 1.0


def admit(scored: Scored, load: Load, policy: Policy, now: datetime) -> tuple[Waiting, ...]:
    """Find what keeps one candidate back: faults first, then time, then room."""
    entry = scored.entry
    waits: list[Waiting] = []
    if scored.score is None:
        waits.append(Waiting(code=Wait.SCORE_ERROR, text=scored.error))
    if (wait := _closed(entry, now)) is not None:
        waits.append(wait)
    if entry.status == Status.RETRYING and entry.retry_at and entry.retry_at > now:
        text = f"failed, is tried again at {entry.retry_at:%H:%M:%SZ}: {entry.reason}"
        waits.append(Waiting(code=Wait.BACKING_OFF, text=text, until=entry.retry_at))
    return tuple(waits) or _room(entry, load, policy)


def not_before(entry: Entry) -> datetime | None:
    """Return the moment before which the entry itself forbids to run."""
    text = entry.constraints.get("not_before")
    return datetime.fromisoformat(text) if text else None


def windows(entry: Entry) -> Sequence[Window]:
    """Return the run windows of the entry."""
    return [Window.model_validate(each) for each in entry.constraints.get("windows", ())]


def _closed(entry: Entry, now: datetime) -> Waiting | None:
    begin = not_before(entry)
    if begin and begin > now:
        return Waiting(code=Wait.OUTSIDE_WINDOW, text=f"not before {begin:%Y-%m-%d %H:%MZ}", until=begin)
    allowed = windows(entry)
    opening = opens(allowed, now)
    if opening is None:
        return None
    text = f"window {'; '.join(map(str, allowed))} is closed, opens {opening:%Y-%m-%d %H:%MZ}"
    return Waiting(code=Wait.OUTSIDE_WINDOW, text=text, until=opening)


def _room(entry: Entry, load: Load, policy: Policy) -> tuple[Waiting, ...]:
    if load.chosen >= policy.dispatch.top:
        return (Waiting(code=Wait.BELOW_CUTOFF, text=f"{load.chosen} better entries go in this tick"),)
    if not load.slots:
        return (Waiting(code=Wait.NO_WORKER, text="no worker is alive"),)
    if load.held >= policy.admission.max_in_progress:
        text = f"{load.held} of at most {policy.admission.max_in_progress} are chosen or in progress"
        return (Waiting(code=Wait.NO_SLOT, text=text),)
    room = load.slots * (1.0 + policy.dispatch.ahead)
    if load.full or load.slots_held + share(entry.pipeline, load.light, policy) > room + 1e-9:
        text = f"{load.slots_held:.1f} of {load.slots} slots are taken, and {policy.dispatch.ahead:g} may wait for each"
        return (Waiting(code=Wait.NO_SLOT, text=text),)
    return ()
