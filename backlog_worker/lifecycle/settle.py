"""Judge how runs ended: the entry, its review, its record and its write-back change once, in one transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from backlog_worker.domain import writeback
from backlog_worker.domain.bell import Bell, Step
from backlog_worker.domain.entry import Change, Entry, Note
from backlog_worker.domain.events import digest
from backlog_worker.domain.frontier import Stage
from backlog_worker.domain.masking import cut
from backlog_worker.domain.outcome import PAUSES, Outcome, Verdict, judge
from backlog_worker.domain.pipeline import Pipeline
from backlog_worker.domain.policy import Policy
from backlog_worker.domain.reasons import Wait
from backlog_worker.domain.writeback import End, Person, RunFacts
from backlog_worker.lifecycle import Kit, intake
from backlog_worker.lifecycle.ask import About, dead_letter
from backlog_worker.lifecycle.loops import attempt
from backlog_worker.store import Unit
from backlog_worker.telemetry import emit

OVER = frozenset({Change.COMPLETED, Change.FAILED, Change.CANCELED})
RECORDED = frozenset({Change.COMPLETED, Change.FAILED, Change.ESCALATED, Change.CANCELED})
TARGET = "folder"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """A run that ends: its entry and rows as of this transaction; `unread` names rows that cannot be read."""

    entry: Entry
    run: Mapping[str, Any] | None
    pipeline: Pipeline | None
    stages: Mapping[str, Stage]
    policy: Policy
    unread: tuple[str, ...] = ()


def settle(kit: Kit, unit: Unit, endings: Sequence[tuple[Ending, Outcome]]) -> list[Bell]:
    """Judge the outcomes of held entries and apply the verdicts; returns the bells to ring after the commit."""
    verdicts = []
    for ending, outcome in endings:
        claims, runs = ending.policy.claims, ending.pipeline.retry_runs if ending.pipeline else 0
        verdict = judge(outcome, ending.entry, claims=claims, retry_runs=runs, now=unit.now(), jitter=kit.jitter())
        verdicts.append((ending, verdict))
    return conclude(kit, unit, verdicts)


def conclude(kit: Kit, unit: Unit, verdicts: Sequence[tuple[Ending, Verdict]]) -> list[Bell]:
    """Apply verdicts to held entries: the change, its review, its record, and the entries that it unblocks."""
    facts = unit.facts([ending.entry.id for ending, _ in verdicts])
    bells: list[Bell] = []
    ended: list[str] = []
    for ending, judged in verdicts:
        verdict = _dated(ending.entry, _with_unread(ending, judged), unit.now())
        _move(unit, ending, verdict)
        review_id = _review(kit, unit, ending, verdict)
        if verdict.change in RECORDED:
            record(kit, unit, ending, verdict, review_id, facts.get(ending.entry.id, {}))
        if verdict.change == Change.ESCALATED:
            entry_id = ending.entry.id
            bells.append(
                Bell(step=Step.HUMAN_REVIEW, ids=(entry_id,), name=f"{entry_id}.review.{ending.entry.attempt}")
            )
        if verdict.change in OVER:
            ended.append(ending.entry.id)
        emit("settled", entry=ending.entry.id, change=verdict.change, reason=verdict.reason)
    if ended and (waiting := unit.dependents(ended)):
        unit.flush()  # entries that wait must see what ended here
        intake.clear(kit, unit, list(unit.hold(waiting).values()), "the entry it waited for has ended")
    return list(dict.fromkeys(bells))


def record(
    kit: Kit, unit: Unit, ending: Ending, verdict: Verdict, review_id: str | None, facts: Mapping[str, Any]
) -> None:
    """Create the record of an ended run, store it in the history, and put it into the outbox."""
    held = unit.held[ending.entry.id]
    end = End(
        verdict=verdict,
        review_id=review_id,
        people=_people(facts.get("answered", ())),
        event=held.seq,
        sha256=held.head,
        at=unit.now(),
        lost=facts.get("lost", ()),
    )
    run = _run_facts(ending, facts, unit.now())
    made = attempt("record", lambda: writeback.record(held.entry, run, ending.pipeline, ending.stages, end))
    value = made.value or writeback.record(held.entry, run, None, {}, end)  # the end is recorded even without its jobs
    unit.note(ending.entry.id, Note.RECORDED, {"sha256": digest(value), "record": value})
    unit.put(
        {
            "id": kit.new_id("wb"),
            "target": TARGET,
            "topic": ending.entry.id,
            "entry_id": ending.entry.id,
            "run_id": ending.run["id"] if ending.run else None,
            "seq": held.seq,
            "body": value,
            "put_at": unit.now(),
        }
    )


def withdraw(unit: Unit, entry_id: str, actor: str, reason: str) -> None:
    """Close the open review of a held entry that moves on without an answer, and record that in its history."""
    for review_id in unit.close(entry_id, actor, reason):
        data = {"review_id": review_id, "answer": "withdrawn", "reason": reason, "job_id": ""}
        unit.note(entry_id, Note.ANSWERED, data)


def _with_unread(ending: Ending, verdict: Verdict) -> Verdict:
    """Say in the reason of an end which rows could not be read, for its record lacks them."""
    if not ending.unread:
        return verdict
    left = cut(", ".join(ending.unread), 200)
    return replace(verdict, reason=f"{cut(verdict.reason, 440)}; its record lacks what cannot be read: {left}")


def _dated(entry: Entry, verdict: Verdict, now: datetime) -> Verdict:
    """Add a missed due date to the reason of an end."""
    if verdict.change not in RECORDED or entry.due_date is None or entry.due_date > now:
        return verdict
    if verdict.reason.startswith(Wait.DEADLINE_PASSED):
        return verdict
    return replace(
        verdict, reason=f"{cut(verdict.reason, 440)}; its due date {entry.due_date:%Y-%m-%d %H:%MZ} was missed"
    )


def _move(unit: Unit, ending: Ending, verdict: Verdict) -> None:
    entry = ending.entry
    names = ("faults", "outages", "expiries")
    values: dict[str, Any] = {name: getattr(entry, name) + getattr(verdict, name) for name in names}
    if verdict.change == Change.BLOCKED:
        values["bars"] = list(verdict.bars)
    if verdict.change == Change.RETRIED:
        values |= {"retry_at": verdict.retry_at, "wake_at": verdict.retry_at}
        if verdict.kind not in PAUSES:
            unit.try_anew(entry.id)
    if verdict.outcome:
        values["outcome"] = verdict.outcome
    data = {"kind": verdict.kind.value if verdict.kind else None, "rule": verdict.rule, "job_id": verdict.job_id}
    unit.move(entry.id, verdict.change, verdict.reason, data, **values)


def _review(kit: Kit, unit: Unit, ending: Ending, verdict: Verdict) -> str | None:
    """Open the dead letter of an escalation, which withdraws every other open question about the entry."""
    if verdict.change != Change.ESCALATED:
        return None
    withdraw(unit, ending.entry.id, "policy", verdict.reason)
    run_id = ending.run["id"] if ending.run else None
    about = About(entry=ending.entry, run_id=run_id, policy=ending.policy)
    return dead_letter(kit, unit, about, verdict)


def _run_facts(ending: Ending, facts: Mapping[str, Any], now: datetime) -> RunFacts | None:
    run = ending.run
    if run is None:
        return None
    sent, claimed = facts.get("dispatched", {}), facts.get("claimed", {})
    return RunFacts(
        run_id=run["id"],
        attempt=run["attempt"],
        worker=run["worker"],
        policy_version=int(str(claimed.get("policy", ending.policy.stamp)).partition(" ")[0]),
        policy_sha256=run["policy_hash"],
        claimed_at=run["claimed_at"],
        ended_at=run.get("ended_at") or now,
        score=ending.entry.score,
        terms=sent.get("terms", {}),
        rank=sent.get("position"),
        tick=sent.get("at"),
        eligibility=claimed.get("eligibility", {}),
        void=claimed.get("void", ()),
    )


def _people(answers: Sequence[Mapping[str, Any]]) -> list[Person]:
    return [
        Person(
            name=str(each["actor"]),
            at=each["at"],
            answer=str(each.get("answer", "")),
            reason=str(each.get("reason", "")),
            job=str(each.get("job_id", "")),
        )
        for each in answers
    ]
