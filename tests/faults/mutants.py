"""The protocol with one part missing: each must be found, or a test is missing."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from backlog_worker.lifecycle import claim
from backlog_worker.lifecycle import review as reviews
from backlog_worker.lifecycle import stage as stage_module
from backlog_worker.store import Unit
from backlog_worker.store.sql import dialect, outbox, queue, stages
from backlog_worker.store.sql import entries as entries_module


def _no_fence(stack: ExitStack) -> None:
    """Whoever shows any run of the entry may write for it."""

    def _renew(self: Unit, run_ids: Any) -> dict[str, Any]:
        found = {}
        for run_id, run in self.runs_by_id(list(run_ids)).items():
            entry = self.hold([run["entry_id"]]).get(run["entry_id"])
            if entry is not None and entry.status == "in_progress":
                found[run_id] = entry
        return found

    stack.enter_context(patch.object(entries_module.Entries, "renew", _renew))
    loose = stages._FENCE.replace(" AND stages.run_id = r.run_id__ AND stages.takes = r.takes__", "")
    stack.enter_context(patch.object(stages, "_FENCE", loose.replace(" AND stages.status = 'running'", "")))


def _no_take_guard(stack: ExitStack) -> None:
    """A bell begins its stage, whatever became of that since; the look at the row and the guard of the take are gone."""
    stack.enter_context(patch.object(stage_module, "_rung", lambda stage: stage is not None))
    stack.enter_context(patch.object(stages, "_TAKE", stages._TAKE.partition(" WHERE stages.status")[0]))


def _worker_clock(stack: ExitStack) -> None:
    """A worker three hours ahead writes leases by its own clock."""
    skewed = dialect.Dialect(**{**_words(dialect.SQLITE), "later": "backlog_now() + 10800 + :lease"})
    stack.enter_context(patch("backlog_worker.store.sql.connection.SQLITE", skewed))


def _sweep_clock(stack: ExitStack) -> None:
    for name in ("_EXPIRED", "_LAPSED"):  # the list of the sweep, and its second look under the lock
        text = getattr(queue, name).replace("{now}", "{now} + 10800")
        stack.enter_context(patch.object(queue, name, text))


def _no_expiry_count(stack: ExitStack) -> None:
    original = claim._expire

    def _forgetful(kit: Any, unit: Unit, policy: Any, entry_ids: Any) -> Any:
        unit.count("UPDATE entries SET expiries = 0 WHERE expiries <> 0")
        return original(kit, unit, policy, entry_ids)

    stack.enter_context(patch.object(claim, "_expire", _forgetful))


def _no_eligibility_recheck(stack: ExitStack) -> None:
    def _trusting(kit: Any, unit: Unit, policy: Any, ready: Any) -> Any:
        pairs = [(entry, kit.book.pipeline(unit, entry.pipeline)) for entry in ready]
        return [(entry, pipeline, {"ELIG-LABEL": True}) for entry, pipeline in pairs if pipeline]

    stack.enter_context(patch.object(claim, "_admitted", _trusting))


def _ring_once(stack: ExitStack) -> None:
    stack.enter_context(patch.object(queue.Queue, "ring_stages_again", lambda *_a, **_k: []))


def _no_answer_guard(stack: ExitStack) -> None:
    stack.enter_context(patch.object(reviews, "_fresh", lambda *_a: None))
    stack.enter_context(patch.object(reviews.answer, "given", lambda *_a, **_k: []))

    def _answer(self: Unit, review: Any, decided: Any) -> bool:
        text = "UPDATE reviews SET answer = :answer, answered_by = :actor, answered_at = {now} WHERE id = :id"
        return self.count(text, id=review.id, answer=str(decided.answer), actor=decided.actor) == 1

    stack.enter_context(patch.object(Unit, "answer", _answer, create=True))


def _no_send_lease(stack: ExitStack) -> None:
    original = outbox.Outbox.take_wishes

    def _take(self: Unit, lease: float, most: int) -> Any:
        self.count("UPDATE outbox SET leased_until = NULL")
        return original(self, lease, most)

    stack.enter_context(patch.object(outbox.Outbox, "take_wishes", _take))


def _sent_before_send(stack: ExitStack) -> None:
    original = outbox.Outbox.take_wishes

    def _take(self: Unit, lease: float, most: int) -> Any:
        wishes = original(self, lease, most)
        for wish in wishes:
            self.sent(wish, "early")
        return wishes

    stack.enter_context(patch.object(outbox.Outbox, "take_wishes", _take))


def _no_outage_grace(stack: ExitStack) -> None:
    stack.enter_context(patch.object(queue.Queue, "grace", lambda *_a: None))


def _no_tick_lease(stack: ExitStack) -> None:
    stack.enter_context(patch.object(Unit, "take_lease", lambda *_a: True, create=True))


MUTANTS = {
    "no_fence": _no_fence,
    "no_take_guard": _no_take_guard,
    "worker_clock": _worker_clock,
    "sweep_clock": _sweep_clock,
    "no_expiry_count": _no_expiry_count,
    "no_eligibility_recheck": _no_eligibility_recheck,
    "ring_once": _ring_once,
    "no_answer_guard": _no_answer_guard,
    "no_send_lease": _no_send_lease,
    "sent_before_send": _sent_before_send,
    "no_outage_grace": _no_outage_grace,
}


def _stage_row_first(stack: ExitStack) -> None:
    """Read and write stages before the row of the entry is locked: two last jobs miss each other."""
    unlocked = entries_module._RENEW.replace("{lock}", "")
    stack.enter_context(patch.object(entries_module, "_RENEW", unlocked))


RACED = {
    "no_tick_lease": _no_tick_lease,
    "stage_row_first": _stage_row_first,
}  # a simulated transaction is atomic: these need a real server


@contextmanager
def mutated(name: str) -> Iterator[None]:
    """Run with one part of the protocol missing."""
    with ExitStack() as stack:
        if name:
            {**MUTANTS, **RACED}[name](stack)
        yield


def _words(of: dialect.Dialect) -> dict[str, str]:
    return {name: getattr(of, name) for name in of.__dataclass_fields__}
