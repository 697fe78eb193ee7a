"""Check whether an entry still satisfies the contract of its pipeline; repeated until it is claimed."""

from collections.abc import Sequence

from backlog_worker.domain.draft import unknown_sign_off
from backlog_worker.domain.entry import Entry
from backlog_worker.domain.pipeline import violation
from backlog_worker.lifecycle import Kit
from backlog_worker.store import Unit


def broken(kit: Kit, unit: Unit, entries: Sequence[Entry]) -> dict[str, str]:
    """Return why entries break the contract of the pipeline in force, by entry: `accepts`, or an unknown job to sign
    off.

    An entry whose run continues is pinned to the version that accepted it.
    """
    free = [entry for entry in entries if not entry.pipeline_hash]
    found = {entry.id: pipeline for entry in free if (pipeline := kit.book.pipeline(unit, entry.pipeline))}
    named = {entry.id: unknown_sign_off(entry.constraints, found[entry.id]) for entry in free if entry.id in found}
    asked = [entry for entry in free if entry.id in found and found[entry.id].accepts is not None]
    inputs = unit.inputs(asked) if asked else {}
    said = {entry.id: violation(found[entry.id].accepts, inputs.get(entry.id, {})) for entry in asked}
    words = {entry_id: f"input {why}" for entry_id, why in said.items() if why}
    words |= {entry_id: why for entry_id, why in named.items() if why}
    return {each: f"{why} (pipeline {found[each].name} {found[each].version})" for each, why in words.items()}
