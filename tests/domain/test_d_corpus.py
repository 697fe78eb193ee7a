"""D: what the analysis takes from messy issues, against what a good reader takes; each field at least 0.9.

The corpus is in tests/corpus: forms, templates, mails, logs, screenshots and free text in ten languages, with what a reader
takes from each. The 30 issues of held_out.yml were written after the rules. Their figures at the first reading (precision,
recall): kind 1.00 1.00, ready 0.97 0.97, summary 0.92 0.92, steps 1.00 1.00, expected 0.89 0.89, actual 1.00 0.84,
acceptance 0.90 0.90, versions 0.88 0.81, environment 0.95 0.90, errors 1.00 1.00, places 1.00 0.67, components 0.91 0.77,
missing 0.63 0.91. What they showed was mended since, so they are part of the corpus now.
"""

import pytest

from tests.domain.extraction import FIELDS, corpus, differences, found, measured

LEAST = 0.9


def test_d_the_corpus_is_large_and_in_ten_languages():
    assert len(corpus()) >= 120
    assert len({each["id"] for each in corpus()}) == len(corpus())
    assert {found(each).language for each in corpus()} == {"en", "de", "fr", "es", "pt", "it", "ru", "zh", "ja", "ko"}


@pytest.mark.parametrize("name", FIELDS)
def test_d_each_field_is_read_as_a_good_reader_reads_it(name):
    precision, recall = measured(corpus())[name]
    assert precision >= LEAST, list(differences(corpus()))
    assert recall >= LEAST, list(differences(corpus()))


@pytest.mark.parametrize("name", FIELDS)
def test_d_no_part_of_the_corpus_is_read_badly(name):
    """English free text, logs, the languages and the issues written last each hold on their own."""
    for file in {each["file"] for each in corpus()}:
        precision, recall = measured(tuple(each for each in corpus() if each["file"] == file))[name]
        assert min(precision, recall) >= LEAST - 0.1, (file, name, precision, recall)


def test_d_nothing_of_a_template_is_taken_for_words_of_its_reporter():
    hints = (
        "<!--",
        "-->",
        "_no response_",
        "clear and concise",
        "i have searched",
        "if applicable",
        "[e.g",
        "http",
        "![",
    )
    for issue in corpus():
        spec = found(issue)
        said = [
            spec.summary,
            *spec.expected,
            *spec.actual,
            *spec.acceptance,
            *spec.components,
            *spec.facts,
            *spec.versions,
        ]
        assert not [text for text in said for hint in hints if hint in text.lower()], issue["id"]


def test_d_issues_that_are_not_english_are_analysed():
    foreign = [each for each in corpus() if each["file"] in {"european", "eastern"}]
    ready = [each for each in foreign if found(each).ready]
    assert len(ready) >= 0.9 * sum(each["want"]["ready"] for each in foreign)
