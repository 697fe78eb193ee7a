"""For our tests and our users': a kit in memory, a settable clock, a scripted executor, makers of drafts."""

import tempfile
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from backlog_worker.domain.bell import Bell, Step
from backlog_worker.domain.outcome import Done, Result
from backlog_worker.domain.pipeline import Job
from backlog_worker.executors import Work
from backlog_worker.integrations import DefinitionFile
from backlog_worker.lifecycle import Kit, claim, dispatch, intake, review, send, stage
from backlog_worker.wiring import memory_kit, new_id

POLICY = """\
version: 1
eligibility:
  - { id: ELIG-LABEL, check: "'ai-ok' in entry.labels" }
dispatch: { top: 20, ahead: 10 }
claims: { timeout: 2m, heartbeat: 30s, maxAttempts: 3, retryDelay: 10s }
admission: { maxInProgress: 100 }
deadLetter: { owner: team-platform }
roles: { lead: [ana, li] }
"""
PIPELINE = """\
name: spec
version: 1
jobs:
  - { id: draft, python: "fake:draft" }
  - { id: check, python: "fake:check", dependsOn: draft }
  - { id: publish, python: "fake:publish", dependsOn: check }
"""


SLOTS = 4


@dataclass(slots=True)
class Clock:
    """A clock that stands still until it is advanced; the time of a store in memory."""

    now: float = 1_800_000_000.0

    def __call__(self) -> float:
        """Return seconds since 1970."""
        return self.now

    def forward(self, seconds: float) -> None:
        """Advance the clock."""
        self.now += seconds


@dataclass(slots=True)
class FakeExecutor:
    """Returns the results that a test sets for a job, in turn; without one it returns Done."""

    results: dict[str, list[Result | Callable[[Job, Work], Result]]] = field(default_factory=dict)
    performed: list[tuple[str, str]] = field(default_factory=list)

    def perform(self, job: Job, work: Work) -> Result:
        """Return the next result set for the job."""
        self.performed.append((work.entry_id, job.id))
        waiting = self.results.get(job.id)
        result: Result | Callable[[Job, Work], Result] = waiting.pop(0) if waiting else Done(output={"job": job.id})
        return result(job, work) if callable(result) else result


@dataclass(slots=True)
class Texts:
    """Definitions held as texts; assigning texts marks them as changed."""

    texts: list[DefinitionFile]
    seen: Sequence[DefinitionFile] = ()

    def files(self) -> Sequence[DefinitionFile]:
        """Return every definition."""
        self.seen = list(self.texts)
        return self.texts

    def changed(self) -> bool:
        """Return whether a text was assigned since the last read."""
        return list(self.texts) != list(self.seen)

    def complete(self) -> bool:
        """Return true: there are no other definitions."""
        return True

    @property
    def place(self) -> str:
        """Return the name of the place."""
        return "texts"


@dataclass(slots=True)
class Bench:
    """A complete backlog for tests: store, clock, executor, and the bells not yet answered."""

    kit: Kit
    clock: Clock
    executor: FakeExecutor
    texts: Texts
    bells: deque[Bell] = field(default_factory=deque)

    def file(self, *records: Mapping[str, Any]) -> list[intake.Filed]:
        """File drafts made of these fields; what became of each is returned in their order."""
        made = {f"record {index}": draft(**each) for index, each in enumerate(records, start=1)}
        filed = {each.place: each for each in intake.file(self.kit, made.items(), actor="ana", channel="import")}
        return [filed[place] for place in made]

    def tick(self) -> None:
        """Run one tick of the dispatcher."""
        self.bells += dispatch.tick(self.kit)
        self.clock.forward(2)

    def sweep(self) -> None:
        """Run one sweep."""
        self.bells += claim.sweep(self.kit)
        self.clock.forward(2)

    def answer(self, bell: Bell) -> None:
        """Perform the step of one bell."""
        self.bells += answered(self.kit, bell)

    def ring(self, most: int = 10_000) -> None:
        """Answer bells until none is left."""
        while self.bells and most:
            self.answer(self.bells.popleft())
            most -= 1

    def run(self, ticks: int = 50) -> None:
        """Tick and answer bells until nothing changes any more."""
        for _ in range(ticks):
            self.tick()
            self.ring()
            self.sweep()
            self.ring()

    def statuses(self) -> dict[str, int]:
        """Count entries by status."""
        with self.kit.store.read() as unit:
            return unit.statuses(self.kit.env)


def answered(kit: Kit, bell: Bell) -> Sequence[Bell]:
    """Perform the step of a bell as the tasks do; returns the bells that follow."""
    if bell.step == Step.CLAIM:
        return claim.take(kit, bell.ids)
    if bell.step == Step.STAGE:
        return stage.advance(kit, *bell.ids)
    if bell.step == Step.HUMAN_REVIEW:
        review.open_dead_letter(kit, bell.ids[0])
    if bell.step == Step.SEND:
        send.send(kit)
    return []


def bench(
    *,
    url: str = "memory://",
    policy: str = POLICY,
    pipelines: Sequence[str] = (PIPELINE,),
    slots: int = SLOTS,
    clock: Callable[[], float] | None = None,
    files: Mapping[str, Any] = MappingProxyType({}),
    secrets: Mapping[str, str] = MappingProxyType({}),
) -> Bench:
    """Build a bench: a migrated store, a registered worker, and no pauses; *clock* is that of SQLite.

    *files* are the files that pipelines may read, by path: schemas, agents, included files.
    """
    standing = Clock()
    executor = FakeExecutor()
    folder = Path(tempfile.mkdtemp(prefix="backlog-"))
    texts = Texts([DefinitionFile(kind="policy", file="policy.yml", body=policy)])
    texts.texts += [
        DefinitionFile(kind="pipeline", file=f"{n}.yml", body=body, contracts=files) for n, body in enumerate(pipelines)
    ]
    fakes = {"python": executor, "agent": executor}
    kit = memory_kit(texts, fakes, folder=folder, clock=clock or standing, url=url, secrets=secrets.get)
    if slots != SLOTS:
        row = {"name": "w", "queues": ["stages", "control"], "slots": slots, "schema_min": 1, "schema_max": 9}
        with kit.store.begin() as unit:
            unit.see_worker(row)
    bells: deque[Bell] = deque()
    kit = replace(kit, ring=bells.extend)
    return Bench(kit=kit, clock=standing, executor=executor, texts=texts, bells=bells)


def draft(**fields: Any) -> dict[str, Any]:
    """Return an eligible draft, with these fields replacing the usual ones."""
    usual = {
        "title": "Login loop on Safari",
        "dedupe_key": f"test:{new_id('key')}",
        "labels": ["ai-ok"],
        "priority": "medium",
        "created_at": "2026-12-01T00:00:00Z",
        "input": {"body": "It loops."},
    }
    return {**usual, **fields}
