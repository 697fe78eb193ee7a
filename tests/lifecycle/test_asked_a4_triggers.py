"""A trigger does what it says, and a key that does nothing in it is refused."""

import pytest

from backlog_worker.domain.errors import InvalidFileError, RefusedError
from backlog_worker.domain.lint import UNUSED
from backlog_worker.domain.pipeline import load
from backlog_worker.lifecycle import again
from backlog_worker.testing import PIPELINE, bench

VALUES = {"input": "{ a: 1 }", "filters": "{ a: b }", "transform": "{ a: event.b }", "timezone": "Europe/Berlin"}
VALUES |= {"secret": "'${{ secrets.WEBHOOK_SECRET }}'"}
NEEDS = {"schedule": ", cron: '0 3 * * *'", "webhook": f", secret: {VALUES['secret']}"}


def test_a_start_by_hand_takes_the_input_and_the_labels_of_its_trigger():
    table = bench(pipelines=[PIPELINE + "triggers: [{ type: manual, labels: [ai-ok], input: { a: 1, b: 1 } }]\n"])
    entry_id, _ = again.start(table.kit, "spec", {"b": 2}, actor="ana")
    with table.kit.store.read() as unit:
        entry = unit.entry(entry_id)
        assert unit.input(entry.id, entry.input_sha256) == {"a": 1, "b": 2}
    assert list(entry.labels) == ["ai-ok"]


def test_a_pipeline_whose_triggers_name_no_start_by_hand_refuses_it():
    table = bench(pipelines=[PIPELINE + "triggers: [{ type: schedule, cron: '0 3 * * *' }]\n"])
    with pytest.raises(RefusedError, match="cannot be started by hand: its triggers are schedule") as refused:
        again.start(table.kit, "spec", {}, actor="ana", labels=["ai-ok"])
    assert "type: manual" in refused.value.hint
    plain = bench()
    assert again.start(plain.kit, "spec", {}, actor="ana", labels=["ai-ok"]), "without triggers anything starts it"


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in UNUSED.items() for name in sorted(names)])
def test_a_key_that_does_nothing_in_a_trigger_of_its_type_is_refused(kind, name):
    more = NEEDS.get(kind, "")
    with pytest.raises(InvalidFileError, match=f"`{name}` has no effect in a trigger of type {kind}"):
        load(PIPELINE + f"triggers: [{{ type: {kind}{more}, {name}: {VALUES.get(name, '[x]')} }}]\n")
