"""Virtual time, the real lifecycle, the real SQL: workers, beats, senders, people and a policy's author under faults.

`python -m tests.faults.simulation --seed 4711 --mutant no_fence` repeats one run. While a job is performed anything may
happen: other workers, sweeps, an edit, a freeze, a death. The last part of a run is free of faults, and then everything
must have ended or wait with a reason.
"""

import argparse
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from backlog_worker.domain.bell import Bell, Step
from backlog_worker.domain.errors import BacklogError
from backlog_worker.domain.outcome import Done, FailureKind, Faulted, Refused, Result
from backlog_worker.domain.pipeline import Job
from backlog_worker.domain.review import ANSWERS, Decided
from backlog_worker.executors import Work
from backlog_worker.integrations import DefinitionFile
from backlog_worker.lifecycle import audit, review, send, watch
from backlog_worker.testing import POLICY, Bench, bench

LEASE = 120.0
GRAPH = """\
name: spec
version: 1
jobs:
  - { id: draft, python: "fake:draft" }
  - { id: check, python: "fake:check", dependsOn: draft }
  - { id: weigh, python: "fake:weigh", dependsOn: draft, approval: { timeout: 10m } }
  - { id: publish, python: "fake:publish", dependsOn: [check, weigh] }
"""


class KilledError(BaseException):
    """The process is gone: nothing after this line happens."""


class ViolationError(BaseException):
    """Something that must never be; no loop goes on after it."""


@dataclass(slots=True)
class Tracker:
    """A receiver that remembers what it was told, and in whose call somebody else may act."""

    world: "World"
    written: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    busy: dict[str, float] = field(default_factory=dict)

    def write(self, topic: str, body: Mapping[str, Any], markdown: str) -> str:
        began = self.busy.get(topic)
        if began is not None and self.world.table.clock.now < began + send.LEASE / 6:  # a frozen sender loses its lease
            raise ViolationError(f"two senders write {topic} at once")
        self.busy[topic] = self.world.table.clock.now
        try:
            self.world.meanwhile("send")
            self.world.strike("send_failed", 0.1, OSError("503"))
            self.world.strike("sender_killed", 0.1, KilledError())
            self.written[topic] = body
        finally:
            self.busy.pop(topic, None)
        return topic


@dataclass(slots=True)
class World:
    """One seed: a bench, and everything that may go wrong with it."""

    seed: int
    chance: random.Random = field(init=False)
    table: Bench = field(init=False)
    struck: Counter[str] = field(default_factory=Counter)
    faulty: bool = True
    depth: int = 0
    active: dict[tuple[str, str, int], float] = field(default_factory=dict)
    deaths: Counter[str] = field(default_factory=Counter)
    poison: set[str] = field(default_factory=set)
    eligible: bool = True
    healthy: dict[tuple[str, str, int], bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self.table = bench(policy=POLICY.replace("maxInProgress: 100", "maxInProgress: 6"), pipelines=[GRAPH])
        for job in ("draft", "check", "weigh", "publish"):
            self.table.executor.results[job] = Endless(self.perform)
        object.__setattr__(self.table.kit, "tracker", Tracker(self))

    def strike(self, what: str, share: float, error: BaseException) -> None:
        if self.faulty and self.chance.random() < share:
            self.struck[what] += 1
            raise error

    def happens(self, what: str, share: float) -> bool:
        yes = self.faulty and self.chance.random() < share
        self.struck[what] += yes
        return yes

    def perform(self, job: Job, work: Work) -> Result:
        """Do a job: while it runs, everybody else goes on."""
        self.judge_start(job, work)
        key = (work.run_id, job.id, work.take)
        self.active[key] = self.table.clock.now
        self.healthy[key] = True
        try:
            if work.entry_id in self.poison:
                self.deaths[work.entry_id] += 1
                raise KilledError
            if self.happens("killed", 0.06):
                self.deaths[work.entry_id] += 1
                raise KilledError
            if self.happens("frozen", 0.06):
                self.healthy[key] = False
                self.deaths[work.entry_id] += 1
                self.freeze()
            elif self.happens("outage", 0.05):
                self.outage(key)
            else:
                self.meanwhile("job")
        finally:
            self.active.pop(key, None)
        if self.healthy.get(key):
            self.heartbeat([key], must=True)
        return self.result(job)

    def result(self, job: Job) -> Result:
        if self.happens("fault", 0.08):
            return Faulted(kind=FailureKind.EXECUTION, reason="boom")
        if self.happens("refusal", 0.04):
            return Refused(kind=FailureKind.VALIDATION, reason="no")
        return Done(output={"job": job.id})

    def judge_start(self, job: Job, work: Work) -> None:
        if (work.run_id, job.id, work.take) in self.active:
            raise ViolationError(f"{job.id} of {work.run_id} is performed twice at once")
        if job.id == "draft" and not self.eligible and self.depth_of_claim:
            raise ViolationError(f"{work.entry_id} was claimed while the policy says no")

    @property
    def depth_of_claim(self) -> bool:
        return self._claiming

    _claiming: bool = False

    def freeze(self) -> None:
        """Stand still past the lease, while everybody else goes on: the entry may be another's when we thaw."""
        for _ in range(10):
            self.table.clock.forward(LEASE / 6)
            self.heartbeat([take for take in self.active if self.healthy.get(take)], must=True)
            self.sweep()  # only this worker stands still: a sweep that is late would give everybody grace
        self.depth += 1
        try:
            for act in (self.sweep, self.tick, *([self.answer] * 4)) if self.depth < 4 else ():
                try:
                    act()
                except KilledError:
                    self.struck["killed_nested"] += 1
        finally:
            self.depth -= 1

    def outage(self, key: tuple[str, str, int]) -> None:
        """The database is away for three leases: nobody renews or sweeps; then it is back, and the sweep is first."""
        self.table.clock.forward(LEASE * 3)
        self.sweep()
        self.heartbeat(list(self.active), must=False)
        self.heartbeat([key], must=True)

    def heartbeat(self, takes: list[tuple[str, str, int]], *, must: bool) -> None:
        with self.table.kit.store.begin() as unit:
            kept = unit.heartbeat(takes, LEASE)
            held = {take: unit.run_of(take[0]) for take in takes}
        for take in set(takes) - kept:
            run = held[take]
            if must and run and (run["ended_by"] == "expired" or run["ended_at"] is None):
                raise ViolationError(f"{take} is healthy and renewed in time, and it was taken away")

    def meanwhile(self, why: str) -> None:
        """Let others act for a while; healthy jobs renew before their lease is over."""
        if self.depth >= 3 or not self.faulty:
            return
        self.depth += 1
        claiming, self._claiming = self._claiming, False
        try:
            for _ in range(self.chance.randrange(3)):
                self.step()
        finally:
            self.depth -= 1
            self._claiming = claiming

    def step(self) -> None:
        """Do one thing at random."""
        acts = [
            self.file,
            self.tick,
            self.sweep,
            self.answer,
            self.answer,
            self.answer,
            self.wait,
            self.person,
            self.person,
            self.person,
            self.send,
            self.author,
        ]
        act = self.chance.choice(acts)
        try:
            act()
        except KilledError:
            if self.depth:
                self.struck["killed_nested"] += 1
        except BacklogError:
            self.struck["refused"] += 1
        self.capped()

    def capped(self) -> None:
        counts = self.table.statuses()
        if counts.get("ready", 0) + counts.get("in_progress", 0) > 6:
            raise ViolationError(f"more than six are ready or in progress: {counts}")

    def file(self) -> None:
        (filed,) = self.table.file({})
        if self.chance.random() < 0.05:
            self.poison.add(filed.entry_id)

    def tick(self) -> None:
        self.table.tick()

    def sweep(self) -> None:
        self.table.sweep()

    def answer(self) -> None:
        """Hear a bell: any of those that wait, sometimes twice, sometimes never."""
        bells = self.table.bells
        if not bells:
            return
        bells.rotate(self.chance.randrange(len(bells)))
        bell = bells.popleft()
        if self.happens("bell_lost", 0.12):
            return
        if self.happens("bell_doubled", 0.15):
            bells.append(bell)
        self.hear(bell)

    def hear(self, bell: Bell) -> None:
        claiming, self._claiming = self._claiming, bell.step == Step.CLAIM
        try:
            self.table.answer(bell)
        finally:
            self._claiming = claiming

    def wait(self) -> None:
        """Let half a minute pass; whoever lives renews."""
        self.table.clock.forward(self.chance.uniform(1, 30))
        self.heartbeat([take for take in self.active if self.healthy.get(take)], must=True)

    def send(self) -> None:
        self.hear(Bell(step=Step.SEND))

    def person(self) -> None:
        """Two people look at the same review; both may answer."""
        with self.table.kit.store.read() as unit:
            waiting = unit.reviews("prod")
        if not waiting:
            return
        seen = self.chance.choice(waiting)
        answers = list(ANSWERS[seen.kind])
        for name in ("ana", "li")[: 1 + self.happens("two_people", 0.5)]:
            decided = Decided(answer=self.chance.choice(answers), actor=name, reason="sim", unfinished=True)
            try:
                review.decide(self.table.kit, seen.id, decided, seq=seen.seq)
            except BacklogError:
                self.struck["answer_refused"] += 1

    def author(self) -> None:
        """Somebody changes what is eligible."""
        if self.chance.random() < 0.3:
            self.eligible = not self.eligible or not self.faulty
            self.struck["policy_changed"] += 1
            label = "ai-ok" if self.eligible else "nobody"
            body = self.table.texts.texts[0].body.split("\n")
            body[2] = f"  - {{ id: ELIG-LABEL, check: \"'{label}' in entry.labels\" }}"
            owner = f"deadLetter: {{ owner: team-{self.chance.randrange(10**9)} }}"
            body = [owner if line.startswith("deadLetter:") else line for line in body]
            self.table.texts.texts[0] = DefinitionFile(kind="policy", file="policy.yml", body="\n".join(body))
            self.table.tick()
            if self.table.kit.book.findings:
                raise ViolationError(str(self.table.kit.book.findings))

    def run(self, steps: int = 60) -> "World":
        for _ in range(steps):
            self.step()
        self.faulty = False
        while not self.eligible:
            self.author()
        self.calm()
        self.judge()
        return self

    def calm(self) -> None:
        """No more faults: everything must come to its end, or wait for a person."""
        for _ in range(90):
            self.table.tick()
            for _ in range(len(self.table.bells)):
                try:
                    self.hear(self.table.bells.popleft())
                except KilledError:
                    continue
            self.table.sweep()
            self.table.clock.forward(25)
        self.send()

    def judge(self) -> None:
        broken = [*watch.verify(self.table.kit), *audit.verify(self.table.kit)]
        if broken:
            raise ViolationError(str(broken[:3]))
        moving = {s: n for s, n in self.table.statuses().items() if s in {"queued", "ready", "in_progress", "retrying"}}
        if moving:
            raise ViolationError(f"still moving after the calm: {moving}")
        with self.table.kit.store.read() as unit:
            letters = unit.reviews("prod", kind="dead_letter", most=100_000) + unit.reviews("prod", answered=True)
            for letter in letters:
                if letter.failure == "poison" and self.deaths[letter.entry_id] < 3:
                    raise ViolationError(
                        f"{letter.entry_id} is called poison after {self.deaths[letter.entry_id]} deaths"
                    )
            for wish in unit.wishes(most=100_000):
                written = self.table.kit.tracker.written.get(wish["topic"])
                if wish["status"] != "sent" or written != wish["body"]:
                    raise ViolationError(f"{wish['topic']} is {wish['status']}, and the receiver shows something else")


class Endless(list):  # type: ignore[type-arg]
    """A list of results that never ends."""

    def __init__(self, call: Any) -> None:
        super().__init__([call])

    def pop(self, _index: Any = -1) -> Any:
        return self[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--mutant", default="")
    given = parser.parse_args()
    from backlog_worker import telemetry
    from tests.faults.mutants import mutated

    telemetry.configure(level="ERROR")

    struck: Counter[str] = Counter()
    with mutated(given.mutant):
        for seed in range(given.seed, given.seed + given.seeds):
            struck += World(seed).run().struck
    print(dict(struck))


if __name__ == "__main__":
    main()
