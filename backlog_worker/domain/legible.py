"""Words of strangers, made fit to be kept: texts without half characters, errors and values in a few words.

Nothing here raises, whatever an object says of itself.
"""

import re

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_UNKEPT = re.compile("[\x00\ud800-\udfff]")


def legible(text: str) -> str:
    """Return a text that every database and terminal takes: NUL and lone surrogates are replaced."""
    return _UNKEPT.sub(REPLACEMENT, text)


def error_words(error: BaseException) -> str:
    """Return the type and the message of an error; one whose message cannot be read has its type alone."""
    name = legible(type(error).__name__)
    message = message_of(error)
    return f"{name}: {message}" if message else name


def message_of(error: BaseException) -> str:
    """Return the message of an error, or nothing where it has none that can be read."""
    try:
        return legible(str.__str__(str(error)))
    except BaseException:  # noqa: BLE001 - the error's own code: whatever it raises, the error is named by its type
        return ""


def shown(value: object, most: int = 60) -> str:
    """Return a value of JSON as it is, or the name of its type, short and on one line."""
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
    """Name the type of a value, with its article."""
    name = legible(type(value).__name__)[:60]
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"
