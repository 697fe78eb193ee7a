"""The text of an issue to a technical specification, by rules: what it says, what it wants, what it leaves open."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from backlog_worker.domain.writeback import escaped

BODY_MAX = 60_000
SENTENCE_MIN = 9
_FENCE = re.compile(r"^(```|~~~)[^\n]*\n(.*?)^\1\s*$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^\s{0,3}(?:#{1,6}\s+(.+?)\s*#*|\*\*(.+?)\*\*:?|([A-Z][A-Za-z ]{2,40}):)\s*$")
_LIST = re.compile(r"^\s*(?:[-*+]|\d{1,3}[.)])\s+(?:\[[ xX]\]\s+)?(.+)$")
_VERSION = re.compile(
    r"\b(?P<name>[A-Z][A-Za-z.+-]{1,20}|python|node|postgres|redis|npm|pip)\s+(?:version\s+)?v?(?P<number>\d+(?:\.\d+){0,3})\b"
    r"|\bv(?P<bare>\d+\.\d+(?:\.\d+)?)\b"
)
_PATH = re.compile(
    r"(?<![\w/])(?:[\w.-]+/)+[\w.-]+\.[a-z]{1,5}\b|\b[\w-]+\.(?:py|ts|js|go|rs|java|yml|yaml|json|toml|sql)\b"
)
_SYMBOL = re.compile(r"`([A-Za-z_][\w.]{2,60}(?:\(\))?)`")
_ROUTE = re.compile(r"(?:GET|POST|PUT|PATCH|DELETE)\s+/[\w/{}:.-]*|(?<![\w.])/(?:api|v\d)/[\w/{}:.-]+")
_ERROR = re.compile(r"^.*\b(?:[A-Z]\w*(?:Error|Exception)|panic|fatal|ERROR|Traceback)\b.*$", re.MULTILINE)
_EXPECTED = re.compile(r"\b(?:should|expect(?:ed)?|must|ought to)\b", re.IGNORECASE)
_ACTUAL = re.compile(r"\b(?:instead|but|actual(?:ly)?|fails?|crash(?:es)?|hangs?|broken|wrong|never)\b", re.IGNORECASE)
_WISH = re.compile(r"\b(?:would (?:like|love|be)|please add|support for|feature|allow|want)\b", re.IGNORECASE)
_SECTIONS = {
    "steps": ("steps to reproduce", "steps", "how to reproduce", "reproduction", "to reproduce", "repro"),
    "expected": ("expected", "expected behaviour", "expected behavior", "expected result", "what i want"),
    "actual": ("actual", "actual behaviour", "actual behavior", "actual result", "what happens", "current behaviour"),
    "acceptance": ("acceptance criteria", "done when", "definition of done", "acceptance"),
    "environment": ("environment", "versions", "setup", "version"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Specification:
    """What the rules found in one issue; every list keeps the order of the text."""

    title: str
    kind: str
    summary: str
    facts: list[str] = field(default_factory=list)
    versions: list[str] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)
    actual: list[str] = field(default_factory=list)
    components: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    acceptance: list[str] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)

    def as_data(self) -> dict[str, Any]:
        """Return the sections as JSON, with how much of a specification they make (0 to 1)."""
        weighty = (self.summary, self.acceptance, self.expected or self.actual, self.components or self.versions)
        return {"sections": asdict(self), "completeness": sum(bool(part) for part in weighty) / len(weighty)}


def analysed(title: str, body: str, *, labels: Sequence[str] = ()) -> Specification:
    """Analyse an issue; the same text always gives the same specification, and no text makes it fail."""
    text = body[:BODY_MAX]
    code = "\n".join(match.group(2) for match in _FENCE.finditer(text))
    prose = _FENCE.sub("\n", text)
    parts = _parts(prose)
    sentences = _sentences(parts[""])
    expected = parts["expected"] or [each for each in sentences if _EXPECTED.search(each)][:5]
    actual = parts["actual"] or [each for each in sentences if _ACTUAL.search(each) and each not in expected][:5]
    kind = _kind(title, prose, labels, code)
    errors = _unique(match.strip()[:200] for match in _ERROR.findall(code or text))[:5]
    found = Specification(
        title=title,
        kind=kind,
        summary=(sentences or [*expected, *actual, ""])[0][:400],
        facts=[each for each in sentences[1:] if each not in expected and each not in actual][:8],
        versions=_versions(f"{prose}\n{' '.join(parts['environment'])}"),
        steps=parts["steps"][:20],
        expected=expected[:5],
        actual=actual[:5],
        components=_unique([*_PATH.findall(text), *_ROUTE.findall(text), *_SYMBOL.findall(prose)])[:12],
        errors=errors,
        acceptance=_acceptance(kind, parts["acceptance"], expected, errors),
    )
    return replace(found, questions=_questions(found, body))


def markdown(found: Specification, *, url: str = "") -> str:
    """Render a specification; every line that came from the issue is escaped."""
    lines = [f"# {escaped(found.title)}", "", f"Kind: {found.kind}" + (f" · Source: <{url}>" if url else ""), ""]
    lines += [escaped(found.summary) or "The issue says nothing beyond its title.", ""]
    for name in ("facts", "versions", "steps", "expected", "actual", "errors", "components", "acceptance", "questions"):
        items: list[str] = getattr(found, name)
        if items:
            bullet = "1." if name == "steps" else "- [ ]" if name == "acceptance" else "-"
            lines += [f"## {_TITLES[name]}", "", *(f"{bullet} {escaped(item)}" for item in items), ""]
    return "\n".join(lines)


_TITLES = {
    "facts": "What is known",
    "versions": "Versions",
    "steps": "Steps to reproduce",
    "expected": "Expected behaviour",
    "actual": "Actual behaviour",
    "errors": "Errors seen",
    "components": "Affected components",
    "acceptance": "Acceptance criteria",
    "questions": "Open questions",
}


def _parts(prose: str) -> dict[str, list[str]]:
    """Split prose under headings; what stands under no known heading is under the empty one."""
    parts: dict[str, list[str]] = {name: [] for name in ("", *_SECTIONS)}
    current = ""
    for line in prose.splitlines():
        heading = _HEADING.match(line)
        if heading:
            name = next(group for group in heading.groups() if group).strip(" :*").lower()
            current = next((key for key, names in _SECTIONS.items() if name in names), "")
            continue
        item = _LIST.match(line)
        content = (item.group(1) if item else line).strip()
        if content:
            parts[current].append(content[:400])
    return parts


def _sentences(lines: Sequence[str]) -> list[str]:
    joined = " ".join(lines)
    return _unique(each.strip() for each in re.split(r"(?<=[.!?])\s+", joined) if len(each.strip()) >= SENTENCE_MIN)[
        :40
    ]


def _versions(text: str) -> list[str]:
    found = (
        f"{match['name']} {match['number']}" if match["name"] else f"v{match['bare']}"
        for match in _VERSION.finditer(text[:BODY_MAX])
    )
    return _unique(each for each in found if each.split()[0].lower() not in {"step", "line", "the", "after", "in"})[:8]


def _kind(title: str, prose: str, labels: Sequence[str], code: str) -> str:
    words = {label.lower() for label in labels}
    if words & {"bug", "defect", "regression"} or _ERROR.search(code):
        return "bug"
    if words & {"feature", "enhancement"} or _WISH.search(f"{title}\n{prose[:2000]}"):
        return "feature"
    return "bug" if _ACTUAL.search(f"{title}\n{prose[:2000]}") else "task"


def _acceptance(kind: str, given: list[str], expected: list[str], errors: list[str]) -> list[str]:
    """Take the criteria that the issue gives, or derive them from what it expects and what went wrong."""
    if given:
        return given[:12]
    derived = [f"Verified: {each}" for each in expected[:4]]
    derived += [f'The steps no longer end with "{each[:120]}".' for each in errors[:2]]
    if derived and kind == "bug":
        derived.append("A regression test fails before the change and passes after it.")
    return derived


def _questions(found: Specification, body: str) -> list[str]:
    asked = []
    if not body.strip():
        asked.append("The issue has no description: what is to be done, and why?")
    if found.kind == "bug" and not found.steps:
        asked.append("How can it be reproduced?")
    if found.kind == "bug" and not found.versions:
        asked.append("In which versions and environment does it happen?")
    if not found.expected:
        asked.append("What is the expected behaviour?")
    if not found.components:
        asked.append("Which components are affected?")
    if not found.acceptance:
        asked.append("How will we know that it is done?")
    asked += [each for each in found.facts if each.endswith("?")][:3]
    return asked


def _unique(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))
