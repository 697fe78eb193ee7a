"""Frames of stack traces, by language; whose they are is told by their files and names."""

import re
from typing import Final

# Frames, by language; the first three are printed innermost last.
PYTHON: Final = re.compile(r'^\s*File "(?P<file>[^"]{1,300})", line (?P<line>\d{1,7})')
PYTEST: Final = re.compile(r"^(?P<file>[\w./-]{1,200}\.py):(?P<line>\d{1,7}): (?:in \w|[A-Z]\w{1,60}$)")
_JAVA: Final = re.compile(
    r"^\s*at (?P<name>[\w.$<>/@-]{1,300})\((?P<file>[\w$-]{1,100}\.(?:java|kt|scala|groovy)):(?P<line>\d{1,7})\)"
)
_DOTNET: Final = re.compile(
    r"^\s*(?:at|bei|à|en|in) .{1,300}? in (?P<file>[^\n]{1,300}):(?:line|Zeile|ligne|línea) (?P<line>\d{1,7})"
)
_NODE: Final = re.compile(
    r"^\s*at (?:.{1,200} \()?(?:file://|webpack-internal:///|webpack://[\w-]{0,50}/|"
    r"https?://[^/\s]{1,100}/|async )?(?P<file>[^()\s]{1,300}?):(?P<line>\d{1,7}):\d{1,7}\)?\s*$"
)
_FIREFOX: Final = re.compile(
    r"^\s*[\w.$<>/*\[\]]{0,100}@(?:https?://[^/\s]{1,100}/|"
    r"file://)?(?P<file>[^@\s:]{1,300}):(?P<line>\d{1,7}):\d{1,7}\s*$"
)
_GO: Final = re.compile(r"^\s+(?P<file>[\w./@~+-]{1,300}\.go):(?P<line>\d{1,7})(?:\s\+0x[0-9a-f]{1,16})?\s*$")
_RUST: Final = re.compile(r"^\s*(?:at|-->) (?P<file>[\w./\\@~+<>-]{1,300}\.rs):(?P<line>\d{1,7})")
RUBY: Final = re.compile(
    r"^\s*(?:from |\[\d{1,3}\] |\d{1,3}: from |=> )?(?P<file>[\w./@~+-]{1,300}\.(?:rb|erb|rake)):(?P<line>\d{1,7}):in\b"
)
_PHP: Final = re.compile(r"^\s*#\d{1,3}\s+(?P<file>[^\s(]{1,300}\.php)\((?P<line>\d{1,7})\)")
_GDB: Final = re.compile(
    r"^\s*#\d{1,3}\s+.{1,300}?(?: at | in \S{1,200} |\s)(?P<file>[\w./+~-]{1,200}\.(?:c|cc|cpp|cxx|h|"
    r"hpp|m|mm|swift|rs|zig)):(?P<line>\d{1,7})"
)
_FRAMES: Final = (PYTHON, PYTEST, _JAVA, _DOTNET, _NODE, _FIREFOX, _GO, _RUST, RUBY, _PHP, _GDB)
# Frames of others: runtimes, packages, frameworks.
_FOREIGN: Final = re.compile(
    r"site-packages|dist-packages|node_modules|node:|internal/|/usr/(?:local/)?(?:lib|include|go)|"
    r"/lib/python|[/\\]lib[/\\]ruby|/gems/|/pkg/mod/|/rustc/|\.cargo|"
    r"/vendor/|\.\./sysdeps|/goroot|^<|^src/runtime/|/build/glibc|library/(?:core|std|alloc)|"
    r"/go/src/|jquery|react-dom|vue\.runtime|chunk-vendors|polyfills|zone\.js|"
    r"/nix/store|\.nuget|/_work/1/s|\.\./csu|raise\.c|abort\.c|libc_start|malloc\.c|"
    r"runtime/panic\.go|extensions::|<anonymous>"
)
_FOREIGN_NAMES: Final = (
    "java.",
    "javax.",
    "jdk.",
    "sun.",
    "com.sun.",
    "kotlin.",
    "kotlinx.",
    "scala.",
    "groovy.",
    "org.springframework.",
    "org.apache.",
    "org.hibernate.",
    "android.",
    "androidx.",
    "com.android.",
    "dalvik.",
    "io.netty.",
    "org.eclipse.",
    "org.junit.",
    "com.google.",
    "reactor.",
    "io.ktor.",
    "okhttp3.",
    "retrofit2.",
    "com.zaxxer.",
    "java.base/",
    "jakarta.",
    "com.fasterxml.",
    "org.postgresql.",
    "com.mysql.",
    "org.gradle.",
    "io.reactivex.",
)


def framed(line: str) -> re.Match[str] | None:
    """Return the match of a line that is a frame of a stack trace."""
    if ":" not in line and "line " not in line and "(" not in line:
        return None
    for pattern in _FRAMES:
        match = pattern.match(line)
        if match:
            return match
    return None


def foreign(match: re.Match[str]) -> bool:
    """Return whether a frame is of a runtime, a package or a framework, and not of the reporter's own code."""
    name = match.groupdict().get("name") or ""
    return (
        name.startswith(_FOREIGN_NAMES)
        or bool(_FOREIGN.search(match["file"]))
        or (not name and "." not in match["file"][-9:])
    )
