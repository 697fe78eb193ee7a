"""One Celery task per step: ids in, one lifecycle call, bells rung after its commit."""

import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from celery import current_task, signals

from backlog_worker import telemetry
from backlog_worker.celery import HERE, MARK, SETTINGS, TASKS, app, fingerprint, ring
from backlog_worker.domain.bell import Bell, Step
from backlog_worker.domain.errors import BacklogError, UnreachableError
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
from backlog_worker.store import migrate
from backlog_worker.telemetry import emit
from backlog_worker.wiring import kit_of

SEEN_EVERY = 10.0
TIDY_ROUNDS = 30  # every five minutes
TOLD_SECONDS = 86_400.0  # of a stranger's bells is told once a day
STRANGERS_MAX = 100
_strangers: set[str] = set()
_stopping = threading.Event()


@lru_cache(maxsize=1)
def kit() -> Kit:
    """Return the kit of this process, built at its first task, after the fork."""
    return replace(kit_of(SETTINGS), ring=_ring)


@app.task(name=TASKS[Step.DISPATCH])
def dispatch_tick() -> None:
    """Choose who goes now."""
    _do(lambda: dispatch.tick(kit()))


@app.task(name=TASKS[Step.SWEEP])
def sweep() -> None:
    """Take back what the dead held; ring again; bring in what a journal took while the database was away."""
    _do(lambda: claim.sweep(kit()))
    _do(lambda: journal.merge(kit()))
    _do(lambda: alerts.away(kit()))


@app.task(name=TASKS[Step.TRIGGERS])
def file_scheduled() -> None:
    """File what schedules of pipelines ask for."""
    _do(lambda: triggers.scheduled(kit()))


@app.task(name=TASKS[Step.CLAIM])
def claim_entries(*entry_ids: str) -> None:
    """Claim entries for this worker and do their first stages."""
    _do(lambda: claim.take(kit(), entry_ids))


@app.task(name=TASKS[Step.STAGE])
def do_stage(run_id: str, job_id: str) -> None:
    """Take the next stage of a run and do it."""
    _do(lambda: stage.advance(kit(), run_id, job_id))


@app.task(name=TASKS[Step.HUMAN_REVIEW])
def human_review(entry_id: str) -> None:
    """Tell of a dead letter, and end: the person answers by command, not by task."""
    _do(lambda: review.open_dead_letter(kit(), entry_id))


@app.task(name=TASKS[Step.SEND])
def send_writebacks() -> None:
    """Deliver what waits in the outbox."""
    _do(lambda: send.send(kit()))


@app.task(name=TASKS[Step.JOB])
def run_job(name: str) -> None:
    """Do one governed job by its name."""

    def _job() -> None:
        try:
            tools.job(kit(), name)
        except BacklogError as error:
            emit("job_failed", job=name, error=str(error))
            raise

    _do(_job)


def _do(step: Callable[[], object]) -> None:
    """Do one step and ring its bells; a database that is away is said in one line, and the sweep rings again."""
    try:
        found = step() if _ours() else None
    except UnreachableError as error:
        emit("database_away", error=str(error))
    except BacklogError as error:
        emit("step_refused", error=str(error))
    else:
        _ring([each for each in found if isinstance(each, Bell)] if isinstance(found, list) else [])


def _ring(bells: Sequence[Bell]) -> None:
    """Send bells; what could not be sent is noted, for the next sweep."""
    try:
        ringing.unheard(kit(), ring(bells))
    except BacklogError as error:
        emit("database_away", error=str(error))


def _ours() -> bool:
    """Return whether the bell that is answered now was rung for this backlog; one without a mark was not.

    The sweep of its own backlog rings again, so refusing one loses nothing.
    """
    request = getattr(current_task, "request", None)
    if request is None or request.called_directly:
        return True
    said = (request.headers or {}).get(MARK)
    try:
        if said == fingerprint():
            return True
    except UnreachableError:  # nothing can be done to the database now, but people can be told that it is away
        return True
    _refused(said if isinstance(said, str) and _MARKED.fullmatch(said) else "none")
    return False


def _refused(stranger: str) -> None:
    """Say that bells of another backlog arrive here: once for each, however many arrive and on whatever worker."""
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
    """Forget what the parent opened, without closing it: its connections are the parent's."""
    if kit.cache_info().currsize:
        kit().store.engine.dispose(close=False)
    kit.cache_clear()


@signals.worker_ready.connect
def _ready(sender: Any, **_: Any) -> None:  # noqa: ANN401 - Celery's consumer, which has no types
    """Say that this worker lives, and go on saying so; first kill what a dead worker of this machine left behind."""
    controller = sender.controller
    row = {
        "name": controller.hostname,
        "queues": sorted(name.removeprefix(HERE) for name in app.amqp.queues.consume_from),
        "slots": controller.concurrency,
        "schema_min": migrate.SCHEMA_MIN,
        "schema_max": migrate.SCHEMA_MAX,
    }
    threading.Thread(target=_seen, args=(row,), daemon=True, name="seen").start()


def _seen(row: dict[str, Any]) -> None:
    rounds = 0
    while True:
        try:
            if rounds % TIDY_ROUNDS == 0:
                _kill_orphans(kit())
                _tidy(kit())
            rounds += 1
            with kit().store.begin(actor=row["name"]) as unit:
                unit.see_worker(row)
            if alerts.watched(kit()):  # no beat is there that would have the rules asked, or the outbox emptied
                send.send(kit())
        except BacklogError as error:  # a worker that starts before its database waits for it
            emit("database_away", error=str(error))
        if _stopping.wait(SEEN_EVERY):
            return


def _tidy(of: Kit) -> None:
    """Remove the directories of runs that have ended; those of a run that is not known belong to somebody else."""
    found = workspace.runs(of.gates.workspaces)
    with of.store.read() as unit:
        known = unit.runs_by_id(found)
    for run_id in found:
        if run_id in known and known[run_id]["ended_at"] is not None:
            workspace.forget(of.gates.workspaces, run_id)


def _kill_orphans(of: Kit) -> None:
    found = dict(process.orphans())
    with of.store.read() as unit:  # a run that this backlog does not know belongs to somebody else
        ours = unit.runs_by_id(sorted(set(found.values())))
    for pid, run_id in found.items():
        if run_id in ours and ours[run_id]["ended_at"] is not None:
            process.kill_pid(pid)
            emit("orphan_killed", pid=pid, run=run_id)


@signals.worker_shutting_down.connect
def _gone(sender: object, **_: Any) -> None:
    _stopping.set()
    try:
        with kit().store.begin(actor=str(sender)) as unit:
            unit.lose_worker(str(sender))
    except BacklogError as error:
        emit("database_away", error=str(error))


@signals.task_unknown.connect
@signals.task_rejected.connect
def _rejected(message: object = None, exc: object = None, **_: Any) -> None:
    """Say that Celery refused a message; no entry changed, and the sweep rings again."""
    emit("message_rejected", error=str(exc)[:200], headers=str(getattr(message, "headers", ""))[:300])
