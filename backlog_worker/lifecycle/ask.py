"""Open reviews: at most one per job of an entry, in the transaction that sets its stage to waiting."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from backlog_worker.domain.entry import Entry, Note
from backlog_worker.domain.masking import cut
from backlog_worker.domain.outcome import Asked, Verdict
from backlog_worker.domain.policy import Policy
from backlog_worker.domain.review import ReviewKind
from backlog_worker.lifecycle import Kit
from backlog_worker.store import Unit
from backlog_worker.telemetry import emit


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """The subject of a question: a held entry, its run if it has one, and the policy that says who may answer."""

    entry: Entry
    run_id: str | None
    policy: Policy


def ask(kit: Kit, unit: Unit, about: About, job_id: str, asked: Asked, *, on_timeout: str) -> str:
    """Open the review of a question about one job; returns its id."""
    row = {
        "kind": ReviewKind(asked.kind).value,
        "job_id": job_id,
        "question": cut(asked.question, 1000),
        "role": asked.role,
        "failure": "",
        "rule": "",
        "detail": cut(asked.detail, 300),
        "on_timeout": on_timeout,
        "form": dict(asked.form) if asked.form is not None else None,
    }
    return _open(kit, unit, about, row, asked.within)


def dead_letter(kit: Kit, unit: Unit, about: About, verdict: Verdict) -> str:
    """Open the dead letter of an escalated entry; returns its id."""
    policy = about.policy
    row = {
        "kind": ReviewKind.DEAD_LETTER.value,
        "job_id": verdict.job_id,
        "question": cut(verdict.reason, 1000),
        "role": verdict.role or policy.dead_letter.role,
        "failure": verdict.kind.value if verdict.kind else "",
        "rule": verdict.rule,
        "detail": "",
        "on_timeout": "escalate",
        "form": None,
    }
    return _open(kit, unit, about, {**row, "rung_at": unit.now()}, policy.dead_letter.answer_within)


def _open(kit: Kit, unit: Unit, about: About, row: Mapping[str, Any], within: timedelta) -> str:
    entry = about.entry
    review_id = kit.new_id("rev")
    held = unit.note(
        entry.id,
        Note.ASKED,
        {name: row[name] for name in ("kind", "job_id", "question", "role")} | {"review_id": review_id},
    )
    recovery = f"{held.attempt} runs; faults {held.faults}, outages {held.outages}, workers lost {held.expiries}"
    unit.ask(
        {
            **row,
            "id": review_id,
            "env": kit.env,
            "entry_id": entry.id,
            "run_id": about.run_id,
            "owner": entry.owner or about.policy.dead_letter.owner,
            "recovery": recovery,
            "opened_at": unit.now(),
            "due_at": unit.now() + within,
            "seq": unit.held[entry.id].seq,
        }
    )
    emit("review_opened", review=review_id, entry=entry.id, reason=row["question"])
    return review_id
