"""Which issue another one repeats: by what it says itself, and by how alike the texts are."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from zlib import crc32

SHINGLE, SKETCH = 2, 64
ALIKE: Final = 0.8  # of the sketches of two texts that say the same
CROWD: Final = 50  # a piece that so many texts have says nothing
_WORD: Final = re.compile(r"[^\W\d_]{2,40}|[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_SAID: Final = re.compile(
    r"(?:duplicate[sd]?(?: of)?|dup(?:e)? of|same (?:issue|bug|problem|error)? ?as|"
    r"already reported (?:in|as|at)|duplikat von|doublon de|duplicado de|duplicata de|duplicato di|"
    r"дубликат|重复于|と同じ|중복)"
    r"\s?:?\s{0,3}((?:[\w.-]{1,60}/[\w.-]{1,60})?#\d{1,9}|https?://[^\s)]{1,200}/\d{1,9})",
    re.IGNORECASE,
)
TEXT_MAX: Final = 20_000


@dataclass(frozen=True, slots=True)
class Alike:
    """A known text that another one is like; 1 is the same words in the same order."""

    reference: str
    similarity: float


@dataclass(slots=True)
class Known:
    """The sketches of texts that are known, by their pieces; asking costs what the text asked about is long."""

    _sketches: dict[str, frozenset[int]] = field(default_factory=dict)
    _pieces: dict[int, list[str]] = field(default_factory=dict)

    def add(self, reference: str, text: str) -> None:
        """Remember a text."""
        sketch = sketched(text)
        self._sketches[reference] = sketch
        for piece in sketch:
            holders = self._pieces.setdefault(piece, [])
            if len(holders) < CROWD:
                holders.append(reference)

    def alike(self, text: str, *, most: int = 3) -> list[Alike]:
        """Return the known texts that are most like this one, best first."""
        sketch = sketched(text)
        if not sketch:
            return []
        shared = Counter(reference for piece in sketch for reference in self._pieces.get(piece, ()))
        found = [
            Alike(reference, similarity(sketch, self._sketches[reference])) for reference, _ in shared.most_common(20)
        ]
        return sorted(
            (each for each in found if each.similarity >= ALIKE), key=lambda each: (-each.similarity, each.reference)
        )[:most]


def pointed(issues: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Add to each issue the numbers of those before it that it is `similar` to; an issue listed twice is not."""
    known = Known()
    for issue in issues:
        reference, text = f"#{issue['number']}", f"{issue['title']}\n{issue.get('body') or ''}"
        alike = [each.reference for each in known.alike(text) if each.reference != reference]
        known.add(reference, text)
        yield {**issue, "similar": alike}


def sketched(text: str) -> frozenset[int]:
    """Return the smallest hashes of the pairs of words of a text: alike texts share most of them."""
    listed = [word.casefold() for word in _WORD.findall(text[:TEXT_MAX])]
    pieces = {crc32(" ".join(listed[at : at + SHINGLE]).encode()) for at in range(max(len(listed) - SHINGLE + 1, 0))}
    return frozenset(sorted(pieces)[:SKETCH])


def similarity(one: frozenset[int], other: frozenset[int]) -> float:
    """Return how alike two sketches are, from 0 to 1: the share of the smallest hashes of both that both have."""
    smallest = sorted(one | other)[:SKETCH]
    return len([piece for piece in smallest if piece in one and piece in other]) / len(smallest) if smallest else 0.0


def said(texts: Iterable[str]) -> list[str]:
    """Return what a text itself says that it repeats."""
    return list(dict.fromkeys(match[1] for text in texts for match in _SAID.finditer(text[:4000])))[:3]
