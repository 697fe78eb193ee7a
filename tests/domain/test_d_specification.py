"""D: an issue to a specification: what is taken away, what is derived, what it costs, what no text can do."""

import re
import time
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backlog_worker.domain.specification import analysed, duplicates, markdown
from tests.domain.extraction import corpus, found

HINTS = (
    "Verified: <!-- what should happen -->", "Verified:",
    "<!-- what should happen -->", "_No response_", "N/A", "A clear and concise description of what you expected to happen.",
    "Describe the expected behaviour here", "...", "[e.g. it works]", "<your text>", "TBD", "Bitte beschreibe das Verhalten", "Décrivez ici",
    "Describa el comportamiento", "Descreva aqui", "Descrivi qui", "Опишите здесь", "请描述预期行为", "ここに記入してください", "여기에 작성해 주세요",
)  # fmt: skip
HEADINGS = {
    "steps": ("Steps to reproduce", "Schritte zum Reproduzieren", "Étapes pour reproduire", "Pasos para reproducir", "Passos para reproduzir",
              "Passaggi per riprodurre", "Шаги для воспроизведения", "复现步骤", "再現手順", "재현 방법"),
    "expected": ("Expected behavior", "Erwartetes Verhalten", "Comportement attendu", "Comportamiento esperado", "Comportamento esperado",
                 "Comportamento atteso", "Ожидаемое поведение", "预期行为", "期待する動作", "예상 동작"),
    "actual": ("Actual behavior", "Tatsächliches Verhalten", "Comportement observé", "Comportamiento actual", "Comportamento atual",
               "Comportamento attuale", "Фактическое поведение", "实际行为", "実際の動作", "실제 동작"),
    "acceptance": ("Acceptance criteria", "Akzeptanzkriterien", "Critères d'acceptation", "Criterios de aceptación", "Critérios de aceitação",
                   "Criteri di accettazione", "Критерии приёмки", "验收标准", "受け入れ条件", "인수 조건"),
    "environment": ("Environment", "Umgebung", "Environnement", "Entorno", "Ambiente", "Ambiente", "Окружение", "环境", "環境", "환경"),
}  # fmt: skip
FORMS = (
    "## {}\n{}\n",
    "### {}:\n\n{}\n",
    "**{}**\n{}\n",
    "**{}:** {}\n",
    "{}: {}\n",
    "{}\n-----\n{}\n",
    "- **{}**: {}\n",
    "<h3>{}</h3>\n<p>{}</p>\n",
    "# {} #\n{}\n",
)
HOSTILE = (
    "<!--", "*", "[", "> ", "x", "![", "[a](", "<a ", "```\n", "|", "- [ ] a\n", "__", "`", "at a(", "A.", "1.", "a/", "(", "错", ">>>> a\n", "\\", "v1.",
    "AError: ", " ", "\n", "# Steps\n", "a@", "http://a", "OS: a\n", 'File "', "&", "**a:** ", "a.b.C", "-", "=", "\t", "1) a 2) b ", "\x1b[", "Error ", "#0 ",
    "thread '", "<pre>", "</pre>", "【", "a:", "e.g. (", "Caused by: ", "'", '"', "expected ", "~~~\n", "-->", "<!-- -->", "\u202e", "\ud800",
)  # fmt: skip


@pytest.mark.parametrize("hint", HINTS)
def test_d_a_placeholder_is_never_what_is_expected(hint):
    body = f"## Steps\n1. Open the page\n\n## Actual\nIt fails.\n\n## Expected\n{hint}\n\n## Acceptance criteria\n- {hint}\n"
    spec = analysed("Page fails", body)
    assert spec.expected == []
    assert spec.acceptance == []
    assert not spec.ready
    assert "What is the expected behaviour?" in spec.questions


@pytest.mark.parametrize(("name", "form"), list(product(HEADINGS, FORMS)))
def test_d_a_heading_is_known_in_ten_languages_however_it_is_written(name, form):
    for heading in HEADINGS[name]:
        spec = analysed("Title", form.format(heading, "the words of a reporter"))
        assert "the words of a reporter" in " ".join(getattr(spec, name)), heading


@pytest.mark.parametrize(
    ("body", "versions"),
    [
        ("Install 2 plugins on page 3", []),
        ("My setup is Chrome\n120 tabs are open", []),
        ("Version: 1.2.3", ["Version 1.2.3"]),
        ("OS: macOS 14.2", ["macOS 14.2"]),
        ("It fails with Python 3.11.2 since 2024-01-02, 10.0.0.1 answers in 1.5 s", ["Python 3.11.2"]),
        ("requests==2.31.0 and react@18.2.0", ["requests 2.31.0", "react 18.2.0"]),
        ("See section 3.2.1 and step 4.1.2", []),
        ("### Python version\n\n3.12\n", ["Python 3.12"]),
        ("| Node | 20.11.0 |\n", []),
        ("Version:\n1.2.3", ["Version 1.2.3"]),
        ("| Browser | Firefox 121 |", ["Firefox 121"]),
    ],
)
def test_d_a_version_is_a_product_or_label_with_its_value(body, versions):
    assert analysed("Title", body).versions == versions


def test_d_ticked_options_count_and_criteria_count_all():
    options = "### Affected platforms\n- [x] Linux\n- [ ] Windows\n\n### Acceptance criteria\n- [ ] it starts\n- [x] it stops\n"
    spec = analysed("Title", options)
    assert spec.environment == ["Linux"]
    assert spec.acceptance == ["it starts", "it stops"]


def test_d_what_stands_in_an_address_is_no_component():
    body = (
        "It crashes, see https://github.com/a/b/blob/main/src/x/session.py#L4 and www.example.org/api/v1/users.html\n"
    )
    assert analysed("Crash", body).components == []


def test_d_code_in_a_comment_of_html_is_kept_and_a_comment_in_code_is_code():
    spec = analysed("Parser", "## Steps\n```html\n<!-- keep me -->\n<p>x</p>\n```\n<!--\n```\ngone\n```\n-->\n")
    assert "<!-- keep me -->" in spec.steps[0]
    assert "gone" not in str(spec)


def test_d_a_specification_names_its_source_kind_errors_and_confidence():
    issue = next(each for each in corpus() if each["id"] == "java-trace")
    text = markdown(found(issue), url="https://example.org/issues/1")
    assert "Source: <https://example.org/issues/1>" in text
    assert "Kind: bug" in text
    assert "Confidence: " in text
    assert "java.lang.NullPointerException" in text
    assert "Planner.java:133" in text


def test_d_no_issue_breaks_out_of_its_specification():
    evil = "<script>alert(1)</script> [x](javascript:alert(1)) ![y](https://evil/z) @everyone | # heading\n"
    body = f"## Steps\n1. {evil}```\n```\n<img src=x onerror=alert(1)>\n````\n\n## Expected\n{evil}\n## Actual\n- {evil}\n## Environment\nOS: {evil}"
    text = markdown(analysed(evil, body, labels=[evil]), url="javascript:alert(1)> <b>")
    fenced = re.sub(r"(?ms)^ *(`{3,})\w*\n.*?^ *\1$", "", text)
    for bad in ("<script", "<img", "<b>", "@everyone", "\n# heading", "<javascript"):
        assert bad not in fenced, bad
    assert not re.search(r"(?<!\\)\]\(", fenced), "no link"
    assert len(re.findall(r"(?m)^# ", text)) == 1


def test_d_duplicates_are_pointed_to_by_what_is_said_and_by_how_alike_texts_are():
    assert analysed("Same", "The window never opens, duplicate of #128.").duplicates == ["#128"]
    issues = [
        {"number": 1, "title": "Search hangs for names with umlauts", "body": "The search hangs when the name has an umlaut and there are many customers."},
        {"number": 2, "title": "Please add dark mode", "body": "The white page is too bright at night, I would like a dark theme."},
        {"number": 3, "title": "Search hangs for names with umlauts", "body": "The search hangs when the name has an umlaut and there are many customers!"},
        {"number": 1, "title": "Search hangs for names with umlauts", "body": "The search hangs when the name has an umlaut and there are many customers."},
    ]  # fmt: skip
    assert [each["similar"] for each in duplicates.pointed(issues)] == [[], [], ["#1"], ["#3"]]
    assert analysed("Search hangs", "Again.", similar=["#1"]).duplicates == ["#1"]


@settings(max_examples=150, deadline=None)
@given(
    st.text(max_size=400),
    st.lists(st.sampled_from([*HOSTILE, "## Steps\n", "Expected: ", "\n", "a b ", *HINTS]), max_size=40),
    st.text(max_size=60),
)
def test_d_no_text_makes_the_analysis_fail(text, pieces, title):
    for body in (text, "".join(pieces), text + "".join(pieces)):
        spec = analysed(title, body, labels=[title])
        markdown(spec, url=text).encode("utf-8", "replace")
        assert 0 <= spec.confidence <= 1
        assert spec.ready or spec.questions or spec.kind != "bug"


@pytest.mark.parametrize("piece", HOSTILE)
def test_d_the_time_is_linear_in_the_text(piece):
    """Ten times the text takes no more than thirty times as long, whatever the text."""

    def seconds(length):
        body = piece * (length // len(piece))
        best = 9.0
        for _ in range(2):
            began = time.thread_time()
            analysed("Title", body)
            best = min(best, time.thread_time() - began)
        return best

    small, large = max(seconds(5_000), 0.002), seconds(50_000)
    assert large < 30 * small
