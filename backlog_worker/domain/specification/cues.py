"""What sentences are about, by words of their language: what is expected, what fails, what is wished for or asked."""

import re
from collections.abc import Mapping
from typing import Final

from backlog_worker.domain.specification import kinds, requests, sayings, words

# What is asked where something is missing.
QUESTIONS: Final = {
    "description": "The issue says nothing beyond its title: what is to be done, and why?",
    "steps": "How can it be reproduced?",
    "expected": "What is the expected behaviour?",
    "actual": "What happens instead?",
    "environment": "In which versions and environment does it happen?",
}
_WORD: Final = re.compile(r"[^\W\d_]{1,20}")
_COMMON: Final = {name: frozenset(line.split()) for name, line in requests.COMMON.items()}
_WIDE: Final = frozenset({"zh", "ja", "ko"})
_INSTEAD: Final = re.compile(
    r"\b(?:but|instead|stattdessen|aber|mais|au lieu|pero|mas|invece|но)\b|却|但|しかし|ですが|하지만|는데",
    re.IGNORECASE,
)


def _compiled(table: Mapping[str, str]) -> dict[str, re.Pattern[str]]:
    return {
        name: re.compile(line if name in _WIDE else rf"(?<!\w)(?:{line})(?!\w)", re.IGNORECASE)
        for name, line in ((name, words.joined(table[name])) for name in table)
    }


_EXPECTING: Final = _compiled(sayings.EXPECTING)
_FAILING: Final = _compiled(sayings.FAILING)
_WISHING: Final = _compiled(requests.WISHING)
_ASKING: Final = _compiled(requests.ASKING)


def language(sample: str) -> str:
    """Return the language of a text, of the ten that the rules know; English where nothing tells."""
    signs = sample[:1500]
    kana = sum("\u3040" <= sign <= "\u30ff" for sign in signs)
    hangul = sum("\uac00" <= sign <= "\ud7af" for sign in signs)
    han = sum("\u4e00" <= sign <= "\u9fff" for sign in signs)
    cyrillic = sum("\u0400" <= sign <= "\u04ff" for sign in signs)
    letters = sum(sign.isalpha() for sign in signs) or 1
    for name, count, share in (("ja", kana, 0.08), ("ko", hangul, 0.15), ("zh", han, 0.12), ("ru", cyrillic, 0.25)):
        if count / letters >= share:
            return name
    listed = [word.casefold() for word in _WORD.findall(signs)]
    counts = {name: sum(word in common for word in listed) for name, common in _COMMON.items()}
    best = max(counts, key=lambda name: (counts[name], name == "en"))
    return best if counts[best] else "en"


def expecting(sentence: str, language: str) -> bool:
    """Return whether a sentence says what should be."""
    return bool(_EXPECTING[language].search(sentence))


def failing(sentence: str, language: str) -> bool:
    """Return whether a sentence says what goes wrong."""
    return bool(_FAILING[language].search(sentence))


def wishing(sentence: str, language: str) -> bool:
    """Return whether a sentence wishes for something."""
    return bool(_WISHING[language].search(sentence))


def instead(sentence: str) -> bool:
    """Return whether a sentence says both what should be and what is."""
    return bool(_INSTEAD.search(sentence))


def cues(title: str, running: str, language: str, *, boxes: bool) -> set[str]:
    """Return what the words of a title and a text hint at, for the kind of the issue."""
    found = {"tasks"} if boxes else set()
    for name, table in (("expecting", _EXPECTING), ("failing", _FAILING), ("wishing", _WISHING), ("asking", _ASKING)):
        if table[language].search(title):
            found.add(f"{name} title")
        if table[language].search(running):
            found.add(name)
    if kinds.documents(title) or kinds.documents(running[:600]):
        found.add("documenting")
    return found
