"""Do one job: attempts with tenacity, then its contract and its gates; nothing is written here but artifacts."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import tenacity

from backlog_worker.domain import draft as drafts
from backlog_worker.domain import expression
from backlog_worker.domain.entry import Entry
from backlog_worker.domain.gates import Checked, GateResult, evaluated
from backlog_worker.domain.outcome import TRANSIENT, Done, FailureKind, Faulted, Refused, Result
from backlog_worker.domain.pipeline import Job, Pipeline, violation
from backlog_worker.domain.policy import Policy
from backlog_worker.executors import Stop, Work
from backlog_worker.lifecycle import Kit
from backlog_worker.telemetry import emit

GRACE = timedelta(seconds=60)  # a job that hangs so long past its time limit loses its lease
AGAIN = TRANSIENT | {FailureKind.VALIDATION, FailureKind.GATE}  # what the next attempt of an agent may do better


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """One stage that this process may do: the entry, the run, and the number of the take."""

    entry: Entry
    run: Mapping[str, Any]
    pipeline: Pipeline
    policy: Policy
    job: Job
    take: int
    attempts: int
    input: Mapping[str, Any]
    previous: Mapping[str, Any]
    stop: Stop = field(default_factory=Stop)

    def work(self) -> Work:
        """Return what an executor is given."""
        return Work(
            run_id=self.run["id"],
            entry_id=self.entry.id,
            take=self.take,
            entry=public(self.entry),
            input=self.input,
            previous=self.previous,
            timeout=self.job.timeout,
            stop=self.stop,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a take ended: the result, every try before it, and what the gates said."""

    taken: Taken
    result: Result
    tries: tuple[Mapping[str, Any], ...] = ()
    gates: tuple[Checked, ...] = ()
    artifacts: tuple[Mapping[str, Any], ...] = ()

    @property
    def asked(self) -> Checked | None:
        """Return the gate that wants a person, if one does."""
        return next((each for each in self.gates if each.result == GateResult.ASK), None)


def perform(kit: Kit, taken: Taken) -> Ended:
    """Do a job: attempts with tenacity, then its contract and gates; only what may work next time is tried again."""
    tries: list[Mapping[str, Any]] = []

    def _once() -> Ended:
        ended = _checked(kit, taken, kit.executors[taken.job.kind].perform(taken.job, taken.work()))
        if isinstance(ended.result, Faulted):
            tries.append({"kind": ended.result.kind.value, "reason": ended.result.reason[:400]})
        return ended

    ended = _once()
    if taken.job.retry.max_attempts > 1 and _again(taken, ended):
        ended = _tried_again(kit, taken, ended, _once)
    emit("stage_ended", entry=taken.entry.id, job=taken.job.id, result=type(ended.result).__name__)
    return replace(ended, tries=tuple(tries)) if tries else ended


def watched(kit: Kit, taken: Taken) -> Taken:
    """Renew the lease of a run while its job runs, but not for longer than the job may take."""
    claims, retry = taken.policy.claims, taken.job.retry
    pauses = timedelta(milliseconds=retry.delay_max_ms) * (retry.max_attempts - 1)
    limit = taken.job.timeout * retry.max_attempts + pauses + GRACE
    stop = kit.heart.watch(
        taken.run["id"],
        lease=claims.timeout.total_seconds(),
        every=claims.heartbeat.total_seconds(),
        limit=limit.total_seconds(),
    )
    return replace(taken, stop=stop)


def public(entry: Entry) -> dict[str, Any]:
    """Return what jobs, gates and prompts may see of an entry."""
    names = ("id", "env", "title", "url", "source", "external_ref", "team", "owner", "labels", "priority", "signals")
    values = {name: getattr(entry, name) for name in (*names, "pipeline", "provenance", "constraints", "attempt")}
    return values | {"created_at": entry.created_at.isoformat()}


def _tried_again(kit: Kit, taken: Taken, first: Ended, once: Callable[[], Ended]) -> Ended:
    """Go on after a first attempt that failed, as the job's `retry` says."""
    waiting = iter([first])
    retrying = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(taken.job.retry.max_attempts),
        wait=_wait(taken.job),
        retry=tenacity.retry_if_result(lambda each: _again(taken, each)),
        retry_error_callback=lambda state: state.outcome.result() if state.outcome else first,
        sleep=lambda seconds: _pause(kit, taken, seconds),
    )
    return retrying(lambda: next(waiting, None) or once())


def _checked(kit: Kit, taken: Taken, result: Result) -> Ended:
    """Check what a job returned: its contract first, then every gate; the artifacts are kept before the row says so."""
    if not isinstance(result, Done):
        return Ended(taken=taken, result=result)
    if why := violation(taken.job.output, result.output):
        refused = Faulted(kind=FailureKind.VALIDATION, reason=f"the output breaks its contract: {why}")
        return Ended(taken=taken, result=refused)
    artifacts = []
    for name, content in result.artifacts.items():
        uri, sha = kit.artifacts.keep(content)
        artifacts.append({"name": name, "uri": uri, "sha256": sha, "size": len(content)})
    gates = tuple(_gates(kit, taken, result))
    ended = Ended(taken=taken, result=result, gates=gates, artifacts=tuple(artifacts))
    said = next((each for each in gates if each.result != GateResult.PASS), None)
    if said is None or said.result == GateResult.ASK:
        return ended
    rule = next(gate for gate in taken.job.gates if gate.id == said.id)
    text = f"gate {said.id}: {said.why}"
    if rule.on_fail == "retry":
        return replace(ended, result=Faulted(kind=FailureKind.GATE, reason=text, rule=said.id))
    return replace(ended, result=Refused(kind=FailureKind.GATE, reason=text, rule=said.id))


def _gates(kit: Kit, taken: Taken, done: Done) -> list[Checked]:
    if not taken.job.gates:
        return []
    output = expression.plain(done.output)
    values = drafts.rule_values(public(taken.entry)) | {"output": output, "inputs": expression.plain(taken.job.inputs)}
    return [
        evaluated(gate, values)
        if gate.check is not None
        else kit.gates.check(gate, taken.job, taken.work(), done.output)
        for gate in taken.job.gates
    ]


def _again(taken: Taken, ended: Ended) -> bool:
    return not taken.stop.gone and isinstance(ended.result, Faulted) and ended.result.kind in AGAIN


def _pause(kit: Kit, taken: Taken, seconds: float) -> None:
    emit("stage_retried", entry=taken.entry.id, job=taken.job.id, seconds=round(seconds, 2))
    if not taken.stop.gone:
        kit.pause(seconds)


def _wait(job: Job) -> tenacity.wait.wait_base:
    """Pause between attempts, with full jitter: exponential, linear or fixed, up to a cap."""
    delay, most = job.retry.delay_ms / 1000, job.retry.delay_max_ms / 1000
    if job.retry.backoff == "exponential":
        return tenacity.wait_random_exponential(multiplier=delay, max=most)
    if job.retry.backoff == "linear":
        return tenacity.wait_incrementing(start=delay, increment=delay, max=most) + tenacity.wait_random(0, delay)
    return tenacity.wait_fixed(min(delay, most)) + tenacity.wait_random(0, delay)
