"""B1: a text that may hold a secret is cut by `masking.cut` alone, which masks first and marks what it cut."""

import ast
from pathlib import Path

import pytest

from backlog_worker.domain.masking import CUT, cut

PACKAGE = Path(__file__).parents[1] / "backlog_worker"
LONGEST_BARE = 39  # characters: ids, digests and moments are shorter
# What else takes the beginning of something: no text that leaves, or one that must be the same in every release.
BARE = {
    "cli/files/tools/collect.py": "an example for users, without our package: a list",
    "domain/legible.py": "what `masking` itself is made of; the words pass it afterwards",
    "domain/wire.py": "it shows the end, too, with dots between",
    "domain/usage.py": "the name of a model, and a number",
    "executors/body.py": "bytes, of which `cut` takes the beginning",
    "executors/completion.py": "a list of lines",
    "lifecycle/evidence.py": "part of a bundle whose digest older releases have signed",
    "lifecycle/stage.py": "the last resort, in ASCII, of a reason that was masked before",
    "lifecycle/unowned.py": "the same words as in `evidence`",
}


def bare_cuts(source):
    """Return the lines on which the beginning of something is taken up to a number beyond the longest bare one."""
    for node in ast.walk(ast.parse(source)):
        if not (isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Slice)):
            continue
        lower, upper = node.slice.lower, node.slice.upper
        if lower is None and isinstance(upper, ast.Constant) and upper.value > LONGEST_BARE:
            yield node.lineno


def test_b1_no_text_is_cut_but_by_the_function_that_masks_first():
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        place = str(path.relative_to(PACKAGE))
        if place.startswith("domain/specification/"):
            continue  # it reads the beginning of what it judges, and sends nothing
        if lines := list(bare_cuts(path.read_text(encoding="utf-8"))):
            found[place] = lines
    assert sorted(set(found) - set(BARE)) == [], f"use masking.cut: {found}"
    assert sorted(set(BARE) - set(found)) == [], "these have no bare cut any more"


def test_b1_the_search_for_bare_cuts_finds_them():
    assert list(bare_cuts("a = f(b)[:300]\nb = text[1:300]\nc = text[:8]\nd = f'{e[:40]}'")) == [1, 4]


@pytest.mark.parametrize(
    ("text", "most", "shown"),
    [("abc", 3, "abc"), ("abcdef", 5, f"abc{CUT}"), ("ab  cdef", 6, f"ab{CUT}"), ("", 5, ""), ("abc", 1, CUT[:1])],
)
def test_b1_a_text_that_was_cut_says_so_and_is_no_longer_than_asked(text, most, shown):
    assert cut(text, most) == shown
    assert len(cut(text, most)) <= most
