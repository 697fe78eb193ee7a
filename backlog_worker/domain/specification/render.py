"""A specification as Markdown; whatever came from an issue is escaped, and code stays between its fences."""

from collections.abc import Iterable, Sequence
from typing import Final

from backlog_worker.domain.markdown import escaped
from backlog_worker.domain.masking import masked
from backlog_worker.domain.specification.analysis import Specification
from backlog_worker.domain.specification.excerpts import fence

_TITLES: Final = (
    ("motivation", "Why"),
    ("facts", "What is known"),
    ("steps", "Steps to reproduce"),
    ("expected", "Expected behaviour"),
    ("actual", "Actual behaviour"),
    ("errors", "Errors found"),
    ("places", "Where they were raised"),
    ("versions", "Versions"),
    ("environment", "Environment"),
    ("components", "Affected components"),
    ("acceptance", "Acceptance criteria"),
    ("duplicates", "Possible duplicates"),
    ("questions", "Open questions"),
)


def markdown(found: Specification, *, url: str = "") -> str:
    """Render a specification with its source, kind and confidence."""
    head = [
        f"Kind: {found.kind}",
        f"Confidence: {found.confidence:.0%}",
        "ready" if found.ready else "needs more information",
    ]
    source = _source(url)
    lines = [f"# {escaped(found.title) or 'Without a title'}", "", " · ".join([*head, *source]), ""]
    lines += [_quoted(found.summary) or "The issue says nothing beyond its title.", ""]
    for name, title in _TITLES:
        items: Sequence[str] = getattr(found, name)
        if items:
            lines += [f"## {title}", "", *_listed(name, items), ""]
    return "\n".join(lines)


def _source(url: str) -> list[str]:
    safe = (
        url.startswith(("https://", "http://")) and url.isprintable() and not any(sign in url for sign in " <>\"'`\\")
    )
    return [f"Source: <{masked(url)}>"] if safe else [f"Source: {escaped(url)}"] if url.strip() else []


def _listed(name: str, items: Iterable[str]) -> list[str]:
    lines = []
    for number, item in enumerate(items, start=1):
        bullet = f"{number}." if name == "steps" else "- [ ]" if name == "acceptance" else "-"
        text, _, code = item.partition("\n")
        if text.startswith("```"):
            text, code = "Run this:", item
        lines.append(f"{bullet} {_quoted(text)}")
        lines += [f"   {line}" for line in _code(code)] if code else []
    return lines


def _code(text: str) -> list[str]:
    """Return what follows a step: nested items escaped, and code in a fence that it cannot end."""
    lines: list[str] = []
    code: list[str] = []
    opened = ""
    for line in masked(text).split("\n"):
        bare = line.strip()
        if opened and bare == opened:
            lines += fence("\n".join(code)).split("\n")
            opened, code = "", []
        elif opened:
            code.append(
                "".join(sign if sign.isprintable() or sign == "\t" else "\N{REPLACEMENT CHARACTER}" for sign in line)
            )
        elif bare.startswith("```"):
            opened = bare[: len(bare) - len(bare.lstrip("`"))]
        elif bare:
            lines.append(f"- {_quoted(bare.removeprefix('- '))}")
    return lines + (fence("\n".join(code)).split("\n") if code else [])


def _quoted(text: str) -> str:
    """Escape a line that could otherwise begin a heading, a list or a rule."""
    shown = escaped(text)
    return f"\\{shown}" if shown[:1] in {"-", "+", "=", "~", "#"} else shown
