"""Every list fits the terminal: ids, codes and numbers stand whole, words alone are shortened."""

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from backlog_worker.cli import layout
from backlog_worker.cli.fields import in_front

TEXT = st.text(st.characters(exclude_categories=("C", "Z")), max_size=30)
COLUMNS = ("id", "status", "title", "worker", "why")


@given(st.lists(st.tuples(TEXT.filter(bool), TEXT, TEXT, TEXT, TEXT), min_size=1, max_size=5), st.integers(24, 120))
def test_no_line_is_longer_than_the_terminal_and_no_id_is_cut(rows, width):
    lines = layout.lines(COLUMNS, rows, width)
    assert all(cell_len(line) <= width for line in lines)
    together = "".join("".join(lines).split())
    for row in rows:
        for name, cell in zip(COLUMNS, row, strict=True):
            if name not in layout.WORDS and cell not in layout.NOTHING:
                assert cell in together, (name, cell)


@given(st.lists(st.tuples(TEXT, TEXT, TEXT, TEXT, TEXT), min_size=1, max_size=5))
def test_a_pipe_gets_every_character(rows):
    text = "\n".join(layout.lines(COLUMNS, rows, None))
    assert all(cell in text for row in rows for cell in row if cell not in layout.NOTHING)


@given(st.text(st.characters(exclude_categories=("C",)), max_size=200), st.integers(4, 80))
def test_a_text_is_broken_at_spaces_and_loses_nothing(text, width):
    lines = layout.wrapped(text, width)
    assert all(cell_len(line) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())


def test_an_ellipsis_says_that_a_title_was_longer():
    (_, line) = layout.lines(("id", "title"), [("bl_7Q2X4K9", "A title that is far longer than there is room")], 30)
    assert line.startswith("bl_7Q2X4K9  A title that is")
    assert line.endswith(layout.ELLIPSIS)
    assert cell_len(line) <= 30


def test_json_is_taken_after_the_verb_with_fields_or_without():
    table = {
        "--json entry list": "--json entry list",
        "entry list --json": "--json entry list",
        "entry list --json id,title": "--json --json-fields id,title entry list",
        "entry list --json=id,title status:queued": "--json --json-fields id,title entry list status:queued",
        "entry list --json status:queued": "--json entry list status:queued",
        "--env prod --json entry list": "--json --env prod entry list",
        "entry show #3 --json-lines": "--json-lines entry show #3",
        "entry add -- --json": "entry add -- --json",
        "entry list --json --limit 3": "--json entry list --limit 3",
    }
    for typed, wanted in table.items():
        assert in_front(typed.split()) == wanted.split(), typed
