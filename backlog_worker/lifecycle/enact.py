"""Who puts definitions in force: the fleet of the project, a person with a reason, or the first entry.

The fleet is the workers and `up`, which starts them. It follows the files of one folder, the first in which it ran,
until a person sets another. Every other process uses the definitions in force and reports where its files differ.
"""

from collections.abc import Sequence
from functools import partial

from backlog_worker.domain.errors import ConflictError, InvalidFileError, NotFoundError
from backlog_worker.integrations import DefinitionFile
from backlog_worker.lifecycle import Kit, intake, operation
from backlog_worker.lifecycle.definitions import FLEET, enact, reload, retire
from backlog_worker.lifecycle.reading import Read, read
from backlog_worker.store import PIPELINE, POLICY, Unit
from backlog_worker.telemetry import emit

FOLLOW = "definitions.follow"
CAME = "a definition came into force"


def follow(kit: Kit, *, first: bool = False) -> bool:
    """Apply changed files if this process belongs to the fleet and the fleet follows its folder.

    Returns whether anything came into force. Entries that waited for it are checked again, also if that failed before.
    """
    if not kit.fleet or not (first or kit.book.unread or kit.book.behind or kit.definitions.changed()):
        return _cleared(kit, changed=False)
    with kit.store.read() as unit:
        followed = home(kit, unit)
        slots = unit.slots("stages", kit.seen_within.total_seconds())
    if followed and followed != kit.definitions.place:
        kit.book.look(kit.definitions)
        emit("definitions_elsewhere", folder=kit.definitions.place, follows=followed)
        return _cleared(kit, changed=False)
    record = partial(operation.record, kit)
    applied = reload(kit.store, kit.book, kit.definitions, author=FLEET, first=first, alone=not slots, record=record)
    if not followed:
        with kit.store.begin(actor=FLEET) as unit:
            _keep_home(kit, unit, "the first folder in which the fleet ran")
    return _cleared(kit, changed=bool(applied))


def _cleared(kit: Kit, *, changed: bool) -> bool:
    if changed or kit.book.uncleared:
        kit.book.uncleared = True
        intake.clear_all(kit, CAME)
        kit.book.uncleared = False
    return changed


def offer(kit: Kit) -> None:
    """Use the project's files as long as no definitions are in force; nothing is written."""
    with kit.store.read() as unit:
        live = unit.live_hashes(kit.env)
    if not live:
        kit.book.look(kit.definitions)
        kit.book.offered = {each.key: each.found for each in kit.book.files}


def apply(
    kit: Kit, files: Sequence[DefinitionFile], *, actor: str, reason: str, dry_run: bool = False, follows: bool = False
) -> list[str]:
    """Put files in force in a person's name, all or none, and return the changes.

    With *follows* the fleet follows the folder of this process from now on. Raises InvalidFileError and changes nothing
    if a file is invalid.
    """
    operation.reasoned(reason)
    with kit.store.read() as unit:
        live = unit.live_hashes(kit.env)
        people = kit.book.policy(unit).people if f"{POLICY}/{POLICY}" in live else None
    tried = [read(file, people) for file in files]
    if findings := [each for bad in tried if isinstance(bad, InvalidFileError) for each in bad.findings]:
        raise InvalidFileError(findings)
    wanted = [each for each in tried if isinstance(each, Read) and live.get(each.key) != each.found.hash]
    if dry_run:
        return [each.words for each in wanted]
    with kit.store.begin(actor=actor) as unit:
        for each in wanted:
            enact(unit, kit.env, each, reason, actor, partial(operation.record, kit))
        if follows:
            _keep_home(kit, unit, reason)
    if wanted:
        kit.book.offered = {}
        _cleared(kit, changed=True)
    return [each.words for each in wanted]


def withdraw(kit: Kit, name: str, *, actor: str, reason: str) -> int:
    """Retire a pipeline in a person's name and return how many entries wait for it; raises NotFoundError.

    Its schedules stop, its triggers refuse, and its queued entries wait; runs in progress continue.
    """
    operation.reasoned(reason)
    with kit.store.begin(actor=actor) as unit:
        live = unit.live_hashes(kit.env)
        if f"{PIPELINE}/{name}" not in live:
            raise missing(kit, unit, name)
        retire(unit, kit.env, name, reason, actor, partial(operation.record, kit))
        return unit.waiting_for(kit.env, name)


def missing(kit: Kit, unit: Unit, name: str) -> NotFoundError | ConflictError:
    """Return the error for a pipeline that is not in force: it is retired, or unknown."""
    if by := unit.retired_by(kit.env, PIPELINE, name):
        who = "its file is gone" if by == FLEET else f"by {by}"
        message = f"the pipeline {name} is retired ({who})"
        return ConflictError(message, hint=f"backlog-worker pipeline apply {name} --reason TEXT")
    return NotFoundError(f"no pipeline {name} is in force", hint="backlog-worker pipeline list")


def home(kit: Kit, unit: Unit) -> str:
    """Return the folder whose files the fleet follows; empty if it never ran."""
    found = unit.acts(kit.env, action=FOLLOW, most=1)
    return str(found[0]["subject"]) if found else ""


def _keep_home(kit: Kit, unit: Unit, reason: str) -> None:
    operation.record(kit, unit, FOLLOW, subject=kit.definitions.place, reason=reason)
