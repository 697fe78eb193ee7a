"""The history is the source of truth: verify its chains, compare it with the tables, rebuild them, view a past moment.

Everything is read page by page, each page in its own transaction and consistent in itself. No long transaction blocks
the fleet, and changes made meanwhile are not reported as violations.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from backlog_worker.domain import projection
from backlog_worker.domain.binding import BOUND, complete
from backlog_worker.domain.entry import FOLDED, Change, Status, differing, entry_of, fold
from backlog_worker.domain.errors import BacklogError, StoreError
from backlog_worker.domain.events import Event, broken
from backlog_worker.domain.evidence import artifacts_of
from backlog_worker.domain.measures import Measures, Tally, life, measured
from backlog_worker.domain.projection import retired_differing
from backlog_worker.lifecycle import Kit, operation
from backlog_worker.store import Unit, Violation

PAGE = 500
_HELD = (Status.READY, Status.IN_PROGRESS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """The backlog at one moment, computed from the history: the number of entries and each one's status, and the
    measures.
    """

    at: datetime
    counts: Mapping[str, int]
    statuses: Mapping[str, str]
    measures: Measures
    unknown: int = 0  # retired entries whose expired histories leave their status at that time unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One history and the row that it must produce; for a retired entry, its remainder instead of the row."""

    entry_id: str
    events: Sequence[Event]
    row: Mapping[str, Any] | None
    left: Mapping[str, Any] | None
    tables: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    inputs: Mapping[str, Any] = field(default_factory=dict)
    unreadable: str = ""


@dataclass(slots=True)
class Proved:
    """What a verification examined: histories, their events, the rows bound by them, and unbound rows.

    A row is unbound if it is older than the version of events that describes it.
    """

    histories: int = 0
    events: int = 0
    rows: int = 0
    unbound: dict[str, int] = field(default_factory=dict)

    def add(self, each: "Told", found: projection.Compared) -> None:
        """Count one history."""
        self.histories += 1
        self.events += len(each.events)
        self.rows += found.bound
        for table, number in found.unbound.items():
            self.loose(table, number)

    def loose(self, table: str, number: int = 1) -> None:
        """Count rows that no event binds."""
        if number:
            self.unbound[table] = self.unbound.get(table, 0) + number


def told(kit: Kit, *, rows_too: bool = False) -> Iterator[Told]:
    """Yield every entry of the environment with its history, including retired ones; each page is consistent in
    itself.
    """
    after = ""
    while True:
        with kit.store.read() as unit:
            unit.snapshot()
            page = unit.page(kit.env, after, PAGE)
            try:
                found = _read(unit, page, rows_too=rows_too)
            except (ValueError, StoreError):  # a row was written by something else
                found = [each for entry_id in page for each in _readable(unit, entry_id, rows_too=rows_too)]
        if not page:
            return
        yield from found
        after = page[-1]


def _read(unit: Unit, page: Sequence[str], *, rows_too: bool) -> list[Told]:
    rows, left, histories = unit.rows(page), unit.retired_rows(page), unit.histories(page)
    tables = {table: unit.bound_rows(table, page) for table in BOUND} if rows_too else {}
    inputs = unit.inputs_of(page) if rows_too else {}
    return [
        Told(
            entry_id=entry_id,
            events=histories.get(entry_id, []),
            row=rows.get(entry_id),
            left=left.get(entry_id),
            tables={table: found.get(entry_id, ()) for table, found in tables.items()},
            inputs=inputs.get(entry_id, {}),
        )
        for entry_id in page
    ]


def _readable(unit: Unit, entry_id: str, *, rows_too: bool) -> list[Told]:
    """Read one entry; an unreadable one is returned with the error."""
    try:
        return _read(unit, [entry_id], rows_too=rows_too)
    except (ValueError, StoreError) as error:
        return [Told(entry_id=entry_id, events=(), row=None, left=None, unreadable=str(error))]


def verify(kit: Kit, proved: Proved | None = None) -> Iterator[Violation]:
    """Verify every chain, and that every history produces the rows of its entry, column by column.

    *proved* counts what was examined.
    """
    counted = proved or Proved()
    for each in told(kit, rows_too=True):
        yield from _violations(kit, each, counted)
    with kit.store.read() as unit:
        orphans, strayed = unit.orphans(20), unit.strayed(20)
    for entry_id in strayed:
        yield Violation(invariant="I7", subject=entry_id, text="the history does not produce: env")
    for entry_id in orphans:
        yield Violation(invariant="I8", subject=entry_id, text="a history without its entry: the row was removed")


def words(proved: Proved, *, broken: bool, sealed: bool) -> list[str]:
    """Return what a verification proved and what it did not; "whole" is used only if every row is bound."""
    counts = f"{proved.histories} histories, {proved.events} events, {proved.rows} rows bound"
    loose = ", ".join(f"{number} {table}" for table, number in sorted(proved.unbound.items()))
    if broken:
        found = [f"looked at: {counts}"]
    elif loose:
        found = [f"every chain is intact, and each history produces its row as far as it is recorded: {counts}"]
    else:
        found = [f"every history is whole and produces its row and the rows that belong to it: {counts}"]
    if loose:
        found.append(f"not evidence: {loose}; written before events recorded them")
    if not sealed:
        found.append(
            "no external seal was given: without one, a history forged together with its seals is not detected"
        )
    return found


def rebuild(kit: Kit, *, reason: str = "", apply: bool = False) -> list[tuple[str, list[str]]]:
    """Return the rows that differ from their histories; with *apply*, write the values that the histories produce.

    An entry whose chain is broken is left alone, and `verify` names it. Raises UsageError without a reason.
    """
    if apply:
        operation.reasoned(reason)
    found = []
    for each in told(kit, rows_too=True):
        if not broken(each.events) and (wrong := _wrong(each, Proved())):
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
    """Return the backlog and its measures at a moment, computed from every history up to it."""
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
    """Return (entry, earlier status, later status) for every entry whose status differs between two moments."""
    one, other = at(kit, first).statuses, at(kit, second).statuses
    return [
        (entry_id, one.get(entry_id, "none"), other.get(entry_id, "none"))
        for entry_id in sorted({*one, *other})
        if one.get(entry_id) != other.get(entry_id)
    ]


def _add_wait(tally: Tally, left: Mapping[str, Any]) -> None:
    if left["at"] <= tally.moment and left["waited"] is not None and left["cleared_at"] is not None:
        tally.add_wait(str(left["tally"]["priority"]), left["cleared_at"], left["waited"])


def _violations(kit: Kit, each: Told, proved: Proved) -> Iterator[Violation]:
    try:
        yield from _found(kit, each, proved)
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # a history was written by something else
        text = f"its history cannot be replayed: {type(error).__name__} {error}"
        yield Violation(invariant="I8", subject=each.entry_id, text=text)


def _found(kit: Kit, each: Told, proved: Proved) -> Iterator[Violation]:
    if each.unreadable:
        yield Violation(invariant="I8", subject=each.entry_id, text=f"the entry cannot be read: {each.unreadable}")
        return
    if each.left is not None and not each.events and each.row is None:
        return  # expired: `db verify` and the seals show whether it existed
    if fault := broken(each.events):
        yield Violation(invariant="I8", subject=each.entry_id, text=fault[1])
    if each.left is not None and each.row is None:
        proved.add(each, projection.Compared())
        yield from _left(each, each.left)
        return
    if wrong := _wrong(each, proved):
        text = f"the history does not produce: {'; '.join(wrong)}"
        yield Violation(invariant="I7", subject=each.entry_id, text=text)
    for sha256 in sorted({str(one["sha256"]) for row in each.tables["stages"] for one in artifacts_of(row)}):
        content = kit.artifacts.read(sha256)
        if content is not None and hashlib.sha256(content).hexdigest() != sha256:
            text = f"artifact {sha256[:12]} does not match its digest"
            yield Violation(invariant="I21", subject=each.entry_id, text=text)


def _left(each: Told, left: Mapping[str, Any]) -> Iterator[Violation]:
    """Compare the remainder of a retired entry with its history."""
    if _end(each.events) != (left["seq"], left["hash"], Change.RETIRED):
        yield Violation(invariant="I8", subject=each.entry_id, text="the end of a retired history is missing")
    wrong = retired_differing(each.events, left)
    if left["tally"] is not None and left["tally"] != _tally(each.events):
        wrong = [*wrong, "tally"]
    if wrong:
        text = f"its history does not produce its remainder: {', '.join(wrong)}"
        yield Violation(invariant="I7", subject=each.entry_id, text=text)


def _tally(events: Sequence[Event]) -> Mapping[str, Any] | None:
    try:
        return life(events, events[-1].at).kept
    except BacklogError:
        return None


def _end(events: Sequence[Event]) -> tuple[int, str, str]:
    return (events[-1].seq, events[-1].hash, events[-1].change)


def _wrong(each: Told, proved: Proved) -> list[str]:
    """Return what differs: columns of the entry, its inputs, and rows of other tables."""
    if each.row is None:
        return []
    if len(each.events) != each.row["seq"]:
        return ["seq"]
    try:
        columns = differing(each.events, each.row)
    except BacklogError as error:
        return [str(error)]
    rows = projection.compared(each.events, each.tables)
    proved.add(each, rows)
    return [*columns, *projection.wrong_inputs(each.events, each.inputs), *rows.wrong]


def _restore(kit: Kit, entry_id: str, reason: str) -> None:
    """Write the row of an entry and the rows of other tables as its history has them; redacted values stay redacted."""
    with kit.store.begin(actor=kit.worker) as unit:
        row = unit.rows([entry_id]).get(entry_id)
        events = unit.histories([entry_id])[entry_id]
        moved = projection.changed_at(events) or events[-1].at
        entry = entry_of(fold(events), seq=events[-1].seq, changed_at=moved)
        until = row["leased_until"] if row and row["leased_until"] else unit.now()  # the sweep reclaims it
        columns = {name: getattr(entry, name) for name in (*FOLDED, "seq", "changed_at")}
        unit.restore({**columns, "leased_until": until if entry.status in _HELD else None}, missing=row is None)
        bodies = projection.records(events)
        for table, rows in projection.rows(events, entry_id).items():
            if table == "outbox":
                rows = [{**each, "body": bodies.get(str(each["sha256"]), {})} for each in rows]  # noqa: PLW2901
            unit.restore_rows(table, entry_id, rows, alone=complete(events))
        operation.record(kit, unit, "audit.rebuild", subject=entry_id, reason=reason)
