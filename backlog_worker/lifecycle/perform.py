"""Perform one job: its attempts, its contract, its gates, its fallback; it writes artifacts only."""

from asyncio import CancelledError
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

from backlog_worker.domain import draft as drafts
from backlog_worker.domain import expression, frontier, output, returned
from backlog_worker.domain.agent import Agent
from backlog_worker.domain.attempts import HOLD, Tried, failure, line, words
from backlog_worker.domain.errors import BusyError, InvalidInputError, NotFoundError, RefusedError, UnreachableError
from backlog_worker.domain.frontier import Stage, StageStatus
from backlog_worker.domain.gates import Checked, GateResult, evaluated, worded
from backlog_worker.domain.legible import error_words
from backlog_worker.domain.masking import cut, masked, masked_bytes, masked_value
from backlog_worker.domain.outcome import PAUSES, Asked, Done, FailureKind, Faulted, Refused, Result, Throttled
from backlog_worker.domain.pipeline import Job, violation
from backlog_worker.domain.template import TemplateError
from backlog_worker.executors import Report, Work
from backlog_worker.lifecycle import Kit, cache
from backlog_worker.lifecycle.attempt import attempted, counted
from backlog_worker.lifecycle.given import GIVEN
from backlog_worker.lifecycle.held import Ended, Taken
from backlog_worker.lifecycle.loops import attempt
from backlog_worker.lifecycle.prepare import Prepared, prepared, public
from backlog_worker.telemetry import emit

GRACE = timedelta(seconds=60)  # a job that hangs so long past its time limit loses its lease


def done(kit: Kit, taken: Taken) -> Ended:
    """Perform a job; an unexpected error fails this attempt with its message, instead of waiting for the lease to
    expire.
    """
    return _guarded(taken, taken.tried, lambda: perform(kit, taken))


def _guarded(taken: Taken, before: Tried, step: Callable[[], Ended]) -> Ended:
    """Return what a step returns; if it raises, return a fault with the error, which counts as an attempt."""
    tried = attempt("stage", step, run=taken.run["id"], job=taken.job.id)
    if tried.value is not None:
        return tried.value
    error = tried.error or RuntimeError("a step returned nothing")
    outside = tried.elsewhere or isinstance(error, OSError)
    kind = FailureKind.INFRASTRUCTURE if outside else FailureKind.EXECUTION
    result = Faulted(kind=kind, reason=cut(error_words(error), 400))
    failed = before.with_failure({"run": taken.run["id"], **line(result, "", take=taken.take)})
    return replace(_ended(taken, result), tried=failed)


def perform(kit: Kit, taken: Taken) -> Ended:
    """Perform a job: check a given or stored output if there is one, else attempt the job, then its `fallback`."""
    try:
        given = prepared(kit, taken, taken.job.agent)
        report = kit.report(kit, taken, given.secrets)
        try:
            ended = _check_given(kit, taken, given, report) or _check_cached(kit, taken, given, report)
            ended = ended or _attempts(kit, taken, given, report)
        finally:
            report.close()
    except TemplateError as error:
        return _ended(taken, Refused(kind=FailureKind.VALIDATION, reason=cut(str(error), 400)))
    except (NotFoundError, RefusedError) as error:
        return _ended(taken, Refused(kind=FailureKind.POLICY, reason=cut(str(error), 400), role="operator"))
    emit("stage_ended", entry=taken.entry.id, job=taken.job.id, result=type(ended.result).__name__)
    return replace(ended, cost=report.cost())


def _work(taken: Taken, given: Prepared, report: Report, agent: Agent | None, timeout: timedelta, tried: Tried) -> Work:
    """Return what an executor receives."""
    before = [taken.stages[each] for each in taken.pipeline.ancestors(taken.job.id) if each in taken.stages]
    again = words(tried.last) if agent is not None else ""
    return Work(
        run_id=taken.run["id"],
        entry_id=taken.entry.id,
        take=taken.take,
        entry=public(taken.entry),
        input=taken.input,
        previous={each.job_id: each.output for each in before if each.sha256},
        failed={each.job_id: _failure_context(each) for each in before if each.status == StageStatus.FAILED},
        timeout=timeout,
        attempt=tried.used + 1,
        last_failure=failure(tried.last),
        inputs=given.inputs,
        env=given.env,
        prompt="\n\n".join(text for text in (given.prompt, again) if text),
        agent=agent,
        granted=taken.granted,
        stop=taken.stop,
        report=report,
    )


def _failure_context(stage: Stage) -> dict[str, Any]:
    """Return what later jobs can read of a failed one."""
    last = frontier.failure(stage)
    told = {name: value for name, value in frontier.seen(stage).items() if name != "attempts"}
    return {**told, "data": told["output"], "log_tail": last.get("log_tail", "")}


def _ended(taken: Taken, result: Result) -> Ended:
    return Ended(taken=taken, result=result, tried=taken.tried)


def watched(kit: Kit, taken: Taken, *, among: int = 1) -> Taken:
    """Renew the lease of a take while its job runs, but not for longer than the job may take.

    Takes that are performed one after the other may each wait for the others *among* which it is.
    """
    claims, attempts = taken.policy.claims, max(1, taken.job.retry.max_attempts)
    limit = taken.job.timeout * (attempts + bool(taken.job.fallback)) + HOLD * (attempts - 1) + GRACE
    stop = kit.heart.watch(
        taken.key,
        lease=claims.timeout.total_seconds(),
        every=claims.heartbeat.total_seconds(),
        limit=limit.total_seconds() * among,
        since=taken.since,
    )
    return replace(taken, stop=stop)


def _check_given(kit: Kit, taken: Taken, given: Prepared, report: Report) -> Ended | None:
    """Check the output that a person or a called pipeline gave; a rejection is final, since it would fail the same way
    again.
    """
    said = (taken.approval or {}).get(GIVEN)
    if said is None:
        return None
    work = _work(taken, given, report, taken.job.agent, taken.job.timeout, taken.tried)
    ended = _check_result(kit, taken, Done(output=said["output"]), work, given.secrets)
    if not isinstance(ended.result, Faulted):
        return ended
    by = str((taken.approval or {}).get("by", "somebody"))
    text = cut(f"the output given by {by}: {ended.result.reason}", 400)
    return replace(
        ended, result=Refused(kind=ended.result.kind, reason=text, rule=ended.result.rule, data=ended.result.data)
    )


def _check_cached(kit: Kit, taken: Taken, given: Prepared, report: Report) -> Ended | None:
    """Use a stored result of the same work; its gates are asked again, and if one fails, the job runs."""
    if taken.job.cache is None:
        return None
    row = attempt("cache", partial(cache.found, kit, taken, given)).value
    if row is None:
        return None
    work = _work(taken, given, report, taken.job.agent, taken.job.timeout, taken.tried)
    ended = judged_output(kit, taken, Done(output=row["output"]), work, lambda: tuple(row["artifacts"]))
    verdicts = {each.id: [each.rule_sha256, each.result.value] for each in ended.gates}
    if not isinstance(ended.result, Done) or verdicts != row["gates"]:
        return None
    attempt("cache", partial(cache.used, kit, taken, row))
    return replace(ended, cached=row["run_id"])


def _attempts(kit: Kit, taken: Taken, given: Prepared, report: Report) -> Ended:
    job = taken.job

    def _once(tried: Tried, left: timedelta) -> Ended:
        work = _work(taken, given, report, job.agent, left, tried)
        done = _execute(kit, job.kind, job, work, given.secrets)
        return _guarded(taken, taken.tried, lambda: _check_result(kit, taken, done, work, given.secrets))

    ended = attempted(kit, taken, report, _once)
    if isinstance(ended.result, Done) and job.cache is not None and ended.asked is None:
        attempt("cache", partial(cache.keep, kit, taken, given, ended))  # the result counts even if it cannot be cached
    if job.fallback is not None and ended.pause is None and not taken.stop.gone:
        return _fall_back(kit, taken, ended, report)
    return ended


def _execute(kit: Kit, name: str, job: Job, work: Work, secrets: tuple[str, ...]) -> Result:
    """Let an executor perform a job; if it raises, return a fault with all secrets masked.

    Whatever it raises is its own, also what ends a program, unless this process was told to stop.
    """
    try:
        return returned.checked(kit.executors[name].perform(job, work), most=job.execution.output_bytes)
    except BaseException as error:  # the edge of every executor: only here are the secrets known
        if not isinstance(error, Exception | CancelledError | GeneratorExit) and kit.stopping(error):
            raise
        reason = cut(error_words(error), 400, secrets)
        emit("loop_failed", loop="executor", error=reason, run=work.run_id, job=job.id)
        outside = isinstance(error, OSError | UnreachableError | BusyError)
        return Faulted(kind=FailureKind.INFRASTRUCTURE if outside else FailureKind.EXECUTION, reason=reason)


def _fall_back(kit: Kit, taken: Taken, ended: Ended, report: Report) -> Ended:
    """Apply `fallback` after the last attempt: another agent, a fixed value, or a person."""
    fallback, why = taken.job.fallback, ended.result
    if fallback is None or not isinstance(why, Faulted):
        return ended
    emit("fallback_used", entry=taken.entry.id, job=taken.job.id, reason=why.reason)
    if fallback.escalate:
        return replace(
            ended,
            result=Refused(
                kind=why.kind, reason=cut(f"the only fallback is a person: {why.reason}", 400), data=why.data
            ),
        )
    if taken.job.fallback_agent is None:
        mine = prepared(kit, taken, taken.job.agent)
        work = _work(taken, mine, report, taken.job.agent, taken.job.timeout, ended.tried)
        return replace(_check_result(kit, taken, Done(output=fallback.value), work, mine.secrets), tried=ended.tried)
    agent = taken.job.fallback_agent
    given = prepared(kit, taken, agent)
    timeout = min([taken.job.timeout, *([agent.timeout] if agent.timeout else [])])
    work = _work(taken, given, report, agent, timeout, ended.tried)

    def _once() -> Ended:
        return _check_result(kit, taken, _execute(kit, "agent", taken.job, work, given.secrets), work, given.secrets)

    return counted(report, ended.tried, _once, fallback=agent.name)


def _check_result(kit: Kit, taken: Taken, result: Result, work: Work, secrets: tuple[str, ...]) -> Ended:
    """Check what a job returned, with every secret masked; its artifacts are stored before the row refers to them."""
    result = _masked_result(result, secrets)
    if isinstance(result, Faulted | Refused) and result.kind in PAUSES:
        result = replace(result, kind=FailureKind.EXECUTION)  # a quota is a Throttled result, which carries its end
    if not isinstance(result, Done):
        return _ended(taken, result)
    return judged_output(kit, taken, result, work, lambda: _store_artifacts(kit, result.artifacts))


def judged_output(
    kit: Kit, taken: Taken, done: Done, work: Work, artifacts: Callable[[], tuple[Mapping[str, Any], ...]]
) -> Ended:
    """Check an output, wherever it came from, by the contract of its job and then by every gate.

    Every output of a completed stage has passed this function.
    """
    try:
        done = replace(done, output=output.as_json(done.output, most=taken.job.execution.output_bytes))
    except InvalidInputError as error:
        return _ended(
            taken, Faulted(kind=FailureKind.VALIDATION, reason=cut(f"its output is not usable: {error}", 400))
        )
    if why := violation(taken.job.output, done.output):
        text = f"the output breaks its contract: {why}"
        return _ended(taken, Faulted(kind=FailureKind.VALIDATION, reason=text, data=done.output))
    kept = artifacts()
    gates = tuple(_gates(kit, taken, done, work))
    ended = replace(_ended(taken, done), gates=gates, artifacts=kept)
    said = next((each for each in gates if each.result == GateResult.FAIL), None)
    if said is None:
        return ended
    rule = next(gate for gate in taken.job.gates if gate.id == said.id)
    text = f"gate {said.id}: {said.words}"
    if rule.on_fail == "retry":
        return replace(ended, result=Faulted(kind=FailureKind.GATE, reason=text, rule=said.id, data=done.output))
    return replace(ended, result=Refused(kind=FailureKind.GATE, reason=text, rule=said.id, data=done.output))


def _store_artifacts(kit: Kit, given: Mapping[str, bytes]) -> tuple[Mapping[str, Any], ...]:
    """Store artifacts, each under its digest."""
    stored = [(name, content, kit.artifacts.keep(content)) for name, content in given.items()]
    return tuple(
        {"name": name, "uri": uri, "sha256": sha, "size": len(content)} for name, content, (uri, sha) in stored
    )


def _gates(kit: Kit, taken: Taken, done: Done, work: Work) -> list[Checked]:
    if not taken.job.gates:
        return []
    plain = expression.plain(done.output)
    values = drafts.rule_values(public(taken.entry)) | {"output": plain, "inputs": expression.plain(work.inputs)}
    return [
        worded(
            gate,
            evaluated(gate, values) if gate.check is not None else kit.gates.check(gate, taken.job, work, done.output),
            values,
        )
        for gate in taken.job.gates
    ]


def _masked_result(result: Result, secrets: tuple[str, ...]) -> Result:
    """Mask the secrets of a job in its result."""
    if not secrets:
        return result
    match result:
        case Done():
            artifacts = {masked(n, secrets): masked_bytes(each, secrets) for n, each in result.artifacts.items()}
            return replace(result, output=masked_value(result.output, secrets), artifacts=artifacts)
        case Asked():
            return replace(result, question=masked(result.question, secrets))
        case Throttled():
            return replace(result, reason=masked(result.reason, secrets))
        case _:
            data = masked_value(result.data, secrets)
            return replace(result, reason=masked(result.reason, secrets), data=data)
