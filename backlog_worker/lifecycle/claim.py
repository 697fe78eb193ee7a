"""Claim ready entries for this worker; sweep: expire the leases of lost workers, ring again for unclaimed work."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from backlog_worker.domain import draft as drafts
from backlog_worker.domain.admission import overdue
from backlog_worker.domain.bell import Bell, stage_bell
from backlog_worker.domain.entry import FOLDED, Change, Entry, Note, Status
from backlog_worker.domain.errors import StoreError
from backlog_worker.domain.legible import error_words
from backlog_worker.domain.masking import cut, masked
from backlog_worker.domain.outcome import FailureKind, Verdict
from backlog_worker.domain.pipeline import Pipeline
from backlog_worker.domain.policy import Policy
from backlog_worker.domain.reasons import Bar, Wait
from backlog_worker.domain.review import ReviewKind
from backlog_worker.lifecycle import Kit, answer, contract, intake, settle, stage, stood
from backlog_worker.lifecycle.duties import duty
from backlog_worker.lifecycle.held import Start, Taken
from backlog_worker.lifecycle.loops import attempt, insist
from backlog_worker.lifecycle.ringing import keep_ready, rung_again
from backlog_worker.lifecycle.settle import Ending
from backlog_worker.lifecycle.stood import goes_on
from backlog_worker.store import Unit
from backlog_worker.telemetry import emit

SWEEP_SECONDS, AWAY_SECONDS = 1.0, 5.0  # shorter and longer than the period of the sweep in beat_schedule.py
POISON_ROLE = "operator"
PASSED = f"{Wait.DEADLINE_PASSED.value}: its due date passed before it ran"


def take(kit: Kit, entry_ids: Sequence[str]) -> list[Bell]:
    """Claim ready entries and perform their first stages; entries that are not ready are skipped.

    Eligibility is judged again by the policy in force, in the transaction of the claim, and the verdict is stored in
    the event. An entry past its due date is escalated instead. Claim and first take are one commit.
    """
    taken, bells = _claim_or_isolate(kit, entry_ids)
    emit("claimed", count=len(taken), worker=kit.worker)
    return stage.work(kit, taken, bells)


def _claim_or_isolate(kit: Kit, entry_ids: Sequence[str]) -> tuple[list[Taken], list[Bell]]:
    """Claim entries together; if that raises, each alone; an entry whose run cannot begin is escalated."""
    tried = attempt("claim", lambda: insist(lambda: _claim_together(kit, entry_ids)))
    if tried.error is None:
        return tried.value or ([], [])
    if tried.elsewhere:
        raise tried.error
    if len(entry_ids) > 1:
        alone = [_claim_or_isolate(kit, [each]) for each in entry_ids]
        return [each for taken, _ in alone for each in taken], [bell for _, bells in alone for bell in bells]
    why = cut(f"its run cannot begin: {masked(error_words(tried.error))}", 400)
    return [], attempt("claim", lambda: insist(lambda: _escalate_unstartable(kit, entry_ids, why))).value or []


def _escalate_unstartable(kit: Kit, entry_ids: Sequence[str], why: str) -> list[Bell]:
    with kit.store.begin(actor=kit.worker) as unit:
        policy = kit.book.policy(unit)
        ready = [entry for entry in unit.hold(entry_ids).values() if entry.status == Status.READY]
        verdict = Verdict(change=Change.ESCALATED, reason=why, kind=FailureKind.EXECUTION, role=POISON_ROLE)
        endings = [Ending(entry=each, run=None, pipeline=None, stages={}, policy=policy) for each in ready]
        return settle.conclude(kit, unit, [(each, verdict) for each in endings])


def _claim_together(kit: Kit, entry_ids: Sequence[str]) -> tuple[list[Taken], list[Bell]]:
    with kit.store.begin(actor=kit.worker) as unit:
        policy = kit.book.policy(unit)
        unit.lease = policy.claims.timeout.total_seconds()
        held = unit.hold(entry_ids)
        ready = [held[each] for each in dict.fromkeys(entry_ids) if each in held and held[each].status == Status.READY]
        late = [entry for entry in ready if overdue(entry, policy, unit.now())]
        told = _escalate(kit, unit, policy, late, PASSED)
        starts = _begin_runs(
            kit, unit, _admitted(kit, unit, policy, [entry for entry in ready if entry not in late]), policy
        )
        taken, bells = stage.onward(kit, unit, starts, takes="first")
        return taken, bells + told


def sweep(kit: Kit) -> list[Bell]:
    """Reclaim the work of lost workers and ring again for unclaimed work; returns the bells.

    If the sweep itself did not run for longer than a heartbeat, nobody could renew, so leases get three more
    heartbeats. Each duty runs in its own transaction: a failing one is logged, and the others still run.
    """
    policy = _turn(kit)
    if policy is None:
        return []
    env, after, store = kit.env, policy.dead_letter.remind_after.total_seconds(), kit.store

    def _each(act: Callable[[Kit, Unit, Policy, Sequence[str]], list[Bell]]) -> Callable[[Sequence[str]], list[Bell]]:
        def _act(keys: Sequence[str]) -> list[Bell]:
            with kit.store.begin(actor="sweep") as unit:
                return act(kit, unit, policy, keys)

        return _act

    attempt("sweep.pending", lambda: _keep_pending(kit, policy))
    bells = duty(store, "sweep.expired", lambda unit, most: unit.expired_ids(most), _each(_expire))
    if policy.dead_letter.on_deadline == "escalate":
        bells += duty(store, "sweep.deadlines", lambda unit, most: unit.overdue_ids(env, most), _each(_deadlines))
    bells += duty(store, "sweep.reviews", lambda unit, most: unit.late_ids(env, after, most), _each(_late_reviews))
    bells += duty(store, "sweep.runs", lambda unit, most: unit.late_runs(most), _each(_late_runs))
    bells += duty(store, "sweep.unbarred", lambda unit, most: unit.unbarred(env, most), _each(_unbar))
    bells += _sweep_stages(kit, policy)
    return bells + (attempt("sweep.rings", lambda: rung_again(kit)).value or [])


def _turn(kit: Kit) -> Policy | None:
    """Take the lease of the sweep; return the policy to sweep by, or None if another process sweeps."""
    with kit.store.begin(actor="sweep") as unit:
        policy = kit.book.policy(unit)
        heartbeat = policy.claims.heartbeat.total_seconds()
        late = unit.late_by(f"sweep:{kit.env}")
        if not unit.take_lease(f"sweep:{kit.env}", kit.new_id("sweep"), SWEEP_SECONDS):
            return None
        if late is None or late > max(heartbeat, AWAY_SECONDS):
            unit.grace(3 * heartbeat)
            emit("grace_given", seconds=round(late or 0.0, 1))
    return policy


def _keep_pending(kit: Kit, policy: Policy) -> None:
    with kit.store.begin(actor="sweep") as unit:
        keep_ready(kit, unit)
        unit.keep_pending(policy.claims.timeout.total_seconds() / 2)


def _unbar(kit: Kit, unit: Unit, _policy: Policy, entry_ids: Sequence[str]) -> list[Bell]:
    intake.clear(kit, unit, list(unit.hold(entry_ids).values()), "the entry it waited for has ended")
    return []


def _sweep_stages(kit: Kit, policy: Policy) -> list[Bell]:
    """Handle single stages: those of lost workers, those whose pause is over, and those that no worker began."""
    store, heartbeat = kit.store, policy.claims.heartbeat.total_seconds()
    bells = duty(
        store,
        "sweep.lost",
        lambda unit, most: list(unit.losing(heartbeat, most)),
        lambda runs: _lost_stages(kit, policy, runs),
    )
    bells += duty(
        store,
        "sweep.rested",
        lambda unit, most: unit.rested(most),
        lambda runs: [bell for run_id in runs for bell in stage.go_on(kit, run_id)],
    )
    return bells + duty(
        store,
        "sweep.unstarted",
        lambda unit, most: unit.unstarted(most),
        lambda keys: [bell for run_id, job_id in keys for bell in _unstarted(kit, run_id, job_id)],
    )


def _lost(unit: Unit, runs: Sequence[str], heartbeat: float) -> list[dict[str, Any]]:
    """Reclaim stages of lost workers in runs that others still hold; the history of each run names the loss."""
    held = unit.renew(runs)
    lost = unit.lost(list(held), heartbeat) if held else []
    for each in lost:
        gone = {"job": each["job_id"], "worker": each["worker"], "take": each["takes"]}
        unit.note(each["entry_id"], Note.LOST, {"job_id": each["job_id"], "lost": [gone]})
    return lost


def _lost_stages(kit: Kit, policy: Policy, runs: Sequence[str]) -> list[Bell]:
    """Ring again for stages whose worker was lost while the run is held; fail a stage that loses too many as poison."""
    with kit.store.begin(actor="sweep") as unit:
        lost = _lost(unit, runs, policy.claims.heartbeat.total_seconds())
    bells: list[Bell] = []
    for each in lost:
        run_id, job_id, expiries = each["run_id"], each["job_id"], each["expiries"]
        emit("stage_lost", run=run_id, job=job_id, worker=each["worker"], expiries=expiries)
        if expiries < policy.claims.max_attempts:
            bells.append(stage_bell(run_id, job_id, each["takes"] + 1, expiries))
            continue
        text = f"its worker was lost {expiries} times: the job may crash its workers, or the machines are failing"
        failed = partial(stage.fail, kit, run_id, job_id, FailureKind.POISON, text)
        bells += attempt("sweep.lost", failed, run=run_id, job=job_id).value or []
    return bells


def _unstarted(kit: Kit, run_id: str, job_id: str) -> list[Bell]:
    return stage.fail(kit, run_id, job_id, FailureKind.TIMEOUT, "no worker started it within `clocks.queue`")


def _admitted(
    kit: Kit, unit: Unit, policy: Policy, ready: Sequence[Entry]
) -> list[tuple[Entry, Pipeline, Mapping[str, bool]]]:
    """Return the ready entries that may run, with their pinned pipelines; the others are blocked with their bars."""
    fit: list[tuple[Entry, Pipeline, Mapping[str, bool]]] = []
    live, broken = kit.book.names(unit), contract.broken(kit, unit, ready)
    for entry in ready:
        said = policy.eligibility(drafts.rule_values({name: getattr(entry, name) for name in FOLDED}))
        pinned, retired = entry.pipeline_hash, entry.pipeline not in live
        found = kit.book.pinned(unit, pinned) if pinned else kit.book.pipeline(unit, entry.pipeline)
        pipeline = None if retired else found
        bars = [Bar.NOT_ELIGIBLE.value] * (not all(said.values()))
        bars += [Bar.DEFINITION_MISSING.value] * (pipeline is None) + [Bar.INPUT_INVALID.value] * (entry.id in broken)
        if pipeline is None or bars:
            gone = (
                f"pipeline {entry.pipeline} is retired" if retired else f"pipeline {pinned or entry.pipeline} is gone"
            )
            no = ", ".join(rule for rule, yes in said.items() if not yes) or broken.get(entry.id) or gone
            unit.move(entry.id, Change.BLOCKED, f"refused at the claim: {no}", {"eligibility": said}, bars=bars)
            emit("claim_refused", entry=entry.id, bars=bars)
        else:
            fit.append((entry, pipeline, said))
    return fit


def _begin_runs(
    kit: Kit, unit: Unit, fit: Sequence[tuple[Entry, Pipeline, Mapping[str, bool]]], policy: Policy
) -> list[Start]:
    """Begin a run for each entry; the run id is the fence that every later write must match."""
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
        data: dict[str, Any] = {"eligibility": dict(said), "policy": policy.stamp, "policy_hash": policy.hash}
        if len(fit) > 1:
            data["among"] = len(fit)
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


def _expire(kit: Kit, unit: Unit, policy: Policy, entry_ids: Sequence[str]) -> list[Bell]:
    """Expire overdue leases; an entry that lost its worker too often is escalated as poison."""
    expired = unit.expired(entry_ids)
    lost = unit.held_stages([each.run_id for each in expired.values() if each.run_id]) if expired else {}
    claims = unit.facts(list(expired)) if expired else {}
    poison: list[tuple[Ending, Verdict]] = []
    for entry in expired.values():
        if entry.status == Status.READY:
            unit.move(entry.id, Change.EXPIRED, "no worker claimed it in time")
            continue
        gone, claimed = lost.get(str(entry.run_id), []), claims.get(entry.id, {}).get("claimed", {})
        unit.untake(entry.id, str(entry.pipeline_hash), str(entry.run_id))
        if not _requeued_after_loss(unit, policy, entry, gone, int(claimed.get("among", 1))):
            poison.append((ending_of(kit, unit, entry, policy), _poison(unit, entry, gone)))
    if expired:
        emit("expired", count=len(expired), poison=len(poison))
    if not poison:
        return []
    unit.flush()  # the record names the loss, which must be in the history first
    return settle.conclude(kit, unit, poison)


def _requeued_after_loss(
    unit: Unit, policy: Policy, entry: Entry, lost: Sequence[Mapping[str, Any]], among: int
) -> bool:
    """Queue an entry again after its worker was lost; returns false if that happened too often.

    If the worker held *among* several entries of one bell, none of them is charged, since the cause is unknown: each
    runs alone from now on.
    """
    data = {"kind": FailureKind.INFRASTRUCTURE.value, "lost": lost}
    if among > 1:
        words = (
            f"{_lost_names(entry, lost)} was lost with {among} entries in hand; not counted, and each runs alone next"
        )
        unit.move(entry.id, Change.EXPIRED, words, data)
        return True
    expiries, most = entry.expiries + 1, policy.claims.max_attempts
    if expiries < most:
        words = f"{_lost_names(entry, lost)} was lost ({expiries} of {most})"
        unit.move(entry.id, Change.EXPIRED, words, data, expiries=expiries)
    return expiries < most


def _poison(unit: Unit, entry: Entry, lost: Sequence[Mapping[str, Any]]) -> Verdict:
    text = (
        f"its worker was lost {entry.expiries + 1} times, the last time {_lost_names(entry, lost)};"
        " the entry may crash its workers, or the machines are failing"
    )
    if lost:
        unit.note(entry.id, Note.LOST, {"lost": lost})
    return Verdict(
        change=Change.ESCALATED,
        reason=text,
        kind=FailureKind.POISON,
        role=POISON_ROLE,
        job_id=lost[0]["job"] if len(lost) == 1 else "",
        expiries=1,
    )


def _lost_names(entry: Entry, lost: Sequence[Mapping[str, Any]]) -> str:
    """Return the names of the lost workers and the stages they held."""
    said = [f"{each['worker']} with `{each['job']}` (take {each['take']})" for each in lost]
    return f"worker {', '.join(said) or entry.worker}"


def ending_of(kit: Kit, unit: Unit, entry: Entry, policy: Policy) -> Ending:
    """Return the last run of an entry as its record needs it, if there was one.

    A row that cannot be read is left out and named: a run ends whatever became of its rows.
    """
    ending = Ending(entry=entry, run=None, pipeline=None, stages={}, policy=policy)
    try:
        run = unit.run_of(entry.run_id) if entry.run_id else next(iter(unit.runs(entry.id, most=1)), None)
    except StoreError:
        return replace(ending, unread=(f"the run {entry.run_id or 'before'}",))
    pipeline = kit.book.pinned(unit, run["pipeline_hash"]) if run else None
    stages, unread = unit.legible_stages(entry.id, pipeline.hash) if pipeline else ({}, [])
    named = tuple(f"the stage `{job_id}`" for job_id in unread)
    return replace(ending, run=run, pipeline=pipeline, stages=stages, unread=named)


def _deadlines(kit: Kit, unit: Unit, policy: Policy, entry_ids: Sequence[str]) -> list[Bell]:
    return _escalate(kit, unit, policy, unit.overdue(kit.env, entry_ids).values(), PASSED)


def _late_reviews(kit: Kit, unit: Unit, policy: Policy, review_ids: Sequence[str]) -> list[Bell]:
    """Remind people of overdue reviews; an unanswered one becomes a dead letter, or counts as a rejection."""
    late = unit.late(kit.env, policy.dead_letter.remind_after.total_seconds(), review_ids)
    for review in late:
        emit("review_late", review=review.id, entry=review.entry_id, owner=review.owner)
    asked = [review for review in late if review.kind != ReviewKind.DEAD_LETTER]
    held = unit.hold([review.entry_id for review in asked]) if asked else {}
    entries = {}
    bells: list[Bell] = []
    for review in asked:
        entry = held[review.entry_id]
        if review.on_timeout == "reject":
            words = "nobody answered in time, which the pipeline treats as a rejection"
            bells += answer.rejected(kit, unit, review, "clock", words)
        elif entry.status in {Status.BLOCKED, Status.IN_PROGRESS}:
            entries[entry.id] = entry
    return bells + _escalate(kit, unit, policy, entries.values(), "nobody answered the approval in time")


def _late_runs(kit: Kit, unit: Unit, policy: Policy, run_ids: Sequence[str]) -> list[Bell]:
    """End runs that exceed the time limit of their pipeline; their child processes are killed, and the entries
    escalate.
    """
    entries = [entry for entry in unit.renew(run_ids).values() if entry.run_id]
    for entry in entries:
        unit.untake(entry.id, str(entry.pipeline_hash), str(entry.run_id))
    text = "the run exceeded `clocks.total`"
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
