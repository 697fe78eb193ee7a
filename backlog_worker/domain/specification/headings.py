"""What headings are about: their words, without marks, numbers and brackets, name the section that follows."""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from backlog_worker.domain.specification.stems import SECTIONS
from backlog_worker.domain.specification.words import joined

STEM_MAX, LABEL_MAX, LABEL_BLANKS = 160, 60, 4
BOTH: Final = "both"  # what is seen and what is expected, under one heading
_NUMBER: Final = re.compile(r"^\(?\d{1,2}[.):]\s{0,4}")
_BRACKETS: Final = re.compile(r"\([^()]{0,120}\)|（[^（）]{0,120}）|\[[^\[\]]{0,120}\]")
_SIGNS: Final = re.compile(r"[^\w\s'’/+.&-]+", re.UNICODE)
_BLANKS: Final = re.compile(r"\s{1,100}")
_LABEL: Final = re.compile(
    r"^(?:[-*+•]\s{1,4}|\d{1,2}[.)]\s{1,4})?(?P<bold>\*\*|__)?(?P<label>[^\s:：*_|`<>{}\"][^:：|"
    r"<>{}\"]{0,59}?)(?P<bold2>\*\*|__)?\s?[:：](?P<bold3>\*\*|__)?(?:\s{1,4}|(?<=：)|$|"
    r"(?<=\*\*))(?P<rest>.{0,2000})$"
)
_BOLD: Final = re.compile(
    r"^(?:\d{1,2}[.)]\s{1,4})?(?:\*\*|__)([^*_].{0,150}?)(?:\*\*|__)\s?[:：]?\s{0,4}$|"
    r"^\*([^*\s][^*]{1,100})\*[:：]\s{0,4}$"
)
# Words of a heading that say more than the tables of words know.
_STEMS: Final = {
    "environment": "os|ua|env|host|meta|system",
    "steps": "what i did|was ich tat|steps|code|step|repro|i tried this code",
    "logs": "log|error|errors|traceback|output|stack|erreur|logs",
    "summary": (
        "the problem|problem|task|issue|bug|problème|problema|fehler|проблема|问题|問題|"
        "is your feature request related to a problem|"
        "is your feature request related to a problem please describe|what is the problem|"
        "what's the problem"
    ),
    "proposal": "feature|fix|scope",
    "actual": (
        "what i got|what i get|what i see|what i saw|result|results|ist|resultado|résultat|"
        "ergebnis|risultato|результат|结果|結果|결과|现象|"
        "現象|증상|症状|instead this happened"
    ),
    "acceptance": "requirements|tasks|todo|to do|ac|goals",
    "expected": "soll|erwartet|i expected to see this happen",
    "context": "explanation|severity|priority|you said|edit|edit 1|update|note|p.s.|ps",
    "kind": "type|tipo|typ",
    "component": "package|area|area afectada|área",
    "motivation": "rationale",
    "frequency": "does this issue occur when all extensions are disabled",
    "question": "what is your question",
}
EXACT: Final[Mapping[str, str]] = {stem: name for name, stems in _STEMS.items() for stem in stems.split("|")}
_BOTH: Final = (
    "current vs",
    "actual vs",
    "expected vs",
    "expected and actual",
    "actual and expected",
    "current and expected",
    "expected/actual",
    "actual/expected",
)


def label_of(line: str) -> tuple[str, str, bool] | None:
    """Split "Label: words" into the label, the words, and whether the label is bold; None where there is no label."""
    if line.startswith("【") and "】" in line[:LABEL_MAX]:
        label, _, rest = line[1:].partition("】")
        return label, rest.strip(" :："), True
    match = _LABEL.match(line)
    if not match:
        return None
    return match["label"], match["rest"].strip(), bool(match["bold"] or match["bold3"])


def bold_of(line: str) -> str | None:
    """Return the words of a line that is bold as a whole."""
    match = _BOLD.match(line[:200])
    return (match[1] or match[2]) if match else None


def stem_of(heading: str) -> str:
    """Return a heading without marks, numbers, brackets, signs and case."""
    short = heading[:STEM_MAX]
    short = _BRACKETS.sub(" ", short) if "(" in short or "[" in short or "（" in short else short
    bare = _SIGNS.sub(" ", short.replace("*", " ").replace("_", " ").replace("`", " ").replace("’", "'"))
    return _BLANKS.sub(" ", _NUMBER.sub("", bare.strip())).strip(" .-&/'").casefold()


@lru_cache(maxsize=4096)
def section_of(stem: str, *, strict: bool = False) -> str:
    """Return the section that a stem names, or nothing; *strict* takes a short stem only, as before a colon."""
    if not stem or stem in EXACT:
        return EXACT.get(stem, "")
    if stem.endswith((" version", " versions", "-version")):
        return "environment"
    if strict and (len(stem) > LABEL_MAX or stem.count(" ") > LABEL_BLANKS):
        return ""
    if stem.startswith(_BOTH):
        return BOTH
    return next((name for name, pattern in _PATTERNS if pattern.search(f" {stem} ")), "")


def _pattern(words: str) -> re.Pattern[str]:
    wide: list[str] = []
    narrow: list[str] = []
    for word in words.split("|"):
        (wide if ord(word[0]) > 0x2E80 else narrow).append(re.escape(word))  # noqa: PLR2004 - the first of the signs of Chinese, Japanese and Korean
    parts = [rf"(?<=[\s/'-])(?:{'|'.join(narrow)})"] if narrow else []
    return re.compile("|".join([*parts, *wide]))


_PATTERNS: Final = tuple((name, _pattern(joined(table))) for name, table in SECTIONS.items())
