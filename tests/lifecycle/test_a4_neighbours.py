"""A4: what is wrong with one message, or with what one entry names, costs itself alone and is said."""

import pytest

from backlog_worker.domain.errors import InvalidInputError
from backlog_worker.lifecycle import send
from backlog_worker.testing import bench

ONE = "name: spec\nversion: 1\njobs:\n  - { id: a, python: 'fake:a' }\n"


class Tracker:
    """Delivers everything but what is for one topic, of which it raises."""

    def __init__(self, real, topic, error):
        self.real, self.topic, self.error = real, topic, error

    def write(self, topic, body, text):
        if topic == self.topic:
            raise self.error
        return self.real.write(topic, body, text)


@pytest.mark.parametrize(
    "error",
    [KeyError("stages"), ValueError("x"), TypeError("x"), OSError("away"), RecursionError(), InvalidInputError("no"), UnicodeError("x")],
    ids=lambda each: type(each).__name__,
)  # fmt: skip
def test_a4_a_message_that_cannot_be_delivered_costs_itself_alone(error):
    table = bench(pipelines=[ONE])
    filed = [each.entry_id for each in table.file({}, {}, {})]
    object.__setattr__(table.kit, "tracker", Tracker(table.kit.tracker, filed[1], error))
    table.tick()
    table.ring()
    send.send(table.kit)
    with table.kit.store.read() as unit:
        rows = unit.run("SELECT entry_id, status, error, retry_at FROM outbox")
    stood = {row[0]: row[1:] for row in rows}
    assert [stood[each][0] for each in filed] == ["sent", "due", "sent"]
    assert all(stood[filed[1]]), "why, and when it is tried again"


@pytest.mark.parametrize("other", ["bl_nobody", "no-such-key", "bl_01JC7Q2ZZZZZZZZZZZZZZZZZZZ"])
def test_a4_nobody_waits_for_an_entry_that_is_not_there(other):
    table = bench(pipelines=[ONE])
    refused, _ = table.file({"depends_on": [other]}, {})
    assert "not in the backlog; file it first" in refused.error
    assert table.statuses() == {"queued": 1}
