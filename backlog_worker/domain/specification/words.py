"""Tables of words: alternatives between bars, on as many lines as their readers like."""

import re


def joined(table: str) -> str:
    """Return a table of alternatives without the line feeds that divide it for its readers."""
    return re.sub(r"\n\s*", "", table.strip("\n "))


def listed(table: str) -> tuple[str, ...]:
    """Return the alternatives of a table."""
    return tuple(joined(table).split("|"))
