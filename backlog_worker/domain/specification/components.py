"""Which parts of the software an issue is about: paths of code, routes, functions, prefixes of titles, labels."""

import re
from collections.abc import Iterable, Sequence
from typing import Final

from backlog_worker.domain.specification.cleaning import ADDRESS, hollow, stripped
from backlog_worker.domain.specification.structure import Part
from backlog_worker.domain.specification.words import listed

_ENDS: Final = (
    "py|pyi|ts|tsx|js|jsx|mjs|cjs|go|rs|java|kt|kts|scala|groovy|rb|erb|php|cs|vb|fs|c|cc|cpp|cxx|h|"
    "hpp|m|mm|swift|dart|ex|exs|erl|hs|clj|lua|pl|pm|sh|bash|ps1|"
    "sql|html|css|scss|less|vue|svelte|yml|yaml|json|toml|ini|cfg|conf|xml|proto|tf|md|rst|ipynb|gradle|cmake|zig|jl|r"
)
_PATH: Final = re.compile(
    rf"(?<![\w/.@~:\\-])(?:\.{{0,2}}/)?(?P<path>(?:[\w.@-]{{1,80}}[/\\]){{0,12}}[\w@-]"
    rf"[\w.@-]{{0,80}}\.(?:{_ENDS}))(?![\w/@-]|\.\w)"
)
_ROUTE: Final = re.compile(
    r"\b(?:GET|POST|PUT|PATCH|DELETE|HEAD|OPTIONS)\s/[\w/{}:.*<>-]{0,200}|(?<![\w./:])/(?:api|"
    r"v\d{1,2})/[\w/{}:.-]{1,200}"
)
_CALL: Final = re.compile(r"`([A-Za-z_$][\w.$:#]{1,80})\(\)?`?|`([A-Za-z_$][\w.$:#]{1,80})\([^`]{0,80}\)`")
_BRACKET: Final = re.compile(r"^\s?[\[【(]\s?([^\[\]【】()]{1,40}?)\s?[\]】)]\s?[:：-]?\s?")
_SCOPED: Final = re.compile(
    r"^\s?(?:feat|fix|docs|chore|refactor|perf|test|build|ci|style|bug|feature)\s?\(([^()]{2,40})\)!?\s?:",
    re.IGNORECASE,
)
_PREFIX: Final = re.compile(r"^\s?([A-Za-z@][\w@/.+-]{1,30}(?:\s[\w/.+-]{1,20})?)\s?:\s(?=\S)")
_LABEL: Final = re.compile(
    (
        r"^(?:area|component|comp|module|package|pkg|subsystem|service|scope|feature|sig|"
        r"integration|plugin|lib|crate|a|c|f)\s?[:/-]\s?(.{1,60})$"
    ),
    re.IGNORECASE,
)
_KINDS: Final = frozenset(
    listed("""
    actual|add|amélioration|aw|blocker|bogue|bug|bug report|bug]|build|chore|ci|crash|critical|demande|discussion|
    doc|docs|documentation|domanda|draft|dúvida|enhancement|epic|erreur|erro|error|errore|expected|feat|feature|
    feature proposal|feature request|fehler|fix|fonctionnalité|frage|fw|fwd|good first issue|help|hilfe|how to|
    howto|idea|issue|major|mejora|melhoria|meta|miglioramento|minor|note|p0|p1|p2|p3|perf|pergunta|pregunta|problem|
    proposal|question|re|refactor|regression|request|rfc|richiesta|rv|security|solicitud|spike|steps|story|style|
    support|task|test|tests|todo|tr|tracking|tracking issue|umbrella|unable|urgent|verbesserung|warning|wg|wip|
    wunsch|баг|вопрос|ошибка|предложение|ドキュメント|バグ|不具合|功能|建议|提案|提问|
    文档|缺陷|要望|質問|问题|需求|기능 요청|문서|버그|제안|질문
    """)
)
_FOREIGN: Final = (
    "node_modules/",
    "site-packages/",
    "dist-packages/",
    "/usr/",
    "/lib/python",
    "vendor/",
    "~/",
    ".cargo/",
    "pkg/mod/",
    "jdk/",
)
FOUND_MAX: Final = 12


def components(
    title: str, labels: Sequence[str], parts: Sequence[Part], texts: Iterable[str], places: Sequence[str]
) -> list[str]:
    """Return what is affected, the most certain first: prefixes and labels, form fields, places of errors, text."""
    found = [*_titled(title), *_labelled(labels)]
    found += [each for part in parts if part.name == "component" for each in _named(part)]
    found += [place.rpartition(":")[0].replace("\\", "/") for place in places]
    kept = {name.casefold(): name for name in reversed(found)}
    for text in texts:
        for name in _in_text(text):
            if not any(name.casefold() == known or known.endswith(f"/{name.casefold()}") for known in kept):
                kept.setdefault(name.casefold(), name)
        if len(kept) >= FOUND_MAX:
            break
    order = {name.casefold(): at for at, name in reversed(list(enumerate(found)))}
    return [kept[key] for key in sorted(kept, key=lambda key: order.get(key, len(order)))][:FOUND_MAX]


def _titled(title: str) -> list[str]:
    found, rest = [], title
    for _ in range(3):
        match = _SCOPED.match(rest) or _BRACKET.match(rest)
        if not match:
            break
        if match[1].strip().casefold() not in _KINDS and not match[1].strip().isdigit() and len(match[1].encode()) > 1:
            found.append(match[1].strip())
        rest = rest[match.end() :]
    match = _PREFIX.match(rest)
    if (
        match
        and not found
        and match[1].casefold() not in _KINDS
        and not match[1].casefold().endswith(("error", "exception"))
        and match[1].count(" ") == 0
    ):
        found.append(match[1])
    return found


def _labelled(labels: Iterable[str]) -> list[str]:
    return [
        match[1].strip()
        for label in labels
        if (match := _LABEL.match(label.strip())) and match[1].strip().casefold() not in _KINDS
    ]


def _named(part: Part) -> list[str]:
    """Return what a field such as "Affected area" names."""
    names: list[str] = []
    for block in part.blocks:
        if block.kind in {"text", "item", "box", "row"} and len(block.text) <= 80:  # noqa: PLR2004 - longer is a sentence
            names += [stripped(each) for each in re.split(r"\s?[,;、，]\s?", block.text) if not hollow(each)]
    return names


def _in_text(text: str) -> list[str]:
    short = ADDRESS.sub(" ", text[:4000]) if "://" in text or "www." in text else text[:4000]
    found = []
    if "." in short:
        for match in _PATH.finditer(short):
            path = match["path"].replace("\\", "/")
            if ("/" in path or _telling(path)) and not any(part in path for part in _FOREIGN):
                found.append((match.start(), path))
    if "/" in short:
        found += [(match.start(), match[0].rstrip(".:")) for match in _ROUTE.finditer(short)]
    if "`" in short and "(" in short:
        found += [(match.start(), f"{match[1] or match[2]}()") for match in _CALL.finditer(short)]
    return [name for _, name in sorted(found)]


def _telling(name: str) -> bool:
    """Return whether a file without a folder is one of the code: not "Node.js", "e.g." or "package.json"."""
    return (
        name.casefold()
        not in {
            "node.js",
            "next.js",
            "vue.js",
            "nuxt.js",
            "three.js",
            "d3.js",
            "express.js",
            "react.js",
            "ember.js",
            "readme.md",
            "asp.net",
        }
        and len(name.split(".", maxsplit=1)[0]) > 1
    )
