"""Dependencies of the drafts of a batch: which were filed before, also under an older key, and which are missing."""

from collections.abc import Mapping, Sequence

from backlog_worker.domain import dedupe
from backlog_worker.domain.draft import Draft
from backlog_worker.store import Unit

Placed = tuple[str, Draft]


def known_keys(unit: Unit, env: str, batch: Sequence[Draft], seen: Mapping[str, str]) -> dict[str, str]:
    """Return the ids of entries filed before, or *seen* by a dry run, by the keys of drafts and of their dependencies.

    Entries that an earlier release filed under another key are found by their address or title.
    """
    keys = {key for each in batch for key in (each.dedupe_key, *each.depends_on)}
    known = {key: seen[key] for key in keys if key in seen} | unit.with_key(env, sorted(keys))
    former = {key: each for each in batch if each.dedupe_key not in known for key in each.former_keys}
    found = unit.with_key(env, list(former)) if former else {}
    histories = unit.histories(list(found.values())) if found else {}
    for key, entry_id in found.items():
        draft = former[key]
        if dedupe.same_record(draft.url, draft.title, histories[entry_id][0].data["set"]):
            known[draft.dedupe_key] = entry_id
    return known


def missing(
    unit: Unit, batch: Sequence[Placed], known: Mapping[str, str]
) -> tuple[list[Placed], list[tuple[str, Draft, str]]]:
    """Return the drafts whose dependencies exist or precede them in the batch, and the refusals of the others."""
    wanted = sorted({key for _, draft in batch for key in draft.depends_on if key not in known})
    there = {*known, *(unit.rows(wanted) if wanted else ()), *(unit.retired_rows(wanted) if wanted else ())}
    kept: list[Placed] = []
    refused: list[tuple[str, Draft, str]] = []
    for place, draft in batch:
        if lost := next((key for key in draft.depends_on if key not in there), ""):
            refused.append((place, draft, f"depends on {lost!r}, which is not in the backlog; file it first"))
            continue
        there.add(draft.dedupe_key)
        kept.append((place, draft))
    return kept, refused
