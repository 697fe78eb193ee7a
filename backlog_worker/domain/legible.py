"""Words of strangers, made fit to be kept and to be looked at.

Nothing here raises, even for an object whose own methods raise.
"""

import re
import unicodedata

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
BREAK = "\N{ZERO WIDTH SPACE}"
_UNKEPT = re.compile("[\x00\ud800-\udfff]")


def legible(text: str) -> str:
    """Return a text that every database and terminal accepts: NUL and lone surrogates are replaced."""
    return _UNKEPT.sub(REPLACEMENT, text)


def visible(text: str, kept: str = "\n\t") -> str:
    """Return a text of which a terminal obeys nothing: control, format and bidi characters are replaced.

    A zero-width space stays: documents of ours break mentions with it, and it moves nothing.
    """
    return "".join(c if c.isprintable() or c in kept or c == BREAK else _instead(c) for c in text)


def one_line(text: str) -> str:
    """Return a text on one line, of which a terminal obeys nothing and in which nothing is hidden."""
    return "".join(c if c.isprintable() else " " if c in "\n\t" else _instead(c) for c in text)


def _instead(character: str) -> str:
    return " " if unicodedata.category(character) == "Zs" else REPLACEMENT


def error_words(error: BaseException) -> str:
    """Return the type and the message of an error; only the type if the message cannot be read."""
    name = legible(type(error).__name__)
    message = message_of(error)
    return f"{name}: {message}" if message else name


def message_of(error: BaseException) -> str:
    """Return the message of an error, or "" if it cannot be read."""
    try:
        return legible(str.__str__(str(error)))
    except BaseException:  # noqa: BLE001 - the error's own code: whatever it raises, the error is named by its type
        return ""


def shown(value: object, most: int = 60) -> str:
    """Return a JSON value, or the name of its type, shortened and on one line."""
    kind = type(value)
    if issubclass(kind, str):
        text = legible(str.__str__(value))[: most + 1]
        return text[:most] if text.isidentifier() else ascii(text)[:most]
    if kind in {int, float, bool, type(None)}:
        try:
            return repr(value)[:most]
        except ValueError:  # an integer of thousands of digits
            return "a number of thousands of digits"
    return kind_of(value)


def kind_of(value: object) -> str:
    """Return the name of a value's type, with its article."""
    name = legible(type(value).__name__)[:60]
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"
