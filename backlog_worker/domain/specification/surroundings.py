"""Versions and surroundings: a product or a label with its value, never across a line."""

import re
from collections.abc import Iterable
from typing import Final

from backlog_worker.domain.specification.cleaning import hollow, stripped
from backlog_worker.domain.specification.headings import label_of, stem_of
from backlog_worker.domain.specification.structure import Part
from backlog_worker.domain.specification.words import listed

_PRODUCTS: Final = (
    "python|cpython|pypy|node(?:\\.?js)?|npm|yarn|pnpm|bun|deno|chrome|chromium|google chrome|"
    "firefox|mozilla firefox|safari|mobile safari|edge|microsoft edge|opera|brave|"
    "macos|mac os x|os x|excel|powerpoint|outlook|windows server|windows|linux|ubuntu|debian|fedora|centos|rhel|alpine|"
    "arch linux|linux mint|opensuse|android|ios|ipados|watchos|linux kernel|kernel|"
    "postgresql|postgres|mysql|mariadb|sqlite|redis|valkey|mongodb|elasticsearch|kafka|rabbitmq|"
    "nginx|apache|docker compose|docker desktop|docker engine|docker|podman|"
    "kubernetes|k8s|k3s|helm|minikube|kubectl|terraform|ansible|java|jdk|openjdk|kotlin|scala|"
    "gradle|maven|spring boot|go|golang|rustc|rust|cargo|ruby on rails|ruby|"
    "rails|bundler|php|laravel|symfony|composer|wordpress|django|flask|fastapi|celery|pandas|numpy|"
    "scipy|pytorch|tensorflow|scikit-learn|matplotlib|cuda|react native|react|"
    "react-dom|vue|angular cli|angular|svelte|next\\.js|nuxt|vite|webpack|typescript|eslint|"
    "prettier|babel|jest|electron|\\.net core|\\.net framework|\\.net sdk|\\.net|dotnet|"
    "asp\\.net core|c#|swift|xcode|flutter|dart|gcc|g\\+\\+|clang|llvm|msvc|cmake|"
    "visual studio code|visual studio|vs code|vscode|intellij idea|pycharm|git|openssl|glibc|qt|"
    "unity|unreal engine|godot|jenkins|gitlab|grafana|prometheus|home assistant|pip|poetry|uv|conda|"
    "perl|julia|elixir|erlang|haskell|ghc|zig|lua|bash|zsh|powershell|curl"
)
_NUMBER: Final = (
    r"v?\d{1,5}(?:\.(?:\d{1,6}|x))*(?:[-+_.]?(?:alpha|beta|rc|dev|pre|post|lts|snapshot|preview|"
    r"nightly|canary|final|release|b|a|p|"
    r"r)[-.]?\d{0,8}(?:\.\d{1,8})?)?(?:-\d{1,6}(?:\.\d{1,6})?)?[a-z]?(?:\+[\w.]{1,20})?"
)
_KNOWN: Final = re.compile(
    (
        rf"(?<![\w/.@-])(?P<name>{_PRODUCTS})(?:\s?[:=@/]\s?|\s{{1,3}}|\s?\(|==)(?:version\s?:?\s?|"
        rf"ver\.?\s?|v\.\s?|版本\s?)?(?:go(?=\d))?(?P<number>{_NUMBER})(?![\w%]|\.\d)"
    ),
    re.IGNORECASE,
)
_PINNED: Final = re.compile(
    r"(?<![\w./])(?P<name>@?[A-Za-z][\w./-]{1,50})(?:==|"
    r"@)(?P<number>v?\d{1,4}\.\d{1,5}(?:\.\d{1,6})*(?:[-+.]?[A-Za-z]{1,8}\.?\d{0,6})?)\b"
)
_DOTTED: Final = re.compile(
    r"(?<![\w/.:@-])(?P<name>[A-Za-z][A-Za-z0-9_+-]{1,30})"
    r"\s{1,2}v?(?P<number>\d{1,4}\.\d{1,5}\.\d{1,6}(?:[-+.]?(?:alpha|beta|rc|dev|b|"
    r"a)[-.]?\d{0,5})?)\b(?!\.\d)"
)
_VNUMBER: Final = re.compile(
    r"(?<![\w/.@-])(?:(?P<name>[A-Za-z][A-Za-z0-9_+-]{1,30})"
    r"\s{1,2})?v(?P<number>\d{1,4}\.\d{1,5}(?:\.\d{1,6})?(?:[-.]?(?:alpha|beta|rc|"
    r"dev)[-.]?\d{0,5})?)\b(?!\.\d)"
)
_WORDED: Final = re.compile(
    r"(?<!\w)(?P<name>[A-Z][\w.+-]{1,30}\s)?(?:[Vv]ersions?|[Vv]ersión|[Vv]ersão|[Vv]ersione|"
    r"верси[яи]|版本|バージョン|버전)"
    r"\s?:?\s?v?(?P<number>\d{1,4}\.\d{1,5}(?:\.\d{1,6})*(?:[-+.]?[A-Za-z]{1,6}\.?\d{0,5})?)(?![\w]|"
    r"\.\d)"
)
_PRODUCT_WORDS: Final = re.compile(
    (
        r"\b(?:on|and|with|go version|mit|und|auf|et|sur|y|en|e|su|на|и|linux|darwin|amd64|"
        r"arm64)\b|[^\w]|(?:pixel|iphone|ipad|galaxy)\s\w{1,5}"
    ),
    re.IGNORECASE,
)
_TOLD: Final = re.compile(
    r"(?P<name>Linux) [\w.-]{1,60} (?P<number>\d{1,3}\.\d{1,3}\.\d{1,4}(?:-\d{1,4})?)|"
    r"(?P<ansible>ansible) \[core (?P<core>[\d.]{3,12})|"
    r"(?P<flutter>Flutter) \(Channel \w{1,10}, (?P<channel>\d[\d.]{1,12})"
)
_VALUE: Final = re.compile(r"^(?P<name>[^\d:]{0,40}?)\s?\(?(?P<number>v?\d[\w.+-]{0,40})\)?(?:[\s,;(].{0,200})?$")
_AGENT: Final = re.compile(r"\b(Firefox|Edg|OPR|Chrome|Version)/(\d{1,4}(?:\.\d{1,6})*)")
_NOISE: Final = frozenset(
    listed("""
    a|ab|about|address|after|also|an|and|as|at|auf|before|between|both|broke|build|by|chapter|con|da|dalla|das|de|
    depuis|der|desde|di|die|do|em|figure|for|from|http|https|in|installed|ip|is|latest|line|mit|na|nach|new|no|of|
    old|on|only|or|over|port|release|room|run|running|runs|section|seit|server|since|step|table|tag|takes|than|the|
    to|took|tried|under|until|update|updated|upgrade|upgraded|use|using|v|version|versions|von|was|with|worked|
    works|à|до|на|после|с|через
    """)
)
_NAMES: Final = {
    "nodejs": "Node.js",
    "node": "Node",
    "node.js": "Node.js",
    "k8s": "Kubernetes",
    "golang": "Go",
    "python": "Python",
    "postgres": "PostgreSQL",
    "postgresql": "PostgreSQL",
    "dotnet": ".NET",
    "vscode": "VS Code",
    "macos": "macOS",
    "ios": "iOS",
}
_VERSION: Final = frozenset(listed("version|versión|versão|versione|версия|版本|バージョン|버전|versions"))
_DATE: Final = re.compile(r"^(?:\d{1,2}\.\d{1,2}\.\d{4}|\d{4}[.-]\d{2}[.-]\d{2})$")
_BARE: Final = frozenset({"browser", "version", "os", "device", "platform", "node", "npm", "operating system"})
_GENERAL: Final = frozenset(
    listed("""
    environment|umgebung|environnement|entorno|ambiente|окружение|среда|环境|環境|환경|versions|setup|desktop|meta|system|
    system info|your environment|env
    """)
)
ROWS_MAX, FOUND_MAX = 24, 16


def environment(parts: Iterable[Part]) -> list[str]:
    """Return the rows of what a reporter says of their surroundings, each as "label: value" where it has a label."""
    rows: list[str] = []
    for part in parts:
        if part.name != "environment":
            continue
        texts = [block.text for block in part.blocks if block.kind in {"text", "item", "box", "row"}]
        texts += [line for block in part.blocks if block.kind == "code" for line in block.text.split("\n")[:ROWS_MAX]]
        for text in texts:
            rows += _rows(
                part.title, text, alone=len(texts) == 1 and not any(block.kind == "box" for block in part.blocks)
            )
        if len(rows) > ROWS_MAX:
            break
    return list(dict.fromkeys(rows))[:ROWS_MAX]


def versions(rows: Iterable[str], prose: Iterable[str]) -> list[str]:
    """Return products and labels with the number of their version, from rows of surroundings and running text."""
    found: dict[str, str] = {}
    for row in rows:
        label, _, value = row.partition(": ") if ": " in row else ("", "", row)
        for name, number in _in_row(label, value):
            found.setdefault(f"{name} {number}".casefold(), f"{name} {number}")
    for text in prose:
        for name, number in _in_text(text):
            if not any(number in known.split() for known in found):
                found.setdefault(f"{name} {number}".casefold(), f"{name} {number}")
        if len(found) > FOUND_MAX:
            break
    return list(found.values())[:FOUND_MAX]


def only(sentence: str) -> bool:
    """Return whether a sentence says nothing but versions."""
    if len(sentence) > 200 or not any(sign.isdigit() for sign in sentence):  # noqa: PLR2004 - longer says more
        return False
    return not _PRODUCT_WORDS.sub("", _DOTTED.sub("", _KNOWN.sub("", sentence)))


def _rows(title: str, text: str, *, alone: bool) -> list[str]:
    text = text.strip().strip("|").strip()
    if hollow(text) or text.startswith("$ ") or text.endswith(":") or stem_of(text) in _BARE or len(text) > 300:  # noqa: PLR2004 - no row of surroundings is so long
        return []
    split = label_of(text)
    cells = text.split(" | ")
    if len(cells) == 2:  # noqa: PLR2004 - a label and its value
        split = cells[0], cells[1], False
    if split is not None and split[1]:
        return (
            []
            if hollow(split[1]) or stem_of(split[0]) in {"yes", "no"}
            else [f"{stripped(split[0])}: {stripped_value(split[1])}"]
        )
    if split is not None:
        return []
    named = (
        alone
        and _telling(title)
        and not (stem_of(title) in _VERSION and text[:1].isalpha() and text[:1].lower() != "v")
    )
    return [f"{_telling(title)}: {stripped_value(text)}"] if named else [stripped_value(text)]


def _telling(title: str) -> str:
    """Return a heading that labels one value; "Environment" and its kind label nothing."""
    short = stripped(title.partition("(")[0]).strip()
    stem = stem_of(short)
    about = {"information", "info", "output", "details", "stage"} & set(stem.split())
    return "" if stem in _GENERAL or about else _shortened(short)


def _shortened(label: str) -> str:
    bare = stem_of(label)
    for begins in ("what version of ", "which version of ", "what is your ", "which ", "what ", "your "):
        if bare.startswith(begins):
            rest = label.strip()[len(begins) :]
            for end in (
                " are you using",
                " do you use",
                " is affected",
                " are affected",
                " has the issue",
                " did you use",
                " are you running",
                " did this happen in",
                "?",
            ):
                rest = rest.split(end)[0]
            return f"{rest} version".replace("version version", "version") if "version of" in begins else rest
    return label.rstrip("?： :")


def stripped_value(text: str) -> str:
    """Return a value without marks around it."""
    return text.strip().strip("*`_").strip()


def _in_row(label: str, value: str) -> list[tuple[str, str]]:
    if "Mozilla/" in value:
        return _agent(value)
    found = [(match["name"], match["number"]) for match in _KNOWN.finditer(value)]
    found += [
        (match["name"] or match["ansible"] or match["flutter"], match["number"] or match["core"] or match["channel"])
        for match in _TOLD.finditer(value)
    ]
    found += [
        (match["name"], match["number"])
        for match in _PINNED.finditer(value)
        if match["number"] not in {number for _, number in found}
    ]
    found += [
        (match["name"], match["number"])
        for match in _DOTTED.finditer(value)
        if match["name"].casefold() not in _NOISE and not any(seen.startswith(match["number"]) for _, seen in found)
    ]
    if not found and value.count(" ") > 3 and not label:  # noqa: PLR2004 - a sentence
        return _in_text(value)
    if not found:
        match = _VALUE.match(value)
        name = (match["name"].strip(" (-") if match else "").removesuffix("version").strip()
        product = _product(label)
        if match and (label or name) and ("." in match["number"] or _KNOWN.search(f"{product} 1") or "ersion" in label):
            named = name and name.casefold() not in _NOISE and "ersion" not in label
            found = [(name if named else product, match["number"])]
    return [_pair(name, number) for name, number in found]


def _product(label: str) -> str:
    bare = label.partition("(")[0].strip()
    for end in (
        " version",
        " Version",
        " Release",
        "-Version",
        "version",
        " версия",
        "版本",
        "のバージョン",
        "バージョン",
        " 버전",
    ):
        if bare.endswith(end) and len(bare) > len(end):
            return bare[: -len(end)].strip(" :-") or bare
    for begin in (
        "Version of ",
        "version of ",
        "Версия ",
        "Version de ",
        "Versión de ",
        "Versão do ",
        "Versione di ",
        "Version von ",
    ):
        if bare.startswith(begin):
            return bare[len(begin) :].strip()
    return bare


def _in_text(text: str) -> list[tuple[str, str]]:
    if not any(sign.isdigit() for sign in text[:4000]):
        return []
    if "Mozilla/" in text:
        return _agent(text)
    short = text[:4000]
    found = {(match.start("number"), match["name"], match["number"]) for match in _KNOWN.finditer(short)}
    taken = {at for at, _, _ in found}
    for pattern in (_PINNED, _DOTTED, _WORDED, _VNUMBER):
        for match in pattern.finditer(short):
            name = (match["name"] or "").strip()
            at = match.start("number")
            if at in taken or at - 1 in taken or _DATE.match(match["number"]):
                continue
            noise = name.casefold() in _NOISE
            if pattern is _DOTTED and noise:
                continue
            taken.add(at)
            found.add((at, "Version" if noise or not name else name, match["number"]))
    return [_pair(name, number) for _, name, number in sorted(found)]


def _agent(text: str) -> list[tuple[str, str]]:
    found = {match[1]: match[2] for match in _AGENT.finditer(text)}
    for name, shown in (
        ("Edg", "Edge"),
        ("OPR", "Opera"),
        ("Firefox", "Firefox"),
        ("Chrome", "Chrome"),
        ("Version", "Safari"),
    ):
        if name in found:
            return [(shown, found[name])]
    return []


def _pair(name: str, number: str) -> tuple[str, str]:
    bare = " ".join(name.split()).strip(":-( ")
    return _NAMES.get(bare.casefold(), bare) or "Version", number.lstrip("vV").rstrip(".,;)")
