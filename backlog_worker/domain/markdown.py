"""Texts that others wrote, as parts of the Markdown of records, reports and notices; they stay texts.

Nothing of such a text becomes markup: no HTML, link, picture, mention, reference, cell, heading, list or code span.
"""

import re

from backlog_worker.domain.legible import BREAK, one_line
from backlog_worker.domain.masking import masked

MOST = 2000  # characters of one text; the whole text stands in the JSON beside it
_SIGNS = re.compile(r"[\\`*_\[\]|~$]")
_LEADING = re.compile(r"^(\d*)([-+=.)])")  # what would begin a list, or make a heading of the line before
_ADDRESS = re.compile(r"(?<=[A-Za-z0-9])://|(?<=www)\.", re.IGNORECASE)
_REFERENCE = re.compile(r"\b(GH)-(?=\d)", re.IGNORECASE)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._:/+-]*")
_IN_COMMENT = re.compile(r"[^A-Za-z0-9_.:/]+")


def escaped(text: object) -> str:
    """Return a text of somebody else for a line or a cell."""
    found = " ".join(one_line(masked(str(text))).split())
    found = found if len(found) <= MOST else f"{found[:MOST]} (cut)"
    found = found.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    found = _LEADING.sub(r"\1\\\2", _SIGNS.sub(r"\\\g<0>", found))
    found = _REFERENCE.sub(rf"\1{BREAK}-", _ADDRESS.sub(rf"{BREAK}\g<0>", found))
    return found.replace("@", f"@{BREAK}").replace("#", f"#{BREAK}")


def code(name: object) -> str:
    """Return a name in a code span; one that could end the span or the cell is escaped as a text."""
    found = masked(str(name))
    return f"`{found}`" if _NAME.fullmatch(found) else escaped(found)


def comment(name: object) -> str:
    """Return a name inside of an HTML comment, which it cannot end."""
    return _IN_COMMENT.sub("-", masked(str(name)))
