"""Patterns for `branches` and `paths` of a trigger, with the semantics of GitHub's filter patterns.

`*` matches within one segment, `**` across segments, and `**/` also matches no folder. `?` and `+` repeat the preceding
character, `[]` matches one of its letters and digits, and a backslash escapes a character. A pattern after `!`
excludes what it matches; the last matching pattern decides.
"""

import re
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

LENGTH_MAX = 500
_PART, _ANY, _FOLDERS, _INSIDE, _SIGN = "*", "**", "**/", "**/ begun", "sign"
_RANGES = (string.ascii_lowercase, string.ascii_uppercase, string.digits)


@dataclass(frozen=True, slots=True)
class Token:
    """A step of a pattern: the characters that it matches, and its repetition (`""`, `?` or `+`)."""

    kind: str
    signs: frozenset[str] = frozenset()
    times: str = ""


@dataclass(frozen=True, slots=True)
class Glob:
    """A parsed pattern with its text."""

    text: str
    negative: bool
    tokens: tuple[Token, ...]

    def matches(self, name: str) -> bool:
        """Return whether the pattern matches the whole of *name*, in time linear in its length."""
        at = self._open({0})
        for sign in name:
            at = self._open({state for each in at for state in self._after(each, sign)})
        return len(self.tokens) in at

    def _open(self, states: set[int]) -> set[int]:
        """Return the states and all that can be reached from them without a character."""
        found, waiting = set(states), list(states)
        while waiting:
            at = waiting.pop()
            if at == len(self.tokens):
                continue
            token = self.tokens[at]
            step = 2 if token.kind == _FOLDERS else 1
            free = token.kind in {_PART, _ANY, _FOLDERS} or token.times == "?"
            if free and at + step not in found:
                found.add(at + step)
                waiting.append(at + step)
        return found

    def _after(self, at: int, sign: str) -> Iterator[int]:
        if at == len(self.tokens):
            return
        token = self.tokens[at]
        if token.kind == _SIGN:
            if sign in token.signs:
                yield from (at, at + 1) if token.times == "+" else (at + 1,)
        elif token.kind in {_FOLDERS, _INSIDE}:
            inside = at + (token.kind == _FOLDERS)
            yield from (inside, inside + 1) if sign == "/" else (inside,)
        elif token.kind == _ANY or sign != "/":
            yield at

    @property
    def regex(self) -> str:
        """Return an equivalent regular expression for the whole name, in portable syntax."""
        return "".join(_regex(token) for token in self.tokens)


@lru_cache(maxsize=1000)
def read(text: str) -> Glob:
    """Parse a pattern; raises ValueError with the reason."""
    body = text.removeprefix("!")
    if not body or len(body) > LENGTH_MAX:
        message = f"a pattern has 1 to {LENGTH_MAX} characters"
        raise ValueError(message)
    return Glob(text=text, negative=text.startswith("!"), tokens=tuple(_tokens(body)))


def chosen(patterns: Sequence[str], name: str) -> bool:
    """Return whether the last pattern that matches *name* includes it; raises ValueError for an invalid pattern."""
    found = False
    for each in map(read, patterns):
        if found == each.negative and each.matches(name):
            found = not each.negative
    return found


def _tokens(text: str) -> Iterator[Token]:
    at, fresh = 0, True
    while at < len(text):
        sign = text[at]
        if text.startswith("**", at):
            whole = fresh and text.startswith("**/", at)
            yield from (Token(_FOLDERS), Token(_INSIDE)) if whole else (Token(_ANY),)
            at += 3 if whole else 2
            fresh = whole
            continue
        if sign == "*":
            yield Token(_PART)
            at, fresh = at + 1, False
            continue
        signs, at = _signs(text, at)
        times = text[at] if at < len(text) and text[at] in "?+" else ""
        yield Token(_SIGN, signs, times)
        at, fresh = at + len(times), sign == "/" and not times


def _signs(text: str, at: int) -> tuple[frozenset[str], int]:
    sign = text[at]
    if sign in "?+":
        message = f"{sign} has no preceding character to repeat; write \\{sign} for the character itself"
        raise ValueError(message)
    if sign == "\\":
        if at + 1 == len(text):
            message = "a backslash is the last character"
            raise ValueError(message)
        return frozenset(text[at + 1]), at + 2
    if sign != "[":
        return frozenset(sign), at + 1
    end = text.find("]", at)
    if end < 0:
        message = "[ is not closed; write \\[ for the character itself"
        raise ValueError(message)
    return frozenset(_listed(text[at + 1 : end])), end + 1


def _listed(inside: str) -> Iterator[str]:
    parts = re.findall(r"([A-Za-z0-9])-([A-Za-z0-9])|([A-Za-z0-9])", inside)
    if not inside or "".join(f"{a}-{b}" if a else c for a, b, c in parts) != inside:
        message = f"[{inside}] may contain only letters, digits and ranges of them"
        raise ValueError(message)
    for first, last, single in parts:
        of = next((each for each in _RANGES if first in each and last in each), "")
        if first and (not of or first > last):
            message = f"{first}-{last} is not a range"
            raise ValueError(message)
        yield from of[of.index(first) : of.index(last) + 1] if first else single


def _regex(token: Token) -> str:
    match token.kind:
        case "*":
            return "[^/]*"
        case "**":
            return ".*"
        case "**/":
            return "(.*/)?"
        case "**/ begun":
            return ""
        case _:
            signs = sorted(token.signs)
            one = re.sub(r"([^A-Za-z0-9_/-])", r"\\\1", signs[0]) if len(signs) == 1 else f"[{''.join(signs)}]"
            return one + token.times
