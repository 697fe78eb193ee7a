"""File drafts: validate, deduplicate, clear entries without bars; an invalid draft never affects the others."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from types import MappingProxyType
from typing import Any, TypeVar

from backlog_worker.domain import draft as drafts
from backlog_worker.domain import order, tracker
from backlog_worker.domain.admission import group_of, not_before
from backlog_worker.domain.binding import ROWS
from backlog_worker.domain.draft import Draft
from backlog_worker.domain.entry import FOLDED, Change, Declared, Entry, Status, declared
from backlog_worker.domain.errors import ConflictError, InvalidInputError, StoreError, UnreachableError
from backlog_worker.domain.events import Event, chained
from backlog_worker.domain.lane import lane_of
from backlog_worker.domain.pipeline import Pipeline
from backlog_worker.domain.policy import Policy
from backlog_worker.domain.priority import scored
from backlog_worker.domain.reasons import Bar
from backlog_worker.domain.tracker import Passed
from backlog_worker.lifecycle import Kit, definitions, needs, operation
from backlog_worker.store import AutoStore, Unit

T = TypeVar("T")
BATCH = 500
ASKED_AGAIN = (Bar.NOT_ELIGIBLE, Bar.DEFINITION_MISSING, Bar.WAITS_ON_ENTRY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filed:
    """The result of one draft: its entry (new, or the existing one), or why it was refused or skipped."""

    place: str
    title: str = ""
    url: str = ""
    number: str = ""
    entry_id: str = ""
    new: bool = False
    status: str = ""
    bars: tuple[str, ...] = ()
    reason: str = ""
    score: float | None = None
    error: str = ""
    passed: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judge:
    """Everything that drafts are judged by, read once per batch."""

    env: str
    policy: Policy
    pipelines: Mapping[str, Pipeline]
    now: datetime
    actor: str
    channel: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Intake:
    """One call of `file`: who files, and the ids that a dry run would have filed."""

    kit: Kit
    actor: str
    channel: str
    dry_run: bool
    seen: dict[str, str] = field(default_factory=dict)


def file(
    kit: Kit,
    records: Iterable[tuple[str, Mapping[str, Any] | InvalidInputError | Passed]],
    *,
    actor: str,
    channel: str,
    dry_run: bool = False,
) -> Iterator[Filed]:
    """File records, each with its source location, in batches of one transaction each.

    With *dry_run* everything is judged and nothing is written. Yields one Filed per record; within a batch, refusals
    come first and dependent records last. While the database is unavailable, a store with a journal stores the records
    there.
    """
    call = _Intake(kit=kit, actor=actor, channel=channel, dry_run=dry_run)
    batch: list[tuple[str, Draft]] = []
    dependent: list[tuple[str, Draft]] = []
    for place, record in records:
        if isinstance(record, Passed):
            yield Filed(place=place, title=record.title, url=record.url, number=record.number, passed=record.why)
            continue
        try:
            if isinstance(record, InvalidInputError):
                raise record
            draft = drafts.checked(record)
            (dependent if draft.depends_on else batch).append((place, draft))
        except InvalidInputError as error:
            title, url, number = ("", "", "") if isinstance(record, InvalidInputError) else tracker.identity(record)
            yield Filed(place=place, title=title, url=url, number=number, error=str(error))
            continue
        if len(batch) >= BATCH:
            yield from _file_batch_or_halves(call, batch)
            batch = []
    if batch:
        yield from _file_batch_or_halves(call, batch)
    yield from _in_order(call, dependent)


def _in_order(call: _Intake, dependent: Sequence[tuple[str, Draft]]) -> Iterator[Filed]:
    """File dependent records, each after the ones it depends on."""
    wanted: dict[str, list[str]] = {}
    for _, draft in dependent:
        wanted.setdefault(draft.dedupe_key, draft.depends_on)
    keys, circles = order.ordered(wanted)
    places = {key: at for at, key in enumerate(keys)}
    for place, draft in dependent:
        if why := circles.get(draft.dedupe_key):
            yield _refused(place, draft, why)
    sound = [each for each in dependent if each[1].dedupe_key in places]
    sound.sort(key=lambda each: places[each[1].dedupe_key])
    for start in range(0, len(sound), BATCH):
        yield from _file_batch_or_halves(call, sound[start : start + BATCH])


def _refused(place: str, draft: Draft, why: str) -> Filed:
    return Filed(place=place, title=draft.title, url=draft.url, number=draft.external_ref, error=why)


def file_within(kit: Kit, unit: Unit, draft: Draft, *, channel: str, extra: Mapping[str, Any], **pinned: Any) -> str:
    """File one draft in an open transaction, with *extra* provenance; returns the entry's id.

    *pinned* columns override the draft. If an entry with the draft's key exists, its id is returned.
    """
    judge = _judge(kit, unit, unit.actor, channel)
    known = unit.with_key(kit.env, [draft.dedupe_key])
    if known:
        return known[draft.dedupe_key]
    made = _made(judge, draft, kit.new_id("bl"), {}, extra, pinned)
    _write(unit, [made])
    return made.entry.id


def clear(
    kit: Kit,
    unit: Unit,
    entries: Sequence[Entry],
    reason: str,
    *,
    lift: Sequence[Bar] = (),
    inputs: Mapping[str, Any] = MappingProxyType({}),
) -> list[str]:
    """Check the bars of entries again: clear blocked entries without bars, block waiting entries with bars.

    The caller takes down the bars in *lift*; an input is checked again if *inputs* has it. Returns the ids that were
    cleared.
    """
    policy, now = kit.book.policy(unit), unit.now()
    waits = unit.open_dependencies([entry.id for entry in entries])
    cleared = []
    for entry in entries:
        columns = {name: getattr(entry, name) for name in FOLDED}
        if _done_before(entry, policy, columns):
            words = done_words(policy)
            unit.move(entry.id, Change.COMPLETED, words, declared=Declared.DONE_BEFORE.value)
            continue
        found = drafts.bars(
            columns,
            inputs.get(entry.id),
            policy=policy,
            pipelines=lambda name: kit.book.pipeline(unit, name),
            waits_on=waits.get(entry.id, ()),
        )
        asked = {*lift, *ASKED_AGAIN} | ({Bar.INPUT_INVALID} if entry.id in inputs else set())
        kept = [bar for bar in entry.bars if bar not in asked]
        bars = list(dict.fromkeys([*kept, *(bar.value for bar, _ in found)]))
        if not bars and entry.status == Status.BLOCKED:
            unit.move(
                entry.id, Change.CLEARED, reason, **queued(entry, policy, now, kit.book.pipeline(unit, entry.pipeline))
            )
            cleared.append(entry.id)
        elif bars and bars != list(entry.bars):
            words = "; ".join(text for _, text in found) or entry.reason
            unit.move(entry.id, Change.BLOCKED, words, bars=bars)
    return cleared


def done_words(policy: Policy) -> str:
    """Return why an entry counts as completed although it never ran here."""
    return f"done before it came here, by doneBefore of policy {policy.stamp}"


def _done_before(entry: Entry, policy: Policy, columns: Mapping[str, Any]) -> bool:
    """Return whether an entry that never ran here, and that no person holds, was done before."""
    never = entry.status in {Status.BLOCKED, Status.QUEUED} and entry.attempt == 0
    free = not {Bar.ON_HOLD, Bar.APPROVAL_REQUIRED} & set(entry.bars)
    return never and free and policy.done_before(drafts.rule_values(columns))


def clear_all(kit: Kit, reason: str) -> int:
    """Check again, page by page, all entries barred only by definitions and contracts, after a definition came into
    force.
    """
    after, cleared = "", 0
    while True:
        with kit.store.begin(actor="policy") as unit:
            page = unit.barred(kit.env, (*ASKED_AGAIN, Bar.INPUT_INVALID), after, BATCH)
            if not page.ids and page.last == after:
                return cleared
            held = list(unit.hold(page.ids).values())
            invalid = [entry for entry in held if Bar.INPUT_INVALID in entry.bars]
            inputs = unit.inputs(invalid) if invalid else {}
            cleared += len(clear(kit, unit, held, reason, inputs=inputs))
            after = page.last


def queued(entry: Entry, policy: Policy, now: datetime, pipeline: Pipeline | None) -> dict[str, Any]:
    """Return the column values of an entry that enters the queue now."""
    begin = not_before(entry)
    asleep = begin if begin and begin > now else None
    return {"cleared_at": now, **lane_of(entry, policy, group_of(pipeline)), "wake_at": asleep}


def within(kit: Kit, actor: str, act: Callable[[Unit], T], *, dry_run: bool = False) -> T:
    """Run *act* in one transaction for new work; in the journal while PostgreSQL is unavailable or just failed.

    If the failed transaction was committed after all, its work is in both places, and the merge skips known keys. A dry
    run only reads and needs PostgreSQL, since only PostgreSQL knows what would happen.
    """
    if dry_run:
        with kit.store.read() as unit:
            return act(unit)
    definitions.found(kit.store, kit.book, author=actor, record=partial(operation.record, kit))
    try:
        with kit.store.intake(actor=actor) as unit:
            return act(unit)
    except UnreachableError:
        if not isinstance(kit.store, AutoStore):
            raise
    with kit.store.intake(actor=actor) as unit:
        return act(unit)


def _file_batch_or_halves(call: _Intake, batch: Sequence[tuple[str, Draft]]) -> list[Filed]:
    """File one batch; if the database refuses it, split it in halves until the refused draft stands alone."""
    try:
        return within(call.kit, call.actor, lambda unit: _batch(call, unit, batch), dry_run=call.dry_run)
    except StoreError as error:
        if len(batch) == 1:
            return [_refused(*batch[0], str(error))]
        half = len(batch) // 2
        return [*_file_batch_or_halves(call, batch[:half]), *_file_batch_or_halves(call, batch[half:])]


def _batch(call: _Intake, unit: Unit, batch: Sequence[tuple[str, Draft]]) -> list[Filed]:
    judge = _judge(call.kit, unit, call.actor, call.channel)
    known = needs.known_keys(unit, call.kit.env, [draft for _, draft in batch], call.seen)
    kept, missing = needs.missing(unit, batch, known)
    refused = [_refused(place, draft, why) for place, draft, why in missing]
    made: list[_Made] = []
    mates: dict[str, str] = {}
    for _, draft in kept:
        each = _made(judge, draft, call.kit.new_id("bl"), {**mates, **known} if draft.depends_on else known)
        mates.setdefault(draft.dedupe_key, each.entry.id)
        made.append(each)
    wanted = [
        each for each in made if each.entry.dedupe_key not in known and mates[each.entry.dedupe_key] == each.entry.id
    ]
    written = {each.entry.id for each in wanted} if call.dry_run else _write(unit, wanted)
    if call.dry_run:
        call.seen.update({each.entry.dedupe_key: each.entry.id for each in wanted})
    elif len(written) < len(wanted):  # another process filed some of them meanwhile
        known |= unit.with_key(call.kit.env, [each.entry.dedupe_key for each in made])
    winners = {**mates, **known}
    return refused + [
        each.filed(place, judge, winners[each.entry.dedupe_key], new=each.entry.id in written)
        for (place, _), each in zip(kept, made, strict=True)
    ]


def _judge(kit: Kit, unit: Unit, actor: str, channel: str) -> _Judge:
    return _Judge(
        env=kit.env,
        policy=kit.book.policy(unit),
        pipelines=kit.book.pipelines(unit),
        now=unit.now(),
        actor=actor,
        channel=channel,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    entry: Entry
    input: Mapping[str, Any]
    reason: str
    depends_on: tuple[str, ...]

    def filed(self, place: str, judge: _Judge, winner: str, *, new: bool) -> Filed:
        entry = self.entry
        return Filed(
            place=place,
            title=entry.title,
            entry_id=winner,
            new=new,
            status=entry.status.value if new else "",
            bars=tuple(entry.bars) if new else (),
            reason=self.reason if new else f"the same dedupe key {entry.dedupe_key!r} was filed before",
            score=scored(judge.policy, entry, judge.now).score if new and entry.status == Status.QUEUED else None,
        )


def _made(
    judge: _Judge,
    draft: Draft,
    entry_id: str,
    known: Mapping[str, str],
    extra: Mapping[str, Any] = MappingProxyType({}),
    pinned: Mapping[str, Any] = MappingProxyType({}),
) -> _Made:
    columns = drafts.fields(draft, env=judge.env, entry_id=entry_id, actor=judge.actor, channel=judge.channel)
    columns |= {**drafts.of_category(draft, judge.policy, judge.now), **pinned}
    columns["provenance"] = {**columns["provenance"], **extra}
    depends = tuple(known.get(key, key) for key in draft.depends_on)
    found = drafts.bars(
        columns, draft.input, policy=judge.policy, pipelines=judge.pipelines.get, waits_on=draft.depends_on
    )
    if judge.policy.done_before(drafts.rule_values(columns)):
        entry = Entry(**columns, status=Status.COMPLETED, declared=Declared.DONE_BEFORE.value)
        return _Made(entry=entry, input=draft.input, reason=done_words(judge.policy), depends_on=depends)
    held = [bar.value for bar, _ in found]
    entry = Entry(**columns, bars=held, status=Status.BLOCKED, declared=declared("", Change.FILED, held))
    reason = "; ".join([*([text for _, text in found] or ["eligible"]), *drafts.unknown_category(draft, judge.policy)])
    if not found:
        values = queued(entry, judge.policy, judge.now, judge.pipelines.get(entry.pipeline))
        entry = Entry(**{**columns, "status": Status.QUEUED, "declared": Declared.ELIGIBLE.value, **values})
    return _Made(entry=entry, input=draft.input, reason=reason, depends_on=depends)


def _write(unit: Unit, made: Sequence[_Made]) -> set[str]:
    """Insert entries with their first events; entries whose keys were filed meanwhile are left out."""
    rows, events = [], {}
    for each in made:
        history = _first_events(unit, each)
        events[each.entry.id] = history
        rows.append({**_columns(each.entry), "seq": len(history), "reason": each.reason, "changed_at": unit.now()})
    written = unit.file(rows, {each.entry.id: each.input for each in made})
    unit.append([event for each in made if each.entry.id in written for event in events[each.entry.id]])
    linked = [(each.entry.id, other) for each in made if each.entry.id in written for other in each.depends_on]
    _check_dependencies(unit, linked)
    unit.depend(linked)
    return written


def _check_dependencies(unit: Unit, linked: Sequence[tuple[str, str]]) -> None:
    """Check that the entries depended on exist or existed, so that no entry waits for ever."""
    wanted = sorted({other for _, other in linked})
    there = {*unit.rows(wanted), *unit.retired_rows(wanted)} if wanted else set()
    for entry_id, other in linked:
        if other not in there:
            message = f"{entry_id} depends on {other!r}, which is not in the backlog; file it first"
            raise ConflictError(message)


def _first_events(unit: Unit, made: _Made) -> list[Event]:
    entry = made.entry
    columns = _columns(entry)
    born = {name: _text(value) for name, value in columns.items() if name in FOLDED and name != "cleared_at"}
    waiting = entry.status == Status.BLOCKED
    data: dict[str, Any] = {"set": {**born, "reason": made.reason if waiting else "filed"}}
    if made.depends_on:
        data[ROWS] = {"links": {f"depends_on/{other}": {} for other in made.depends_on}}
    common = {"entry_id": entry.id, "at": unit.now(), "actor": unit.actor, "run_id": None}
    events = [chained({**common, "seq": 1, "change": str(Change.FILED), "data": data}, "")]
    if not waiting:
        done = entry.status == Status.COMPLETED
        at = {} if done else {"cleared_at": _text(entry.cleared_at)}
        data = {"set": {"bars": [], "reason": made.reason, **at}}
        change = str(Change.COMPLETED if done else Change.CLEARED)
        events.append(chained({**common, "seq": 2, "change": change, "data": data}, events[0].hash))
    return events


_WRITTEN = (
    *("id", "env", "schema_version", "title", "dedupe_key", "pipeline", "url", "source", "external_ref"),
    *("service", "category", "team", "owner", "labels", "priority", "signals", "constraints", "provenance"),
    *("input_sha256", "created_at", "due_date"),
    *("status", "bars", "cleared_at", "rank_group", "limit_key", "wake_at", "pipeline_hash", "declared"),
)


def _columns(entry: Entry) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in _WRITTEN}


def _text(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else value
