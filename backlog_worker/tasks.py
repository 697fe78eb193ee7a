"""One Celery task per step: ids in, one lifecycle call, bells rung after its commit."""

import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from billiard import common
from celery import current_task, signals
from celery.worker.request import Request

from backlog_worker import settings as environment
from backlog_worker import telemetry
from backlog_worker.celery import HERE, MARK, SETTINGS, TASKS, app, fingerprint, ring
from backlog_worker.domain.bell import Bell, Step
from backlog_worker.domain.errors import BacklogError, BusyError, UnreachableError
from backlog_worker.domain.masking import cut
from backlog_worker.executors import process, workspace
from backlog_worker.lifecycle import (
    Kit,
    alerts,
    claim,
    dispatch,
    journal,
    review,
    ringing,
    send,
    stage,
    tools,
    triggers,
)
from backlog_worker.lifecycle.loops import Loop, attempt
from backlog_worker.store import migrate
from backlog_worker.telemetry import emit
from backlog_worker.wiring import kit_of

SEEN_SECONDS = 10.0
TIDY_SECONDS = 300.0
TOLD_SECONDS = 86_400.0  # bells of another backlog are reported once a day
STRANGERS_MAX = 100
_strangers: set[str] = set()
# Message headers that are ignored: the settings or the database decide instead.
UNSAID = {"timelimit": None, "eta": None, "expires": None, "retries": 0, "callbacks": None, "errbacks": None}
_stopping = threading.Event()


@lru_cache(maxsize=1)
def kit() -> Kit:
    """Return the kit of this process, built by its first task, after the fork."""
    return replace(kit_of(SETTINGS, fleet=True), ring=_ring, stopping=_stops)


def _stops(_error: BaseException) -> bool:
    """Say whether this process was told to stop: the worker by its shutdown, a child of its pool by a signal."""
    return _stopping.is_set() or bool(getattr(common, "terminate_handler_fired", bool)())


class Received(Request):
    """A message from the broker, reduced to its step and ids.

    Time limits, delays, expiries and retry counts in its headers are dropped, forged or not: they would be decided by
    the author of the message or by the clock of their host.
    """

    def __init__(self, message: Any, **named: Any) -> None:  # noqa: ANN401 - kombu's message, which has no types
        headers = message.headers if named.get("headers") is None else named["headers"]
        super().__init__(message, **{**named, "headers": {**headers, **UNSAID}})


def _step(step: Step) -> Callable[[Callable[..., None]], Any]:
    """Return a decorator that makes a function the task with the step's fixed name."""
    return app.task(name=TASKS[step], Request=f"{__name__}:{Received.__name__}")


@_step(Step.DISPATCH)
def dispatch_tick() -> None:
    """Dispatch entries: run one tick."""
    _heard("dispatch")
    _do("dispatch", lambda: dispatch.tick(kit()))


@_step(Step.SWEEP)
def sweep() -> None:
    """Reclaim lost work, ring again, and merge a journal."""
    _heard("sweep")
    _do("sweep", lambda: claim.sweep(kit()))
    _do("merge", lambda: journal.merge(kit()))
    _do("away", lambda: alerts.away(kit()))


@_step(Step.TRIGGERS)
def file_scheduled() -> None:
    """File entries for due schedules of pipelines."""
    _heard("triggers")
    _do("triggers", lambda: triggers.scheduled(kit()))


@_step(Step.CLAIM)
def claim_entries(*entry_ids: str) -> None:
    """Claim entries for this worker and perform their first stages."""
    _do("claim", lambda: claim.take(kit(), entry_ids))


@_step(Step.STAGE)
def do_stage(run_id: str, job_id: str) -> None:
    """Take the next stage of a run and perform it."""
    _do("stage", lambda: stage.advance(kit(), run_id, job_id))


@_step(Step.HUMAN_REVIEW)
def human_review(entry_id: str) -> None:
    """Announce a dead letter and end: a person answers by command, not in this task."""
    _do("human_review", lambda: review.open_dead_letter(kit(), entry_id))


@_step(Step.SEND)
def send_writebacks() -> None:
    """Deliver the messages due in the outbox."""
    _heard("send")
    _do("send", lambda: send.send(kit()))


@_step(Step.JOB)
def run_job(name: str) -> None:
    """Run one governed job by its name."""
    _heard(name)

    def _job() -> None:
        try:
            tools.job(kit(), name)
        except BacklogError as error:
            emit("job_failed", job=name, error=str(error))
            raise

    _do(f"job.{name}", _job)


def _do(name: str, step: Callable[[], object]) -> None:
    """Run one step and ring its bells; any error is logged in one line, and the sweep rings again."""
    if not attempt(name, _ours).value:
        return
    found = attempt(name, step).value
    _ring([each for each in found if isinstance(each, Bell)] if isinstance(found, list) else [])


def _heard(name: str) -> None:
    """Record that a tick arrived; without one the clock sends ever fewer."""

    def _hear() -> None:
        with kit().store.begin(actor="clock") as unit:
            unit.hear(name)

    if attempt("heard", _ours).value:
        attempt("heard", _hear)


def _ring(bells: Sequence[Bell]) -> None:
    """Send bells; those that could not be sent are marked for the next sweep."""
    attempt("ring", lambda: ringing.unheard(kit(), ring(bells)))


def _ours() -> bool:
    """Return whether the current bell was rung for this backlog; a bell without a mark was not.

    The sweep of its own backlog rings again, so refusing it loses nothing.
    """
    request = getattr(current_task, "request", None)
    if request is None or request.called_directly:
        return True
    said = (request.headers or {}).get(MARK)
    try:
        if said == fingerprint():
            return True
    except (
        UnreachableError,
        BusyError,
    ):  # nothing can be processed now, but people can be notified
        return True
    _refused(said if isinstance(said, str) and _MARKED.fullmatch(said) else "none")
    return False


def _refused(stranger: str) -> None:
    """Report bells of another backlog: once for each such backlog, on whichever worker they arrive."""
    if stranger in _strangers or len(_strangers) >= STRANGERS_MAX:
        return
    with kit().store.begin(actor="worker") as unit:
        first = unit.take_lease(f"refused:{stranger}", kit().new_id("bell"), TOLD_SECONDS)
    _strangers.add(stranger)
    if first:
        emit("bell_refused", sender=stranger, ours=fingerprint(), env=SETTINGS.env)


_MARKED = re.compile(r"[0-9a-f]{16}")


@signals.setup_logging.connect
def _logging(**_: Any) -> None:
    telemetry.configure(level=SETTINGS.log_level, as_json=SETTINGS.log_json)


@signals.worker_process_init.connect
def _forked(**_: Any) -> None:
    """Drop connections inherited from the parent without closing them."""
    if kit.cache_info().currsize:
        kit().store.engine.dispose(close=False)
    kit.cache_clear()
    environment.withdraw()


@signals.worker_ready.connect
def _ready(sender: Any, **_: Any) -> None:  # noqa: ANN401 - Celery's consumer, which has no types
    """Start announcing that this worker is alive, after killing what a dead worker of this machine left behind."""
    controller = sender.controller
    row = {
        "name": controller.hostname,
        "queues": sorted(name.removeprefix(HERE) for name in app.amqp.queues.consume_from),
        "slots": controller.concurrency,
        "schema_min": migrate.SCHEMA_MIN,
        "schema_max": migrate.SCHEMA_MAX,
    }
    for loop in (
        Loop("seen", lambda: _see(row), lambda: _rest(SEEN_SECONDS)),
        Loop("stand_in", _stand_in, lambda: _rest(SEEN_SECONDS)),
        Loop("orphans", lambda: _kill_orphans(kit()), lambda: _rest(TIDY_SECONDS)),
        Loop("tidy", lambda: _tidy(kit()), lambda: _rest(TIDY_SECONDS)),
    ):
        loop.start()
        loop.wake()


def _see(row: dict[str, Any]) -> None:
    with kit().store.begin(actor=row["name"]) as unit:
        unit.see_worker(row)


def _stand_in() -> None:
    """Evaluate the alert rules and empty the outbox if no beat is running to do so."""
    if alerts.watched(kit()):
        send.send(kit())


def _rest(seconds: float) -> float | None:
    """Return how long a loop of this worker rests, or None once the worker stops."""
    return None if _stopping.is_set() else seconds


def _tidy(of: Kit) -> None:
    """Remove the directories of ended runs; unknown runs belong to another backlog."""
    found = workspace.runs(of.gates.workspaces)
    with of.store.read() as unit:
        known = unit.runs_by_id(found)
    for run_id in found:
        if run_id in known and known[run_id]["ended_at"] is not None:
            workspace.forget(of.gates.workspaces, run_id)


def _kill_orphans(of: Kit) -> None:
    found = dict(process.orphans())
    with of.store.read() as unit:  # a run unknown to this backlog belongs to another
        ours = unit.runs_by_id(sorted(set(found.values())))
    for pid, run_id in found.items():
        if run_id in ours and ours[run_id]["ended_at"] is not None:
            process.kill_pid(pid)
            emit("orphan_killed", pid=pid, run=run_id)


@signals.worker_shutting_down.connect
def _gone(sender: object, **_: Any) -> None:
    _stopping.set()

    def _lose() -> None:
        with kit().store.begin(actor=str(sender)) as unit:
            unit.lose_worker(str(sender))

    attempt("gone", _lose)


@signals.task_unknown.connect
@signals.task_rejected.connect
def _rejected(message: object = None, exc: object = None, **_: Any) -> None:
    """Log that Celery rejected a message; no entry changed, and the sweep rings again."""
    emit("message_rejected", error=cut(str(exc), 200), headers=cut(str(getattr(message, "headers", "")), 300))
