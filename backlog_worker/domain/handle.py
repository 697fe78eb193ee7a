"""Handles: the ways in which a person names an entry (id, key, issue number, address, words of the title)."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_NUMBER = re.compile(r"^(?:(?P<repository>[\w.-]+(?:/[\w.-]+)*))?#(?P<number>\d+)$|^(?P<bare>\d+)$")
_ISSUE = re.compile(r"^(?:[\w+.-]+://)?[^/]+/(?P<repository>.+?)/(?:-/)?[a-z_]+/(?P<number>\d+)$", re.IGNORECASE)
_CHUNK = re.compile(r"[a-z0-9_]+")
# The kinds of match, the most certain first; only entries that match in the most certain way count.
ID, KEY, BEGINS, ADDRESS, NUMBER, WORDS = range(6)
NAMED = ("id", "dedupe_key", "url", "external_ref", "title")


@dataclass(frozen=True, slots=True, kw_only=True)
class Handle:
    """A text that names an entry, parsed in every way that applies."""

    text: str
    address: str
    repository: str
    number: str

    @property
    def chunks(self) -> tuple[str, ...]:
        """Return substrings that every matching entry contains, to narrow a search."""
        if self.number:
            return (self.number,)
        said = self.address or self.text.lower()
        found = [max(_CHUNK.findall(word), key=len, default="") for word in said.split() if word.isascii()]
        return tuple(each for each in found if each)


def read(text: str) -> Handle:
    """Parse the text that a person typed."""
    said = text.strip()
    address = _address(said) if "://" in said or "/" in said.partition(".")[2] else ""
    match = _NUMBER.match(said) or _ISSUE.match(address)
    named: Mapping[str, str | None] = match.groupdict() if match else {}
    number = named.get("number") or named.get("bare") or ""
    return Handle(text=said, address=address, repository=(named.get("repository") or "").casefold(), number=number)


def fits(handle: Handle, entry: Mapping[str, Any], *, words: bool = True) -> int | None:
    """Return the rank of the match of an entry, given its fields of NAMED; None if it does not match."""
    text, key, reference = handle.text, str(entry["dedupe_key"]), str(entry["external_ref"])
    url, title = _address(str(entry["url"])), str(entry["title"]).casefold()
    ways = (
        (ID, text == entry["id"]),
        (KEY, text == key),
        (ADDRESS, bool(handle.address) and url == handle.address),
        (NUMBER, bool(text) and (text == reference or _numbered(handle, key, url, reference))),
        (WORDS, words and not handle.address and _all_in(text, title)),
    )
    return next((way for way, holds in ways if holds), None)


def named_by(entry: object) -> dict[str, Any]:
    """Return the fields of an entry by which a person can name it."""
    return {name: getattr(entry, name) for name in NAMED}


def source_names(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the name of each entry at its source: #329, or api#329 if there are several repositories."""
    found = [_named_there(each) for each in entries]
    several = len({repository for repository, number in found if number}) > 1
    return [
        f"{repository.rpartition('/')[2] if several else ''}#{number}" if number else "" for repository, number in found
    ]


def _named_there(entry: Mapping[str, Any]) -> tuple[str, str]:
    match = _ISSUE.match(_address(str(entry["url"])))
    if match:
        return match["repository"], match["number"]
    head, _, number = str(entry["dedupe_key"]).rpartition("#")
    if number.isdigit() and number.isascii():
        return head.rpartition(":")[2], number
    reference = str(entry["external_ref"]).removeprefix("#")
    return "", reference if reference.isdigit() else ""


def _all_in(text: str, title: str) -> bool:
    words = text.casefold().split()
    return bool(words) and all(word in title for word in words)


def _numbered(handle: Handle, key: str, url: str, reference: str) -> bool:
    if not handle.number:
        return False
    head, _, number = key.casefold().rpartition("#")
    if number == handle.number and _same(handle.repository, head.rpartition(":")[2]):
        return True
    match = _ISSUE.match(url)
    if match and match["number"] == handle.number and _same(handle.repository, match["repository"]):
        return True
    return not handle.repository and reference.removeprefix("#") == handle.number


def _same(wanted: str, repository: str) -> bool:
    return not wanted or repository == wanted or repository.endswith(f"/{wanted}")


def _address(text: str) -> str:
    """Return an address without its scheme, query, fragment and trailing slash."""
    bare = re.sub(r"^[\w+.-]+://(?:www\.)?", "", text.strip())
    return re.split(r"[?#]", bare)[0].rstrip("/").casefold()
