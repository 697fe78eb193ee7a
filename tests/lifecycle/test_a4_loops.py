"""No loop dies of one bad thing: each is broken with each class of error, and goes on."""

import errno
import os
import threading
import time
from dataclasses import replace
from functools import partial

import psycopg
import pytest

from backlog_worker import telemetry
from backlog_worker.domain import trigger
from backlog_worker.domain.bell import Step
from backlog_worker.domain.budget import Usage
from backlog_worker.domain.errors import BusyError, ConflictError, FullError, StoreError, UnreachableError
from backlog_worker.domain.outcome import Done
from backlog_worker.executors import Work
from backlog_worker.executors.process import Child, Limits, run
from backlog_worker.lifecycle import claim, definitions, dispatch, duties, heart, loops, stage
from backlog_worker.lifecycle.heart import Heart
from backlog_worker.lifecycle.loops import Loop, attempt, insist
from backlog_worker.store import Store
from backlog_worker.testing import PIPELINE, POLICY, Bench, bench
from tests.hole import Hole

ERRORS = [
    UnreachableError("gone"),
    FullError("no room"),
    BusyError("locked"),
    StoreError("refused"),
    ConflictError("changed"),
    KeyError("foreign"),
    OSError(errno.ENOSPC, "No space left on device"),
    RecursionError("deep"),
    MemoryError("none left"),
]
EACH = pytest.mark.parametrize("error", ERRORS, ids=lambda each: type(each).__name__)
DATABASE = pytest.mark.parametrize("error", ERRORS[:4], ids=lambda each: type(each).__name__)


@pytest.fixture
def said(monkeypatch) -> list[str]:
    """The events that were emitted."""
    found: list[str] = []
    original = telemetry.emit

    def _emit(event, **fields):
        found.append(event)
        original(event, **fields)

    for module in (loops, duties, heart, definitions, claim, stage):
        if hasattr(module, "emit"):
            monkeypatch.setattr(module, "emit", _emit)
    return found


class Faults:
    """Raises at the next so many transactions of a store."""

    def __init__(self, store: Store, monkeypatch) -> None:
        self.waiting: list[BaseException] = []
        begin, read = store.begin, store.read

        def _failing(original):
            def _open(*arguments, **named):
                if self.waiting:
                    raise self.waiting.pop(0)
                return original(*arguments, **named)

            return _open

        monkeypatch.setattr(store, "begin", _failing(begin))
        monkeypatch.setattr(store, "read", _failing(read))


@EACH
def test_a4_a_loop_says_what_happened_and_goes_on(error, said, eventually):
    calls, over = [], threading.Event()

    def _body():
        calls.append(1)
        if len(calls) < 3:
            raise error

    loop = Loop("test", _body, lambda: None if over.is_set() else 0.01)
    loop.start()
    eventually(lambda: loop.done_at is not None, within=10)
    assert len(calls) >= 3
    assert loop.failures == 0
    assert len(said) >= 2
    over.set()
    eventually(lambda: not loop.watched())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a4_a_loop_whose_thread_ended_or_stands_still_is_replaced(said, eventually, monkeypatch):
    calls, over, hangs = [], threading.Event(), threading.Event()

    def _body():
        calls.append(threading.current_thread())
        if len(calls) == 1:
            raise SystemExit  # the one thing that ends a thread
        if len(calls) == 2:
            hangs.wait(30)

    loop = Loop("test", _body, lambda: None if over.is_set() else 0.01)
    loop.start()
    eventually(lambda: len(calls) == 1 and not calls[0].is_alive())
    loops.watch()
    eventually(lambda: len(calls) == 2)
    monkeypatch.setattr(loops, "STUCK_SECONDS", 0.0)
    loops.watch()
    monkeypatch.undo()
    eventually(lambda: len(calls) >= 4)
    hangs.set()
    eventually(lambda: not calls[1].is_alive(), what="the end of the one that was replaced")
    over.set()
    eventually(lambda: not loop.watched())


def test_a4_a_log_that_cannot_be_written_stops_nobody(monkeypatch):
    class Full:
        def write(self, _text):
            raise OSError(errno.ENOSPC, "No space left on device")

        flush = write

    import structlog

    before = structlog.get_config()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(file=Full()), cache_logger_on_first_use=False)
    try:
        assert isinstance(attempt("x", lambda: {}["no"]).error, KeyError)
    finally:
        structlog.configure(**before)


@DATABASE
def test_a4_a_step_is_tried_again_only_where_that_helps(error):
    waiting = [error, error]

    def _step():
        if waiting:
            raise waiting.pop()
        return "done"

    if isinstance(error, BusyError):
        assert insist(_step) == "done"
        return
    with pytest.raises(type(error)):
        insist(_step)
    if isinstance(error, UnreachableError):
        assert insist(_step, given_up=lambda: False) == "done"


@DATABASE
def test_a4_no_step_of_an_entry_is_stopped_by_one_bad_transaction(error, monkeypatch):
    """Whatever transaction fails, once, on the way from draft to record: the entry comes to its end."""
    for at in range(0, 34, 1 if isinstance(error, BusyError) else 3):
        table = bench()
        (filed,) = table.file({})
        faults, seen = Faults(table.kit.store, monkeypatch), 0
        count = iter(range(10_000))
        original = table.kit.store.begin

        def _open(*arguments, count=count, faults=faults, original=original, at=at, **named):
            faults.waiting += [error] if next(count) == at else []
            return original(*arguments, **named)

        monkeypatch.setattr(table.kit.store, "begin", _open)
        for _ in range(14):
            for step in (table.tick, table.sweep):
                attempt("test", step)
            while table.bells:
                attempt("test", partial(table.answer, table.bells.popleft()))
            table.clock.forward(25)
        seen = next(count)
        refused = isinstance(error, StoreError) and table.statuses() == {"escalated": 1}  # its result, and it is said
        assert refused or table.statuses() == {"completed": 1}, f"transaction {at}"
        with table.kit.store.read() as unit:
            assert unit.held_by_pipeline("prod") == {}
            expiries = unit.value("SELECT expiries FROM entries WHERE id = :id", id=filed.entry_id)
        if isinstance(error, BusyError):
            assert expiries == 0, "no lock costs an attempt"
        if seen <= at:
            break


def test_a4_a_result_is_written_when_the_database_is_back(monkeypatch):
    table = bench()
    table.file({})
    faults = Faults(table.kit.store, monkeypatch)
    table.executor.results["draft"] = [
        lambda job, work: (
            faults.waiting.extend([UnreachableError("a"), FullError("b"), BusyError("c")]) or Done(output={"n": 1})
        )
    ]
    table.tick()
    table.ring(1)
    assert faults.waiting == []
    with table.kit.store.read() as unit:
        assert unit.value("SELECT status FROM stages WHERE job_id = 'draft'") == "completed"
    assert [job for _, job in table.executor.performed].count("draft") == 1


def test_a4_what_nobody_foresaw_in_a_job_is_a_failure_with_its_words():
    table = bench()
    table.file({})

    def _breaks(_job, _work):
        raise ZeroDivisionError("a bug of an executor")

    table.executor.results["draft"] = [_breaks]
    table.tick()
    table.ring(1)
    with table.kit.store.read() as unit:
        said = unit.value("SELECT reason FROM stages WHERE job_id = 'draft'") or unit.value(
            "SELECT reason FROM entries"
        )
    assert "a bug of an executor" in str(said)
    table.run()
    assert list(table.statuses()) in (["completed"], ["escalated"]), "what the policy says of a fault of the job"


def test_a4_an_executor_that_raises_tells_no_secret(capsys):
    pipeline = PIPELINE.replace('python: "fake:draft"', 'python: "fake:draft", env: { KEY: "${{ secrets.TOKEN }}" }')
    table = bench(pipelines=[pipeline], secrets={"TOKEN": "hunter2hunter2"})
    table.file({})

    def _breaks(_job, work):
        raise ValueError(f"bad key {work.env['KEY']}")

    table.executor.results["draft"] = [_breaks] * 3
    table.tick()
    table.ring(1)
    with table.kit.store.read() as unit:
        rows = [
            tuple(row)
            for table_name in ("stages", "entries", "events", "runs")
            for row in unit.run(f"SELECT * FROM {table_name}")
        ]
    assert "bad key" in str(rows)
    assert "hunter2hunter2" not in str(rows) + "".join(capsys.readouterr())


DUTIES = [
    "sweep.expired",
    "sweep.deadlines",
    "sweep.reviews",
    "sweep.runs",
    "sweep.unbarred",
    "sweep.lost",
    "sweep.rings",
    "sweep.pending",
]


@pytest.mark.parametrize("broken", DUTIES)
@EACH
def test_a4_a_duty_that_fails_says_so_and_the_others_go_on(broken, error, monkeypatch, said):
    table = bench()
    done = []
    original = loops.attempt

    def _attempt(name, step, **where):
        done.append(name)

        def _broken():
            raise error

        return original(name, _broken if name == broken else step, **where)

    monkeypatch.setattr(claim, "attempt", _attempt)
    monkeypatch.setattr(duties, "attempt", _attempt)
    claim.sweep(table.kit)
    assert said
    assert {name for name in DUTIES if name != "sweep.deadlines"} <= set(done) | {"sweep.deadlines"}


def held(table: Bench, number: int) -> list[str]:
    """So many entries in progress, whose worker is gone."""
    ids = [each.entry_id for each in table.file(*({} for _ in range(number)))]
    table.tick()
    for bell in [table.bells.popleft() for _ in range(len(table.bells))]:
        with table.kit.store.begin() as unit:
            unit.lease = 120
            policy = table.kit.book.policy(unit)
            entries = list(unit.hold(bell.ids).values())
            fit = claim._admitted(table.kit, unit, policy, entries)
            stage.onward(table.kit, unit, claim._begin_runs(table.kit, unit, fit, policy), takes="first")
    return ids


@pytest.mark.parametrize(
    "poison",
    [
        "UPDATE entries SET labels = '{no json' WHERE id = :id",
        "UPDATE entries SET created_at = 'no moment' WHERE id = :id",
        "UPDATE definitions SET body = ': {[' WHERE hash = (SELECT pipeline_hash FROM entries WHERE id = :id) AND kind = 'pipeline' AND :id <> ''",
    ],
)
def test_a4_one_poisoned_entry_keeps_no_other_from_the_sweep(poison, tmp_path):
    table = bench(url=f"sqlite:///{tmp_path / 'backlog.db'}")
    bad, *good = held(table, 4)
    table.kit.book._parsed.clear()
    with table.kit.store.begin() as unit:
        unit.run(poison, id=bad)
    table.clock.forward(400)
    claim.sweep(table.kit)  # it was away itself, and gives grace
    table.clock.forward(400)
    with table.kit.store.begin() as unit:
        unit.take_lease("sweep:prod", "x", 1)
    table.clock.forward(2)
    claim.sweep(table.kit)
    with table.kit.store.read() as unit:
        left = {row[0]: row[1] for row in unit.run("SELECT id, status FROM entries")}
    assert all(left[each] in {"queued", "retrying"} for each in good), left


def test_a4_many_poisoned_entries_keep_no_other_from_the_sweep(tmp_path, monkeypatch):
    monkeypatch.setattr(duties, "SWEPT", 3)
    table = bench(url=f"sqlite:///{tmp_path / 'backlog.db'}")
    *bad, good = held(table, 9)
    with table.kit.store.begin() as unit:
        for age, each in enumerate(bad):
            unit.run(
                "UPDATE entries SET labels = '{no json', leased_until = :at WHERE id = :id",
                id=each,
                at=table.clock.now - 900 + age,
            )
        unit.run("UPDATE entries SET leased_until = :at WHERE id = :id", id=good, at=table.clock.now - 10)
    with table.kit.store.begin() as unit:
        unit.take_lease("sweep:prod", "x", 1)
    for _ in range(5):
        table.sweep()
    with table.kit.store.read() as unit:
        assert unit.value("SELECT status FROM entries WHERE id = :id", id=good) == "queued"


@DATABASE
def test_a4_the_heart_goes_on_after_any_error_and_holds_its_takes(error, monkeypatch, eventually, said):
    table = bench()
    faults = Faults(table.kit.store, monkeypatch)
    beats = Heart(table.kit.store)
    kept = []
    monkeypatch.setattr(
        Heart, "_renewed", lambda self, takes, lease: kept.append(1) or (_touch(self._store), set(takes))[1]
    )
    monkeypatch.setattr(Heart, "_held", lambda self, takes: (_touch(self._store), set(takes))[1])
    faults.waiting += [error] * 3
    stop = beats.watch(("run", "job", 1), lease=60, every=0.05, limit=60)
    eventually(lambda: len(kept) >= 5)
    assert (
        said.count("loop_failed")
        + said.count("database_away")
        + said.count("database_busy")
        + said.count("step_refused")
        >= 1
    )
    assert not stop.gone
    beats.rest([("run", "job", 1)])
    eventually(lambda: not beats._beat.watched(), what="the end of its thread, which reads the store")


def _touch(store: Store) -> None:
    with store.read():
        pass


def test_a4_a_child_is_stopped_before_its_lease_is_over_whatever_the_database_does(
    postgres_url, tmp_path, monkeypatch, eventually
):
    """The network swallows every packet: the first loop waits for it, and the clock of this process decides."""
    hole = Hole(postgres_url)
    table = bench(url=hole.url)
    lease = 3.0
    table.file({})
    table.tick()
    ends = {}

    def _long(_job, work: Work):
        hole.swallows.set()
        ends["began"] = time.monotonic()
        child = Child(arguments=["sleep", "60"], folder=tmp_path, env=dict(os.environ), stop=work.stop)
        ended = run(child, Limits(timeout=60))
        ends["ended"] = time.monotonic()
        ends["killed"] = ended.killed
        hole.swallows.clear()
        return Done(output={})

    table.executor.results["draft"] = [_long]
    policy = POLICY.replace("timeout: 2m, heartbeat: 30s", f"timeout: {lease:g}s, heartbeat: 1s")
    table.texts.texts[0] = replace(table.texts.texts[0], body=policy.replace("version: 1", "version: 2"))
    definitions.reload(table.kit.store, table.kit.book, table.texts, author="ana")
    since = time.monotonic()
    bell = next(each for each in table.bells if each.step == Step.CLAIM)
    table.answer(bell)
    assert ends["killed"]
    assert ends["ended"] - since < lease + 0.5, "the lease began after the transaction did"
    assert ends["ended"] - ends["began"] < lease, "its child is dead before anybody else may hold the entry"
    hole.close()


def test_a4_a_lease_counts_from_before_the_transaction_that_gave_it():
    table = bench()
    beats = Heart(table.kit.store)
    stop = beats.watch(("run", "job", 1), lease=10, every=60, limit=600, since=time.monotonic() - 11)
    beats.keep_time()
    assert stop.gone


@DATABASE
def test_a4_what_was_spent_is_never_lost_to_an_error(error, monkeypatch, eventually):
    table = bench()
    table.file({})
    faults = Faults(table.kit.store, monkeypatch)

    def _spends(_job, work: Work):
        faults.waiting += [error] * 3
        work.report.spend(Usage(model="m", input_tokens=5, output_tokens=5))
        return Done(output={})

    table.executor.results["draft"] = [_spends]
    table.tick()
    table.ring(1)

    def _paid():
        with table.kit.store.read() as unit:
            return unit.value("SELECT count(*) FROM spending") == 1

    eventually(lambda: attempt("test", _paid).value, within=15)


def test_a4_a_foreign_lock_costs_a_tick_and_nothing_else(postgres_url, monkeypatch):
    from backlog_worker.store.sql import connection

    monkeypatch.setattr(connection, "_OPTIONS", connection._OPTIONS.replace("lock_timeout=10000", "lock_timeout=100"))
    table = bench(url=postgres_url)
    table.file({}, {})
    with psycopg.connect(postgres_url) as foreign:
        foreign.execute("LOCK TABLE workers, entries IN ACCESS EXCLUSIVE MODE")
        for step in (lambda: dispatch.tick(table.kit), lambda: claim.sweep(table.kit)):
            assert attempt("test", step).error is None or attempt("test", step).elsewhere
    table.run(4)
    assert table.statuses() == {"completed": 2}


def test_a4_a_live_definition_that_this_release_cannot_read_leaves_the_last_good_one(tmp_path):
    table = bench()
    other = PIPELINE.replace("version: 1", "version: 2")
    table.texts.texts = [table.texts.texts[0], replace(table.texts.texts[1], body=other)]
    table.tick()
    with table.kit.store.begin() as unit:
        unit.run("UPDATE definitions SET body = 'env: [' WHERE live")
        unit.run("UPDATE definitions SET body = body || ' ' WHERE NOT live")
    table.kit.book._parsed.clear()
    with table.kit.store.read() as unit:
        assert table.kit.book.pipeline(unit, "spec").version == "1"
        assert list(table.kit.book.pipelines(unit)) == ["spec"]
    assert any("of the database" in file for file in table.kit.book.findings)


T0 = 1_800_000_000.0


@pytest.mark.parametrize("skew", [-3600, -5, 5, 3600])
def test_a4_no_clock_of_a_host_decides(skew, monkeypatch):
    """The database's clock stands where it is; that of this host is off."""
    original = time.time
    monkeypatch.setattr(time, "time", lambda: original() + skew)
    table = bench()
    table.file({}, {})
    table.run()
    assert table.statuses() == {"completed": 2}


def test_a4_ticks_that_nobody_hears_become_rare_and_none_stops_for_ever():
    from datetime import UTC, datetime, timedelta

    start = datetime(2027, 1, 1, tzinfo=UTC)
    sent, heard, count, step = None, None, 0, 2.0
    for second in range(86_400):
        now = start + timedelta(seconds=second)
        slot = datetime.fromtimestamp(now.timestamp() // step * step, UTC)
        if trigger.to_send(slot, sent, heard, now=now, step=step):
            sent, count = slot, count + 1
            if second < 100:
                heard = now
    assert count < 60 + 86_400 / 60, "a day without workers piles up one a minute"
    heard = now
    assert trigger.to_send(sent + timedelta(seconds=2), sent, heard, now=now + timedelta(seconds=2), step=step), (
        "and then it goes on"
    )
    assert trigger.to_send(start, sent, heard, now=start, step=step), "a clock that was set back stops no interval"
    assert not trigger.to_send(start, sent, None, now=start, step=0.0), "and doubles no time of day"
    assert trigger.to_send(sent + timedelta(days=1), sent, None, now=sent + timedelta(days=1), step=0.0)
