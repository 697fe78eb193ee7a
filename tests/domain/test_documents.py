"""Files from people who make mistakes, and from people who mean harm."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backlog_worker.domain import document, pipeline, policy
from backlog_worker.domain.errors import InvalidFileError

GOOD = "name: spec\njobs:\n  - { id: a, run: 'true' }\n"


def findings(text: str, loader=pipeline.load):
    with pytest.raises(InvalidFileError) as caught:
        loader(text)
    return caught.value.findings


@pytest.mark.parametrize(
    ("text", "code", "line"),
    [
        ("name: [", "BW201", 1),
        ("name: a\nname: b\n", "BW201", 2),
        ("name: a\n\tjobs: []", "BW201", 2),
        ("a: &x 1\nb: *x\n", "BW202", 1),
        ("a: !!python/object:os.system x\n", "BW202", 1),
        ("a: 1\n---\nb: 2\n", "BW202", 2),
        ("a: " + "[" * 40 + "]" * 40, "BW202", 1),
        ("x" * (document.SIZE_MAX + 1), "BW202", 1),
        ("[" + "1, " * 21_000 + "1]", "BW202", 1),
        ("name: spec\njobs:\n  - { id: a, run: 'true', tmieout: 3 }\n", "BW203", 3),
        ("name: spec\njobs:\n  - { id: a, run: 'true' }\n  - { id: a, run: 'true' }\n", "BW205", 4),
        ("name: spec\njobs:\n  - { id: a, run: 'true', dependsOn: [c] }\n  - { id: b, run: 'true' }\n", "BW214", 3),
        ("name: spec\njobs:\n  - { id: a }\n", "BW207", 3),
        ("name: spec\njobs:\n  - { id: a, run: 'echo ${{ entry.title }}' }\n", "BW231", 3),
        (GOOD.replace("'true'", "'true', output: { type: nonsense }"), "BW209", 3),
        (GOOD.replace("'true'", "'true', output: { $ref: 'http://evil/x' }"), "BW209", 3),
        (GOOD.replace("'true'", "'true', gates: [{ id: G, check: 'output.x ==' }]"), "BW204", 3),
        (GOOD.replace("'true'", "'true', gates: [{ id: G, check: 'nobody == 1' }]"), "BW204", 3),
    ],
)
def test_every_kind_of_mistake_has_its_code_and_place(text, code, line):
    found = findings(text)
    assert (found[0].code, found[0].line) == (code, line)
    assert found[0].hint


def test_a_finding_shows_the_text_and_a_suggestion():
    said = str(
        findings("name: spec\njobs:\n  - { id: draft, run: 'true' }\n  - { id: b, run: x, dependsOn: [draf] }\n")[0]
    )
    assert 'job "b" depends on "draf", which does not exist' in said
    assert 'did you mean "draft"?' in said
    assert "  - { id: b, run: x, dependsOn: [draf] }" in said


def test_yaml_is_1_2_and_versions_keep_their_text():
    found = document.read("version: 1.10\non: yes\na: [1, 2.5, true, null, 0x10]\n", file="x", group="2")
    assert found.value == {"version": "1.10", "on": "yes", "a": [1, 2.5, True, None, 16]}


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda raw: raw.decode("latin-1")))
def test_no_text_gets_anything_but_findings_out_of_the_loaders(text):
    for loader in (pipeline.load, policy.load):
        try:
            loader(text)
        except InvalidFileError as error:
            assert error.findings


@settings(max_examples=200, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["name", "jobs", "id", "run", "version", "gates", "check", "x"]), inner, max_size=4
            )
        ),
        max_leaves=12,
    )
)
def test_no_shape_of_json_crashes_the_pipeline_loader(value):
    import json

    try:
        pipeline.load(json.dumps(value))
    except InvalidFileError as error:
        assert error.findings


def test_a_pipeline_is_pinned_by_its_text_and_light_only_when_all_is_inline():
    first, second = pipeline.load(GOOD), pipeline.load(GOOD + "# more\n")
    assert first.hash != second.hash
    assert not first.light
    assert pipeline.load(GOOD.replace("'true'", "'true', inline: true")).light
