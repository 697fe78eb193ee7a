"""Beat asks the database what is due: whatever its host's clock says, and whatever was away when a slot came."""

from contextlib import nullcontext
from datetime import UTC, datetime

import pytest
from kombu.exceptions import OperationalError

from backlog_worker import celery as door
from backlog_worker.domain.errors import UnreachableError
from backlog_worker.testing import bench

EVENING = datetime(2026, 11, 24, 20, tzinfo=UTC)
NIGHT = datetime(2026, 11, 25, 3, 0, 0, tzinfo=UTC)


@pytest.fixture
def table():
    made = bench()
    made.clock.now = EVENING.timestamp()
    return made


@pytest.fixture
def beats(table, monkeypatch):
    """Return a maker of beats over one store, and what they send."""
    sent, broken = [], []
    monkeypatch.setattr(door, "store_of", lambda _settings: table.kit.store)

    def _sends(name, arguments=(), *_, **_named):
        if broken:
            raise broken.pop(0)
        sent.append((*arguments, name)[0])

    monkeypatch.setattr(door.app, "send_task", _sends)
    monkeypatch.setattr(door.app, "producer_or_acquire", nullcontext)

    def _beat():
        scheduler = door.SlotScheduler(app=door.app, lazy=True)
        scheduler._store = table.kit.store
        scheduler.setup_schedule()
        return scheduler

    return _beat, sent, broken


def look(scheduler):
    """Look at every time of day, as each few seconds a tick does."""
    for entry in list(scheduler.schedule.values()):
        if door.trigger.cron_in(str(entry.schedule)):
            scheduler._sent(entry)


def test_e_a_time_of_day_is_sent_once_by_the_databases_clock_whatever_the_hosts_say(table, beats):
    beat, sent, _ = beats
    first, second = beat(), beat()
    look(first)
    assert sent == [], "what is seen for the first time has missed nothing"
    table.clock.now = NIGHT.timestamp() - 5
    look(first)
    assert "daily_seal" not in sent
    table.clock.now = NIGHT.timestamp()
    look(second)
    look(first)
    assert sent.count("daily_seal") == 1


def test_e_a_message_that_the_broker_does_not_take_is_sent_at_the_next_look(table, beats):
    beat, sent, broken = beats
    scheduler = beat()
    look(scheduler)
    sent.clear()
    table.clock.now = NIGHT.timestamp() + 1
    broken += [OperationalError("no broker")] * 20
    look(scheduler)
    assert sent == []
    broken.clear()
    look(scheduler)
    look(scheduler)
    assert sent.count("daily_seal") == 1


def test_e_a_database_that_is_away_when_a_slot_comes_costs_no_slot(table, beats, monkeypatch):
    beat, sent, _ = beats
    scheduler = beat()
    look(scheduler)
    table.clock.now = NIGHT.timestamp() + 1
    real = scheduler._store

    class Away:
        def begin(self, **_):
            raise UnreachableError

    scheduler._store = Away()
    look(scheduler)
    assert "daily_seal" not in sent
    scheduler._store = real
    table.clock.forward(3 * 3600)  # far past the time of the slot
    look(scheduler)
    assert sent.count("daily_seal") == 1
    with real.read() as unit:
        said = {row["subject"]: row["reason"] for row in unit.acts(door.SETTINGS.env, action="schedule.missed")}
    assert said["beat:daily_seal"] == "1 missed, the first at 2026-11-25 03:00Z: 1 made up for, 0 skipped"
    assert said["beat:hourly_check"].endswith("skipped"), "a check tells of the moment at which it is made"


def test_e_a_tick_looks_at_the_times_of_day_and_outlives_what_is_away(table, beats, monkeypatch):
    beat, sent, broken = beats
    scheduler = beat()
    scheduler.tick()
    sent.clear()
    table.clock.now = NIGHT.timestamp() + 1
    scheduler._look = 0.0
    broken += [OSError("reset")] * 20
    assert scheduler.tick() > 0
    broken.clear()
    scheduler._look = 0.0
    scheduler.tick()
    assert sent.count("daily_seal") == 1
