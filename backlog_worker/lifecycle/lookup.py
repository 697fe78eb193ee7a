"""Which entry a person means: by id, key, issue number, address or words of its title, retired or not.

This is the only place that turns a text into an entry; every command that takes an id accepts these forms.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from backlog_worker.domain import handle as handles
from backlog_worker.domain.entry import Entry
from backlog_worker.domain.errors import NotFoundError, UsageError
from backlog_worker.domain.ident import id_part
from backlog_worker.domain.masking import cut
from backlog_worker.domain.search import Filter, matches
from backlog_worker.lifecycle import Kit
from backlog_worker.store import Unit

PAGE = 500
NAMED_MOST = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One entry that a filter found, and when it was retired, if it was."""

    entry: Entry
    retired_at: datetime | None = None


def id_of(kit: Kit, text: str, *, words: bool = True) -> str:
    """Return the id of the matching entry, also a retired one; without *words*, titles are not searched.

    Raises NotFoundError, or UsageError with the candidates if several match equally well.
    """
    with kit.store.read() as unit:
        if (whole := _whole(unit, text)) or (whole := unit.with_key(kit.env, [text]).get(text, "")):
            return whole
        found = list(_fitting(unit, kit.env, text, words=words))
    surest = min((how for how, _, _ in found), default=None)
    chosen = {entry_id: title for how, entry_id, title in found if how == surest}
    if not chosen:
        message = f"there is no entry {text}, retired or not"
        raise NotFoundError(message, hint="backlog-worker entry list WORDS; or entry list is:retired WORDS")
    return only(text, chosen, "entries", "name one by its id, or write OWNER/REPOSITORY#NUMBER")


def only(text: str, chosen: Mapping[str, str], what: str, hint: str) -> str:
    """Return the only candidate; raises UsageError that lists them if there are several."""
    if len(chosen) == 1:
        return next(iter(chosen))
    named = [f"  {each}  {cut(words, 60)}" for each, words in list(chosen.items())[:NAMED_MOST]]
    more = ["  and more"] if len(chosen) > NAMED_MOST else []
    number = f"more than {NAMED_MOST}" if more else len(chosen)
    raise UsageError("\n".join([f"{text!r} matches {number} {what}:", *named, *more]), hint=hint)


def _whole(unit: Unit, text: str) -> str:
    """Return the id that the text is in full, or an empty text."""
    if not text.startswith("bl_"):
        return ""
    found = unit.entry(text)
    if found is not None and found.id == text:
        return text
    left = unit.retired(text)
    return text if left is not None and left["entry_id"] == text else ""


def beginning(unit: Unit, table: str, text: str, kind: str) -> list[str]:
    """Return the first ids of a table that begin with a text, if it can begin an id of this kind."""
    part = id_part(text, kind)
    return unit.beginning(table, part, NAMED_MOST + 1) if part else []


def listed(kit: Kit, wanted: Filter, *, after: str = "", most: int = 100) -> list[Listed]:
    """Return matching entries in the order of their ids; retired ones if the filter says `is:retired`."""
    with kit.store.read() as unit:
        found = [Listed(entry=each) for each in unit.search(kit.env, wanted, after=after, most=most)]
        if wanted.retired:
            found += _retired(unit, kit.env, wanted, after, most)
    return sorted(found, key=lambda each: each.entry.id)[:most]


def _retired(unit: Unit, env: str, wanted: Filter, after: str, most: int) -> Iterator[Listed]:
    """Yield up to *most* retired entries that match, in their final state."""
    pieces = [piece for word in wanted.words for piece in handles.read(word).chunks]
    number = 0
    while page := unit.retired_named(env, pieces, after, PAGE):
        ended, rows = unit.as_they_ended(page), unit.retired_rows(page)
        for entry_id in page:
            if number < most and matches(wanted, ended[entry_id], unit.now()):
                number += 1
                yield Listed(entry=ended[entry_id], retired_at=rows[entry_id]["at"])
        if number >= most:
            return
        after = page[-1]


def _fitting(unit: Unit, env: str, text: str, *, words: bool) -> Iterator[tuple[int, str, str]]:
    """Yield every matching entry with the rank of its match, its id and its title."""
    wanted = handles.read(text)
    if not wanted.text:
        return
    yield from _begun(unit, text)
    if text.startswith("bl_"):
        return
    after = ""
    while rows := unit.named(env, wanted.chunks, after, PAGE):
        for row in rows:
            if (how := handles.fits(wanted, row, words=words)) is not None:
                yield how, row["id"], row["title"]
        after = rows[-1]["id"]
    after = ""
    while page := unit.retired_named(env, wanted.chunks, after, PAGE):
        for entry_id, entry in unit.as_they_ended(page).items():
            how = handles.fits(wanted, handles.named_by(entry), words=words)
            if how is not None:
                yield how, entry_id, f"{entry.title} (retired)"
        after = page[-1]


def _begun(unit: Unit, text: str) -> Iterator[tuple[int, str, str]]:
    """Yield the entries whose id begins with the text; without its prefix it may also be a number or a word."""
    how = handles.BEGINS if text.startswith("bl_") else handles.WORDS
    for entry_id in beginning(unit, "entries", text, "bl"):
        if entry := unit.entry(entry_id):
            yield how, entry_id, entry.title
    gone = beginning(unit, "retired", text, "bl")
    for entry_id, entry in (unit.as_they_ended(gone) if gone else {}).items():
        yield how, entry_id, f"{entry.title} (retired)"
