"""What starts by itself: schedules whose slot is due, and messages from elsewhere, each filed once."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from backlog_worker.domain import template, trigger
from backlog_worker.domain.errors import NotFoundError, UnauthenticatedError
from backlog_worker.domain.language import TriggerFile
from backlog_worker.domain.pipeline import Pipeline
from backlog_worker.integrations import webhooks
from backlog_worker.lifecycle import Kit, intake
from backlog_worker.lifecycle.intake import Filed
from backlog_worker.store import Unit
from backlog_worker.telemetry import emit


def scheduled(kit: Kit) -> list[Filed]:
    """File an entry for every slot of a schedule that is due; a slot is filed once, however many beats there are."""
    records = []
    with kit.store.read() as unit:
        now = unit.now()
        for row in unit.live(kit.env, "pipeline"):
            pipeline = kit.book.pinned(unit, row["hash"])
            for number, each in enumerate(pipeline.triggers if pipeline else ()):
                slot = trigger.due(each, row["at"], now)
                if slot is not None and pipeline is not None:
                    key = f"schedule:{pipeline.name}:{number}:{slot.isoformat()}"
                    records.append((key, _record(pipeline, each, key, dict(each.input), now.isoformat())))
    return _filed(kit, records, "schedule") if records else []


def received(kit: Kit, name: str, body: bytes, headers: Mapping[str, str]) -> list[Filed]:
    """Take a signed message for a pipeline and file what its triggers make of it; a repeated delivery is filed once.

    Raises NotFoundError where the pipeline takes no message, UnauthenticatedError where none of its secrets signed it.
    """

    def _read(unit: Unit) -> tuple[Pipeline | None, datetime]:
        return kit.book.pipeline(unit, name), unit.now()

    pipeline, now = intake.within(kit, "trigger:webhook", _read)  # a journal knows the definitions too
    waiting = [each for each in pipeline.triggers if each.secret] if pipeline else []
    if pipeline is None or not waiting:
        message = f"no pipeline {name} waits for messages"
        raise NotFoundError(message)
    lower = {key.lower(): value for key, value in headers.items()}
    delivery = _verified(kit, waiting, body, lower)
    event = webhooks.event(body, lower, delivery)
    records = []
    for number, each in enumerate(pipeline.triggers):
        if each in waiting and trigger.fits(each, event):
            key = f"hook:{name}:{number}:{delivery}"
            records.append((key, _record(pipeline, each, key, trigger.given(each, event), now.isoformat())))
    return _filed(kit, records, "webhook")


def _verified(kit: Kit, waiting: list[TriggerFile], body: bytes, headers: Mapping[str, str]) -> str:
    names = sorted({name for each in waiting for name in template.secrets_in(each.secret or "")})
    refusal = UnauthenticatedError(f"none of the secrets {', '.join(names)} is set here")
    for name in names:
        secret = kit.secrets(name)
        if not secret:
            continue
        try:
            return webhooks.verified(secret, body, headers)
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
