"""The record of a run, the rows of its stages and runs, and its history tell the same, whatever happened."""

import random
from collections import Counter
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backlog_worker.domain.entry import ENDS
from backlog_worker.domain.measures import Counts, measured
from backlog_worker.domain.outcome import OUTSIDE, PAUSES, Asked, Done, FailureKind, Faulted, Refused, Throttled
from backlog_worker.domain.review import Answer, Decided
from backlog_worker.domain.writeback import markdown
from backlog_worker.lifecycle import audit, operate, review, watch
from backlog_worker.testing import bench
from tests.lifecycle.test_attempts import KilledError

GRAPH = """\
name: graph
retryRuns: 1
jobs:
  - { id: a, python: "f:a", retry: { maxAttempts: 2, delayMs: 1 } }
  - { id: b, python: "f:b", dependsOn: a, retry: { maxAttempts: 3, backoff: fixed, delayMs: 30000 } }
  - { id: c, python: "f:c", dependsOn: a, continueOnError: true }
  - { id: fix, python: "f:x", dependsOn: b, when: "b.status == 'failed' && b.attempts > 2" }
  - { id: d, python: "f:d", dependsOn: [b, c] }
"""
LIGHT = """\
name: light
jobs:
  - { id: a, python: "f:a", inline: true, retry: { maxAttempts: 2, delayMs: 1 } }
  - { id: b, python: "f:b", dependsOn: a, inline: true }
"""
WORLDS = 12


class World:
    """Entries under faults of every kind, deaths, quotas, questions, and people who cancel and resume."""

    def __init__(self, seed):
        self.chance = random.Random(seed)
        self.table = bench(pipelines=[GRAPH, LIGHT])
        self.goes = Counter()  # by entry, job and how it ended
        self.calm = False
        for job in ("a", "b", "c", "d", "fix"):
            self.table.executor.results[job] = Forever(self.perform)
        drafts = [{"pipeline": self.chance.choice(["graph", "light"])} for _ in range(4)]
        self.ids = [each.entry_id for each in self.table.file(*drafts)]

    def perform(self, job, work):
        result = self.result()
        self.goes[work.entry_id, job.id, "killed" if result is None else type(result).__name__] += 1
        if result is None:
            raise KilledError
        return result

    def result(self):
        dice = 1.0 if self.calm else self.chance.random()
        kind = self.chance.choice([each for each in FailureKind if each != FailureKind.POISON])
        wait = timedelta(seconds=self.chance.choice([0, 40]))
        shares = (
            (0.07, None),
            (0.2, Faulted(kind=kind, reason="boom", data={"n": 1})),
            (0.3, Faulted(kind=FailureKind.INFRASTRUCTURE, reason="away")),
            (0.34, Refused(kind=FailureKind.VALIDATION, reason="no", data=[1])),
            (0.4, Throttled(reason="429", wait=wait)),
            (0.43, Asked(question="May I?", kind="permission", detail=str(dice))),
        )
        return next((each for share, each in shares if dice < share), Done(output={"n": dice}))

    def step(self):
        for act in (self.table.tick, self.table.sweep):
            act()
            while self.table.bells:
                try:
                    self.table.answer(self.table.bells.popleft())
                except KilledError:
                    continue
        self.people()
        self.table.clock.forward(self.chance.choice([2, 15, 25]))

    def people(self):
        with self.table.kit.store.read() as unit:
            open_reviews = unit.reviews("prod")
        for each in open_reviews:
            if self.chance.random() < 0.5:
                answer = Answer.REQUEUE if each.kind == "dead_letter" else Answer.APPROVE
                if each.kind == "dead_letter" and not (self.calm or self.chance.random() < 0.3):
                    continue
                review.decide(self.table.kit, each.id, Decided(answer=answer, actor="li", reason="so"))
        if not self.calm and self.chance.random() < 0.03:
            found = self.entry(self.chance.choice(self.ids))
            if found.status not in {"completed", "failed", "canceled"}:
                operate.cancel(self.table.kit, found.id, actor="li", reason="no")

    def entry(self, entry_id):
        with self.table.kit.store.read() as unit:
            return unit.entry(entry_id)

    def lived(self):
        for number in range(70):
            self.calm = number > 35
            self.step()
        return self


class Forever(list):
    """A list of results that never ends."""

    def __init__(self, call):
        super().__init__([call])
        self.call = call

    def pop(self, _index=0):
        return self.call


@pytest.mark.parametrize("seed", range(WORLDS))
def test_b5_record_rows_and_history_agree(seed):
    world = World(seed).lived()
    assert watch.verify(world.table.kit) == []
    assert list(audit.verify(world.table.kit)) == []
    for entry_id in world.ids:
        agreed(world, world.entry(entry_id))


def agreed(world, found):
    with world.table.kit.store.read() as unit:
        events = unit.history(found.id)
        runs = unit.runs(found.id, most=1000)
        rows = unit.stages({found.id: found.pipeline_hash})[found.id] if found.pipeline_hash else {}
    counted_in(world, found, rows, events)
    recounted(found, runs, events)
    records = [event for event in events if event.change == "recorded"]
    for event in records:
        before = [each for each in events if each.seq <= event.seq]
        recorded(event.data["record"], before)
        assert markdown(event.data["record"])
    if records and found.status in {"completed", "canceled"} and records[-1].seq >= found.seq - 2:
        like_rows(records[-1].data["record"], rows, found)


def counted_in(world, found, rows, events):
    """Each attempt that a job was given is counted once: in its row, and in the history."""
    for job_id, row in rows.items():
        ended = sum(world.goes[found.id, job_id, name] for name in ("Done", "Faulted", "Refused"))
        failed = sum(world.goes[found.id, job_id, name] for name in ("Faulted", "Refused"))
        gone = [each for e in events if e.change in {"expired", "lost"} for each in e.data.get("lost", ())]
        late = sum(each["job"] == job_id for each in gone) + (
            row.status == "running"
        )  # a batch that dies takes what ended in it with it
        assert row.attempts == len(row.tries) + (world.goes[found.id, job_id, "Done"] > 0 and row.sha256 is not None)
        assert ended - late <= row.attempts <= ended, job_id
        assert failed - late <= len(row.tries) <= failed, job_id
        told = [
            e.data["attempts"]
            for e in events
            if e.change in {"attempted", "checkpointed"} and e.data["job_id"] == job_id
        ]
        assert (told or [0])[-1] == row.attempts, job_id
        assert told == sorted(told)
        assert all(set(each) >= {"attempt", "kind", "reason", "run", "take", "at", "seconds"} for each in row.tries)


def recounted(found, runs, events):
    """The counters of an entry are what its history gives since a person last sent it round again."""
    last = max((each.seq for each in events if each.change == "requeued"), default=0)
    since = [each for each in events if each.seq > last]
    ended = [
        each.data.get("kind") for each in since if each.change in {"retried", "escalated", "canceled"} and each.run_id
    ]
    own = {str(kind) for kind in FailureKind if kind not in OUTSIDE | PAUSES}
    lost = sum(1 for each in since if each.change == "expired" and "expiries" in each.data["set"])
    poison = sum(1 for each in since if each.change == "escalated" and each.data.get("kind") == "poison")
    assert found.attempt == len(runs)
    assert found.outages == sum(kind in set(OUTSIDE) for kind in ended)
    assert found.faults <= sum(kind in own for kind in ended)
    assert found.expiries == lost + poison
    assert {each["id"]: each["kind"] for each in runs if each["ended_at"]} == {
        each.run_id: each.data.get("kind") for each in events if each.run_id and each.change in ENDS
    }


def recorded(record, events):
    """What a record tells is what the history says up to then."""
    assert record["recovery"]["runs"] == sum(1 for each in events if each.change == "claimed")
    assert record["recovery"]["retries"] == sum(max(0, each["attempts"] - 1) for each in record["stages"])
    lost = [each for event in events if event.change in {"expired", "lost"} for each in event.data.get("lost", ())]
    told = [{name: each[name] for name in ("job", "worker", "take")} for each in record["recovery"]["lost"]]
    assert told == lost
    for each in record["stages"]:
        assert each["attempts"] - len(each["tries"]) in {0, 1}
        assert all("data" not in line and "log_tail" not in line for line in each["tries"])


def like_rows(record, rows, found):
    told = {each["job"]: (each["status"], each["attempts"], len(each["tries"])) for each in record["stages"]}
    for job_id, said in told.items() if found.pipeline_hash else ():
        assert said == (str(rows[job_id].status), rows[job_id].attempts, len(rows[job_id].tries))
    assert (record["recovery"]["faults"], record["recovery"]["expiries"]) == (found.faults, found.expiries)


@given(st.dictionaries(st.sampled_from([*map(str, FailureKind)]), st.integers(0, 50), max_size=8), st.integers(0, 50))
@settings(max_examples=100)
def test_b5_pauses_are_no_failures(kinds, completed):
    paused = sum(number for kind, number in kinds.items() if kind in {"quota", "backoff"})
    ended = {"retried": sum(kinds.values()), "completed": completed}
    usual = {
        "by_status": {},
        "by_priority": {},
        "bars": {},
        "retired": {},
        "eligible": 1,
        "done_before": 0,
        "covered": 0,
        "nothing_to_do": 0,
        "completed": 0,
        "escalated_ever": 0,
        "waits": {},
        "reviews_open": 0,
    }
    runs = sum(kinds.values()) + completed
    found = measured(Counts(**usual, runs=runs, ended=ended, failures=kinds))
    failed = sum(kinds.values()) - paused
    assert found.failure_rate == (failed / (failed + completed) if failed + completed else 0)
    assert not set(found.failures) & {"quota", "backoff"}
