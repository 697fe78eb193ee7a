"""Values that no database keeps are refused where they enter, with the place."""

import pytest

from backlog_worker.domain import search, wire
from backlog_worker.domain.errors import InvalidInputError, UsageError
from backlog_worker.domain.roles import everything
from backlog_worker.integrations.notify import Notifier
from backlog_worker.lifecycle import tools
from backlog_worker.testing import bench

ODD = ["\x00", "\ud800", "a\udfff"]


@pytest.mark.parametrize("text", ODD)
def test_a3_a_query_and_a_parameter_of_a_tool_hold_only_what_a_database_keeps(text):
    with pytest.raises(UsageError, match="is a text with"):
        search.parsed(f"label:{text}")
    table = bench()
    for params in ({"q": text}, {"after": text}, {"q": "", "limit": 10**400}):
        with pytest.raises(InvalidInputError):
            tools.execute(table.kit, everything("ana"), "backlog_tool", "list", params)


@pytest.mark.parametrize(
    "value", ["NaN", "[Infinity]", '{"a": "\\ud800"}', '{"\\u0000": 1}', "9" * 5000, "1e999", "[" * 5000, b"\xff"]
)
def test_a3_json_text_gives_only_what_every_database_keeps(value):
    with pytest.raises(InvalidInputError, match=r"^the value"):
        wire.parsed(value, "the value")


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:99999/", "http://127.0.0.1:x/", "https://[::1", "http://", "http://\x7f/", "x://"]
)
def test_a3_an_address_that_cannot_be_one_costs_itself_alone(address):
    told = Notifier({"BACKLOG_NOTIFY_ONCALL": address, "BACKLOG_NOTIFY_OTHER": "log:"}, {}.get)
    with pytest.raises(OSError):
        told.tell("oncall", "title", "text", {})
    assert told.tell("other", "title", "text", {}) == "logged"
