"""The app that `celery -A backlog_worker` finds: broker, queues, routes, the schedule; ring() sends bells."""

import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache, partial
from typing import Any

from celery import Celery, signals
from celery.beat import ScheduleEntry, Scheduler
from kombu import Exchange, Queue
from kombu.exceptions import OperationalError

import beat_schedule
from backlog_worker import modes
from backlog_worker import settings as environment
from backlog_worker.domain import trigger
from backlog_worker.domain.bell import Bell, Step
from backlog_worker.domain.errors import BacklogError
from backlog_worker.domain.masking import cut
from backlog_worker.domain.slots import Slots
from backlog_worker.executors import isolation
from backlog_worker.lifecycle import slots
from backlog_worker.lifecycle.loops import attempt
from backlog_worker.lifecycle.slots import Look, Schedule
from backlog_worker.store import Store
from backlog_worker.telemetry import emit
from backlog_worker.wiring import new_id, store_of

modes.private()
isolation.shut()  # beat, workers and monitors hold secrets: jobs must not read them from their memory
SETTINGS = environment.load()
AMQP = SETTINGS.broker.startswith(("amqp", "pyamqp"))
TASKS = {step: f"backlog.{step}" for step in Step}
ROUTES = {
    Step.DISPATCH: "control",
    Step.SWEEP: "control",
    Step.TRIGGERS: "control",
    Step.CLAIM: "stages",
    Step.STAGE: "stages",
    Step.HUMAN_REVIEW: "dead_letter",
    Step.SEND: "writeback",
    Step.JOB: "control",
}
# Redis delivers 0 first, RabbitMQ 9, so bells carry a priority on Redis only. Runs in progress precede new ones.
PRIORITY = {
    Step.DISPATCH: 0,
    Step.SWEEP: 0,
    Step.TRIGGERS: 3,
    Step.STAGE: 3,
    Step.CLAIM: 6,
    Step.HUMAN_REVIEW: 3,
    Step.SEND: 6,
    Step.JOB: 6,
}
# Every name on the broker contains the environment, so that several can share one broker and stay separate. No name of
# an environment contains a dot.
HERE = f"{SETTINGS.env}."
MARK = "backlog"  # the header of a bell that identifies its backlog
EXCHANGE = Exchange(
    f"{HERE}backlog", type="topic" if AMQP else "direct"
)  # with quorum queues, Celery warns about direct exchanges
AWAY_SECONDS = 2.0  # until beat retries a database that did not answer
QUORUM = {"x-queue-type": "quorum"} if AMQP else None
# Under their aliases, `-Q stages` means the stages of this environment.
QUEUES = [
    Queue(HERE + name, EXCHANGE, routing_key=HERE + name, alias=name, queue_arguments=QUORUM)
    for name in sorted(set(ROUTES.values()))
]
LOOK_SECONDS = 5.0  # how often beat checks for due times of day
FAILS_FAST = {"max_retries": 1, "interval_start": 0, "interval_step": 0.1, "interval_max": 0.2}
REDIS = {
    "visibility_timeout": 60,  # bells are unacked for milliseconds: redeliver those of a dying worker soon
    "unacked_restore_interval": 10,
    "unacked_restore_throttle": 1,
    "unacked_key": f"{HERE}unacked",
    "unacked_index_key": f"{HERE}unacked_index",
    "unacked_mutex_key": f"{HERE}unacked_mutex",
    "priority_steps": list(range(10)),  # the default of four steps mixes 0 to 2
    "queue_order_strategy": "priority",
    "socket_timeout": 5,  # bounds a ring while the broker is frozen
    "socket_connect_timeout": 2,
    "socket_keepalive": True,
    "health_check_interval": 25,
    **FAILS_FAST,
}

app = Celery("backlog_worker", broker=SETTINGS.broker, include=["backlog_worker.tasks"])
app.conf.update(
    task_serializer="json",
    accept_content=["json"],  # no pickle; anything else is dropped
    task_ignore_result=True,  # a result backend would be a second truth
    result_backend=None,
    task_acks_late=False,  # acked when a slot starts it: the lease does what late acks try to do
    task_reject_on_worker_lost=False,  # we count lost workers ourselves
    worker_prefetch_multiplier=1,
    worker_disable_prefetch=not AMQP,
    task_queues=QUEUES,
    task_routes={TASKS[step]: {"queue": HERE + name, "routing_key": HERE + name} for step, name in ROUTES.items()},
    task_create_missing_queues=False,  # a mistyped name fails at once
    task_default_queue=f"{HERE}control",
    task_default_exchange=EXCHANGE.name,
    task_default_exchange_type=EXCHANGE.type,
    task_default_routing_key=f"{HERE}control",
    control_exchange=f"{HERE}pidbox",  # or `celery control shutdown` would stop the workers of all
    event_exchange=f"{HERE}celeryev",
    event_queue_prefix=f"{HERE}celeryev",
    task_default_queue_type="quorum" if AMQP else "classic",
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,  # the default gives up after a hundred tries
    broker_channel_error_retry=AMQP,  # else RabbitMQ's consumer timeout ends the worker
    broker_transport_options=dict(FAILS_FAST) if AMQP else REDIS,
    worker_send_task_events=False,  # monitors enable them while they run
    task_send_sent_event=False,
    worker_max_tasks_per_child=2000,  # frees memory that libraries leak; a new child costs a second
    worker_soft_shutdown_timeout=0,  # Celery sleeps for all of it; a stopped stage is given back at once
    worker_cancel_long_running_tasks_on_connection_loss=False,
    worker_enable_remote_control=True,
    worker_hijack_root_logger=False,
    task_time_limit=SETTINGS.stage_seconds_max + 120,
    beat_schedule=beat_schedule.BEAT_SCHEDULE,
    beat_scheduler="backlog_worker.celery:SlotScheduler",
    beat_max_loop_interval=5,
    timezone="UTC",
    enable_utc=True,
)


@lru_cache(maxsize=1)
def fingerprint() -> str:
    """Return the fingerprint of this backlog, which every bell carries; raises UnreachableError."""
    store = store_of(SETTINGS)
    try:
        return store.fingerprint()
    finally:
        store.close()


@signals.before_task_publish.connect
def _marked(headers: dict[str, Any], **_: Any) -> None:
    """Mark every message that this process sends with the fingerprint; a bell without it is refused and rung again."""
    with suppress(BacklogError):
        headers[MARK] = fingerprint()


def ring(bells: Sequence[Bell]) -> list[Bell]:
    """Send bells after the commit that created them; never raises, and returns those that could not be sent."""
    left = list(bells)
    if not left:
        return []
    try:
        with app.producer_or_acquire() as producer:
            for bell in bells:
                app.send_task(
                    TASKS[bell.step],
                    bell.ids,
                    task_id=bell.task_id,
                    producer=producer,
                    retry=False,
                    argsrepr=" ".join(bell.ids),
                    kwargsrepr="",
                    priority=None if AMQP else PRIORITY[bell.step],
                )
                left.pop(0)
    except (OperationalError, OSError) as error:
        emit("bells_unsent", count=len(left), error=cut(str(error), 200))
    return left


class SlotScheduler(Scheduler):
    """A schedule shared by any number of beats: a row per entry, moved by compare-and-set, decides which one sends.

    Only the database's clock decides what is due. Times that passed while no beat, broker or database was available are
    found at the next look.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self._store: Store = store_of(SETTINGS)
        self._look = 0.0
        super().__init__(*arguments, **named)

    def setup_schedule(self) -> None:
        """Load the entries of beat_schedule.py."""
        self.merge_inplace(self.app.conf.beat_schedule)

    def tick(self, *_: Any, **__: Any) -> float:
        """Send due entries; returns the seconds until the next look. Never raises: the next look tries again."""
        looked = attempt("beat", self._steps)
        due, seconds = looked.value or ([], AWAY_SECONDS)
        for entry in due:
            attempt("beat", partial(self._send, entry), entry=entry.name)
        if time.monotonic() >= self._look:
            self._look = time.monotonic() + LOOK_SECONDS
            for entry in list(self.schedule.values()):
                if trigger.cron_in(str(entry.schedule)):
                    self._sent(entry)
        return seconds

    def _send(self, entry: ScheduleEntry) -> bool:
        """Send one entry whose slot was taken; returns false quickly if the broker does not accept it."""
        try:
            with self.app.producer_or_acquire() as producer:
                named = {**(entry.options or {}), "producer": producer, "retry": False}
                self.app.send_task(str(entry.task), entry.args, entry.kwargs, **named)
        except (OperationalError, OSError) as error:
            emit("bells_unsent", count=1, error=cut(str(error), 200))
            return False
        return True

    def _steps(self) -> tuple[list[ScheduleEntry], float]:
        """Take the due interval steps; returns them and the seconds until the next one."""
        with self._store.read() as unit:
            now, rows = unit.now(), {row["name"]: row["until"] for row in unit.leases()}
        steps = {name: trigger.step_of(entry.schedule) for name, entry in self.schedule.items()}
        due = []
        for name, step in steps.items():
            if step:
                slot = datetime.fromtimestamp(now.timestamp() // step * step, UTC)
                before, heard = rows.get(f"beat:{name}"), rows.get(f"heard:{name}")
                if trigger.to_send(slot, before, heard, now=now, step=step):
                    due.append((name, slot, before))
        taken = self._taken(due) if due else []
        return taken, min([AWAY_SECONDS, *(step - now.timestamp() % step for step in steps.values() if step)])

    def _taken(self, due: Sequence[tuple[str, datetime, datetime | None]]) -> list[ScheduleEntry]:
        with self._store.begin(actor="beat") as unit:
            return [self.schedule[name] for name, slot, before in due if unit.move_slot(f"beat:{name}", slot, before)]

    def _sent(self, entry: ScheduleEntry) -> None:
        """Send the due slot of a time of day; an unsent slot is given back for the next look."""
        name = str(entry.name)
        line = Slots.of(trigger.cron_in(str(entry.schedule)))
        schedule = Schedule(env=SETTINGS.env, name=f"beat:{name}", slots=line, catch_up=_catch_up(name))
        taken = attempt("beat", partial(self._take, schedule), entry=name).value
        for _ in taken.due.run if taken is not None else ():
            if not attempt("beat", partial(self._send, entry), entry=name).value and taken is not None:
                attempt("beat", partial(self._leave, schedule.name, taken), entry=name)
                return

    def _take(self, schedule: Schedule) -> Look | None:
        with self._store.begin(actor="beat") as unit:
            return slots.take(unit, schedule, new_id)

    def _leave(self, name: str, taken: Look) -> None:
        with self._store.begin(actor="beat") as unit:
            unit.leave_slot(name, taken.until, taken.before)


def _catch_up(name: str) -> str:
    """Return what to do with missed slots of a job; custom schedules may omit CATCH_UP."""
    return str(getattr(beat_schedule, "CATCH_UP", {}).get(name, slots.ONCE))
