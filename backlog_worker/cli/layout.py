"""Rows and facts as lines that fit a terminal: ids, codes and numbers are never cut; titles and words are shortened.

With a width of None, as for a pipe, nothing is shortened.
"""

from collections.abc import Sequence

from rich.cells import cell_len, chop_cells, set_cell_size

GAP = 2
LEAST = 12  # with less room than this, a column of words moves to its own line
# Columns of words, the only ones that may be shortened.
WORDS = frozenset({"title", "why", "question", "description", "does", "found", "words"})
NOTHING = frozenset({"", "-"})  # a column with nothing but this is left out
ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"


def lines(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int | None) -> list[str]:
    """Return rows as a table, or, if that is too wide, each row on lines of its own."""
    if not rows:
        return []
    used = [place for place in range(len(columns)) if any(row[place] not in NOTHING for row in rows)]
    columns = [columns[place] for place in used]
    rows = [[row[place] for place in used] for row in rows]
    widths = _widths(columns, rows, width)
    if widths is None:
        return _stacked(columns, rows, width or 0)
    return [_line(cells, widths) for cells in (columns, *rows)]


def facts(pairs: Sequence[tuple[str, str]], width: int | None) -> list[str]:
    """Return labels with their texts; a long text continues below its beginning."""
    known = [(label, text) for label, text in pairs if text]
    room = max((cell_len(label) for label, _ in known), default=0) + GAP
    found = []
    for label, text in known:
        first, *more = [part for line in text.split("\n") for part in wrapped(line, width and width - room)] or [""]
        found.append(set_cell_size(label, room) + first)
        found += [" " * room + part for part in more]
    return [line.rstrip() for line in found]


def wrapped(text: str, width: int | None) -> list[str]:
    """Return a text broken at spaces; a word longer than a line is broken, not cut."""
    if width is None or cell_len(text) <= width:
        return [text]
    found, line = [], ""
    for word in text.split(" "):
        if line and cell_len(line) + 1 + cell_len(word) <= width:
            line = f"{line} {word}"
            continue
        found += [line] if line else []
        *full, line = chop_cells(word, width) or [""]
        found += full
    return [*found, line] if line else found


def shortened(text: str, width: int) -> str:
    """Return a text that fits the width, with an ellipsis if it was longer."""
    return text if cell_len(text) <= width else set_cell_size(text, max(0, width - 1)).rstrip() + ELLIPSIS


def _widths(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int | None) -> list[int] | None:
    """Return the width of each column; None if its ids and numbers alone do not fit."""
    natural = [max(cell_len(row[place]) for row in (columns, *rows)) for place in range(len(columns))]
    words = [place for place, name in enumerate(columns) if name in WORDS]
    if width is None or sum(natural) + GAP * (len(columns) - 1) <= width:
        return natural
    left = width - GAP * (len(columns) - 1) - sum(each for place, each in enumerate(natural) if place not in words)
    if not words or left < sum(min(natural[place], LEAST) for place in words):
        return None
    for number, place in enumerate(sorted(words, key=lambda place: natural[place])):
        natural[place] = min(natural[place], left // (len(words) - number))
        left -= natural[place]
    return natural


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    fitted = [set_cell_size(shortened(cell, room), room) for cell, room in zip(cells, widths, strict=True)]
    return (" " * GAP).join(fitted).rstrip()


def _stacked(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """Return each row on lines of its own: its first value, and below it the others with their names."""
    found = []
    for row in rows:
        found += wrapped(row[0], width)
        line = ""
        for name, cell in zip(columns[1:], row[1:], strict=True):
            if cell in NOTHING:
                continue
            said = f"{name} {cell}".strip()
            if name in WORDS:
                said = shortened(said, width - GAP)
            if line and cell_len(line) + GAP + cell_len(said) <= width - GAP:
                line = f"{line}{' ' * GAP}{said}"
                continue
            found += _indented(line, width)
            line = said
        found += _indented(line, width)
    return found


def _indented(text: str, width: int) -> list[str]:
    return [" " * GAP + part for part in wrapped(text, width - GAP)] if text else []
