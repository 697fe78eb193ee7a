"""What all acts of people and jobs share: the entry, a reason, and the recorded operation."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from backlog_worker.domain.entry import Entry
from backlog_worker.domain.errors import NotFoundError, UsageError
from backlog_worker.domain.masking import masked_value
from backlog_worker.lifecycle import Kit, lookup
from backlog_worker.store import Unit
from backlog_worker.telemetry import emit

NOTHING: Mapping[str, Any] = MappingProxyType({})


def reasoned(reason: str) -> str:
    """Return the reason; raises UsageError if it is empty."""
    if not reason.strip():
        message = "this needs a reason; add --reason TEXT"
        raise UsageError(message)
    return reason


def found(unit: Unit, entry_id: str) -> Entry:
    """Return one entry by its id or a unique prefix; raises NotFoundError."""
    entry = unit.entry(entry_id)
    if entry is None:
        message = f"there is no entry {entry_id}, or several ids begin with it"
        raise NotFoundError(message, hint="backlog-worker entry list")
    return entry


def wanted(kit: Kit, entry_id: str) -> Entry:
    """Return the current entry that `lookup` finds, without searching words; raises NotFoundError or UsageError."""
    named = lookup.id_of(kit, entry_id, words=False)
    with kit.store.read() as unit:
        left = unit.retired(named)
        if left is not None:
            message = f"{named} ended as {left['status']} and was retired at {left['at']:%Y-%m-%d %H:%MZ}"
            raise NotFoundError(message, hint=f"backlog-worker audit export {named}")
        return found(unit, named)


def record(
    kit: Kit,
    unit: Unit,
    action: str,
    *,
    subject: str = "",
    reason: str = "",
    result: str = "done",
    detail: Mapping[str, Any] = NOTHING,
) -> None:
    """Record an operation in the name of the unit's actor, with secrets masked; it is never changed afterwards."""
    row = {"id": kit.new_id("op"), "env": kit.env, "actor": unit.actor, "action": action, "subject": subject}
    said = {name: masked_value(each) for name, each in detail.items()}
    unit.act({**row, "reason": reason, "result": result, "detail": said})


def denied(kit: Kit, action: str, *, actor: str, subject: str, reason: str, detail: Mapping[str, Any]) -> None:
    """Record a denied attempt, in a transaction of its own."""
    emit("denied", actor=actor, action=action, error=str(detail.get("error", "")))
    with kit.store.begin(actor=actor) as unit:
        record(kit, unit, action, subject=subject, reason=reason, result="denied", detail=detail)
