"""--json and --json-lines after the verb: `entry list --json id,title,score`, as in `gh`."""

import re
from collections.abc import Sequence
from typing import Any

EPILOG = "Every verb takes --json, --json FIELDS such as --json id,title, and --json-lines."
_FIELDS = re.compile(r"[a-z][a-z0-9_]*(,[a-z][a-z0-9_]*)*,?")
_VALUED = frozenset({"--dir", "--env"})


def in_front(arguments: Sequence[str]) -> list[str]:
    """Return arguments with --json, its fields and --json-lines moved before the verb, where they are global
    options.
    """
    front: list[str] = []
    rest: list[str] = []
    left = list(arguments)
    verb = False
    while left:
        each = left.pop(0)
        if each == "--":
            return [*front, *rest, each, *left]
        name, equals, value = each.partition("=")
        if name == "--json":
            if not equals and verb and left and _FIELDS.fullmatch(left[0]):
                value = left.pop(0)
            front += ["--json", *(["--json-fields", value] if value else [])]
            continue
        if each == "--json-lines":
            front.append(each)
            continue
        rest.append(each)
        if each in _VALUED and left:
            rest.append(left.pop(0))
        verb = verb or not each.startswith("-")
    return [*front, *rest]


def mentioned(command: Any) -> None:  # noqa: ANN401 - a command or a group of the library, which has no type for both
    """Mention these options in the help of every verb below a command."""
    for each in getattr(command, "commands", {}).values():
        mentioned(each)
    if not hasattr(command, "commands"):
        command.epilog = EPILOG
