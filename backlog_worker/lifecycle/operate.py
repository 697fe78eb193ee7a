"""What operators do to entries: edit, hold, release, requeue, cancel; each with an actor and a reason."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from backlog_worker.domain import draft as drafts
from backlog_worker.domain.admission import overdue
from backlog_worker.domain.bell import Bell
from backlog_worker.domain.entry import FINAL, Change, Entry, Note, Status
from backlog_worker.domain.errors import ConflictError, InvalidInputError, NotAllowedError, UsageError
from backlog_worker.domain.events import digest
from backlog_worker.domain.outcome import Verdict
from backlog_worker.domain.pipeline import violation
from backlog_worker.domain.reasons import Bar
from backlog_worker.domain.roles import Caller, everything, must_answer
from backlog_worker.lifecycle import Kit, claim, intake, operation, settle
from backlog_worker.store import Unit

COMMENT_MAX = 4000
ANEW = {"faults": 0, "outages": 0, "expiries": 0}


def hold(kit: Kit, entry_id: str, *, actor: str, reason: str) -> Entry:
    """Put up the bar ON_HOLD; a run in progress loses its claim, and its worker notices at the next renewal."""
    with kit.store.begin(actor=actor) as unit:
        entry = _held(unit, entry_id, reason)
        settle.withdraw(unit, entry.id, actor, f"held: {reason}")
        if entry.run_id:
            unit.untake(entry.id, str(entry.pipeline_hash), entry.run_id)
        bars = list(dict.fromkeys([Bar.ON_HOLD.value, *entry.bars]))
        return unit.move(entry.id, Change.BLOCKED, f"held by {actor}: {reason}", bars=bars)


def release(kit: Kit, entry_id: str, *, actor: str, reason: str) -> Entry:
    """Take down the bar ON_HOLD and check the other bars of the entry again."""
    with kit.store.begin(actor=actor) as unit:
        entry = _held(unit, entry_id, reason)
        if Bar.ON_HOLD not in entry.bars:
            message = f"{entry.id} is not on hold; it is {entry.status}"
            raise ConflictError(message)
        intake.clear(kit, unit, [entry], f"released by {actor}: {reason}", lift=[Bar.ON_HOLD, Bar.APPROVAL_REQUIRED])
        return unit.held[entry.id].entry


def cancel(kit: Kit, entry_id: str, *, actor: str, reason: str) -> tuple[Entry, list[Bell]]:
    """Cancel an open entry for good, with a record; a run in progress loses its claim and its child is killed."""
    with kit.store.begin(actor=actor) as unit:
        entry = _held(unit, entry_id, reason)
        if entry.status in FINAL:
            message = f"{entry.id} is {entry.status} already"
            raise ConflictError(message)
        bells = canceled(kit, unit, entry, f"canceled by {actor}: {reason}")
        return unit.held[entry.id].entry, bells


def canceled(kit: Kit, unit: Unit, entry: Entry, words: str) -> list[Bell]:
    """Cancel a held entry, with its record: its questions are withdrawn, and a run in progress loses its claim."""
    settle.withdraw(unit, entry.id, unit.actor, words)
    if entry.run_id:
        unit.untake(entry.id, str(entry.pipeline_hash), entry.run_id)
    ending = claim.ending_of(kit, unit, entry, kit.book.policy(unit))
    return settle.conclude(kit, unit, [(ending, Verdict(change=Change.CANCELED, reason=words))])


def complete(
    kit: Kit, entry_id: str, *, actor: str, reason: str, caller: Caller | None = None
) -> tuple[Entry, list[Bell]]:
    """Complete an entry by hand, with a record, unless it is in progress.

    If a review is open about it, only people who may answer that may complete it. Raises NotAllowedError.
    """
    try:
        with kit.store.begin(actor=actor) as unit:
            entry = _held(unit, entry_id, reason)
            if entry.status in {Status.READY, Status.IN_PROGRESS} | FINAL:
                message = f"{entry.id} is {entry.status} and cannot be completed by hand"
                raise ConflictError(message, hint=f'backlog-worker entry hold {entry.id} --reason "..." first')
            policy = kit.book.policy(unit)
            for each in unit.open_reviews(entry.id):
                must_answer(caller or everything(actor), each.roles, policy.people, env=each.env)
            ending = claim.ending_of(kit, unit, entry, policy)
            words = f"completed by {actor}: {reason}"
            settle.withdraw(unit, entry.id, actor, words)
            unit.flush()  # the record counts withdrawals, which must be in the history first
            bells = settle.conclude(kit, unit, [(ending, Verdict(change=Change.COMPLETED, reason=words))])
            return unit.held[entry.id].entry, bells
    except NotAllowedError as error:
        operation.denied(
            kit, "entry.complete", actor=actor, subject=entry_id, reason=reason, detail={"error": str(error)}
        )
        raise


def comment(kit: Kit, entry_id: str, text: str, *, actor: str) -> Entry:
    """Add a person's comment to the history of an entry."""
    words = text.strip()
    if not words or len(words) > COMMENT_MAX:
        message = f"a comment has 1 to {COMMENT_MAX} characters, this one has {len(words)}"
        raise InvalidInputError(message)
    with kit.store.begin(actor=actor) as unit:
        entry = _held(unit, entry_id, words)
        return unit.note(entry.id, Note.COMMENTED, {"comment": words})


def requeue(kit: Kit, entry_id: str, *, actor: str, reason: str, new_input: Mapping[str, Any] | None = None) -> Entry:
    """Queue a failed, canceled or escalated entry again; its counters are reset, its checkpoints stay."""
    with kit.store.begin(actor=actor) as unit:
        entry = _held(unit, entry_id, reason)
        settle.withdraw(unit, entry.id, actor, f"requeued: {reason}")
        return requeued(kit, unit, entry, f"requeued by {actor}: {reason}", new_input)


def edit(kit: Kit, entry_id: str, changes: Mapping[str, Any], *, actor: str, reason: str) -> Entry:
    """Edit an entry that is not in progress and check its bars again; `input` is replaced as a whole.

    An entry in progress can be edited only if its pipeline has `cancelInProgress`: its run stops and starts again.
    """
    with kit.store.begin(actor=actor) as unit:
        entry = _stop_run(kit, unit, _held(unit, entry_id, reason), f"edited by {actor}: {reason}")
        if entry.status in {Status.READY, Status.IN_PROGRESS} | FINAL:
            message = f"{entry.id} is {entry.status} and cannot be edited"
            raise ConflictError(message, hint=f'backlog-worker entry hold {entry.id} --reason "..." first')
        values = drafts.edited(entry, changes)
        if set(values.get("labels", ())) - set(entry.labels):
            at = {"eligible_by": actor, "eligible_at": unit.now().isoformat()}
            values["provenance"] = {**entry.provenance, **at}
        inputs = {entry.id: changes["input"]} if "input" in changes else unit.inputs([entry])
        if "input" in changes:
            values |= _new_input(kit, unit, entry, changes["input"])
        if not values:
            message = f"nothing to edit; name one of: {', '.join((*drafts.EDITABLE, 'input'))}"
            raise UsageError(message)
        if entry.status != Status.BLOCKED:
            values |= _place(kit, unit, replace(entry, **values))
        edited = unit.note(entry.id, Note.EDITED, {"reason": reason, "fields": sorted(changes)}, **values)
        intake.clear(kit, unit, [edited], f"edited by {actor}: {reason}", inputs=inputs)
        unit.show_again(entry.id, unit.held[entry.id].seq)
        return unit.held[entry.id].entry


def requeued(
    kit: Kit, unit: Unit, entry: Entry, words: str, new_input: Mapping[str, Any] | None, *, keep: str | None = None
) -> Entry:
    """Requeue a held entry with the pipeline in force and reset counters or, with *keep*, with that version.

    With *keep* the counters continue. Failed stages and those that depended on them are redone; other completed ones
    stay.
    """
    pinned = kit.book.pinned(unit, str(entry.pipeline_hash))
    unit.try_again(entry.id, [job.id for job in pinned.jobs if job.continue_on_error] if pinned else [])
    values: dict[str, Any] = {"pipeline_hash": keep} if keep else {**ANEW, "pipeline_hash": None}
    if new_input is not None:
        values |= _new_input(kit, unit, entry, new_input)
    policy = kit.book.policy(unit)
    if overdue(entry, policy, unit.now()):
        values["due_date"] = None  # otherwise the clock would remove it at once
    place = intake.queued(entry, policy, unit.now(), kit.book.pipeline(unit, entry.pipeline))
    return unit.move(entry.id, Change.REQUEUED, words, **values, **place)


def _stop_run(kit: Kit, unit: Unit, entry: Entry, words: str) -> Entry:
    """Stop the run of an entry if its pipeline allows that; the child is killed, checkpoints stay."""
    pipeline = kit.book.pinned(unit, str(entry.pipeline_hash)) if entry.status == Status.IN_PROGRESS else None
    if pipeline is None or not pipeline.concurrency.cancel_in_progress:
        return entry
    settle.withdraw(unit, entry.id, unit.actor, words)
    unit.untake(entry.id, pipeline.hash, str(entry.run_id))
    return unit.move(entry.id, Change.RETURNED, words)


def _place(kit: Kit, unit: Unit, entry: Entry) -> dict[str, Any]:
    """Return the place of an edited entry in the queue; an entry that backs off keeps doing so."""
    place = intake.queued(entry, kit.book.policy(unit), unit.now(), kit.book.pipeline(unit, entry.pipeline))
    asleep = entry.retry_at if entry.status == Status.RETRYING else place["wake_at"]
    return {"rank_group": place["rank_group"], "limit_key": place["limit_key"], "wake_at": asleep}


def _new_input(kit: Kit, unit: Unit, entry: Entry, value: Mapping[str, Any]) -> dict[str, Any]:
    """Check a new input against its contract, store it beside the old one, and drop the checkpoints of the old one."""
    pipeline = kit.book.pipeline(unit, entry.pipeline)
    if pipeline and (why := violation(pipeline.accepts, value)):
        message = f"the new input breaks the contract of pipeline {entry.pipeline}: {why}"
        raise InvalidInputError(message)
    sha = digest(value)
    unit.keep_inputs({entry.id: (sha, dict(value))})
    unit.forget(entry.id)
    return {"input_sha256": sha, "provenance": {**entry.provenance, "content_sha256": sha}}


def _held(unit: Unit, entry_id: str, reason: str) -> Entry:
    operation.reasoned(reason)
    entry = operation.found(unit, entry_id)
    return unit.hold([entry.id])[entry.id]
