"""The parts of an issue: what stands under which heading, however the heading is written."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from backlog_worker.domain.specification import passages
from backlog_worker.domain.specification.cleaning import Block, hollow, promised, stripped
from backlog_worker.domain.specification.headings import EXACT, LABEL_BLANKS, bold_of, label_of, section_of, stem_of
from backlog_worker.domain.specification.words import listed

# Lines that are headings though nothing marks them as such; all in capitals, any known word is one.
PLAIN: Final = frozenset(
    listed("""
    acceptance criteria|actual|actual behavior|actual behaviour|actual result|actual results|additional context|
    additional information|akzeptanzkriterien|ambiente|beschreibung|comportamento atteso|comportamento attuale|
    comportamento atual|comportamento esperado|comportamiento actual|comportamiento esperado|comportement actuel|
    comportement attendu|comportement observé|criteri di accettazione|criterios de aceptación|
    critères d'acceptation|critérios de aceitação|current behavior|current behaviour|definition of done|
    descripción|description|descrizione|descrição|entorno|environment|environnement|erwartetes verhalten|expected|
    expected behavior|expected behaviour|expected result|expected results|how to reproduce|log|logs|motivation|
    pasos|pasos para reproducir|passaggi|passaggi per riprodurre|passos|passos para reproduzir|problem|proposal|
    proposed solution|question|repro steps|reproduction|reproduction steps|resultado actual|resultado esperado|
    resumen|resumo|résumé|schritte|schritte zum reproduzieren|screenshots|stack trace|stacktrace|steps|
    steps to reproduce|summary|tatsächliches verhalten|to reproduce|traceback|umgebung|use case|version|versions|
    what happened|what happens|what i did|what i expected|what i got|zusammenfassung|étapes|
    étapes de reproduction|étapes pour reproduire|критерии приёмки|
    ожидаемое поведение|ожидаемый результат|окружение|описание|
    фактический результат|фактическое поведение|шаги|
    шаги воспроизведения|шаги для воспроизведения|再現手順|受け入れ条件|
    复现步骤|实际结果|实际行为|実際の動作|実際の結果|手順|描述|期待される動作|期待する動作|期待結果|期望行为|概要|
    步骤|环境|環境|説明|重现步骤|问题描述|预期结果|预期行为|验收标准|기대 결과|기대 동작|설명|실제 결과|실제 동작|
    예상 결과|예상 동작|요약|인수 조건|재현 단계|재현 방법|재현 절차|환경
    """)
)
SINGLE: Final = frozenset({"environment", "component", "kind"})  # a label of these is about its own line only
SPARE: Final = frozenset(
    {"severity", "priority", "milestone", "assignee", "reporter", "labels"}
)  # of the tracker, not of the issue
ROWS: Final = frozenset({"environment", "steps", "component", "logs", "summary", "context"})  # are rows of surroundings
WORDS_MAX: Final = 12  # of a bold line that is a heading
SIGNS: Final = frozenset("■□◆◇●○◎▼▲★☆")  # before headings of Japanese, Chinese and Korean texts
HEADING_MAX, BLANKS_MAX = 100, 2  # signs of a heading that nothing marks; blanks in a label before a colon


@dataclass(slots=True)
class Part:
    """What stands under one heading."""

    name: str
    title: str = ""
    blocks: list[Block] = field(default_factory=list)


def parts(blocks: Sequence[Block]) -> list[Part]:
    """Divide blocks by their headings; the first part is what stands before any."""
    reader = _Parts()
    for at, block in enumerate(blocks):
        following = blocks[at + 1].kind if at + 1 < len(blocks) else ""
        before = blocks[at - 1].kind if at else "blank"
        reader.take(block, before, following)
    return [
        part
        for whole in map(_unboxed, reader.parts)
        for part in _divided(whole)
        if part.blocks or part.name in {"", "checklist"}
    ]


class _Parts:
    def __init__(self) -> None:
        self.parts = [Part("")]

    def take(self, block: Block, before: str, following: str) -> None:
        """Add a block to the part that it belongs to, or begin another with it."""
        if block.kind == "rule":
            return
        title = _titled(block, before, following)
        if title is not None:
            self._begin(section_of(stem_of(title)) or "other", title)
            return
        if block.kind in {"text", "item"} and self._labelled(block):
            return
        if block.kind == "row" and self._rowed(block):
            return
        self.parts[-1].blocks.append(block)

    def _begin(self, name: str, title: str, rest: str = "") -> None:
        given = [Block("text", rest)] if rest and not hollow(rest) else []
        listed, after = passages.split_steps(rest) if name == "steps" and given else ([], "")
        if listed:
            given = [Block("item", step, "1.") for step in listed]
            given += [Block("blank", ""), Block("text", after)] if after else []
        if self.parts[-1].name == name and not self.parts[-1].blocks:
            self.parts.pop()
        self.parts.append(Part(name, stripped(title), given))

    def _labelled(self, block: Block) -> bool:
        """Take a line that begins with a label, such as "Expected: it loads"."""
        split = label_of(block.text)
        if split is None:
            return False
        label, rest, bold = split
        stem = stem_of(label)
        name = section_of(stem, strict=True)
        if stem in SPARE and rest:
            return True
        if not self._begins(name, stem, block, bold=bold, rest=rest):
            return self.parts[-1].name == name == "environment" and not rest
        if name in SINGLE and rest:
            if not hollow(rest):
                self.parts[-1:] = [Part(name, label, [Block("text", rest)]), self.parts[-1]]
        else:
            self._begin(name, label, rest)
        return True

    def _begins(self, name: str, stem: str, block: Block, *, bold: bool, rest: str) -> bool:
        """Return whether a label begins a section of its own where it stands."""
        within = self.parts[-1].name
        most = BLANKS_MAX if rest and stem.isascii() else LABEL_BLANKS
        wordy = stem.count(" ") > most and stem not in EXACT
        if name in {"", "checklist"} or (wordy and not bold):
            return False
        if within == "environment":
            return name not in ROWS
        if within == "steps" and block.kind == "item":
            return name in {"expected", "actual", "environment"}
        return bold or not (name == "context" and rest and within in {"", "summary"})

    def _rowed(self, block: Block) -> bool:
        """Take a row of a table with two cells, of which the first is a label."""
        label, sep, rest = block.text.partition(" | ")
        name = section_of(stem_of(label), strict=True)
        if (
            not sep
            or " | " in rest
            or name in {"", "checklist"}
            or hollow(rest)
            or section_of(stem_of(rest), strict=True)
        ):
            return False
        self.parts[-1:] = [Part(name, label, [Block("text", rest)]), self.parts[-1]]
        return True


def _titled(block: Block, before: str, following: str) -> str | None:
    """Return the words of a block that is a heading."""
    if block.kind == "heading":
        return block.text
    if block.kind != "text":
        return None
    bold = bold_of(block.text)
    if bold is not None:
        asks = bold.endswith(("?", "？"))
        return bold if bold.count(" ") < WORDS_MAX and (asks or section_of(stem_of(bold))) else None
    return block.text if len(block.text) <= HEADING_MAX and _unmarked(block.text, before, following) else None


def _unmarked(text: str, before: str, following: str) -> bool:
    """Return whether a line is a heading that nothing marks: underlined, all in capitals, or well known."""
    if following == "rule" and before in {"blank", "heading"}:
        return True
    stem = stem_of(text)
    if label_rest(text) or text.endswith((".", "。")):
        return False
    shouted = (text.isupper() or text[:1] in SIGNS) and stem.count(" ") <= LABEL_BLANKS and bool(section_of(stem))
    return shouted or (stem in PLAIN and following not in {"", "heading"})


def label_rest(text: str) -> str:
    """Return what a line says after its label."""
    split = label_of(text)
    return split[1] if split else ""


def _unboxed(part: Part) -> Part:
    """Leave of the boxes what they say: ticked options, tasks and criteria; a promise of the reporter says nothing."""
    if part.name == "checklist":
        return Part(
            "", "", [block for block in part.blocks if block.kind in {"text", "code"} and not promised(block.text)]
        )
    if not any(block.kind == "box" for block in part.blocks):
        return part
    if part.name == "acceptance":
        return part
    kept = [block for block in part.blocks if block.kind != "box" or not promised(block.text)]
    options = part.name in {"kind", "component", "environment", "frequency", "context", "other", "logs", "steps"}
    if options and part.name != "steps":
        kept = [block for block in kept if block.kind != "box" or block.mark]
    return Part(part.name, part.title, kept)


def _divided(part: Part) -> list[Part]:
    """Part what stands below a list of steps, or below pasted code, from the section that ended with it."""
    last = -1
    for at, block in enumerate(part.blocks):
        if (block.kind in {"item", "box"} and part.name == "steps") or (
            block.kind == "code" and part.name in {"logs", "expected", "actual", "steps"}
        ):
            last = at
    if last < 0 or (
        part.name in {"expected", "actual"} and not any(block.kind in {"text", "item"} for block in part.blocks[:last])
    ):
        return [part]
    for at in range(last + 1, len(part.blocks)):
        if (
            part.blocks[at].kind == "text"
            and not part.blocks[at].depth
            and (part.name != "steps" or part.blocks[at - 1].kind in {"blank", "code"})
        ):
            return [Part(part.name, part.title, part.blocks[:at]), Part("", "", part.blocks[at:])]
    return [part]
