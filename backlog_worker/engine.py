"""For Python users: start, follow, cancel and resume pipelines, and subscribe to what happens in them.

The fleet does the work; this is a door to it, and any number of them may be open.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from backlog_worker.domain.bell import Bell
from backlog_worker.domain.document import suggestion
from backlog_worker.domain.entry import FINAL, Entry, Status
from backlog_worker.domain.errors import UnreachableError, UsageError
from backlog_worker.domain.review import Answer, Decided
from backlog_worker.lifecycle import Kit, again, follow, operate, operation, review, ringing
from backlog_worker.lifecycle.follow import Cursor, RunEvent
from backlog_worker.wiring import kit_of

STANDS = FINAL | {Status.ESCALATED}
Handler = Callable[[RunEvent], object]


class Engine:
    """Pipelines of one environment; without a kit it takes the settings of this process.

    *actor* is whose acts these are: the name in the history, and the one that the roles of the policy know.
    """

    def __init__(
        self, kit: Kit | None = None, *, ring: Callable[[Sequence[Bell]], object] | None = None, actor: str = ""
    ) -> None:
        self.kit = kit or kit_of()
        self.actor = actor or self.kit.worker
        self._ring = ring or self._sent
        self._handlers: dict[str, list[Handler]] = {}

    def start(self, pipeline: str, context: Mapping[str, Any], *, title: str = "", labels: Sequence[str] = ()) -> str:
        """File an entry for a pipeline and return its id; raises RefusedError where the policy says no."""
        entry_id, bells = again.start(self.kit, pipeline, context, actor=self.actor, title=title, labels=labels)
        self._ring(bells)
        return entry_id

    def status(self, entry_id: str) -> dict[str, Any]:
        """Return where an entry and its jobs stand; raises NotFoundError."""
        entry = self._entry(entry_id)
        with self.kit.store.read() as unit:
            stages = unit.stages({entry.id: str(entry.pipeline_hash)})[entry.id]
        jobs = {
            job_id: {
                "status": str(each.status),
                "startedAt": each.started_at,
                "completedAt": each.ended_at,
                "progress": each.progress,
                "output": each.output,
                "attemptCount": each.attempts,
            }
            for job_id, each in stages.items()
        }
        return {"runId": entry.run_id, "status": str(entry.status), "outcome": entry.outcome, "reason": entry.reason,
                "jobs": jobs}  # fmt: skip

    def cancel(self, entry_id: str, reason: str) -> None:
        """Cancel for good; a running child is killed on whatever machine it runs."""
        _, bells = operate.cancel(self.kit, entry_id, actor=self.actor, reason=reason)
        self._ring(bells)

    def resume(self, entry_id: str, reason: str) -> None:
        """Go on from the completed stages of what stopped, with its counters."""
        again.resume(self.kit, entry_id, actor=self.actor, reason=reason)

    def answer(
        self, review_id: str, answer: Answer, reason: str, *, value: object = None, unfinished: bool = False
    ) -> str:
        """Answer a review, by its id or that of its entry, and return the status of the entry.

        Raises NotAllowedError where the actor has no role that it asks for, RefusedError where that would complete an
        entry whose jobs never ran, unless *unfinished* says that this is meant.
        """
        decided = Decided(answer=Answer(answer), actor=self.actor, reason=reason, value=value, unfinished=unfinished)
        entry, bells = review.decide(self.kit, review_id, decided)
        self._ring(bells)
        return str(entry.status)

    def on(self, name: str, handler: Handler) -> None:
        """Call *handler* for every event of that name that `follow` reads; raises UsageError for an unknown name."""
        if name not in follow.NAMES:
            message = f"there is no event {name!r}"
            raise UsageError(message, hint=suggestion(name, list(follow.NAMES)) or f"one of: {', '.join(follow.NAMES)}")
        self._handlers.setdefault(name, []).append(handler)

    def follow(self, entry_id: str, *, every: float = 0.5, timeout: float = 3600.0) -> Iterator[RunEvent]:
        """Yield what happens to an entry until it ends or waits for a person's decision, and tell every handler.

        Everything is read from the store, so nothing is missed however late a reader begins. Raises UnreachableError
        after *timeout* seconds.
        """
        cursor, deadline = Cursor(), time.monotonic() + timeout
        while True:
            over = self._entry(entry_id).status in STANDS
            for event in follow.news(self.kit, entry_id, cursor):
                for handler in self._handlers.get(event.name, ()):
                    handler(event)
                yield event
            if over:
                return
            if time.monotonic() > deadline:
                message = f"{entry_id} did not end within {timeout:g} s"
                raise UnreachableError(message)
            time.sleep(every)

    def wait(self, entry_id: str, *, timeout: float = 3600.0) -> str:
        """Wait until an entry ends or is escalated; returns its status."""
        for _ in self.follow(entry_id, timeout=timeout):
            pass
        return str(self._entry(entry_id).status)

    def _entry(self, entry_id: str) -> Entry:
        return operation.wanted(self.kit, entry_id)

    def _sent(self, bells: Sequence[Bell]) -> None:
        from backlog_worker.celery import ring

        ringing.unheard(self.kit, ring(list(bells)))
