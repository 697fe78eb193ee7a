"""Renderers of an account: text of 80 columns, Markdown and HTML. Foreign text is escaped and never active."""

import html as markup
import textwrap
from collections.abc import Iterable, Sequence

from backlog_worker.domain.account import Section
from backlog_worker.domain.legible import one_line
from backlog_worker.domain.markdown import escaped
from backlog_worker.domain.masking import masked

WIDTH = 80
INDENT = "  "
LAST, MANY = 20, 12  # the minimum width of the last column; from this number of rows a table is kept side by side
STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1f24}"
    "h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2rem;border-bottom:1px solid #d0d7de}"
    "table{border-collapse:collapse;width:100%}th,td{text-align:left;vertical-align:top;padding:.2rem .8rem .2rem 0}"
    "th{font-weight:600;border-bottom:1px solid #d0d7de}td{overflow-wrap:anywhere}"
    "pre{background:#f6f8fa;padding:.6rem;overflow-x:auto;white-space:pre-wrap}"
)
POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def text(sections: Sequence[Section], *, width: int = WIDTH) -> str:
    """Render an account for a terminal; a table that is too wide is printed with one line per cell."""
    lines: list[str] = []
    for number, section in enumerate(sections):
        title = clean(section.title)
        lines += [*([""] if number else []), *textwrap.wrap(title, width), "=" * min(width, len(title))]
        for sentence in section.lead:
            lines += _wrapped(clean(sentence), width)
        lines += _table(section, width)
        for name, block in section.blocks:
            lines += [
                clean(name),
                *(line for each in block.split("\n") for line in _wrapped(INDENT + clean(each), width)),
            ]
    return "\n".join(lines) + "\n"


def markdown(sections: Sequence[Section]) -> str:
    """Render an account as Markdown; foreign text cannot contain mentions, links or HTML."""
    lines: list[str] = []
    for number, section in enumerate(sections):
        lines += [f"{'##' if number else '#'} {escaped(section.title)}", ""]
        lines += [line for sentence in section.lead for line in (f"- {escaped(sentence)}",)]
        lines += [""] if section.lead else []
        if section.rows:
            lines += [_bar(section.columns), _bar("---" for _ in section.columns)]
            lines += [*(_bar(escaped(cell) for cell in row) for row in section.rows), ""]
        for name, block in section.blocks:
            fenced = "\n".join(clean(line) for line in block.split("\n")).replace("~~~~", "~ ~ ~ ~")
            lines += [f"**{escaped(name)}**", "", "~~~~json", fenced, "~~~~", ""]
    return "\n".join(lines)


def html(sections: Sequence[Section]) -> str:
    """Render an account as one HTML page without scripts, images or links; a browser loads nothing else."""
    title = _marked(sections[0].title if sections else "")
    parts = [
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
        f"<title>{title}</title><style>{STYLE}</style></head><body>",
    ]
    for number, section in enumerate(sections):
        head = "h2" if number else "h1"
        parts.append(f"<{head}>{_marked(section.title)}</{head}>")
        parts += [f"<p>{_marked(sentence)}</p>" for sentence in section.lead]
        if section.rows:
            heads = "".join(f"<th>{_marked(name)}</th>" for name in section.columns)
            rows = ("".join(f"<td>{_marked(cell)}</td>" for cell in row) for row in section.rows)
            parts.append(f"<table><tr>{heads}</tr>" + "".join(f"<tr>{row}</tr>" for row in rows) + "</table>")
        parts += [f"<p>{_marked(name)}</p><pre>{_marked(block, lines=True)}</pre>" for name, block in section.blocks]
    return "\n".join([*parts, "</body></html>", ""])


def clean(value: str) -> str:
    """Return text without secrets and without control sequences for a terminal or a reader."""
    return one_line(masked(value))


def _table(section: Section, width: int) -> list[str]:
    if not section.rows:
        return []
    rows = [tuple(clean(cell) for cell in row) for row in section.rows]
    named = any(section.columns)
    listed = [section.columns, *rows] if named else rows
    widths = [max(len(row[at]) for row in listed) for at in range(len(section.columns))]
    if sum(widths) + 2 * (len(widths) - 1) <= width:
        return [
            INDENT.join(cell.ljust(wide) for cell, wide in zip(row, widths, strict=True)).rstrip() for row in listed
        ]
    if not named:
        return [line for row in rows for line in _wrapped(f"{row[0]:<{widths[0]}}  {row[1]}", width, widths[0] + 2)]
    room = width - sum(widths[:-1]) - 2 * (len(widths) - 1)
    longest = max(len(word) for row in rows for word in (*row[-1].split(), ""))
    if room >= LAST and (longest <= room or len(rows) > MANY):
        return [line for row in listed for line in _hanging(row, widths, width)]
    return [line for number, row in enumerate(rows) for line in _stacked(section.columns, row, width, first=not number)]


def _hanging(row: Sequence[str], widths: Sequence[int], width: int) -> list[str]:
    """Put the last cell beside the others, wrapped onto as many lines as needed."""
    head = INDENT.join(cell.ljust(wide) for cell, wide in zip(row[:-1], widths, strict=False)) + INDENT
    return _wrapped(head + row[-1], width, len(head))


def _stacked(columns: Sequence[str], row: Sequence[str], width: int, *, first: bool) -> list[str]:
    wide = max(len(name) for name in columns) + len(INDENT)
    lines = [] if first else [""]
    for name, cell in zip(columns, row, strict=True):
        if cell:
            lines += _wrapped(f"{name:<{wide}}{cell}", width, wide)
    return lines


def _wrapped(line: str, width: int, hang: int = len(INDENT)) -> list[str]:
    return textwrap.wrap(line, width, subsequent_indent=" " * hang, drop_whitespace=True, break_on_hyphens=False) or [
        ""
    ]


def _bar(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _marked(value: str, *, lines: bool = False) -> str:
    shown = "\n".join(clean(line) for line in value.split("\n")) if lines else clean(value)
    return markup.escape(shown, quote=True)
