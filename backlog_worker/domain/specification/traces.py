"""Errors in logs and stack traces: the exception, and the place of the innermost frame that is the reporter's own.

Every line is looked at once, by patterns that are anchored or bounded.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from backlog_worker.domain.specification.frames import PYTEST, PYTHON, RUBY, foreign, framed

_LINE_MAX: Final = 600
_NAME: Final = (
    r"(?:[A-Za-z_][\w$]{0,60}[.:\\]{1,2}){0,10}[A-Z]\w{0,60}?(?:Error|Exception|Warning|Fault|"
    r"Interrupt|Exit|Failure|NotFound|Invalid|Panic)"
)
_RAISED: Final = re.compile(
    rf"^\s{{0,8}}(?:\[[^\[\]]{{1,40}}\]\s)?(?:E\s{{1,7}})?(?:Caused by: |Unhandled exception\. |"
    rf"Unhandled Exception: |Uncaught (?:\(in promise\) )?|Exception in thread \"[^\"]{{1,100}}\" |"
    rf"Error: Uncaught \(in promise\): |---> |FATAL EXCEPTION: \S{{1,60}} |"
    rf"--> )?(?P<error>{_NAME})(?P<code> \[[A-Z_0-9]{{1,40}}\])?(?P<rest>:\s?.{{0,400}}|"
    rf"\s\(.{{0,300}}\):?)?$"
)
_RUBY_RAISED: Final = re.compile(
    r"^(?:\S{1,200}\.(?:rb|erb|"
    r"rake):\d{1,7}:in [`'].{1,100}?'): (?P<words>.{1,300}) \((?P<error>[A-Z][\w:]{1,100})\)\s*$"
)
_RAILS_RAISED: Final = re.compile(
    r"^(?P<error>[A-Z][\w:]{1,80}(?:Error|NotFound|Invalid|Exception)) \((?P<words>.{1,300})\):?\s*$"
)
_PHP_RAISED: Final = re.compile(
    r"(?:PHP )?(?:Fatal error|Parse error|Warning|"
    r"Recoverable fatal error):\s{1,3}(?:Uncaught )?(?P<words>.{1,400}?) in "
    r"(?P<file>[^\s:]{1,300}\.php)(?: on line |:)(?P<line>\d{1,7})"
)
_RUST_PANIC: Final = re.compile(
    r"^thread '.{0,100}?' (?:\(\d{1,12}\) )?panicked at (?:'(?P<words>.{0,300})', "
    r")?(?P<file>[^\s:]{1,300}\.rs):(?P<line>\d{1,7})"
)
_COMPILED: Final = re.compile(
    r"^(?P<file>[\w./\\+~-]{1,200}\.\w{1,5})[:(](?P<line>\d{1,7})(?:[:,]\d{1,7})?\)?:? (?:- "
    r")?(?P<words>(?:fatal )?error(?: [A-Z]{1,4}\d{1,6}| C\d{1,5})?: .{1,300})"
)
_SIGNAL: Final = re.compile(r"^(?:Program|Thread .{1,60}) received signal (?P<words>SIG[A-Z]{2,6}, .{1,60}?)\.?$")
_ASAN: Final = re.compile(r"ERROR: (?P<words>AddressSanitizer: [\w-]{1,60})")
_ASSERTED: Final = re.compile(
    r"(?P<file>[\w./+~-]{1,200}\.(?:c|cc|cpp|cxx|h|"
    r"hpp)):(?P<line>\d{1,7}): .{1,200}(?P<words>Assertion [`'].{1,200}' failed)"
)
_PANIC: Final = re.compile(r"^(?P<words>(?:panic|fatal error): .{1,400}?)(?: \[recovered\])?$")
_COMPILER: Final = re.compile(r"^(?P<words>error(?:\[E\d{4}\])?: .{1,300})$")
_NPM: Final = re.compile(r"^npm (?:ERR!|error) (?P<words>code .{1,100})$")
_TOLD: Final = (_PHP_RAISED, _ASSERTED, _COMPILED, _RUBY_RAISED, _RAILS_RAISED, _SIGNAL, _ASAN, _PANIC, _COMPILER, _NPM)
_LEVEL: Final = re.compile(
    r"^(?P<stamp>[\[(]?\d{2,4}[-/.:]\d{2}[-/.:]\d{2}.{0,40}?)?[\[( ]{0,3}(?P<level>ERROR|FATAL|"
    r"CRITICAL|SEVERE|PANIC|ERR|EMERG|ALERT|E/)\b[\])]?[\s:|-]{0,5}(?P<words>.{3,300})$"
)
_LOGGER: Final = re.compile(r"^(?:\(\w{1,40}\)\s|\[[^\[\]]{1,80}\]\s){1,3}")
_STAMPED: Final = re.compile(
    r"^\s{0,4}[\[(]?(?:\d{4}[-/.]\d{2}[-/.]\d{2}[T ]\d{2}:\d{2}|\d{2}:\d{2}:\d{2}[.,]\d|"
    r"[A-Z][a-z]{2} [ \d]\d \d{2}:\d{2}:\d{2} |\d{2}-\d{2} \d{2}:\d{2}:\d{2})"
)
_HEAD: Final = re.compile(
    r"^\s{0,4}(?:Traceback \(most recent call last\)|goroutine \d{1,7} \[|Stack trace:|Backtrace:|"
    r"stack backtrace:|\[?(?:DEBUG|INFO|WARN|WARNING|ERROR|FATAL|TRACE)\]?[: ]\s?\S|"
    r"Caused by: |Exception in thread |Unhandled exception|Program received signal|npm (?:ERR!|"
    r"error) |thread '.{1,60}' panicked at |PHP (?:Fatal|Parse) error|During handling of the above|"
    r"The above exception was|note: run with `RUST_BACKTRACE|"
    r"    ... \d{1,4} more|--- End of |\s{0,4}\.{3} \d{1,4} more)"
)
_SAID: Final = re.compile(rf"(?<![\w.])(?P<error>{_NAME})(?P<rest>: [^`\"\n]{{1,200}}?(?=[`\"]|\.\s|\.$|$))?(?![\w(])")


@dataclass(slots=True)
class Seen:
    """What a log shows: errors in their order, where they were raised, and lines of the level ERROR."""

    errors: list[str] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    levels: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Trace:
    """A trace that is being read: its innermost own frame so far, and that of the error which it was caused by."""

    innermost: str = ""
    outer: str = ""
    last: str = ""  # Python prints the innermost frame last, and the error after it


def logged(line: str) -> bool:
    """Return whether a line of prose is in fact of a log or a trace."""
    short = line[:_LINE_MAX]
    return bool(_HEAD.match(short) or _STAMPED.match(short) or framed(short) or _RAISED.match(short))


def goes_on(line: str, before: str) -> bool:
    """Return whether a line that follows one of a trace belongs to it."""
    return bool(_RUST_PANIC.match(before)) or (
        line.startswith(("  ", "\t")) and not line.lstrip().startswith(("-", "*"))
    )


def seen(lines: Iterable[str]) -> Seen:
    """Read the lines of logs and code, and return what they show."""
    found, trace, unsaid = Seen(), _Trace(), False
    for line in lines:
        short = line[:_LINE_MAX].rstrip()
        if not short.strip():
            continue
        if unsaid:
            found.errors[-1] = f"{found.errors[-1]}: {short.strip()}"[:300]
            unsaid = False
            continue
        frame = None if _RUBY_RAISED.match(short) else framed(short)
        if frame is None:
            unsaid = _raised(found, trace, short)
        elif not foreign(frame):
            _step(trace, frame)
    _close(found, trace)
    return Seen(_unique(found.errors), _unique(found.places), _unique(found.levels))


def said(text: str) -> list[str]:
    """Return the errors that running text names."""
    return (
        [f"{match['error']}{(match['rest'] or '').rstrip(' .')}" for match in _SAID.finditer(text[:4000])]
        if _names_errors(text)
        else []
    )


def _step(trace: _Trace, frame: re.Match[str]) -> None:
    place = _place(frame["file"], frame["line"])
    if frame.re in {PYTHON, PYTEST}:
        trace.last = place
    elif not trace.innermost:
        trace.innermost = place


def _raised(found: Seen, trace: _Trace, line: str) -> bool:
    """Take a line that says what went wrong; returns whether its words stand on the next line."""
    panic = _RUST_PANIC.match(line)
    if panic:
        _add(found, trace, f"panicked: {panic['words']}" if panic["words"] else "panicked", panic)
        return not panic["words"]
    for pattern in _TOLD:
        match = pattern.search(line)
        if match:
            name = match.groupdict().get("error")
            words = f"{name}: {match['words']}" if name else match["words"]
            _add(found, trace, words, RUBY.match(line) if name else match)
            return False
    match = _RAISED.match(line)
    if match:
        if line.lstrip().startswith("Caused by"):
            trace.innermost, trace.outer = "", trace.innermost or trace.outer
            found.errors.append(_worded(match))
        else:
            _add(found, trace, _worded(match), None)
        return False
    level = _LEVEL.match(line)
    if level:
        inner = _SAID.search(level["words"])
        (found.errors if inner else found.levels).append(
            _worded(inner) if inner else _LOGGER.sub("", level["words"]).strip()
        )
    return False


def _add(found: Seen, trace: _Trace, words: str, placed: re.Match[str] | None) -> None:
    """Note an error; the trace before it ends, and a place on its own line is its innermost."""
    _close(found, trace)
    found.errors.append(words.strip())
    if placed and "file" in placed.groupdict() and not foreign(placed):
        trace.innermost = _place(placed["file"], placed["line"])


def _names_errors(text: str) -> bool:
    return any(end in text for end in ("Error", "Exception", "Fault", "NotFound", "Invalid", "Failure", "Panic"))


def _worded(match: re.Match[str]) -> str:
    rest = (match["rest"] or "").strip()
    rest = f": {rest[1:].rstrip('):')}" if rest.startswith("(") else rest
    return f"{match['error']}{rest}".strip().rstrip(":")[:300]


def _close(found: Seen, trace: _Trace) -> None:
    """Note where the trace so far went wrong, and begin another."""
    place = trace.last or trace.innermost or trace.outer
    if place:
        found.places.append(place)
    trace.last = trace.innermost = trace.outer = ""


def _place(file: str, line: str) -> str:
    return f"{file.removeprefix('./')}:{line}"


def _unique(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(value for value in values if value))
