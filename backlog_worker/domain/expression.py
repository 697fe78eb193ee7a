"""CEL: compile against typed names, evaluate without side effects, and fail closed.

This module hides three traps of the library: an error is a value and is truthy; reading a null on Python 3.11 loses a
reference to None; integers and decimals do not mix.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from cel_expr_python import cel
from cel_expr_python.ext import ext_math, ext_strings

from backlog_worker.domain.errors import InvalidInputError
from backlog_worker.domain.masking import cut
from backlog_worker.domain.wire import fault_in_text

SOURCE_MAX = 4096
# CEL limits nested loops by a budget of its own. An expression that searches a list or a text for every item of another
# list could still run very long, so it refuses lists and texts beyond these lengths.
LIST_MAX = 500
TEXT_MAX = 64 * 1024

Names = tuple[tuple[str, str], ...]  # name and type, such as ("entry.age_days", "double")
_TYPES = {
    "double": cel.Type.DOUBLE,
    "string": cel.Type.STRING,
    "bool": cel.Type.BOOL,
    "texts": cel.Type.List(cel.Type.STRING),
    "any": cel.Type.DYN,
}
_ERROR = re.compile(r"<input>:(\d+):(\d+): (.*)")
_NAME = re.compile(r"\bentry\.([a-z_]+)")
# An unterminated literal extends to the end of the text, so the scan stays linear.
LITERAL = re.compile(r"'(?:[^'\\]|\\.)*+\\?(?:'|\Z)|\"(?:[^\"\\]|\\.)*+\\?(?:\"|\Z)")
_LOOP = re.compile(r"\.\s*(?:all|exists|exists_one|filter|map)\s*\(")
_SEARCH = re.compile(
    r"\bin\b|\.\s*(?:contains|matches|indexOf|lastIndexOf|replace|split|startsWith|endsWith|join)\s*\("
)


class ExpressionError(InvalidInputError):
    """The expression cannot be compiled or evaluated."""

    def __init__(self, message: str, column: int = 0) -> None:
        super().__init__(message)
        self.column = column


@dataclass(frozen=True, slots=True)
class Expression:
    """A compiled CEL text; the same names and values give the same result."""

    source: str
    program: Any

    @property
    def searches_in_loops(self) -> bool:
        """Return whether its running time may grow with the square of its input."""
        text = LITERAL.sub("''", self.source)
        return bool(_LOOP.search(text) and _SEARCH.search(text))

    def number(self, values: Mapping[str, Any]) -> float:
        """Evaluate to a finite number; raises ExpressionError for any other result."""
        result = self._result(values)
        if result.type() not in (cel.Type.DOUBLE, cel.Type.INT):
            raise ExpressionError(_said(result, "a number"))
        value = float(result.value())
        if not math.isfinite(value):
            message = f"{self.source!r} gave {value}, which is not a finite number"
            raise ExpressionError(message)
        return value

    def truth(self, values: Mapping[str, Any]) -> bool:
        """Evaluate to a boolean; raises ExpressionError for any other result."""
        result = self._result(values)
        if result.type() != cel.Type.BOOL:
            raise ExpressionError(_said(result, "true or false"))
        return result.value() is True

    def scalar(self, values: Mapping[str, Any]) -> str | float | bool:
        """Evaluate to a text, a number or a boolean; raises ExpressionError for any other result."""
        result = self._result(values)
        if result.type() not in (cel.Type.BOOL, cel.Type.STRING, cel.Type.DOUBLE, cel.Type.INT):
            raise ExpressionError(_said(result, "a text, a number or a boolean"))
        value: str | float | bool = result.value()
        return value

    def _result(self, values: Mapping[str, Any]) -> Any:  # noqa: ANN401 - the library's own value type
        if self.searches_in_loops and (words := _too_long(values, "")):
            message = f"{self.source!r} searches for every item of a list, and {words}"
            raise ExpressionError(message)
        try:
            return self.program.eval(data=values)
        except (RuntimeError, TypeError, ValueError) as error:
            message = f"{self.source!r} cannot be evaluated: {_first_line(error)}"
            raise ExpressionError(message) from None


def compiled(source: str, names: Names, wants: str = "bool") -> Expression:
    """Compile *source*; raises ExpressionError with the column (from 0) of an unknown name or a wrong type."""
    if fault := fault_in_text(source):
        message = f"it is {fault}"
        raise ExpressionError(message)
    if len(source.encode()) > SOURCE_MAX:
        message = f"an expression may have at most {SOURCE_MAX} bytes, this one has {len(source.encode())}"
        raise ExpressionError(message)
    return _compiled(source, names, wants)


def read_fields(source: str) -> frozenset[str]:
    """Return the entry's fields that *source* reads: `entry.X` outside of string literals."""
    return frozenset(_NAME.findall(LITERAL.sub("''", source)))


def plain(value: object) -> Any:  # noqa: ANN401 - free JSON in, free JSON out
    """Prepare JSON for CEL: numbers become decimals, and nulls are removed.

    Raises ExpressionError for a number that is too large for a decimal.
    """
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int | float):
        return _decimal(value)
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items() if each is not None}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value if each is not None]
    return str(value)


def _decimal(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        message = "a number is larger than an expression can hold"
        raise ExpressionError(message) from None


def _too_long(value: object, path: str) -> str:
    """Return which list or text is too long for an expression to compare, or ""."""
    name = path.removeprefix(".") or "a value"
    if isinstance(value, str):
        return f"{name} has {len(value)} characters, at most {TEXT_MAX} go there" if len(value) > TEXT_MAX else ""
    if isinstance(value, Mapping):
        return next(filter(None, (_too_long(each, f"{path}.{key}") for key, each in value.items())), "")
    if isinstance(value, list):
        if len(value) > LIST_MAX:
            return f"{name} has {len(value)} items, at most {LIST_MAX} go there"
        return next(filter(None, (_too_long(each, f"{path}[]") for each in value)), "")
    return ""


@lru_cache(maxsize=64)
def _environment(names: Names) -> Any:  # noqa: ANN401 - the library's own environment type
    variables = {name: _TYPES[kind] for name, kind in names}
    return cel.NewEnv(variables=variables, extensions=[ext_math.ExtMath(), ext_strings.ExtStrings()])


@lru_cache(maxsize=4096)
def _compiled(source: str, names: Names, wants: str) -> Expression:
    try:
        program = _environment(names).compile(source)
    except RuntimeError as error:
        match = _ERROR.search(str(error))
        column = _begins(source, int(match.group(2)) - 1, match.group(3)) if match else 0
        raise ExpressionError(match.group(3) if match else _first_line(error), column) from None
    kinds = {"bool": (cel.Type.BOOL, cel.Type.DYN), "number": (cel.Type.DOUBLE, cel.Type.INT, cel.Type.DYN)}.get(wants)
    if kinds is not None and program.return_type() not in kinds:
        message = f"gives {program.return_type().name()}, wanted {wants}"
        raise ExpressionError(message)
    return Expression(source, program)


def _begins(source: str, column: int, message: str) -> int:
    """Return where an unknown name begins: CEL reports the position of the dot or the bracket after it."""
    unknown = re.search(r"undeclared reference to '([A-Za-z_]\w*)", message)
    found = source.rfind(unknown[1], 0, column + 1) if unknown else -1
    return found if found >= 0 else column


def _said(result: Any, wanted: str) -> str:  # noqa: ANN401 - the library's own value type
    if result.type() == cel.Type.ERROR:
        return _first_line(result.value()) if hasattr(result, "value") else "evaluation failed"
    return f"wanted {wanted}, got {result.type().name()}"


def _first_line(error: object) -> str:
    return cut((str(error).strip().splitlines() or ["evaluation failed"])[0], 300)
