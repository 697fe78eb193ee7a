"""The Python API: start, follow, cancel and resume pipelines that the fleet runs, and subscribe to their events."""

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
    """Pipelines of one environment; without a kit the settings of this process are used.

    *actor* is the author of these acts in the history, and the person that the policy's roles refer to.
    """

    def __init__(
        self, kit: Kit | None = None, *, ring: Callable[[Sequence[Bell]], object] | None = None, actor: str = ""
    ) -> None:
        self.kit = kit or kit_of()
        self.actor = actor or self.kit.worker
        self._ring = ring or self._sent
        self._handlers: dict[str, list[Handler]] = {}

    def start(self, pipeline: str, context: Mapping[str, Any], *, title: str = "", labels: Sequence[str] = ()) -> str:
        """File an entry for a pipeline and return its id; raises RefusedError if the policy refuses it."""
        entry_id, bells = again.start(self.kit, pipeline, context, actor=self.actor, title=title, labels=labels)
        self._ring(bells)
        return entry_id

    def status(self, entry_id: str) -> dict[str, Any]:
        """Return the status of an entry and its jobs; raises NotFoundError."""
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
        """Cancel an entry for good; a running child is killed on whichever machine it runs."""
        _, bells = operate.cancel(self.kit, entry_id, actor=self.actor, reason=reason)
        self._ring(bells)

    def resume(self, entry_id: str, reason: str) -> None:
        """Resume a stopped entry after its completed stages, with its counters."""
        again.resume(self.kit, entry_id, actor=self.actor, reason=reason)

    def answer(
        self, review_id: str, answer: Answer, reason: str, *, value: object = None, unfinished: bool = False
    ) -> str:
        """Answer a review, by its id or that of its entry, and return the status of the entry.

        Raises NotAllowedError if the actor lacks the role, and RefusedError without *unfinished* if jobs never ran.
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
        """Yield the events of an entry until it ends or waits for a person, and call every handler.

        A late reader misses nothing, as events are stored. Raises UnreachableError after *timeout* seconds.
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
