"""The app that `celery -A backlog_worker` finds: broker, queues, routes, the schedule; ring() sends bells."""

import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from celery import Celery, signals
from celery.beat import ScheduleEntry, Scheduler, SchedulingError
from kombu import Exchange, Queue
from kombu.exceptions import OperationalError

import beat_schedule
from backlog_worker import settings as environment
from backlog_worker.domain import trigger
from backlog_worker.domain.bell import Bell, Step
from backlog_worker.domain.errors import BacklogError
from backlog_worker.domain.slots import Slots
from backlog_worker.lifecycle import slots
from backlog_worker.lifecycle.slots import Schedule
from backlog_worker.store import Store
from backlog_worker.telemetry import emit
from backlog_worker.wiring import new_id, store_of

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
# Redis takes 0 first, RabbitMQ 9: so bells carry a priority on Redis only. Runs that began go before new ones.
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
# Whatever has a name on the broker carries the environment: one broker may serve several, and nothing of one reaches
# another. The dot is in no name of an environment.
HERE = f"{SETTINGS.env}."
MARK = "backlog"  # the header of a bell that says whose it is
EXCHANGE = Exchange(
    f"{HERE}backlog", type="topic" if AMQP else "direct"
)  # a direct one makes Celery warn beside quorum queues
QUORUM = {"x-queue-type": "quorum"} if AMQP else None
# By their aliases `-Q stages` means the stages of this environment.
QUEUES = [
    Queue(HERE + name, EXCHANGE, routing_key=HERE + name, alias=name, queue_arguments=QUORUM)
    for name in sorted(set(ROUTES.values()))
]
LOOK_SECONDS = 5.0  # how often beat looks for times of day that are due
FAILS_FAST = {"max_retries": 1, "interval_start": 0, "interval_step": 0.1, "interval_max": 0.2}
REDIS = {
    "visibility_timeout": 60,  # a bell is unacked for milliseconds: bring back soon what a dying worker held
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
    task_reject_on_worker_lost=False,  # the count of lost workers is ours
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
    worker_send_task_events=False,  # monitors switch them on while they run
    task_send_sent_event=False,
    worker_max_tasks_per_child=2000,  # what libraries leak goes with the child; a new one costs a second without work
    worker_soft_shutdown_timeout=0,  # it sleeps its whole length; a stopped stage is given back at once
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
    """Return the mark of this backlog, which every bell carries; raises UnreachableError."""
    store = store_of(SETTINGS)
    try:
        return store.fingerprint()
    finally:
        store.close()


@signals.before_task_publish.connect
def _marked(headers: dict[str, Any], **_: Any) -> None:
    """Say on every message that this process sends whose it is; without its mark it is refused and rung again."""
    with suppress(BacklogError):
        headers[MARK] = fingerprint()


def ring(bells: Sequence[Bell]) -> list[Bell]:
    """Send bells after the commit that made them; never raises, but returns those that could not be sent."""
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
        emit("bells_unsent", count=len(left), error=str(error)[:200])
    return left


class SlotScheduler(Scheduler):
    """A schedule of which any number of beats may run: a row per entry, moved by compare-and-set, decides who sends.

    Times of day are asked of the database, whatever this host's clock says: what passed while no beat, no broker or no
    database was there is found at the next look.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self._store: Store = store_of(SETTINGS)
        self._look = 0.0
        super().__init__(*arguments, **named)

    def setup_schedule(self) -> None:
        """Take the entries of beat_schedule.py."""
        self.merge_inplace(self.app.conf.beat_schedule)

    def tick(self, *arguments: Any, **named: Any) -> float:
        """Send what is due, and look at the times of day every few seconds."""
        if time.monotonic() >= self._look:
            self._look = time.monotonic() + LOOK_SECONDS
            for entry in list(self.schedule.values()):
                if trigger.cron_in(str(entry.schedule)):
                    self._sent(entry)
        return float(super().tick(*arguments, **named))

    def apply_async(self, entry: ScheduleEntry, producer: Any = None, advance: bool = True, **named: Any) -> Any:  # noqa: ANN401 - Celery's signature
        """Send one entry, unless another beat has taken its slot; a time of day is sent by the next look instead."""
        if trigger.cron_in(str(entry.schedule)):
            self._look = 0.0
        else:
            with self._store.begin(actor="beat") as unit:
                mine = unit.take_slot(f"beat:{entry.name}", _step(entry, unit.now()))
            if mine:
                return super().apply_async(entry, producer=producer, advance=advance, **named)
        return self.reserve(entry) if advance else None

    def _sent(self, entry: ScheduleEntry) -> None:
        """Send what is due of a time of day; what cannot be sent is given back to the next look."""
        name = str(entry.name)
        line = Slots.of(trigger.cron_in(str(entry.schedule)))
        schedule = Schedule(env=SETTINGS.env, name=f"beat:{name}", slots=line, catch_up=_catch_up(name))
        try:
            with self._store.begin(actor="beat") as unit:
                taken = slots.take(unit, schedule, new_id)
        except BacklogError as error:
            emit("database_away", error=str(error))
            return
        if taken is None:
            return
        try:
            for _ in taken.due.run:
                super().apply_async(entry, producer=self.producer, advance=False)
        except (SchedulingError, OperationalError, OSError) as error:
            emit("bells_unsent", count=1, error=str(error)[:200])
            with suppress(BacklogError), self._store.begin(actor="beat") as unit:
                unit.leave_slot(schedule.name, taken.until, taken.before)


def _catch_up(name: str) -> str:
    """Return what becomes of missed slots of a job; a schedule of one's own may leave CATCH_UP out."""
    return str(getattr(beat_schedule, "CATCH_UP", {}).get(name, slots.ONCE))


def _step(entry: ScheduleEntry, now: datetime) -> datetime:
    """Return the present step of an interval: so beats that start at different times agree, and one of them sends."""
    every = getattr(entry.schedule, "run_every", timedelta(seconds=1))
    step = every.total_seconds()
    return datetime.fromtimestamp(now.timestamp() // step * step, UTC)
