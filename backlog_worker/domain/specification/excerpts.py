"""Text and code that is short enough to be read, and that stays where it is put."""

PASSAGE_MAX, CODE_MAX = 600, 2000


def cut(text: str) -> str:
    """Return a passage that is short enough to be read; what is left out is marked."""
    most = CODE_MAX + PASSAGE_MAX if "\n" in text else PASSAGE_MAX
    return text if len(text) <= most else f"{text[: most - 1].rstrip()}…"


def fence(code: str, language: str = "") -> str:
    """Return code between fences that the code itself does not hold."""
    marks = "```"
    while marks in code:
        marks += "`"
    word = language if language.isalnum() and language not in {"trace", "indented"} else ""
    return f"{marks}{word}\n{code.strip(chr(10))}\n{marks}"
