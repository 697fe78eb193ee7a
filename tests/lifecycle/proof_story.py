"""One backlog with everything in it that evidence tells of: for the tests that alter it, cell by cell."""

import json
from dataclasses import dataclass

from backlog_worker.domain.budget import Usage
from backlog_worker.domain.events import digest
from backlog_worker.domain.outcome import Done, FailureKind, Faulted, Refused
from backlog_worker.domain.review import Answer, Decided
from backlog_worker.lifecycle import access, again, claim, evidence, operate, retire, review, send
from backlog_worker.testing import POLICY, Bench, bench

GRAPH = """\
name: spec
budget: { usd: 1, onExceeded: ask }
jobs:
  - { id: a, python: "f:a", retry: { maxAttempts: 2 } }
  - { id: b, python: "f:b", dependsOn: a, gates: [{ id: G-1, check: "output.n > 0.0" }] }
  - { id: ask, interactive: true, task: Well?, dependsOn: a }
  - { id: sub, pipeline: child, dependsOn: b, inputs: { n: "${{ b.output.n }}" } }
  - { id: c, python: "f:c", dependsOn: [sub, ask], approval: {}, writeBack: { comment: true } }
  - { id: never, python: "f:n", dependsOn: c, when: "1 == 2" }
"""
CHILD = """\
name: child
jobs:
  - { id: only, python: "f:only" }
"""


@dataclass(frozen=True)
class Story:
    """The bench, and its entries by the part that they play."""

    table: Bench
    main: str
    fork: str
    dead: str
    redacted: str
    old: str
    second: str

    def exported(self, entry_id: str) -> dict:
        """The bundle of an entry as it is read from a file."""
        return json.loads(json.dumps(evidence.export(self.table.kit, entry_id)))


def spends(usd, output, *, fails=False, artifacts=None):
    """A job that calls a model, and then returns or breaks."""

    def _spend(_job, work):
        work.report.spend(Usage(model="m", input_tokens=10, output_tokens=5, usd=usd))
        if fails:
            return Faulted(kind=FailureKind.EXECUTION, reason="boom")
        return Done(output=output, artifacts=artifacts or {})

    return _spend


def told(**more) -> Story:
    """Tell it: retries, gates, a question, an approval, a call, a budget, a fork, dead letters, a redaction."""
    table = bench(pipelines=[GRAPH, CHILD], policy=POLICY, **more)
    kit, file = table.kit, table.file
    (old,) = file({"pipeline": "child", "title": "long ago"})
    _run(table, 3)
    table.clock.forward(86_400 * 200)
    (first, second) = file({"title": "Login <b>loop</b>", "url": "https://example.org/1"}, {"depends_on": []})
    operate.edit(kit, first.entry_id, {"input": {"body": "better"}}, actor="ana", reason="typo")
    operate.comment(kit, first.entry_id, "a word", actor="ana")
    operate.hold(kit, second.entry_id, actor="ana", reason="later")
    table.executor.results = {
        "a": [spends(0.6, {}, fails=True), spends(0.6, {"x": 1}, artifacts={"a.txt": b"text"})],
        "b": [Done(output={"n": 1})],
    }
    main = first.entry_id
    _run(table, 3)
    answers = [
        Decided(answer=Answer.APPROVE, actor="li", reason="go on"),
        Decided(answer=Answer.ANSWER, actor="li", reason="so", value={"yes": True}),
        Decided(answer=Answer.APPROVE, actor="li", reason="fine"),
    ]
    _answered(table, main, answers)
    assert _status(table, main) == "completed"
    with kit.store.read() as unit:
        (run_id, *_) = [run["id"] for run in unit.runs(main)]
    fork = again.fork(kit, run_id, "b", actor="ana", reason="once more", output={"n": 2})
    _run(table, 3)
    _answered(table, fork, answers)
    (third, fourth) = file({"depends_on": [main]}, {"title": "a secret", "pipeline": "child"})
    table.executor.results = {"a": [Refused(kind=FailureKind.VALIDATION, reason="no")]}
    _run(table, 3)
    review.decide(kit, third.entry_id, Decided(answer=Answer.DISCARD, actor="li", reason="no"))
    evidence.redact(kit, fourth.entry_id, actor="ana", reason="asked")
    asked = access.Asked(name="bot", role="viewer")
    first_token = access.create(kit, b"p" * 32, asked, actor="ana")
    access.create(kit, b"p" * 32, access.Asked(name="bot2", role="admin"), actor="ana")
    access.revoke(kit, first_token.split("_")[1], actor="ana", reason="lost")
    evidence.legal_hold(kit, old.entry_id, actor="ana", reason="a lawsuit", on=True)
    evidence.legal_hold(kit, old.entry_id, actor="ana", reason="settled", on=False)
    with kit.store.begin() as unit:
        body = {"services": []}
        unit.keep_digest(kit.env, {"kind": "platform", "period": "2027-W31", "sha256": digest(body), "body": body})
    send.send(kit)
    retire.cleanup(kit, retention_days=100)
    claim.sweep(kit)
    table.clock.forward(3600)
    return Story(table, main, fork, third.entry_id, fourth.entry_id, old.entry_id, second.entry_id)


def _run(table, ticks):
    """Let time pass by ticks; on a database whose clock stands for nobody the lease of the last tick is taken off."""
    for _ in range(ticks):
        with table.kit.store.begin() as unit:
            unit.run("DELETE FROM leases")
        table.run(1)


def _answered(table, entry_id, answers):
    kinds = {"budget": answers[0], "question": answers[1], "approval": answers[2]}
    for _ in range(8):
        with table.kit.store.read() as unit:
            waiting = unit.open_reviews(entry_id)
        for each in waiting:
            review.decide(table.kit, each.id, kinds[each.kind.value])
        _run(table, 2)


def _status(table, entry_id):
    with table.kit.store.read() as unit:
        return unit.entry(entry_id).status
