"""The clock and the messages: what a host's clock or a message says about when and for how long decides nothing."""

import json
import threading
import time
from datetime import UTC, datetime, timedelta
from unittest.mock import MagicMock, Mock

import pytest
from celery.worker import strategy
from kombu.exceptions import OperationalError
from kombu.message import Message

import backlog_worker.celery as door
from backlog_worker import tasks
from backlog_worker.domain.errors import BusyError, FullError, StoreError, UnreachableError
from backlog_worker.store import migrate, opened
from beat_schedule import BEAT_SCHEDULE

LIMIT = door.app.conf.task_time_limit
FORGED = [
    {"timelimit": [1, 1]},
    {"timelimit": [0.001, None]},
    {"timelimit": "x"},
    {"expires": "2020-01-01T00:00:00+00:00"},
    {"expires": 1},
    {"eta": "2999-01-01T00:00:00+00:00"},
    {"eta": "no moment"},
    {"retries": 10**9},
    {"errbacks": [{"task": "backlog.sweep"}]},
    {"timelimit": [1, 1], "expires": "never", "eta": [], "retries": "x"},
]


def received(message: Message):
    """What Celery makes of a message: the request, and how it is given to the pool."""
    consumer = MagicMock()
    consumer.disable_rate_limits = True
    consumer.controller.state.revoked = set()
    consumer.event_dispatcher.enabled = False
    task = door.app.tasks["backlog.stage"]
    strategy.default(task, door.app, consumer)(message, None, Mock(), Mock(), [])
    (request,) = consumer.on_task_request.call_args[0]
    assert not consumer.timer.call_at.called, "nothing is put off"
    request.execute_using_pool(consumer.pool)
    return request, consumer.pool.apply_async.call_args[1]


@pytest.mark.parametrize("headers", FORGED, ids=str)
@pytest.mark.parametrize("version", [1, 2])
def test_a4_a_message_does_not_say_when_or_for_how_long(headers, version):
    ids = ["run_1", "draft"]
    made = door.app.amqp.as_task_v2("t1", "backlog.stage", ids, {})
    old = {"task": "backlog.stage", "id": "t1", "args": ids, "kwargs": {}, **headers}
    body, said = (made.body, {**made.headers, **headers}) if version == 2 else (old, {})
    plain = {"content_type": "application/json", "content_encoding": "utf-8", "delivery_info": {}, "properties": {}}
    message = Message(body=json.dumps(body), headers=said, **plain)
    request, given = received(message)
    assert given["timeout"] == LIMIT
    assert given["soft_timeout"] is None
    assert (request.eta, request.expires) == (None, None)
    assert given["args"][2]["retries"] == 0


def test_a4_every_task_takes_its_messages_that_way():
    ours = [task for name, task in door.app.tasks.items() if name.startswith("backlog.")]
    assert len(ours) == len(door.TASKS)
    assert {task.Request for task in ours} == {"backlog_worker.tasks:Received"}


def test_a4_nothing_that_beat_sends_expires():
    assert not [
        name for name, entry in BEAT_SCHEDULE.items() if set(entry.get("options", {})) & {"expires", "eta", "countdown"}
    ]


class World:
    """A beat over a store whose clock is set, and a broker that may be away."""

    def __init__(self, store, sent, broken) -> None:
        self.store, self.sent, self.broken = store, sent, broken
        self.beats: list[door.SlotScheduler] = []

    def beat(self) -> "door.SlotScheduler":
        made = door.SlotScheduler(app=door.app)
        self.beats.append(made)
        return made


@pytest.fixture
def now() -> list[float]:
    return [datetime(2027, 3, 1, 2, 59, 30, tzinfo=UTC).timestamp()]


@pytest.fixture
def world(monkeypatch, now) -> World:
    store, sent, broken = opened("memory://", clock=lambda: now[0]), [], []
    migrate.upgrade(store)
    monkeypatch.setattr(door, "store_of", lambda _settings: store)
    monkeypatch.setattr(door, "LOOK_SECONDS", 0.0)  # by the monotonic clock, which no test moves
    producer = Mock()
    producer.__enter__ = lambda self: self
    producer.__exit__ = lambda self, *_: None
    monkeypatch.setattr(door.app, "producer_or_acquire", lambda _producer=None: producer)

    def _send(name, arguments=(), *_, **options):
        assert not set(options) & {"expires", "eta", "countdown"}
        if broken:
            raise broken.pop(0)
        sent.append((now[0], name, *(arguments or ())))

    monkeypatch.setattr(door.app, "send_task", _send)
    return World(store, sent, broken)


def passed(world: World, now: list[float], seconds: int, *, heard: bool = True) -> None:
    """Let time pass, second by second; workers hear every tick."""
    for _ in range(seconds):
        now[0] += 1
        for each in world.beats:
            assert each.tick() > 0
        if heard:
            with world.store.begin() as unit:
                for name in BEAT_SCHEDULE:
                    unit.hear(name)


@pytest.mark.parametrize("skew", [-3600, -5, 0, 5, 3600])
def test_a4_what_is_due_is_the_databases_word_alone(world, now, monkeypatch, skew):
    """The clock of beat's host is off: nothing expires, nothing comes early, late or twice."""
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + skew)
    world.beat(), world.beat()
    passed(world, now, 90)
    ticks = [at for at, name, *_ in world.sent if name == "backlog.dispatch"]
    assert 44 <= len(ticks) <= 46
    assert [each for each in world.sent if each[2:] == ("daily_seal",)] == [
        (datetime(2027, 3, 1, 3, 0, tzinfo=UTC).timestamp(), "backlog.job", "daily_seal")
    ]


@pytest.mark.parametrize(
    "error",
    [UnreachableError("a"), BusyError("b"), FullError("c"), StoreError("d"), KeyError("e"), OSError(28, "No space")],
    ids=lambda each: type(each).__name__,
)
def test_a4_an_error_ends_no_beat_and_loses_no_slot(world, now, monkeypatch, error):
    world.beat()
    passed(world, now, 20)
    begin, read = world.store.begin, world.store.read

    def _raises(**_named):
        raise error

    monkeypatch.setattr(world.store, "read", _raises)
    passed(world, now, 20, heard=False)  # 03:00:00 falls into this
    monkeypatch.setattr(world.store, "read", read)
    monkeypatch.setattr(world.store, "begin", _raises)
    passed(world, now, 20, heard=False)
    monkeypatch.setattr(world.store, "begin", begin)
    passed(world, now, 5)
    assert len([each for each in world.sent if each[2:] == ("daily_seal",)]) == 1


@pytest.mark.parametrize(
    "error",
    [OperationalError("no broker"), OSError(111, "refused"), ValueError("foreign")],
    ids=lambda each: type(each).__name__,
)
def test_a4_a_time_of_day_that_no_broker_took_is_sent_when_one_does(world, now, error):
    world.beat()
    passed(world, now, 25)
    world.broken += [error] * 50
    passed(world, now, 20)
    world.broken.clear()
    passed(world, now, 5)
    assert len([each for each in world.sent if each[2:] == ("daily_seal",)]) == 1


def test_a4_a_time_of_day_that_passed_while_no_beat_ran_is_made_up_for_once(world, now):
    world.beat()
    passed(world, now, 5)
    world.beats.clear()
    now[0] += 7200
    world.beat(), world.beat()
    passed(world, now, 5)
    assert len([each for each in world.sent if each[2:] == ("daily_seal",)]) == 1


def test_a4_workers_that_are_away_pile_up_a_few_ticks(world, now):
    world.beat()
    passed(world, now, 10)
    before = len(world.sent)
    passed(world, now, 3600, heard=False)
    away = [name for _, name, *rest in world.sent[before:] if name != "backlog.job"]
    assert 0 < len(away) < 4 * 75
    passed(world, now, 2)
    before = len(world.sent)
    passed(world, now, 10)
    assert len([name for _, name, *_ in world.sent[before:] if name == "backlog.dispatch"]) == 5, (
        "and at once it is as before"
    )


@pytest.mark.parametrize("seconds", [-3600, -5, 5, 3600])
def test_a4_a_clock_of_the_database_that_is_set_stops_no_tick(world, now, seconds):
    """A standby takes over whose clock is off."""
    world.beat()
    passed(world, now, 20)
    now[0] += seconds
    passed(world, now, 3)
    before = len(world.sent)
    passed(world, now, 20)
    assert len([name for _, name, *_ in world.sent[before:] if name == "backlog.dispatch"]) >= 9
    with world.store.begin() as unit:
        assert unit.take_lease("dispatch:prod", "a", 1.0)
    now[0] += seconds
    with world.store.begin() as unit:
        assert unit.take_lease("dispatch:prod", "b", 1.0) or seconds == 0


STEPS = {
    "sweep": (tasks.sweep, "claim.sweep"),
    "dispatch": (tasks.dispatch_tick, "dispatch.tick"),
    "triggers": (tasks.file_scheduled, "triggers.scheduled"),
    "claim": (lambda: tasks.claim_entries("bl_1"), "claim.take"),
    "stage": (lambda: tasks.do_stage("run_1", "draft"), "stage.advance"),
    "human_review": (lambda: tasks.human_review("bl_1"), "review.open_dead_letter"),
    "send": (tasks.send_writebacks, "send.send"),
    "job": (lambda: tasks.run_job("alerts"), "tools.job"),
}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(
    "error",
    [
        UnreachableError("a"),
        BusyError("b"),
        FullError("c"),
        StoreError("d"),
        KeyError("e"),
        OSError(28, "No space"),
        MemoryError(),
    ],
    ids=lambda each: type(each).__name__,
)
def test_a4_no_task_raises_whatever_its_step_does(step, error, monkeypatch):
    from backlog_worker.testing import bench

    table = bench()
    call, name = STEPS[step]
    module, function = name.split(".")

    def _raises(*_arguments, **_named):
        raise error

    after = []
    monkeypatch.setattr(tasks, "kit", lambda: table.kit)
    monkeypatch.setattr(getattr(tasks, module), function, _raises)
    monkeypatch.setattr(tasks.alerts, "away", after.append)
    call()
    assert len(after) == (step == "sweep"), "what stands behind it in the same task is done"
    if step in BEAT_SCHEDULE:
        with table.kit.store.read() as unit:
            assert f"heard:{step}" in {row["name"] for row in unit.leases()}, "it was heard all the same"


def test_a4_the_thread_that_says_that_a_worker_lives_goes_on_after_any_error(monkeypatch, eventually):
    """The fault that this began with: from the first lock on there were no slots, and every process looked healthy."""
    from backlog_worker.testing import bench

    table = bench(slots=4)
    monkeypatch.setattr(tasks, "kit", lambda: table.kit)
    monkeypatch.setattr(tasks, "SEEN_SECONDS", 0.01)
    monkeypatch.setattr(tasks.process, "orphans", lambda: iter(()))
    tasks._stopping.clear()
    begin, errors = (
        table.kit.store.begin,
        [BusyError("x"), StoreError("y"), KeyError("z"), OSError(28, "full"), MemoryError()],
    )

    def _begin(**named):
        if errors:
            raise errors.pop()
        return begin(**named)

    monkeypatch.setattr(table.kit.store, "begin", _begin)
    sender = Mock()
    sender.controller.hostname, sender.controller.concurrency = "stages@here", 3

    def _seen():
        with table.kit.store.read() as unit:
            return "stages@here" in {row["name"] for row in unit.workers()}

    try:
        tasks._ready(sender)
        eventually(_seen, within=20)
        assert errors == []
    finally:
        tasks._stopping.set()
        eventually(lambda: not [each for each in threading.enumerate() if each.name == "seen"], what="its end")


def test_a4_a_child_that_is_killed_again_and_again_is_counted_and_ends_with_people():
    """A hard time limit kills the child of the pool without a word, whoever set it: its lease runs out, and that counts."""
    from backlog_worker.lifecycle import claim
    from backlog_worker.testing import bench

    class Killed(BaseException):
        """The pool's child is gone."""

    table = bench()
    (filed,) = table.file({})

    def _killed(_job, _work):
        raise Killed

    table.executor.results["draft"] = [_killed] * 50
    for _ in range(40):
        table.tick()
        while table.bells:
            bell = table.bells.popleft()
            try:
                table.answer(bell)
            except Killed:
                table.kit.heart.rest(list(table.kit.heart._takes))
        table.clock.forward(20)
        table.bells += claim.sweep(table.kit)
    with table.kit.store.read() as unit:
        entry = unit.hold([filed.entry_id])[filed.entry_id]
    assert entry.status == "escalated"
    assert entry.expiries == 3
    assert "lost 3 times" in entry.reason


def test_a4_the_schedule_knows_its_steps():
    from celery.schedules import crontab, schedule

    assert door.trigger.step_of(schedule(2.0)) == 2.0
    assert door.trigger.step_of(schedule(timedelta(minutes=1))) == 60.0
    assert door.trigger.step_of(crontab(minute="0")) == 0.0
