"""The encoded forms of a secret value in which a program may print it, and a finder for all of them at once.

The search ignores line ends, because encoders and terminals wrap lines.
"""

import base64
import html
import json
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from urllib.parse import quote, quote_plus

import ahocorasick

SHORTEST = 6  # a shorter value cannot be distinguished from ordinary text and is refused when it is read
SHORTEST_LINE = 8  # the shortest line of a multi-line value to search for; shorter ones, such as `{`, are in every text
_ENDS = re.compile(r"[\r\n]")
_QUOTED = re.compile(r"([^\w@%+=:,./-])")
_ESCAPE = re.compile(r"%[0-9A-F]{2}")


class Finder:
    """Finds every form of a set of values in time linear in the text."""

    def __init__(self, words: frozenset[str]) -> None:
        self.longest = max(map(len, words), default=0)
        self._heads = frozenset(word[0] for word in words)
        self._automaton = ahocorasick.Automaton()
        for word in words:
            self._automaton.add_word(word, len(word))
        self._automaton.make_automaton()

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Return the spans (begin, end) of *text* that contain a form, in order and without overlap."""
        if not self.longest or not text:
            return []
        squeezed = _ENDS.sub("", text)
        found = _joined(self._automaton.iter(squeezed))
        if not found or len(squeezed) == len(text):
            return found
        at = _places(text)
        return [(at(begin), at(end - 1) + 1) for begin, end in found]

    def open_end(self, text: str) -> int:
        """Return where a form may begin that *text* does not complete; the length of *text* if there is none."""
        squeezed = _ENDS.sub("", text)
        for begin in range(max(0, len(squeezed) - self.longest + 1), len(squeezed)):
            if squeezed[begin] in self._heads:
                rest = squeezed[begin:]
                if self._automaton.longest_prefix(rest) == len(rest):
                    return begin if len(squeezed) == len(text) else _places(text)(begin)
        return len(text)


@lru_cache(maxsize=64)
def finder(values: frozenset[str]) -> Finder:
    """Return a finder for these values in text."""
    return Finder(frozenset(form for value in values for form in forms(value)))


@lru_cache(maxsize=64)
def finder_in_bytes(values: frozenset[str]) -> Finder:
    """Return a finder for these values in bytes decoded as Latin-1."""
    found = (form.encode("utf-8", "surrogatepass") for value in values for form in forms(value))
    return Finder(frozenset(form.decode("latin-1") for form in found))


@lru_cache(maxsize=4096)
def forms(value: str) -> frozenset[str]:
    """Return every form of *value* and of its lines: plain, JSON, URL, base64, hex, Python, shell, HTML."""
    parts = {value, value.strip()} | {line.strip() for line in value.splitlines() if len(line.strip()) >= SHORTEST_LINE}
    found = {form for part in parts for form in (*_quoted(part), *_encoded(part.encode("utf-8", "surrogatepass")))}
    squeezed = {_ENDS.sub("", form) for form in found}
    return frozenset(form for form in squeezed if len(form) >= SHORTEST)


def _quoted(part: str) -> Iterator[str]:
    yield part
    for ascii_only in (True, False):
        once = json.dumps(part, ensure_ascii=ascii_only)[1:-1]
        yield from (once, once.replace("/", "\\/"), json.dumps(once, ensure_ascii=ascii_only)[1:-1])
    octets = part.encode("utf-8", "surrogatepass")
    for escaped in (quote(octets, safe=""), quote(octets), quote_plus(octets)):
        yield from (escaped, _ESCAPE.sub(lambda found: found[0].lower(), escaped), escaped.replace("%", "%25"))
    for shown in (repr(part), ascii(part)):
        yield from (shown[1:-1], shown[1:-1].replace("'", "\\'"))
    yield from (part.replace("'", "'\"'\"'"), part.replace("'", "'\\''"), _QUOTED.sub(r"\\\1", part))
    yield re.sub(r'([$`"\\])', r"\\\1", part)
    yield from (html.escape(part), html.escape(part, quote=False))


def _encoded(part: bytes) -> Iterator[str]:
    """Return the base64 forms at each of the three offsets, and the hexadecimal form."""
    yield from (part.hex(), part.hex().upper(), repr(part)[2:-1])
    for before, cut in ((0, 0), (1, 2), (2, 3)):
        whole = (before + len(part)) * 8 // 6  # characters that do not depend on bytes after the value
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            yield encode(b"\0" * before + part)[cut:whole].decode()


def _joined(found: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Merge matches, ordered by their last character, into spans that do not overlap."""
    parts: list[tuple[int, int]] = []
    for last, length in found:
        begin = last + 1 - length
        while parts and parts[-1][1] > begin:
            begin = min(begin, parts.pop()[0])
        parts.append((begin, last + 1))
    return parts


def _places(text: str) -> Callable[[int], int]:
    """Return a function that maps a position in *text* without line ends to a position in *text*."""
    before = [found.start() - at for at, found in enumerate(_ENDS.finditer(text))]
    return lambda place: place + bisect_right(before, place)
