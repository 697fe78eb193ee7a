"""A hole that nothing can fill is found when the file is loaded, at its place."""

import pytest

from backlog_worker.domain.entry import Entry, Status
from backlog_worker.domain.errors import InvalidFileError
from backlog_worker.domain.filling import ENTRY
from backlog_worker.domain.pipeline import load
from backlog_worker.lifecycle.prepare import public
from backlog_worker.testing import bench

CLOSED = "accepts: { type: object, additionalProperties: false, properties: { topic: { type: string } } }\n"
OPEN = CLOSED.replace("additionalProperties: false, ", "")


def made(text, *, accepts="", more="", agent="Do."):
    job = f"  - id: a\n    agent: x\n    task: 'Say {text} now'\n{more}"
    files = {"agents/x.md": f"---\nmodel: m\n---\n{agent}"}
    return load(f"name: p\n{accepts}env: {{ WHERE: here }}\njobs:\n{job}", contract=files.__getitem__)


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("{{topik}}", 'did you mean "topic"?'),
        ("${{ context.topik }}", 'did you mean "topic"?'),
        ("${{ input.nothing }}", "nothing fills it"),
        ("${{ entry.titel }}", 'did you mean "title"?'),
        ("${{ run.number }}", "attempt, id"),
        ("${{ inputs.toan }}", 'did you mean "tone"?'),
        ("${{ env.WERE }}", 'did you mean "WHERE"?'),
    ],
)
def test_a_hole_that_nothing_fills_is_refused_at_its_line(text, near):
    with pytest.raises(InvalidFileError) as refused:
        made(text, accepts=CLOSED, more="    inputs: { tone: short }\n")
    (finding,) = refused.value.findings
    assert (finding.code, finding.line) == ("BW213", 7)
    assert near in finding.text


@pytest.mark.parametrize(
    "text", ["{{topic}}", "{{tone}}", "{{WHERE}}", "${{ context.topic }}", "${{ entry.title }}", "${{ run.id }}"]
)
def test_what_something_fills_is_accepted_without_a_warning(text):
    assert made(text, accepts=CLOSED, more="    inputs: { tone: short }\n").warnings == ()


@pytest.mark.parametrize("accepts", ["", OPEN])
def test_what_only_an_undeclared_input_can_fill_is_a_warning(accepts):
    (found,) = made("{{tone}}", accepts=accepts).warnings
    assert (found.code, found.level, found.line) == ("BW213", "warning", 7 if accepts else 6)
    assert "accepts.properties" in found.text


def test_the_text_of_an_agent_is_asked_for_the_job_that_it_serves():
    with pytest.raises(InvalidFileError, match='the text of agent "x"'):
        made("it", accepts=CLOSED, agent="You write about {{tone}}.")
    assert made("it", accepts=CLOSED, agent="In {{tone}}.", more="    inputs: { tone: short }\n").warnings == ()


def test_nested_inputs_are_asked_too():
    with pytest.raises(InvalidFileError, match='no "nobody" in entry'):
        made("it", more="    inputs: { deep: [{ er: '${{ entry.nobody }}' }] }\n")


def test_what_texts_may_read_of_an_entry_is_what_they_are_given():
    table = bench()
    (filed,) = table.file({})
    with table.kit.store.read() as unit:
        entry = unit.entry(filed.entry_id)
    assert isinstance(entry, Entry)
    assert entry.status == Status.QUEUED
    assert set(public(entry)) == set(ENTRY)
