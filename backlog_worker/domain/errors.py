"""The exceptions of this package, as one tree.

BacklogError
├── UsageError              the command or its options are wrong
├── InvalidInputError       a value is wrong
│   └── InvalidFileError    a file is wrong: every finding with line, column and a hint
├── NotFoundError           no such thing
├── ConflictError           it changed since you looked
│   └── LostClaimError      another run holds the entry now, or none
├── RefusedError            the policy says no
├── NotAllowedError         the caller may not do that
├── UnauthenticatedError    the caller is unknown
├── UnreachableError        a service does not answer
│   └── FullError           a disk is full: work that needs it waits until there is space
├── BusyError               somebody else holds a lock: the same call may be retried at once
├── StoreError              the database refuses a statement
└── MissingExtraError       a library of an optional group is not installed
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

_WORD = re.compile(r"[\w./-]+")


class BacklogError(Exception):
    """Something went wrong in the backlog."""

    def __init__(self, message: str = "", *, hint: str = "") -> None:
        super().__init__(message or (type(self).__doc__ or "").strip())
        self.hint = hint


class UsageError(BacklogError):
    """The command or its options are wrong."""


class InvalidInputError(BacklogError):
    """A value is wrong."""


class NotFoundError(BacklogError):
    """There is no such thing."""


class ConflictError(BacklogError):
    """It changed since you looked; look again."""


class LostClaimError(ConflictError):
    """The claim is lost: another run holds this entry now, or none."""


class RefusedError(BacklogError):
    """The policy refuses this."""


class NotAllowedError(BacklogError):
    """You may not do that."""


class UnauthenticatedError(BacklogError):
    """A token is missing, unknown, expired or revoked."""


class UnreachableError(BacklogError):
    """A service does not answer."""


class FullError(UnreachableError):
    """A disk is full."""


class BusyError(BacklogError):
    """Somebody else holds a lock; nothing was written, and the call may be retried."""


class StoreError(BacklogError):
    """The database refuses a statement; nothing was written."""


class MissingExtraError(BacklogError):
    """An optional part is not installed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One error in one file: a stable code, the line and column (from 1), the text and the remedy."""

    code: str
    text: str
    file: str = "<text>"
    line: int = 1
    column: int = 1
    source: str = ""
    hint: str = ""
    level: str = "error"

    @property
    def place(self) -> tuple[str, int, int]:
        """Return file, line and column."""
        return self.file, self.line, self.column

    def __str__(self) -> str:
        rows = [f"{self.level}[{self.code}]: {self.text}", f"  --> {self.file}:{self.line}:{self.column}"]
        if self.source:
            word = _WORD.match(self.source, self.column - 1)
            marks = "^" * (len(word.group()) if word else 1)
            rows += [f"{self.line} | {self.source}", f"{' ' * len(str(self.line))} | {' ' * (self.column - 1)}{marks}"]
        if self.hint:
            rows.append(f"  = help: {self.hint}")
        return "\n".join(rows)


class InvalidFileError(InvalidInputError):
    """A file is wrong."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        super().__init__("\n".join(str(finding) for finding in findings))
        self.findings = tuple(findings)
