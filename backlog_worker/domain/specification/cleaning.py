"""What somebody wrote, without what they did not: comments, hints, promises, quotes, pictures and addresses go first.

The text becomes blocks in its order: headings, paragraphs, list items, boxes, rows of tables, code and quotes. One pass
over the lines; every pattern is bounded, so that the time is linear.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape
from typing import Final

from backlog_worker.domain.specification import hints, traces
from backlog_worker.domain.specification.headings import LABEL_MAX, section_of, stem_of

LINE_MAX: Final = 2000  # of a line of prose, more is never a sentence
_TURNING: Final = (*range(0x202A, 0x202F), *range(0x2066, 0x206A))  # the direction of text
_SPARE: Final = dict.fromkeys(
    (*range(9), 11, 12, *range(14, 32), *range(127, 160), 0x200B, 0x200E, 0x200F, 0xFEFF, *_TURNING)
)  # fmt: skip
_COLOR: Final = re.compile(r"\x1b\[[0-9;?]{0,20}[A-Za-z]")
_FENCE: Final = re.compile(r"^\s{0,12}(?:(?:[-*+]|\d{1,3}[.)])\s{1,4})?(`{3,}|~{3,})\s{0,4}([^`\n]{0,80})$")
_TAGS: Final = (
    "a|abbr|b|big|blockquote|body|br|center|code|dd|del|details|div|dl|dt|em|font|h[1-6]|hr|html|i|"
    "iframe|img|input|ins|kbd|li|ol|p|"
    "path|picture|pre|q|s|samp|section|small|source|span|strike|strong|style|sub|summary|sup|svg|"
    "table|tbody|td|tfoot|th|thead|tr|tt|u|ul|var|video|script"
)
# What stands for a tag in Markdown, where it begins and where it ends.
_MARKDOWN: Final = {
    **dict.fromkeys(("h1", "h2", "h3", "h4", "h5", "h6", "summary"), ("\n### ", "\n")),
    **dict.fromkeys(("b", "strong"), ("**", "**")),
    **dict.fromkeys(("code", "tt", "kbd", "samp"), ("`", "`")),
    **dict.fromkeys(("td", "th"), (" | ", "")),
    **dict.fromkeys(
        ("br", "p", "div", "ul", "ol", "tr", "table", "details", "dl", "dt", "dd", "hr", "section", "blockquote"),
        ("\n", "\n"),
    ),
    "li": ("\n- ", ""),
}
_TAG: Final = re.compile(rf"<(/?)({_TAGS})(?:\s[^<>]{{0,1000}})?\s{{0,4}}/?>", re.IGNORECASE)
_PICTURE: Final = re.compile(
    r"!\[[^\[\]\n]{0,300}\](?:\([^()\s]{0,1500}(?:\s\"[^\"\n]{0,200}\")?\)|\[[^\[\]\n]{0,100}\])"
)
_LINK: Final = re.compile(r"\[([^\[\]\n]{0,300})\]\(<?[^()\s<>]{0,1500}>?(?:\s\"[^\"\n]{0,200}\")?\)")
ADDRESS: Final = re.compile(
    r"<?\b(?:https?|ftp|file|ssh|git|wss?)://[^\s<>\"'`)\]]{1,3000}>?|\bwww\.[^\s<>\"'`)\]]{1,3000}|"
    r"\b[\w.+-]{1,64}@[\w-]{1,64}(?:\.[\w-]{1,64}){0,4}\.[A-Za-z]{2,24}\b"
)
_DEFINITION: Final = re.compile(r"^\s{0,3}\[[^\[\]\n]{1,100}\]:\s{1,4}\S{1,2000}.{0,200}$")
_BOX: Final = re.compile(r"^\s{0,12}(?:[-*+]|\d{1,3}[.)])?\s{0,4}\[([ xX✓✔]?)\]\s{1,4}(.*)$")
_ITEM: Final = re.compile(r"^(\s{0,20})([-*+•‣◦·]|\(?\d{1,3}[.)、．）]|[①-⑳])(?:\s{1,8}|(?<=[、．）①-⑳]))(.+)$")
_JIRA: Final = re.compile(r"^h[1-6]\. ")
_RULE: Final = re.compile(
    r"^\s{0,3}(?:-[ \t]*){3,}$|^\s{0,3}(?:\*[ \t]*){3,}$|^\s{0,3}(?:_[ \t]*){3,}$|^\s{0,3}(?:=[ \t]*){3,}$"
)
_SIGNED: Final = re.compile(
    r"^(?:--\s?|_{5,}|-{3,}\s?Original Message\s?-{3,}.*|-{3,}\s?(?:Ursprüngliche Nachricht|"
    r"Forwarded message|Message d'origine)\s?-{3,}.*|"
    r"Sent from my .{1,60}|Get Outlook for .{1,30}|Von meinem .{1,30} gesendet|Envoyé de mon .{1,30}|"
    r"Enviado desde mi .{1,30}|Reply to this email directly.{0,200})$"
)
_ATTRIBUTED: Final = re.compile(
    (
        r"^(?:on |am |le |el |em |il |в |from:|von:|@).{0,200}(?:wrote|schrieb|écrit|escribió|escreveu|"
        r"ha scritto|пиш\w+|написал\w*|写道|said)(?:\s?:?\s{0,4}|\s.{1,60}:)$|^.{1,100}(?:写道|"
        r"さんは書きました|님이 작성)[:：]$"
    ),
    re.IGNORECASE,
)
_CLOSED: Final = re.compile(
    r"^(?:(?:best|kind|warm) )?regards|^cheers|^sincerely|^yours|^thanks,?$|"
    r"^(?:mit freundlichen|viele|liebe|beste) grüße|^cordialement|^saludos|^abraços|^"
    r"(?:cordiali )?saluti|^с уважением",
    re.IGNORECASE,
)
_MAIL: Final = re.compile(
    r"^(?:From|To|Cc|Sent|Date|Reply-To|Subject|Message-ID|Von|An|Gesendet|Betreff|De|À|Para|Enviado|Asunto):\s",
    re.IGNORECASE,
)
_SAMPLE: Final = re.compile(
    (
        r"[\[(（]\s?(?:e\.?\s?g\.?|z\.?\s?b\.?|p\.?\s?ex\.?|par ex|ej\.|por ej|es\.|ad es|напр|例如|例[:：]|"
        r"예[:：)])[^\[\]()（）\n]{0,120}[\])）]"
    ),
    re.IGNORECASE,
)
_HOLE: Final = re.compile(r"^(?:<[^<>]{0,80}>|\[[^\[\]]{0,80}\]|\{[^{}]{0,80}\}|\(\.{0,80}\)|[.…_\-?\s]{1,80})$")
_DOTS: Final = re.compile(r"['\"‘“](?:\.{2,}|…)['\"’”]")
_HEADING: Final = re.compile(
    r"^\s{0,3}(?:#{1,6}[ \t]*([^#\s].{0,300}?)[\s#]{0,20}|h[1-6]\.\s+(.{1,200}))$|^\s{0,3}#{1,6}\s*$"
)
_MARKS: Final = re.compile(r"^[\s*_#>`~■□◆◇●○◎▼▲★☆:：.。!！?？\-–—]{1,40}|[\s*_#>`~:：.。!！?？\-–—]{1,40}$")


@dataclass(frozen=True, slots=True)
class Block:
    """One part of a text; `mark` is the bullet of an item, the state of a box, or the language of code."""

    kind: str  # heading, text, item, box, row, code, quote, blank
    text: str
    mark: str = ""
    depth: int = 0


def plain(text: str) -> str:
    """Return text with line feeds only, without colours, controls, lone surrogates and invisible signs."""
    whole = text.encode("utf-8", "replace").decode("utf-8")
    lines = (
        whole.replace("\r\n", "\n")
        .replace("\r", "\n")
        .replace("\u2028", "\n")
        .replace("\u00a0", " ")
        .replace("\u3000", " ")
    )
    if "\x1b" in lines:
        lines = _COLOR.sub("", lines)
    return lines.translate(_SPARE) if not lines.isascii() or not lines.isprintable() else lines


def blocks(text: str) -> list[Block]:
    """Return the blocks of a text that somebody may have meant."""
    return list(_Reader().blocks(plain(text).split("\n")))


def hollow(text: str) -> bool:
    """Return whether a text is a placeholder, a hint of a template, or nothing."""
    if _HOLE.match(text.strip()[:100]):
        return True
    short = text[:LINE_MAX].strip()
    bare = stripped(short[1:-1] if short[:1] == "(" and short[-1:] == ")" else short).casefold()
    if not bare or bare in hints.EMPTY or _DOTS.search(bare):
        return True
    if bare.startswith(hints.HINTS):
        return bare.count(" ") < hints.HINT_WORDS
    return bare.endswith(hints.HINT_ENDS)


def promised(text: str) -> bool:
    """Return whether a box says something about its reporter: that they searched, read, agree."""
    bare = stripped(text[:300]).casefold()
    return bare.startswith(hints.PROMISES) or bare.endswith(hints.PROMISE_ENDS)


def stripped(text: str) -> str:
    """Return a text without the markup around it."""
    return _MARKS.sub("", _MARKS.sub("", text))


def worded(line: str) -> str:
    """Return a line of prose without pictures, addresses, markup of links and hints in brackets."""
    short = line[:LINE_MAX]
    if "[" in short:
        short = _LINK.sub(r"\1", _PICTURE.sub("", short))
    if "(" in short or "[" in short or "（" in short:
        short = _SAMPLE.sub("", short)
    if "://" in short or "@" in short or "www." in short:
        short = ADDRESS.sub("", short)
    return (unescape(short) if "&" in short else short).strip()


class _Reader:
    """Walks over the lines of a text once; knows whether it stands in a comment, in code, or below a quoted mail."""

    def __init__(self) -> None:
        self._fence = ""
        self._language = ""
        self._code: list[str] = []
        self._commented = False
        self._before = ""
        self._last = "blank"
        self._jira = False

    def blocks(self, lines: list[str]) -> Iterator[Block]:
        for line in lines:
            if self._fence:
                yield from self._coded(line)
            elif _SIGNED.match(line[:200]):
                break
            else:
                yield from self._prose(line)
        if self._code:
            yield Block("code", "\n".join(self._code), self._language)

    def _coded(self, line: str) -> Iterator[Block]:
        """Take a line of code, and give the code back at its end."""
        if self._fence == "</pre>":
            inner, end, rest = line.partition("</pre>")
            closed = bool(end)
        else:
            bare = line.strip()
            closed = bare.startswith(self._fence) and not bare.strip(self._fence[0])
            inner, rest = "" if closed else line, ""
        if inner or not closed:
            self._code.append(inner)
        if closed:
            whole = "\n".join(self._code)
            if "\n" in whole.strip() or not hollow(whole):
                yield from self._given(Block("code", whole, self._language))
            self._fence, self._code = "", []
            if rest.strip():
                yield from self._prose(rest)

    def _prose(self, given: str) -> Iterator[Block]:
        line = given
        if self._commented or "<!--" in given:
            line, self._commented = _uncommented(given, commented=self._commented)
            if not line.strip():
                return
        opened = _FENCE.match(line[:200])
        if opened:
            self._fence, self._language = opened[1], opened[2].strip()
            return
        head, pre, rest = line.partition("<pre>") if "<pre>" in line else (line, "", "")
        for part in _untagged(head) if "<" in head else (head,):
            yield from self._line(part)
        if pre:
            self._fence, self._language = "</pre>", ""
            yield from self._coded(rest.replace("<code>", "")) if rest else ()

    def _line(self, line: str) -> Iterator[Block]:
        """Take one line without tags and comments."""
        bare = line.strip()
        if not bare:
            yield from self._given(Block("blank", ""))
            return
        if bare.startswith(">"):
            told = bare.lstrip("> ")
            if self._before.endswith((":", "：")) and not _ATTRIBUTED.match(self._before[:300]):
                yield Block("quote", told)
            return
        before, self._before = self._before, bare[-300:]
        if _CLOSED.match(before) and bare.count(" ") < 4:  # noqa: PLR2004 - a name
            return
        if _ATTRIBUTED.match(bare[:300]) or _MAIL.match(bare[:20]) or _DEFINITION.match(line[:300]):
            return
        if traces.logged(line) or (self._last == "trace" and traces.goes_on(line, before)):
            self._last = "trace"
            yield Block("code", line[:LINE_MAX], "trace")
            return
        indented = line.startswith(("    ", "\t")) and self._last in {"blank", "indented"}
        if indented and not _ITEM.match(line[:100]):
            self._last = "indented"
            yield Block("code", line[:LINE_MAX], "indented")
            return
        self._jira = self._jira or (line.startswith("h") and bool(_JIRA.match(line[:5])))
        block = _block(f"1. {bare[2:]}" if self._jira and bare.startswith("# ") else line)
        if block is not None:
            yield from self._given(block)

    def _given(self, block: Block) -> Iterator[Block]:
        if block.kind == "blank" and self._last in {"item", "box", "indented"}:
            yield block  # what is indented after a blank line below an item is the item's
            return
        self._last = block.kind
        yield block


def _block(line: str) -> Block | None:
    """Return what one line is; None where nobody meant anything by it."""
    short = line[: LINE_MAX * 2]
    heading = _HEADING.match(short)
    if heading:
        return Block("heading", heading[1] or heading[2] or "")
    if _RULE.match(short):
        return Block("rule", short.strip())
    box = _BOX.match(short)
    if box:
        text = worded(box[2])
        return None if hollow(text) else Block("box", text, "x" if box[1].strip() else "")
    if short.count("|") > 1 and short.strip().startswith("|"):
        cells = [worded(cell) for cell in short.strip().strip("|").split("|")]
        return None if all(_HOLE.match(cell[:90]) or not cell for cell in cells) else Block("row", " | ".join(cells))
    item = _ITEM.match(short)
    if item:
        text = worded(item[3])
        return None if hollow(text) else Block("item", text, item[2], len(item[1].expandtabs(4)))
    text = worded(short)
    return None if hollow(text) and not _labels(text) else Block("text", text, "", len(short) - len(short.lstrip()))


def _labels(text: str) -> bool:
    """Return whether a line is no hint although it reads like one: it is bold as a whole, or a label with hints."""
    if text.startswith(("**", "__")) and text.rstrip(":： ").endswith(("**", "__")):
        return True
    head, sep, rest = text[:LINE_MAX].partition(":")
    worth = not rest.strip() or not hollow(rest)
    return bool(sep) and len(head) <= LABEL_MAX and worth and bool(section_of(stem_of(head)))


def _uncommented(line: str, *, commented: bool) -> tuple[str, bool]:
    """Take the comments out of a line; returns what is left, and whether a comment goes on after it."""
    kept: list[str] = []
    at = 0
    while True:
        if commented:
            end = line.find("-->", at)
            if end < 0:
                return "".join(kept), True
            at, commented = end + 3, False
        else:
            begin = line.find("<!--", at)
            if begin < 0:
                kept.append(line[at:])
                return "".join(kept), False
            kept.append(line[at:begin])
            at, commented = begin + 4, True


def _untagged(line: str) -> list[str]:
    """Return a line of HTML as lines of Markdown; what is no tag stays."""
    return _TAG.sub(_marked, line).split("\n")


def _marked(tag: re.Match[str]) -> str:
    begin, end = _MARKDOWN.get(tag[2].lower(), ("", ""))
    return end if tag[1] else begin
