"""Blocks as passages that people read: paragraphs, sentences, steps with their code."""

import re
from collections.abc import Iterable, Sequence
from typing import Final

from backlog_worker.domain.specification import requests
from backlog_worker.domain.specification.cleaning import Block, hollow, stripped
from backlog_worker.domain.specification.excerpts import CODE_MAX, PASSAGE_MAX, cut, fence

LABEL_BLANKS: Final = 2  # of a label that stands alone
INDENTED: Final = 2  # what is indented so far belongs to the item above
WRAPPED: Final = 60  # a line that is shorter was ended on purpose
SENTENCE_MIN: Final = 5
_ENDS: Final = re.compile(r"(?<=[.!?…])[\"')\]]?\s+(?=\S)|(?<=[。！？])\s*(?=\S)")
_GREETED: Final = re.compile(
    (
        rf"^(?:{requests.GREETINGS})\b[^.!?。！？\n]{{0,40}}[,.!…:;。、！，\s🙏😊👍)]*$|"
        rf"^(?:{requests.GREETINGS})[,!.。！，、]\s+"
    ),
    re.IGNORECASE,
)
_NUMBERED: Final = re.compile(r"(?:(?<=\s)|^)\(?(\d{1,2})[.)]\s+")


def passages(blocks: Sequence[Block], *, code: bool = False) -> list[str]:
    """Return paragraphs and items in their order; with *code* each item keeps the code that follows it."""
    found: list[str] = []
    opened, base = "", 0
    for block in blocks:
        if block.kind == "blank":
            opened = "item" if opened == "item" and code else ""
        elif block.kind in {"item", "box"}:
            if opened == "item" and block.depth >= base + 2 and code and found:
                found[-1] = f"{found[-1]}\n   - {block.text}"
            else:
                found.append(block.text)
                base = block.depth
            opened = "item"
        elif block.kind == "text":
            if (opened == "item" and (block.depth >= INDENTED or not code)) or (
                opened == "text" and _flows(found[-1], block.text)
            ):
                found[-1] = f"{found[-1]} {block.text}"
            elif opened != "item" or block.text not in found:
                found.append(block.text)
                opened = "text"
        elif block.kind == "code" and code and block.text.strip():
            fenced = fence(block.text[:CODE_MAX], block.mark)
            if found:
                found[-1] = f"{found[-1]}\n{fenced}"
            else:
                found.append(fenced)
    return [cut(text) for text in found if "\n" in text or not (hollow(text) or _unsaid(text))]


def steps(blocks: Sequence[Block]) -> list[str]:
    """Return steps in their order; where some are numbered or bulleted, prose around them is none."""
    listed = [at for at, block in enumerate(blocks) if block.kind in {"item", "box"}]
    if not listed:
        texts = passages(_sewn(blocks), code=True)
        return [step for text in texts for step in numbered(text)]
    kept = [
        block
        for at, block in enumerate(blocks)
        if at >= listed[0] and (block.kind != "text" or block.depth >= INDENTED)
    ]
    return passages(_sewn(kept), code=True)


def numbered(text: str) -> list[str]:
    """Split "1. open 2. wait 3. boom" into its steps; other text is one step."""
    marks = list(_NUMBERED.finditer(text[:PASSAGE_MAX])) if text[:3].strip("(")[:1].isdigit() or " 2" in text else []
    if [int(match[1]) for match in marks] != list(range(1, len(marks) + 1)) or len(marks) < 2:  # noqa: PLR2004 - one is a date
        return [text]
    ends = [*(match.start() for match in marks[1:]), len(text)]
    return [text[match.end() : end].strip(" ,;") for match, end in zip(marks, ends, strict=True)]


def split_steps(text: str) -> tuple[list[str], str]:
    """Return the steps that one line numbers, and what it says after the last of them."""
    listed = numbered(text)
    if len(listed) < 2:  # noqa: PLR2004 - one is no list
        return [], ""
    last, *rest = _ENDS.split(listed[-1], maxsplit=1)
    return [*listed[:-1], last], "".join(rest)


def sentences(texts: Iterable[str], most: int = 60) -> list[str]:
    """Return the sentences of passages without greetings and thanks, each once."""
    found: dict[str, None] = {}
    for text in texts:
        for sentence in _ENDS.split(text):
            bare = _GREETED.sub("", sentence.strip()).strip()
            if len(stripped(bare)) >= SENTENCE_MIN and not hollow(bare):
                found[bare] = None
        if len(found) >= most:
            break
    return list(found)[:most]


def _unsaid(text: str) -> bool:
    """Return whether a text is a label whose words are missing, as where they were a comment."""
    return text.endswith((":", "：")) and text.count(" ") <= LABEL_BLANKS


def _sewn(blocks: Sequence[Block]) -> list[Block]:
    """Join lines of code that follow each other."""
    found: list[Block] = []
    for block in blocks:
        lines = block.kind == "code" and block.mark in {"trace", "indented"}
        if lines and found and found[-1].kind == "code" and found[-1].mark == block.mark:
            found[-1] = Block("code", f"{found[-1].text}\n{block.text}"[: CODE_MAX * 2], block.mark)
        else:
            found.append(block)
    return found


def _flows(before: str, line: str) -> bool:
    """Return whether a line goes on with the sentence of the line before."""
    if before.endswith((".", "!", "?", ":", "。", "！", "？")):
        return len(before) > WRAPPED and not before.endswith(":")
    return len(before) > WRAPPED or line[:1].islower()
