"""Triggers: schedules with due slots, and messages from other systems, each filed once."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from backlog_worker.domain import template, trigger
from backlog_worker.domain.errors import ConflictError, InvalidInputError, NotFoundError, UnauthenticatedError
from backlog_worker.domain.language import TriggerFile
from backlog_worker.domain.pipeline import Pipeline
from backlog_worker.domain.slots import Slots
from backlog_worker.integrations import webhooks
from backlog_worker.integrations.webhooks import Delivery
from backlog_worker.lifecycle import Kit, enact, intake, slots
from backlog_worker.lifecycle.intake import Filed
from backlog_worker.lifecycle.slots import Schedule
from backlog_worker.store import PIPELINE, Unit
from backlog_worker.telemetry import emit

PREFIX = "schedule:"  # prefix of the rows with the progress of pipeline schedules
REPLAYED_SECONDS = 300.0  # within this time, the same bytes under another delivery id are a replay


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """The result of a message: the entries filed now or before, and what could not be filed."""

    filed: tuple[Filed, ...] = ()
    refused: tuple[Filed, ...] = ()


def scheduled(kit: Kit) -> list[Filed]:
    """File an entry for every due slot of a schedule; each slot is filed once, whichever process looks at it.

    The entry is filed before the slot is taken: if the process dies in between, the next one files it again, and the
    dedupe key prevents a second entry.
    """
    with kit.store.read() as unit:
        now, found = unit.now(), _schedules(kit, unit)
        looks = {each: slots.look(unit, each) for each in found}
        stale = _stale(unit, found)
    records = [record for each, group in found.items() for record in _slotted(looks[each].due, each, group, now)]
    filed = _filed(kit, records, "schedule") if records else []
    if stale or not all(each.empty for each in looks.values()):
        with kit.store.begin(actor="trigger:schedule") as unit:
            unit.forget_slots(stale)
            for each in found:
                slots.take(unit, each, kit.new_id)
    return filed


def schedules(kit: Kit, unit: Unit) -> list[Schedule]:
    """Return the schedules of the pipelines in force, by name."""
    return list(_schedules(kit, unit))


def receive(kit: Kit, name: str, body: bytes, headers: Mapping[str, str]) -> Received:
    """Accept a signed message for a pipeline and file the entries of its triggers; a repeated delivery is filed once.

    Raises NotFoundError if the pipeline accepts no messages, UnauthenticatedError if no secret matches the signature,
    ConflictError for a replay, and InvalidInputError if nothing could be filed.
    """

    def _read(unit: Unit) -> tuple[Pipeline | None, datetime]:
        if unit.retired_by(kit.env, PIPELINE, name):
            raise enact.missing(kit, unit, name)
        return kit.book.pipeline(unit, name), unit.now()

    pipeline, now = intake.within(kit, "trigger:webhook", _read)  # a journal knows the definitions too
    waiting = [each for each in pipeline.triggers if each.secret] if pipeline else []
    if pipeline is None or not waiting:
        message = f"no pipeline {name} accepts messages"
        raise NotFoundError(message)
    lower = {key.lower(): value for key, value in headers.items()}
    delivery = _verified(kit, waiting, body, lower)
    event = webhooks.event(body, lower, delivery.id)
    records = []
    for number, each in enumerate(pipeline.triggers):
        if each in waiting and trigger.fits(each, event):
            key = f"hook:{name}:{number}:{delivery.id}"
            records.append((key, _record(pipeline, each, key, trigger.given(each, event), now.isoformat())))
    if not records:
        return Received()
    _refuse_replay(kit, name, delivery)
    return _split_results(_filed(kit, records, "webhook"))


def _refuse_replay(kit: Kit, name: str, delivery: Delivery) -> None:
    """Refuse bytes that arrived a moment ago under another id, if the signature does not cover the id."""
    if delivery.id_signed:
        return

    def _take(unit: Unit) -> bool:
        unit.forget_messages()
        return unit.take_lease(f"message:{name}:{delivery.sha256}", delivery.id, REPLAYED_SECONDS)

    if not intake.within(kit, "trigger:webhook", _take):
        message = f"the same message came less than {REPLAYED_SECONDS:g} s ago under another delivery id"
        emit("delivery_refused", error=message)
        raise ConflictError(message, hint="send a delivery again under its own id")


def _split_results(found: Sequence[Filed]) -> Received:
    """Separate filed from refused drafts; raises InvalidInputError if all were refused."""
    filed = tuple(each for each in found if not each.error)
    refused = tuple(each for each in found if each.error)
    if refused and not filed:
        message = "; ".join(each.error for each in refused)
        raise InvalidInputError(message, hint="give the trigger a `transform` that extracts what the pipeline needs")
    return Received(filed=filed, refused=refused)


def _schedules(kit: Kit, unit: Unit) -> dict[Schedule, list[tuple[Pipeline, int]]]:
    """Return the schedules in force with their triggers; equal lines of one pipeline are one schedule."""
    found: dict[Schedule, list[tuple[Pipeline, int]]] = {}
    for row in unit.live(kit.env, "pipeline"):
        pipeline = kit.book.pinned(unit, row["hash"])
        for number, each in enumerate(pipeline.triggers if pipeline else ()):
            if pipeline is None or each.type != "schedule" or not each.cron:
                continue
            catch_up = each.catch_up or slots.ONCE
            name = f"{PREFIX}{pipeline.name}:{each.cron} {each.timezone} {catch_up}"
            line = Slots.of(each.cron, each.timezone)
            schedule = Schedule(
                env=kit.env, name=name, slots=line, catch_up=catch_up, since=row["at"], pipeline=pipeline.name
            )
            found.setdefault(schedule, []).append((pipeline, number))
    return found


def _stale(unit: Unit, found: Iterable[Schedule]) -> list[str]:
    known = {each.name for each in found}
    return [row["name"] for row in unit.leases() if row["name"].startswith(PREFIX) and row["name"] not in known]


def _slotted(
    due: trigger.Due, schedule: Schedule, group: Sequence[tuple[Pipeline, int]], now: datetime
) -> Iterator[tuple[str, dict[str, Any]]]:
    for slot in due.run:
        for pipeline, number in group:
            by = pipeline.triggers[number]
            key = f"schedule:{pipeline.name}:{number}:{slot.astimezone(schedule.slots.where).isoformat()}"
            yield key, _record(pipeline, by, key, dict(by.input), now.isoformat())


def _verified(kit: Kit, waiting: list[TriggerFile], body: bytes, headers: Mapping[str, str]) -> Delivery:
    names = sorted({name for each in waiting for name in template.secrets_in(each.secret or "")})
    refusal = UnauthenticatedError(f"none of the secrets {', '.join(names)} is set here")
    for name in names:
        secret = kit.secrets(name)
        if not secret:
            continue
        try:
            return webhooks.verify(secret, body, headers)
        except UnauthenticatedError as error:
            refusal = error
    emit("delivery_refused", error=str(refusal))
    raise refusal


def _record(pipeline: Pipeline, by: TriggerFile, key: str, given: dict[str, Any], now: str) -> dict[str, Any]:
    return {
        "title": f"{pipeline.name} by {by.type}",
        "dedupe_key": key,
        "pipeline": pipeline.name,
        "labels": list(by.labels),
        "source": by.type,
        "author": f"trigger:{by.type}",
        "created_at": now,
        "eligible_by": f"pipeline {pipeline.name} {pipeline.hash[:12]}",
        "eligible_at": now,
        "input": given,
    }


def _filed(kit: Kit, records: list[tuple[str, dict[str, Any]]], channel: str) -> list[Filed]:
    found = list(intake.file(kit, records, actor=f"trigger:{channel}", channel=channel))
    for each in found:
        if each.new or each.error:
            emit("triggered", entry=each.entry_id, place=each.place, error=each.error)
    return found
