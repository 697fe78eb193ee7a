"""What kind of an issue one is: a bug, a feature, a question, documentation, a task; or unclear."""

import re
from collections.abc import Collection, Sequence
from typing import Final

from backlog_worker.domain.specification import words

BUG, FEATURE, QUESTION, DOCUMENTATION, TASK, UNCLEAR = "bug", "feature", "question", "documentation", "task", "unclear"
_LABELS: Final = (
    (BUG, "bug|bugs|defect|regression|crash|fehler|bogue|bogues|error|erro|errore|ошибка|баг|缺陷|バグ|不具合|버그"),
    (
        DOCUMENTATION,
        (
            "docs|doc|documentation|area/docs|dokumentation|documentación|documentação|documentazione|"
            "документация|文档|ドキュメント|문서"
        ),
    ),
    (QUESTION, "question|support|help|discussion|q&a|frage|pregunta|pergunta|domanda|вопрос|提问|質問|질문"),
    (
        FEATURE,
        (
            "feature|enhancement|feature request|feature-request|improvement|idea|proposal|rfc|wunsch|"
            "mejora|melhoria|улучшение|功能|需求|要望|機能|기능"
        ),
    ),
    (
        TASK,
        (
            "task|chore|maintenance|refactor|refactoring|tech debt|technical debt|cleanup|dependencies|ci|"
            "build|aufgabe|tarea|tarefa"
        ),
    ),
)
_TITLES: Final = (
    (
        BUG,
        (
            r"\[?(?:bug(?: report)?|fix|regression|crash|fehler|bogue|baг|баг|ошибка|缺陷|バグ|不具合|"
            r"버그)\b[\])]?(?:\([^()]{1,40}\))?\s?[:：\]】\-)]|[【\[](?:bug|缺陷|バグ|不具合|버그)"
        ),
    ),
    (
        FEATURE,
        (
            r"\[?(?:feat|feature(?: request| proposal)?|rfc|proposal|enhancement|request|idea|wunsch|功能|需求|"
            r"建议|要望|提案|기능 요청|제안|предложение)[\])]?(?:\([^()]{1,40}\))?!?\s?[:：\]】\-)]|"
            r"[【\[](?:feature|功能|需求|"
            r"建议|要望|提案|기능)"
        ),
    ),
    (DOCUMENTATION, r"\[?(?:docs?|documentation|文档|ドキュメント|문서)[\])]?(?:\([^()]{1,40}\))?\s?[:：\]】\-)]"),
    (
        QUESTION,
        (
            r"\[?(?:question|help|support|how to|howto|frage|pregunta|pergunta|вопрос|提问|質問|"
            r"질문)[\])]?\s?[:：\]】\-)]|(?:how (?:do|can|to|should)|is it possible|is there (?:a|any) way|can i|"
            r"wie kann|comment |cómo |como (?:faço|posso)|come posso|как |如何|怎么)"
        ),
    ),
    (
        TASK,
        (
            r"\[?(?:chore|refactor|task|build|ci|test|tests|perf|style|cleanup|upgrade|bump|"
            r"tracking(?: issue)?)\b[\])]?(?:\([^()]{1,40}\))?\s?[:：\]】\-)]"
        ),
    ),
)
_LABELLED: Final = {word: kind for kind, line in _LABELS for word in line.split("|")}
_TITLED: Final = tuple((kind, re.compile(rf"^\s?(?:{pattern})", re.IGNORECASE)) for kind, pattern in _TITLES)
_DOCUMENTING: Final = words.joined(r"""
    docs?|documentation|readme|typos?|tutorial|docstrings?|dokumentation|tippfehler|doku|documentación|
    documentação|documentazione|документаци\w*|опечатк\w*|文档|错别字|ドキュメント|誤字|문서|
    오타|faute de frappe|errata|refuso
""")
_DOCUMENTS: Final = re.compile(rf"(?<!\w)(?:{_DOCUMENTING})(?!\w)", re.IGNORECASE)
_TYPO: Final = re.compile(
    (
        r"typo|documentation|docs|readme|tippfehler|dokumentation|documentación|documentação|"
        r"documentazione|опечатк|документаци|文档|错别字|ドキュメント|誤字|문서|오타|faute de frappe"
    ),
    re.IGNORECASE,
)
_TASKS: Final = re.compile(
    (
        r"^\s?(?:upgrade|bump|migrate|remove|drop|refactor|rename|clean ?up|replace|rewrite|deprecate|"
        r"update|move|delete|enable|set up|prepare|release)\b"
    ),
    re.IGNORECASE,
)
_EITHER: Final = re.compile(
    (
        r"\b(bug|defect|regression|feature|enhancement|improvement|question|documentation|docs|task|"
        r"chore|fehler|wunsch|frage|bogue|erreur|erro|errore|mejora)\b|(баг|ошибка|缺陷|バグ|"
        r"不具合|버그|功能|要望|기능|"
        r"질문|質問)"
    ),
    re.IGNORECASE,
)


def kind(
    *,
    title: str,
    labels: Sequence[str],
    sections: Collection[str],
    chosen: Sequence[str],
    cues: Collection[str],
    erring: bool,
) -> tuple[str, bool]:
    """Return the kind, and whether somebody said so: a label, the title, a field; else it is inferred from the text."""
    for given in (*(_of_label(label) for label in labels), _of_title(title), *(_of_choice(text) for text in chosen)):
        if given:
            return given, True
    return _inferred(title, sections, cues, erring=erring), False


def _of_label(label: str) -> str:
    bare = label.casefold().strip()
    for name in (
        bare,
        *(
            part.strip()
            for part in re.split(r"[:/]", bare)[1:2]
            if bare.split(":")[0].split("/")[0].strip() in {"type", "kind", "t", "issue type", "category"}
        ),
    ):
        if name in _LABELLED:
            return _LABELLED[name]
    return ""


def _of_title(title: str) -> str:
    return next((kind for kind, pattern in _TITLED if pattern.match(title)), "")


def _of_choice(text: str) -> str:
    match = _EITHER.search(text[:100])
    return _LABELLED.get((match[1] or match[2]).casefold(), "") if match else ""


def _inferred(title: str, sections: Collection[str], cues: Collection[str], *, erring: bool) -> str:
    """Infer the kind from what the issue holds; the first of these grounds that is there decides."""
    held, found = set(sections), set(cues)
    grounds = (
        (erring or bool({"steps", "actual", "both"} & held), BUG),
        (bool(_TYPO.search(title)), DOCUMENTATION),
        ("question" in held or title.rstrip().endswith(("?", "？")), QUESTION),
        (bool({"proposal", "motivation", "alternatives"} & held), FEATURE),
        ("wishing title" in found, FEATURE),
        ("failing title" in found, BUG),
        ("asking" in found and "failing" not in found, QUESTION),
        ("wishing" in found, FEATURE),
        ("failing" in found, BUG),
        ("documenting" in found, DOCUMENTATION),
        (bool({"logs", "environment"} & held) and bool({"expecting", "expected"} & (found | held)), BUG),
        (bool({"expecting", "expected"} & (found | held)), FEATURE),
        (bool(_TASKS.match(title)) or "acceptance" in held or "tasks" in found, TASK),
        ("logs" in held, BUG),
    )
    return next((kind for holds, kind in grounds if holds), UNCLEAR)


def documents(text: str) -> bool:
    """Return whether a text is about documentation."""
    return bool(_DOCUMENTS.search(text))
