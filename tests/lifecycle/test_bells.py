"""Bells: one for each entry while all is well, and again when one is lost."""

import contextlib

import pytest

from backlog_worker.domain.bell import Step
from backlog_worker.domain.outcome import Done, FailureKind, Refused
from backlog_worker.lifecycle import claim, dispatch, ringing
from backlog_worker.testing import POLICY, bench

TWO = """\
name: spec
jobs:
  - { id: a, python: "f:a" }
  - { id: b, python: "f:b" }
  - { id: c, python: "f:c", dependsOn: [a, b] }
"""
ONE = 'name: spec\njobs:\n  - { id: a, python: "f:a" }\n'
AHEAD = POLICY.replace("ahead: 10", "ahead: 4").replace("top: 20", "top: 100")


class Fleet:
    """Slots that answer bells from a queue; a job lasts as long as it is told, in the clock of the bench."""

    def __init__(self, table, slots, seconds):
        self.table, self.slots, self.seconds = table, slots, seconds
        self.queue = []
        self.rung = []
        self.busy = []  # (ends at, run, job)
        self.see()

    def see(self, queues=("stages", "control", "dead_letter", "writeback")):
        row = {"name": "w", "queues": list(queues), "slots": self.slots, "schema_min": 1, "schema_max": 9}
        with self.table.kit.store.begin() as unit:
            unit.see_worker(row)

    def ring(self, bells):
        self.rung += bells
        self.queue += bells

    def begin(self):
        """Let idle slots take bells, and stand in their jobs."""
        while len(self.busy) < self.slots and self.queue:
            bell = self.queue.pop(0)
            if bell.step != Step.CLAIM:
                continue
            with self.table.kit.store.begin(actor="w") as unit:
                policy = self.table.kit.book.policy(unit)
                unit.lease = 600.0
                held = unit.hold(bell.ids)
                ready = [entry for entry in held.values() if entry.status == "ready"]
                starts = claim._begin_runs(
                    self.table.kit, unit, claim._admitted(self.table.kit, unit, policy, ready), policy
                )
                taken, _ = claim.stage.onward(self.table.kit, unit, starts, takes="first")
                unit.run("UPDATE stages SET leased_until = {later} WHERE status = 'running'", lease=600.0)
            self.busy += [(self.table.clock.now + self.seconds, each) for each in taken]

    def end(self):
        """End the jobs whose time has come."""
        for at, each in list(self.busy):
            if self.table.clock.now >= at:
                self.busy.remove((at, each))
                taken, bells = claim.stage._checkpoint_all(
                    self.table.kit, [claim.stage.Ended(taken=each, result=Done(output={}), tried=each.tried)]
                )
                assert not taken
                self.ring(bells)

    def pass_time(self, seconds, *, lose=lambda bells: bells):
        for _ in range(int(seconds / 2)):
            self.end()
            self.begin()
            self.table.clock.forward(2)
            self.see()
            self.ring(lose(dispatch.tick(self.table.kit)))
            self.ring(lose(claim.sweep(self.table.kit)))
            self.begin()


def claims_of(bells):
    return [entry for bell in bells if bell.step == Step.CLAIM for entry in bell.ids]


def test_a6_a_ready_entry_is_rung_for_once_while_every_slot_is_taken():
    """Eight slots in long jobs, thirty-two entries ready, twenty minutes of sweeps: one bell each."""
    table = bench(pipelines=[ONE], policy=AHEAD)
    table.file(*({} for _ in range(40)))
    fleet = Fleet(table, 8, 480)
    fleet.pass_time(1200)
    rung = claims_of(fleet.rung)
    assert len(rung) == len(set(rung)) == 40
    assert len(fleet.busy) == 8
    waiting = claims_of(fleet.queue)
    with table.kit.store.read() as unit:
        assert unit.statuses("prod")["ready"] == len(waiting), "the depth of the queue is what waits"


def test_a6_short_jobs_make_no_more_bells_than_entries():
    table = bench(pipelines=[ONE], policy=AHEAD)
    table.file(*({} for _ in range(60)))
    fleet = Fleet(table, 4, 6)
    fleet.pass_time(160)
    rung = claims_of(fleet.rung)
    assert len(rung) == len(set(rung)) == 60
    assert table.statuses() == {"completed": 60}


def test_a6_all_bells_lost_while_all_slots_are_taken_come_back_as_slots_fall_idle():
    table = bench(pipelines=[ONE], policy=AHEAD)
    table.file(*({} for _ in range(24)))
    fleet = Fleet(table, 4, 20)
    fleet.pass_time(4)
    assert len(fleet.busy) == 4
    fleet.queue.clear()
    fleet.pass_time(200)
    assert table.statuses() == {"completed": 24}


@pytest.mark.parametrize("every", [1, 2, 3])
def test_a6_a_bell_that_is_lost_now_and_then_costs_seconds(every):
    table = bench(pipelines=[ONE], policy=AHEAD)
    table.file(*({} for _ in range(8)))
    fleet = Fleet(table, 8, 4)
    seen = iter(range(10_000))
    fleet.pass_time(6, lose=lambda bells: [each for each in bells if next(seen) % every])
    fleet.pass_time(30)
    assert table.statuses() == {"completed": 8}


def test_a6_a_bell_that_was_never_sent_is_rung_at_the_next_sweep_whatever_the_slots_do():
    table = bench(pipelines=[ONE], policy=AHEAD)
    table.file(*({} for _ in range(12)))
    fleet = Fleet(table, 4, 600)
    fleet.pass_time(4)
    waiting = fleet.queue[:]
    assert len(fleet.busy) == 4
    fleet.queue.clear()
    ringing.unheard(table.kit, waiting)
    table.clock.forward(2)
    again = claim.sweep(table.kit)
    table.clock.forward(2)
    assert sorted(claims_of(again)) == sorted(claims_of(waiting))
    assert claims_of(claim.sweep(table.kit)) == []


def test_a6_a_stage_that_waits_for_a_slot_is_rung_for_once_and_again_when_its_bell_is_lost():
    table = bench(pipelines=[TWO], slots=1)
    table.file({})
    table.tick()
    bells = []

    def slow(job, work):
        """The other stage waits for as long as this one takes the only slot."""
        for _ in range(120):
            table.clock.forward(2)
            with table.kit.store.begin() as unit:
                unit.run("UPDATE stages SET leased_until = {later} WHERE status = 'running'", lease=60.0)
                unit.run("UPDATE entries SET leased_until = {later} WHERE status = 'in_progress'", lease=60.0)
            Fleet(table, 1, 0)
            bells.extend(claim.sweep(table.kit))
        return Done(output={})

    table.executor.results["a"] = [slow]
    claim.take(table.kit, table.bells.popleft().ids)
    assert [bell for bell in bells if bell.step == Step.STAGE] == []
    table.bells.clear()  # the bell of b, lost
    for _ in range(10):
        table.sweep()
        table.ring()
    assert table.statuses() == {"completed": 1}


def test_a6_write_backs_that_are_due_are_rung_for_once():
    table = bench(pipelines=[ONE])
    table.file(*({} for _ in range(5)))
    table.tick()
    table.ring()
    sends = []
    for _ in range(60):
        sends += [bell for bell in claim.sweep(table.kit) if bell.step == Step.SEND]
        table.clock.forward(2)
    assert len(sends) == 1, "nobody listens: the one bell waits"


def test_a6_a_write_back_that_failed_is_rung_for_when_its_time_comes(monkeypatch):
    table = bench(pipelines=[ONE])
    table.file({})
    table.tick()
    table.ring()

    def away(*_):
        raise OSError

    with monkeypatch.context() as patch:
        patch.setattr(type(table.kit.tracker), "write", away)
        table.sweep()
        assert [bell.step for bell in table.bells] == [Step.SEND]
        table.ring()
        table.sweep()
        assert not table.bells, "it is tried again in two seconds, and not before"
    table.clock.forward(30)
    table.sweep()
    table.ring()
    with table.kit.store.read() as unit:
        assert unit.wishes()[0]["status"] == "sent"


def test_a6_a_dead_letter_is_rung_for_once_and_again_when_its_bell_is_lost():
    table = bench(pipelines=[ONE])
    table.executor.results["a"] = [Refused(kind=FailureKind.VALIDATION, reason="no")]
    table.file({})
    table.tick()
    table.ring(most=1)
    assert [bell.step for bell in table.bells] == [Step.HUMAN_REVIEW]
    table.bells.clear()
    rung = []
    for _ in range(40):
        Fleet(table, 4, 0)
        rung += [bell for bell in claim.sweep(table.kit) if bell.step == Step.HUMAN_REVIEW]
        table.clock.forward(2)
    assert len(rung) == 1, "a minute later, by which it counts as lost"


def test_a6_bells_that_the_broker_does_not_take_are_noted_as_never_sent(monkeypatch, tmp_path):
    """Of three bells the second finds no broker: it and those behind it are rung by the next sweep."""
    monkeypatch.setenv("BACKLOG_DATABASE_URL", f"sqlite:///{tmp_path / 'x.db'}")
    from kombu.exceptions import OperationalError

    from backlog_worker import celery, tasks

    table = bench(pipelines=[ONE])
    table.file({}, {}, {})
    table.tick()
    bells = list(table.bells)
    sent = []

    def _send(_name, ids, **_):
        if sent:
            raise OperationalError
        sent.append(ids)

    monkeypatch.setattr(celery.app, "send_task", _send)
    monkeypatch.setattr(celery.app, "producer_or_acquire", contextlib.nullcontext)
    monkeypatch.setattr(tasks, "kit", lambda: table.kit)
    tasks._ring(bells)
    again = claims_of(claim.sweep(table.kit))
    assert sorted(again) == sorted(claims_of(bells[1:]))
