"""Ids as people type them: a prefix, and some letters of the random part of a ULID."""

import re
from collections.abc import Iterable

_ID = re.compile(r"^(?:(?P<kind>bl|run|rev|wb)_)?(?P<part>[0-9a-hjkmnp-tv-z]{1,26})$", re.IGNORECASE)
TIME = 10  # characters of an id that encode its time; the sixteen after them are random
RANDOM = 16
SHORT = 7  # random characters that distinguish a million entries


def id_part(text: str, kind: str) -> str:
    """Return the id of a kind (such as `bl` or `run`) in a text, without its prefix; "" if it is not one."""
    match = _ID.match(text.strip())
    said = match and (match["kind"] or kind).lower()
    return match["part"].upper() if match and said == kind else ""


def short_ids(ids: Iterable[str]) -> dict[str, str]:
    """Return short forms of ids: the prefix and as much of the random part as distinguishes them."""
    known = list(dict.fromkeys(each for each in ids if each))
    length = SHORT
    while length < RANDOM and len({_shortened(each, length) for each in known}) < len(known):
        length += 1
    return {each: _shortened(each, length) for each in known}


def _shortened(whole: str, length: int) -> str:
    prefix, _, part = whole.partition("_")
    if len(part) != TIME + RANDOM or not _ID.match(whole):
        return whole
    return f"{prefix}_{part[TIME : TIME + length]}"
