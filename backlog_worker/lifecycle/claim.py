"""Claim ready entries for this worker; sweep: expire the leases of the dead, ring again for what nobody took."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from backlog_worker.domain import draft as drafts
from backlog_worker.domain.admission import overdue
from backlog_worker.domain.bell import Bell, stage_bell
from backlog_worker.domain.entry import FOLDED, Change, Entry, Note, Status
from backlog_worker.domain.outcome import FailureKind, Verdict
from backlog_worker.domain.pipeline import Pipeline
from backlog_worker.domain.policy import Policy
from backlog_worker.domain.reasons import Bar, Wait
from backlog_worker.domain.review import ReviewKind
from backlog_worker.lifecycle import Kit, answer, intake, settle, stage, stood
from backlog_worker.lifecycle.held import Start
from backlog_worker.lifecycle.ringing import keep_ready, rung_again
from backlog_worker.lifecycle.settle import Ending
from backlog_worker.lifecycle.stood import goes_on
from backlog_worker.store import Unit
from backlog_worker.telemetry import emit

SWEPT = 50
SWEEP_SECONDS = 1.0  # shorter than the period of the sweep in beat_schedule.py
POISON_ROLE = "operator"
PASSED = f"{Wait.DEADLINE_PASSED.value}: its due date passed before it ran"


def take(kit: Kit, entry_ids: Sequence[str]) -> list[Bell]:
    """Claim entries that are ready and do their first stages; what is not ready belongs to another, or to nobody.

    Eligibility is judged again by the policy in force, in the transaction of the claim, and its answers are kept in
    the event; one whose due date has passed is escalated instead. Claim and first take are one commit.
    """
    with kit.store.begin(actor=kit.worker) as unit:
        policy = kit.book.policy(unit)
        unit.lease = policy.claims.timeout.total_seconds()
        held = unit.hold(entry_ids)
        ready = [held[each] for each in dict.fromkeys(entry_ids) if each in held and held[each].status == Status.READY]
        late = [entry for entry in ready if overdue(entry, policy, unit.now())]
        told = _escalate(kit, unit, policy, late, PASSED)
        starts = _begun(kit, unit, _fit(kit, unit, policy, [entry for entry in ready if entry not in late]), policy)
        taken, bells = stage.onward(kit, unit, starts, takes="first")
    emit("claimed", count=len(taken), worker=kit.worker)
    return stage.work(kit, taken, bells + told)


def sweep(kit: Kit) -> list[Bell]:
    """Take back what the dead held and ring again for what nobody took; returns the bells.

    When the sweep itself was away for longer than a heartbeat nobody could renew: leases get three heartbeats more.
    """
    with kit.store.begin(actor="sweep") as unit:
        policy = kit.book.policy(unit)
        heartbeat = policy.claims.heartbeat.total_seconds()
        late = unit.late_by(f"sweep:{kit.env}")
        if not unit.take_lease(f"sweep:{kit.env}", kit.new_id("sweep"), SWEEP_SECONDS):
            return []
        if late is None or late > heartbeat:
            unit.grace(3 * heartbeat)
            emit("grace_given", seconds=round(late or 0.0, 1))
        keep_ready(kit, unit)
        unit.keep_pending(policy.claims.timeout.total_seconds() / 2)
        bells = _expire(kit, unit, policy)
        bells += _deadlines(kit, unit, policy)
        bells += _late_reviews(kit, unit, policy)
        bells += _late_runs(kit, unit, policy)
        stuck = unit.hold(unit.unbarred(kit.env, SWEPT))
        intake.clear(kit, unit, list(stuck.values()), "what it waited for has ended")
        lost = _lost(unit, heartbeat)
        rested = unit.rested(SWEPT)
    for run_id in rested:
        bells += stage.go_on(kit, run_id)
    return bells + _lost_stages(kit, lost, policy.claims.max_attempts) + rung_again(kit)


def _lost(unit: Unit, heartbeat: float) -> list[dict[str, Any]]:
    """Take back the stages of the dead whose runs are kept by others; the history of each names what was lost."""
    runs = unit.losing(heartbeat, SWEPT)
    held = unit.renew(runs) if runs else {}
    lost = unit.lost(list(held), heartbeat) if held else []
    for each in lost:
        gone = {"job": each["job_id"], "worker": each["worker"], "take": each["takes"]}
        unit.note(each["entry_id"], Note.LOST, {"job_id": each["job_id"], "lost": [gone]})
    return lost


def _lost_stages(kit: Kit, lost: Sequence[Mapping[str, Any]], most: int) -> list[Bell]:
    """Ring again for stages whose worker died while others keep the run; one that kills its workers fails as poison."""
    bells: list[Bell] = []
    for each in lost:
        run_id, job_id, expiries = each["run_id"], each["job_id"], each["expiries"]
        emit("stage_lost", run=run_id, job=job_id, worker=each["worker"], expiries=expiries)
        if expiries < most:
            bells.append(stage_bell(run_id, job_id, each["takes"] + 1, expiries))
            continue
        text = f"its worker was lost {expiries} times; it may be poison, or the machines are unwell"
        bells += stage.fail(kit, run_id, job_id, FailureKind.POISON, text)
    with kit.store.read() as unit:
        unstarted = unit.unstarted(SWEPT)
    for run_id, job_id in unstarted:
        bells += stage.fail(kit, run_id, job_id, FailureKind.TIMEOUT, "no worker began it within `clocks.queue`")
    return bells


def _fit(
    kit: Kit, unit: Unit, policy: Policy, ready: Sequence[Entry]
) -> list[tuple[Entry, Pipeline, Mapping[str, bool]]]:
    """Judge ready entries by the policy in force and find their pinned pipelines; what bars them blocks them."""
    fit: list[tuple[Entry, Pipeline, Mapping[str, bool]]] = []
    for entry in ready:
        said = policy.eligibility(drafts.rule_values({name: getattr(entry, name) for name in FOLDED}))
        pinned = entry.pipeline_hash
        pipeline = kit.book.pinned(unit, pinned) if pinned else kit.book.pipeline(unit, entry.pipeline)
        bars = [Bar.NOT_ELIGIBLE.value] * (not all(said.values())) + [Bar.DEFINITION_MISSING.value] * (pipeline is None)
        if pipeline is None or bars:
            no = (
                ", ".join(rule for rule, yes in said.items() if not yes)
                or f"pipeline {pinned or entry.pipeline} is gone"
            )
            unit.move(entry.id, Change.BLOCKED, f"refused at the claim: {no}", {"eligibility": said}, bars=bars)
            emit("claim_refused", entry=entry.id, bars=bars)
        else:
            fit.append((entry, pipeline, said))
    return fit


def _begun(
    kit: Kit, unit: Unit, fit: Sequence[tuple[Entry, Pipeline, Mapping[str, bool]]], policy: Policy
) -> list[Start]:
    """Begin a run for each entry: its id is the fence that every later write must show."""
    now = unit.now()
    last = unit.last_runs([entry.id for entry, _, _ in fit if entry.attempt])
    runs = [
        _run(kit, unit, entry, pipeline, policy) | {"goes_on": goes_on(last.get(entry.id))}
        for entry, pipeline, _ in fit
    ]
    unit.begin_runs(runs)
    begun = [(entry, pipeline, run) for (entry, pipeline, _), run in zip(fit, runs, strict=True)]
    read, void = stood.found(unit, begun)
    starts = []
    for (entry, pipeline, said), run in zip(fit, runs, strict=True):
        data = {"eligibility": dict(said), "policy": policy.stamp, "policy_hash": policy.hash}
        claimed = unit.move(
            entry.id,
            Change.CLAIMED,
            f"claimed by {kit.worker}",
            {**data, "goes_on": run["goes_on"], "void": void[run["id"]]},
            run_id=run["id"],
            worker=kit.worker,
            claimed_at=now,
            rung_at=now,
            attempt=run["attempt"],
            pipeline_hash=pipeline.hash,
            group_key=entry.group_key,
            reserved_usd=entry.reserved_usd,
        )
        known = read[run["id"]]
        starts.append(Start(entry=claimed, run=run, pipeline=pipeline, policy=policy, stages=known, input=None))
    return starts


def _run(kit: Kit, unit: Unit, entry: Entry, pipeline: Pipeline, policy: Policy) -> dict[str, Any]:
    return {
        "id": kit.new_id("run"),
        "entry_id": entry.id,
        "attempt": entry.attempt + 1,
        "worker": kit.worker,
        "pipeline_hash": pipeline.hash,
        "policy_hash": policy.hash,
        "claimed_at": unit.now(),
        "ends_by": unit.now() + pipeline.clocks.total if pipeline.clocks.total else None,
    }


def _expire(kit: Kit, unit: Unit, policy: Policy) -> list[Bell]:
    """Take back leases that ran out; an entry that lost its worker once too often is poison and goes to people."""
    expired = unit.expired(SWEPT)
    lost = unit.held_stages([each.run_id for each in expired.values() if each.run_id]) if expired else {}
    poison: list[tuple[Ending, Verdict]] = []
    for entry in expired.values():
        if entry.status == Status.READY:
            unit.move(entry.id, Change.EXPIRED, "no worker took it in time")
            continue
        expiries, gone = entry.expiries + 1, lost.get(str(entry.run_id), [])
        unit.untake(entry.id, str(entry.pipeline_hash), str(entry.run_id))
        if expiries < policy.claims.max_attempts:
            words = f"{_of_lost(entry, gone)} was lost ({expiries} of {policy.claims.max_attempts})"
            data = {"kind": FailureKind.INFRASTRUCTURE.value, "lost": gone}
            unit.move(entry.id, Change.EXPIRED, words, data, expiries=expiries)
            continue
        text = (
            f"its worker was lost {expiries} times, the last time {_of_lost(entry, gone)};"
            " it may be poison, or the machines are unwell"
        )
        if gone:
            unit.note(entry.id, Note.LOST, {"lost": gone})
        job_id = gone[0]["job"] if len(gone) == 1 else ""
        verdict = Verdict(
            change=Change.ESCALATED,
            reason=text,
            kind=FailureKind.POISON,
            role=POISON_ROLE,
            job_id=job_id,
            expiries=1,
        )
        poison.append((ending_of(kit, unit, entry, policy), verdict))
    if expired:
        emit("expired", count=len(expired), poison=len(poison))
    if not poison:
        return []
    unit.flush()  # the record names what was lost, which must be in the history first
    return settle.conclude(kit, unit, poison)


def _of_lost(entry: Entry, lost: Sequence[Mapping[str, Any]]) -> str:
    """Name the workers that were lost, and with which stages."""
    said = [f"{each['worker']} with `{each['job']}` (take {each['take']})" for each in lost]
    return f"worker {', '.join(said) or entry.worker}"


def ending_of(kit: Kit, unit: Unit, entry: Entry, policy: Policy) -> Ending:
    """Read what a record needs of the last run of an entry; without one there is none."""
    run = unit.run_of(entry.run_id) if entry.run_id else next(iter(unit.runs(entry.id, most=1)), None)
    pipeline = kit.book.pinned(unit, run["pipeline_hash"]) if run else None
    stages = unit.stages({entry.id: pipeline.hash})[entry.id] if pipeline else {}
    return Ending(entry=entry, run=run, pipeline=pipeline, stages=stages, policy=policy)


def _deadlines(kit: Kit, unit: Unit, policy: Policy) -> list[Bell]:
    if policy.dead_letter.on_deadline != "escalate":
        return []
    return _escalate(kit, unit, policy, unit.overdue(kit.env, SWEPT).values(), PASSED)


def _late_reviews(kit: Kit, unit: Unit, policy: Policy) -> list[Bell]:
    """Remind of reviews past due; what nobody answered in time goes to the dead letters, or counts as a no."""
    late = unit.late(kit.env, policy.dead_letter.remind_after.total_seconds(), SWEPT)
    for review in late:
        emit("review_late", review=review.id, entry=review.entry_id, owner=review.owner)
    asked = [review for review in late if review.kind != ReviewKind.DEAD_LETTER]
    held = unit.hold([review.entry_id for review in asked]) if asked else {}
    entries = {}
    bells: list[Bell] = []
    for review in asked:
        entry = held[review.entry_id]
        if review.on_timeout == "reject":
            words = "nobody answered in time, and the pipeline takes that for a no"
            bells += answer.rejected(kit, unit, review, "clock", words)
        elif entry.status in {Status.BLOCKED, Status.IN_PROGRESS}:
            entries[entry.id] = entry
    return bells + _escalate(kit, unit, policy, entries.values(), "nobody answered the approval in time")


def _late_runs(kit: Kit, unit: Unit, policy: Policy) -> list[Bell]:
    """End runs that last longer than their pipeline allows; their children are killed, and people decide."""
    late = unit.late_runs(SWEPT)
    entries = [entry for entry in unit.renew(late).values() if entry.run_id] if late else []
    for entry in entries:
        unit.untake(entry.id, str(entry.pipeline_hash), str(entry.run_id))
    text = "the run lasted longer than `clocks.total` allows"
    return _escalate(kit, unit, policy, entries, text, kind=FailureKind.TIMEOUT)


def _escalate(
    kit: Kit,
    unit: Unit,
    policy: Policy,
    entries: Iterable[Entry],
    reason: str,
    *,
    kind: FailureKind = FailureKind.POLICY,
) -> list[Bell]:
    verdicts: list[tuple[Ending, Verdict]] = []
    for entry in entries:
        settle.withdraw(unit, entry.id, "policy", reason)
        if entry.run_id:
            unit.untake(entry.id, str(entry.pipeline_hash), entry.run_id)
        verdict = Verdict(change=Change.ESCALATED, reason=reason, kind=kind, role=policy.dead_letter.role)
        verdicts.append((ending_of(kit, unit, entry, policy), verdict))
    return settle.conclude(kit, unit, verdicts) if verdicts else []
