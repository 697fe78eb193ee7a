"""What an issue says, what it wants and what it leaves open; the same text always gives the same specification."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from backlog_worker.domain.specification import components, cues, duplicates, kinds, surroundings, traces
from backlog_worker.domain.specification.cleaning import Block, blocks, plain, stripped
from backlog_worker.domain.specification.headings import BOTH
from backlog_worker.domain.specification.passages import passages, sentences, steps
from backlog_worker.domain.specification.structure import Part, parts

STEPS_MAX, LISTED_MAX, ERRORS_MAX = 40, 12, 6
WEIGHT_MIN: Final = 24  # letters of a text that says something; a sign of Chinese, Japanese or Korean counts as three
_ASKS: Final = ("?", "？")
_WIDE: Final = "\u2e80"
_FILLED: Final = ("steps", "expected", "actual", "proposal", "acceptance")  # two of these are no empty issue
_TOLD: Final = ("summary", "", "other", "question", "proposal", "motivation", "actual", BOTH, "expected", "context")


@dataclass(frozen=True, slots=True, kw_only=True)
class Specification:
    """What the rules found in one issue; every list keeps the order of the text."""

    title: str
    kind: str
    summary: str
    language: str = "en"
    motivation: list[str] = field(default_factory=list)
    facts: list[str] = field(default_factory=list)
    versions: list[str] = field(default_factory=list)
    environment: list[str] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)
    actual: list[str] = field(default_factory=list)
    components: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    acceptance: list[str] = field(default_factory=list)
    duplicates: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)
    confidence: float = 0.0
    ready: bool = False

    def as_data(self) -> dict[str, Any]:
        """Return the sections as JSON, with how much of a specification they make (0 to 1)."""
        weighty = (self.summary, self.acceptance, self.expected or self.actual, self.components or self.versions)
        return {
            "sections": asdict(self),
            "completeness": sum(bool(part) for part in weighty) / len(weighty),
            "confidence": self.confidence,
            "ready": self.ready,
            "missing": list(self.missing),
        }


@dataclass(slots=True)
class _Text:
    """An issue, divided: its parts, and the running text and code in them."""

    title: str
    parts: list[Part]
    language: str
    told: dict[str, list[str]]
    code: list[str]
    inferred: set[str] = field(default_factory=set)

    def blocks(self, *names: str) -> list[Block]:
        """Return the blocks of all parts with these names."""
        return [block for part in self.parts if part.name in names for block in part.blocks]

    def sentences(self, *names: str) -> list[str]:
        """Return the sentences of all parts with these names, in this order of names."""
        return sentences(text for name in names for text in self.told.get(name, ()))


def analysed(title: str, body: str, *, labels: Sequence[str] = (), similar: Sequence[str] = ()) -> Specification:
    """Analyse an issue; no text makes it fail. *similar* names known issues that it is like."""
    text = _read(" ".join(plain(title).split()), body)
    log = traces.seen(line for part in text.parts for block in part.blocks for line in _log_lines(block))
    errors = _errors(text, log)
    kind, stated = _kind(text, labels, errors)
    expected, actual = _wanted(text, kind), _seen(text, kind)
    told = steps(text.blocks("steps")) or _listed_steps(text, kind)
    rows = surroundings.environment(text.parts)
    summary = _summary(text, told)
    used = {summary, *expected, *actual}
    found = Specification(
        title=text.title,
        kind=kind,
        summary=summary,
        language=text.language,
        motivation=text.sentences("motivation")[:5],
        facts=[each for each in text.sentences("", "summary", "other") if each not in used][:8],
        versions=surroundings.versions(rows, [text.title, *_prose(text)]),
        environment=rows,
        steps=told[:STEPS_MAX],
        expected=expected,
        actual=actual,
        components=components.components(text.title, labels, text.parts, [text.title, *_prose(text)], log.places),
        errors=errors,
        places=log.places[:ERRORS_MAX],
        acceptance=_acceptance(text, kind, expected, errors),
        duplicates=list(dict.fromkeys([*duplicates.said([body]), *similar])),
    )
    return _judged(found, text, stated=stated)


def _judged(found: Specification, text: _Text, *, stated: bool) -> Specification:
    """Add what is missing, what is to be asked, and whether there is enough to work on."""
    missing = ["description"] if _empty(text) else _missing(found, criteria=_criteria(text, found.kind))
    # An error that given steps end with says what is expected: that it is gone.
    needed = {"description", "steps"} | (set() if found.errors and found.steps else {"expected"})
    told = text.sentences(*_TOLD) if found.kind == kinds.QUESTION else []
    return replace(
        found,
        missing=missing,
        questions=[*(cues.QUESTIONS[name] for name in missing), *[each for each in told if each.endswith(_ASKS)][:3]],
        confidence=_confidence(text.inferred, missing, stated=stated),
        ready=bool(found.acceptance)
        and found.kind not in {kinds.QUESTION, kinds.UNCLEAR}
        and not needed & set(missing),
    )


def _read(title: str, body: str) -> _Text:
    found = parts(blocks(body))
    told: dict[str, list[str]] = {}
    for part in found:
        told.setdefault(part.name, []).extend(
            passages([block for block in part.blocks if block.kind not in {"row", "quote"}])
        )
    sample = " ".join([title, *(text for texts in told.values() for text in texts)])[:3000]
    code = [block.text for part in found for block in part.blocks if block.kind == "code"]
    return _Text(title, found, cues.language(sample), told, code)


def _log_lines(block: Block) -> list[str]:
    """Return the lines of a block in which traces are looked for; prose between two of them ends a trace."""
    return block.text.split("\n") if block.kind in {"code", "quote"} else [""]


def _prose(text: _Text) -> list[str]:
    """Return all running text, the most telling parts first."""
    names = list(dict.fromkeys(("", "summary", "steps", "actual", "expected", *_TOLD, *text.told)))
    rows = [block.text for part in text.parts for block in part.blocks if block.kind == "row"]
    return [
        *(passage for name in names if name not in {"logs", "environment"} for passage in text.told.get(name, ())),
        *rows,
    ][:200]


def _errors(text: _Text, log: traces.Seen) -> list[str]:
    found = list(log.errors)
    for passage in [text.title, *(each for name, texts in text.told.items() if name != "expected" for each in texts)][
        :80
    ]:
        for error in traces.said(passage):
            bare = error.split(":")[0]
            if not any(bare in known for known in found):
                found.append(error)
    return (found or log.levels[:3])[:ERRORS_MAX]


def _kind(text: _Text, labels: Sequence[str], errors: Sequence[str]) -> tuple[str, bool]:
    sections = {part.name for part in text.parts if part.blocks}
    chosen = [block.text for block in text.blocks("kind")]
    running = " ".join(text.sentences("", "summary", "other", "proposal", "actual"))[:3000]
    return kinds.kind(
        title=text.title,
        labels=labels,
        sections=sections,
        chosen=chosen,
        cues=cues.cues(
            text.title,
            running,
            text.language,
            boxes=any(block.kind == "box" for block in text.blocks("", "proposal", "other")),
        ),
        erring=bool(errors),
    )


def _wanted(text: _Text, kind: str) -> list[str]:
    """Return what is expected: as its section says, or the sentences that say so."""
    stated = text.told.get("expected", []) or _code_as_text(text.blocks("expected"))
    if BOTH in text.told:
        stated = [*stated, *(each for each in text.sentences(BOTH) if cues.expecting(each, text.language))]
    if stated:
        return stated[:LISTED_MAX]
    if kind == kinds.QUESTION:
        return []
    text.inferred.add("expected")
    if kind == kinds.BUG:
        told = text.sentences("", "summary", "actual", "other", "context")
        return [each for each in told if cues.expecting(each, text.language) and not each.endswith("?")][:4]
    proposed = text.sentences("proposal")
    if proposed:
        text.inferred.discard("expected")
        return proposed[:5]
    told = text.sentences("", "summary", "other", "motivation")
    return [each for each in told if cues.expecting(each, text.language) or cues.wishing(each, text.language)][:4]


def _seen(text: _Text, kind: str) -> list[str]:
    """Return what happens now: as its section says, or the sentences of a bug that say what goes wrong."""
    stated = text.told.get("actual", []) or _code_as_text(text.blocks("actual"))
    if BOTH in text.told:
        stated = [*stated, *(each for each in text.sentences(BOTH) if not cues.expecting(each, text.language))]
    if stated:
        return stated[:LISTED_MAX]
    if kind != kinds.BUG:
        return []
    text.inferred.add("actual")
    told = [
        each
        for each in text.sentences("", "summary", "other")
        if not cues.expecting(each, text.language) or cues.instead(each)
    ]
    listed = {block.text for part in text.parts for block in part.blocks if block.kind == "item"}
    failing = [
        each for each in told if each not in listed and cues.failing(each, text.language) and not each.endswith(_ASKS)
    ]
    described = [
        each
        for each in text.sentences("", "summary")
        if each not in listed
        and not cues.expecting(each, text.language)
        and not surroundings.only(each)
        and not each.endswith((":", "：", "?", "？"))
    ]
    return failing[:4] or described[:2]


def _code_as_text(found: Sequence[Block]) -> list[str]:
    """Return what somebody gave as code where words were asked for."""
    return [
        " ".join(block.text.split())[:300] for block in found if block.kind in {"code", "quote"} and block.text.strip()
    ][:2]


def _listed_steps(text: _Text, kind: str) -> list[str]:
    """Return a numbered list of a bug that stands under no heading, or numbers within its text."""
    if kind != kinds.BUG:
        return []
    found = text.blocks("", "summary", "actual", "other")
    listed = [block for block in found if block.kind == "item" and block.mark.strip("(")[:1].isdigit()]
    if len(listed) > 1:
        return [block.text for block in listed]
    return []


def _acceptance(text: _Text, kind: str, expected: Sequence[str], errors: Sequence[str]) -> list[str]:
    """Take the criteria that the issue gives, or derive them from what it expects; there are none for a question."""
    given = _criteria(text, kind)
    if given or kind in {kinds.QUESTION, kinds.UNCLEAR}:
        return given[:LISTED_MAX]
    derived = [f"Verified: {each}" for each in expected[:5]]
    if kind == kinds.BUG:
        derived += [] if expected else [f'The steps no longer end with "{each[:160]}".' for each in errors[:2]]
        derived += ["A regression test fails before the change and passes after it."] if derived else []
    return derived


def _criteria(text: _Text, kind: str) -> list[str]:
    """Return the criteria that the issue gives: as its section says, or its boxes, which are tasks."""
    given = text.told.get("acceptance", [])
    if given or kind == kinds.BUG:
        return given
    return [stripped(block.text) for block in text.blocks("", "summary", "other", "proposal") if block.kind == "box"]


def _summary(text: _Text, steps: Sequence[str]) -> str:
    """Return the first sentence that says what the issue is about."""
    everything = text.sentences(*_TOLD)
    stated = text.sentences("summary")
    boxes = {block.text for part in text.parts for block in part.blocks if block.kind == "box"}
    told = [each for each in (stated or everything) if each not in boxes]
    whole = [
        each for each in told if not each.endswith((":", "：")) and each not in steps and not surroundings.only(each)
    ]
    return (whole or told or [""])[0][:400]


def _empty(text: _Text) -> bool:
    """Return whether so little is left that nothing can be said."""
    if any(len(code.strip()) >= WEIGHT_MIN for code in text.code):
        return False
    if len([name for name in _FILLED if any(text.told.get(name, ()))]) > 1:
        return False
    weight = 0
    for part in text.parts:
        if part.name in {"environment", "component", "kind", "frequency"}:
            continue
        for block in part.blocks:
            weight += sum(3 if sign >= _WIDE else 1 for sign in block.text[:400] if sign.isalnum())
            if weight >= WEIGHT_MIN:
                return False
    return True


def _missing(found: Specification, *, criteria: Sequence[str]) -> list[str]:
    """Return what a good report of its kind would have said."""
    if found.kind == kinds.QUESTION:
        return []
    expected = ("expected", found.expected or criteria)
    if found.kind != kinds.BUG:
        return [] if expected[1] else ["expected"]
    reproduced = ("steps", found.steps or found.places)
    seen = ("actual", found.actual or found.errors)
    around = ("environment", found.versions or found.environment)
    return [name for name, given in (reproduced, expected, seen, around) if not given]


def _confidence(inferred: set[str], missing: Sequence[str], *, stated: bool) -> float:
    """Return how far the rules may be trusted here: less where they inferred, and where much is missing."""
    lost = 0.15 * (len(inferred) + len(missing)) + (0.4 if "description" in missing else 0)
    return round(max(0.1, (1.0 if stated else 0.9) - lost), 2)
