"""The history is the truth: verify its chains, fold it against the tables, rebuild them from it, look at a past moment.

Everything here reads page by page, each page in a transaction of its own and of one moment: no long transaction holds
up the fleet, and a fleet that moves is no violation.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from backlog_worker.domain import projection
from backlog_worker.domain.entry import FOLDED, Change, Status, differing, entry_of, fold
from backlog_worker.domain.errors import BacklogError
from backlog_worker.domain.events import Event, broken
from backlog_worker.domain.measures import Measures, Tally, life, measured
from backlog_worker.lifecycle import Kit, operation
from backlog_worker.store import Violation

PAGE = 500
_HELD = (Status.READY, Status.IN_PROGRESS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """The backlog as the history tells of one moment: how many entries stood where, each one's status, the measures."""

    at: datetime
    counts: Mapping[str, int]
    statuses: Mapping[str, str]
    measures: Measures
    unknown: int = 0  # retired entries whose histories are past their time, and of which nothing else tells of then


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One history, with the row that it must give; a retired entry has what is left of it instead."""

    entry_id: str
    events: Sequence[Event]
    row: Mapping[str, Any] | None
    left: Mapping[str, Any] | None
    runs: Sequence[Mapping[str, Any]] = ()
    outputs: Sequence[Mapping[str, Any]] = ()


def told(kit: Kit) -> Iterator[Told]:
    """Yield every entry of the environment with its history, retired ones too; each page is of one moment."""
    after = ""
    while True:
        with kit.store.read() as unit:
            unit.snapshot()
            page = unit.page(kit.env, after, PAGE)
            rows, left = unit.rows(page), unit.retired_rows(page)
            histories, runs, outputs = unit.histories(page), unit.run_rows(page), unit.output_rows(page)
        if not page:
            return
        for entry_id in page:
            yield Told(
                entry_id=entry_id,
                events=histories.get(entry_id, []),
                row=rows.get(entry_id),
                left=left.get(entry_id),
                runs=runs.get(entry_id, ()),
                outputs=outputs.get(entry_id, ()),
            )
        after = page[-1]


def verify(kit: Kit) -> Iterator[Violation]:
    """Verify every chain and fold every history: it must give its row, column by column."""
    for each in told(kit):
        yield from _violations(each)
    with kit.store.read() as unit:
        orphans = unit.orphans(20)
    for entry_id in orphans:
        yield Violation(invariant="I8", subject=entry_id, text="a history without its entry: somebody removed the row")


def rebuild(kit: Kit, *, reason: str = "", apply: bool = False) -> list[tuple[str, list[str]]]:
    """Say which rows are not what their histories give, and with *apply* write them as they must be.

    A history whose chain is broken is no truth to rebuild from: it is left alone, and `verify` names it. Raises
    UsageError without a reason.
    """
    if apply:
        operation.reasoned(reason)
    found = []
    for each in told(kit):
        wrong = _wrong(each)
        if wrong and not broken(each.events):
            found.append((each.entry_id, wrong))
            if apply:
                _restore(kit, each.entry_id, reason)
    with kit.store.read() as unit:
        orphans = unit.orphans(1000)
    for entry_id in orphans:
        found.append((entry_id, ["the whole row"]))
        if apply:
            _restore(kit, entry_id, reason)
    return found


def at(kit: Kit, moment: datetime) -> Past:
    """Fold every history up to a moment: the backlog as it stood then, and its measures."""
    tally = Tally(moment)
    for each in told(kit):
        if each.events or each.left is None:
            tally.add(each.events)
        else:
            tally.add_left(each.left["status"], each.left["tally"], there_until=each.left["at"])
            _add_wait(tally, each.left)
    counts = tally.counts()
    past = measured(counts)
    return Past(at=moment, counts=counts.by_status, statuses=tally.statuses, measures=past, unknown=tally.unknown)


def diff(kit: Kit, first: datetime, second: datetime) -> list[tuple[str, str, str]]:
    """Return (entry, then, later) of every entry whose status differs between two moments."""
    one, other = at(kit, first).statuses, at(kit, second).statuses
    return [
        (entry_id, one.get(entry_id, "none"), other.get(entry_id, "none"))
        for entry_id in sorted({*one, *other})
        if one.get(entry_id) != other.get(entry_id)
    ]


def _add_wait(tally: Tally, left: Mapping[str, Any]) -> None:
    if left["at"] <= tally.moment and left["waited"] is not None and left["cleared_at"] is not None:
        tally.add_wait(str(left["tally"]["priority"]), left["cleared_at"], left["waited"])


def _violations(each: Told) -> Iterator[Violation]:
    if each.left is not None and not each.events and each.row is None:
        return  # past its time: `db verify` and the seals tell whether it was
    if fault := broken(each.events):
        yield Violation(invariant="I8", subject=each.entry_id, text=fault[1])
    if each.left is not None and each.row is None:
        last = each.events[-1]
        if (last.seq, last.hash, last.change) != (each.left["seq"], each.left["hash"], Change.RETIRED):
            yield Violation(invariant="I8", subject=each.entry_id, text="the end of a retired history is missing")
        elif each.left["tally"] is not None and each.left["tally"] != life(each.events, last.at).kept:
            text = "the history does not give: its tally"
            yield Violation(invariant="I7", subject=each.entry_id, text=text)
        return
    wrong = _wrong(each)
    if wrong:
        text = f"the history does not give: {', '.join(wrong)}"
        yield Violation(invariant="I7", subject=each.entry_id, text=text)


def _wrong(each: Told) -> list[str]:
    """Return what differs: columns of the entry, runs, outputs."""
    if each.row is None:
        return []
    if len(each.events) != each.row["seq"]:
        return ["seq"]
    try:
        columns = differing(each.events, each.row)
    except BacklogError as error:
        return [str(error)]
    outputs = [f"the output of {job}" for job in projection.wrong_outputs(each.events, each.outputs)]
    return [*columns, *projection.wrong_runs(each.events, each.runs), *outputs]


def _restore(kit: Kit, entry_id: str, reason: str) -> None:
    with kit.store.begin(actor=kit.worker) as unit:
        row = unit.rows([entry_id]).get(entry_id)
        events = unit.histories([entry_id])[entry_id]
        entry = entry_of(fold(events), seq=events[-1].seq, changed_at=events[-1].at)
        until = row["leased_until"] if row and row["leased_until"] else unit.now()  # the sweep takes it back
        columns = {name: getattr(entry, name) for name in (*FOLDED, "seq", "changed_at")}
        unit.restore({**columns, "leased_until": until if entry.status in _HELD else None}, missing=row is None)
        unit.restore_runs(list(projection.runs(events).values()))
        operation.record(kit, unit, "audit.rebuild", subject=entry_id, reason=reason)
