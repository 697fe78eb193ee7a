"""A folded scalar of a definition is the text that YAML says it is."""

from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from backlog_worker.domain import document, pipeline

GATED = """\
name: spec
jobs:
  - id: a
    python: "f:a"
    gates:
      - id: G-1
        check: >-
          output.n > 0.0 &&
          output.n < 9.0
"""
LINES = st.lists(st.sampled_from(["", "a", "b c", "  more", "\tt", "a: b", "# c", "- d"]), min_size=1, max_size=6)


def test_a3_a_folded_condition_is_a_condition():
    (job,) = pipeline.load(GATED, file="p.yml").jobs
    assert [each.check for each in job.gates] == ["output.n > 0.0 && output.n < 9.0"]


@given(LINES, st.sampled_from([">", ">-", ">+", "|", "|-", ">2", ">1-"]))
@settings(max_examples=150, deadline=None)
def test_a3_every_block_scalar_is_read_as_the_plain_loader_reads_it(lines, mark):
    text = "\n".join([f"a: {mark}", "  x", *(f"  {each}" for each in lines), ""])
    assert document.read(text, file="p.yml", group="2").value == YAML(typ="safe", pure=True).load(text)
