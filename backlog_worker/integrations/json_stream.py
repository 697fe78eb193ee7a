"""JSON of any length, one record at a time: arrays, concatenated arrays, lines; a broken record affects no other."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

from backlog_worker.domain.errors import InvalidInputError
from backlog_worker.domain.masking import cut

CHUNK = 1 << 16
RECORD_MAX = 4 * 1024 * 1024
_SPACE = re.compile(r"[ \t\r\n,]*")
_NEAR = 16  # a word, a number or an escape that may continue in the next chunk


@dataclass(frozen=True, slots=True)
class CutError(Exception):
    """The text ends early or continues with invalid JSON: nothing after this position can be read."""

    text: str
    line: int
    column: int


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        name = next(name for name in names if names.count(name) > 1)
        message = f"the name {cut(name, 60)!r} is used twice"
        raise ValueError(message)
    return found


DECODER = json.JSONDecoder(object_pairs_hook=_once)
_FAULTS = (ValueError, RecursionError)  # a JSONDecodeError is a ValueError; so is a number of 5000 digits


@dataclass(slots=True)
class Stream:
    """The text of a file, of which only the current record is kept in memory."""

    file: IO[str]
    text: str = ""
    start: int = 0
    line: int = 1
    column: int = 1
    ended: bool = field(default=False)

    def values(self) -> Iterator[tuple[int, Any]]:
        """Yield each record with the line on which it begins, or an InvalidInputError; raises CutError.

        Arrays are flattened, also nested ones, as `gh api --paginate` and `--slurp` write them.
        """
        depth = 0
        while self._ahead():
            first = self.text[self.start]
            if first == "[" and depth <= 1:
                depth += 1
                self._take(1)
            elif first == "]" and depth:
                depth -= 1
                self._take(1)
            elif first in "]}:":
                text = f"not JSON: {first!r} was found where a record was expected"
                raise CutError(text, self.line, self.column)
            else:
                yield self.line, self._value()
        if depth:
            text = "the array does not end"
            raise CutError(text, self.line, self.column)

    def _ahead(self) -> bool:
        """Read up to the next non-space character; returns whether there is one."""
        while True:
            match = _SPACE.match(self.text, self.start)
            self._take((match.end() if match else self.start) - self.start)
            if self.start < len(self.text) or not self._more():
                return self.start < len(self.text)

    def _value(self) -> Any:  # noqa: ANN401 - any JSON
        while True:
            try:
                value, end = DECODER.raw_decode(self.text, self.start)
            except _FAULTS as error:
                if self._goes_on(error) and self._more():
                    continue
                return self._passed_over(error)
            if end == len(self.text) and self.text[end - 1] not in "}]" and self._more():
                continue  # a number or a word may continue
            self._take(end - self.start)
            return value

    def _goes_on(self, error: Exception) -> bool:
        """Return whether an error may only mean that the record is not yet read completely."""
        if not isinstance(error, json.JSONDecodeError) or len(self.text) - self.start > RECORD_MAX:
            return False
        return error.msg.startswith("Unterminated") or error.pos >= len(self.text) - _NEAR

    def _passed_over(self, error: Exception) -> InvalidInputError:
        """Skip one invalid record up to the following comma; raises CutError if it has no end."""
        line, column = self.line, self.column
        if isinstance(error, json.JSONDecodeError):
            line, column = self._at(error.pos)
        words = f"not JSON at line {line}, column {column}: {_worded(error)}"
        if len(self.text) - self.start > RECORD_MAX:
            words = f"a record may have {RECORD_MAX} characters, this one has more"
        depth, quoted, escaped = 0, False, False
        while self.start < len(self.text) or self._more():
            for at in range(self.start, len(self.text)):
                each = self.text[at]
                if quoted:
                    quoted, escaped = escaped or each != '"', not escaped and each == "\\"
                elif each == '"':
                    quoted = True
                elif each in "[{":
                    depth += 1
                elif each in "]}":
                    depth -= 1
                if not quoted and (depth < 0 or (depth == 0 and each in ",]}")):
                    self._take(at - self.start + (depth == 0))
                    return InvalidInputError(words)
            self._take(len(self.text) - self.start)
        text = f"not JSON: {_worded(error)}; the record does not end"
        raise CutError(text, line, column)

    def _at(self, position: int) -> tuple[int, int]:
        lines = self.text.count("\n", self.start, position)
        column = (
            position - self.text.rfind("\n", self.start, position) if lines else self.column + position - self.start
        )
        return self.line + lines, column

    def _take(self, length: int) -> None:
        if length:
            self.line, self.column = self._at(self.start + length)
            self.start += length

    def _more(self) -> bool:
        more = "" if self.ended else self.file.read(CHUNK)
        self.ended = not more
        self.text, self.start = self.text[self.start :] + more, 0
        return bool(more)


def lines(file: IO[str]) -> Iterator[tuple[int, Any]]:
    """Yield the value of each line with its number, or an InvalidInputError; empty lines are skipped."""
    number = 0
    while line := file.readline(RECORD_MAX + 1):
        number += 1
        if len(line) > RECORD_MAX:
            while line and not line.endswith("\n"):
                line = file.readline(RECORD_MAX + 1)
            yield number, InvalidInputError(f"a record may have {RECORD_MAX} characters, this one has more")
        elif line.strip():
            try:
                yield number, DECODER.decode(line)
            except _FAULTS as error:
                column = getattr(error, "colno", 1)
                yield number, InvalidInputError(f"not JSON at line {number}, column {column}: {_worded(error)}")


def _worded(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deep"
    return cut(error.msg if isinstance(error, json.JSONDecodeError) else str(error), 200)
