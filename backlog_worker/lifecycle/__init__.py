"""What happens to an entry, a module per step; the Kit holds the live objects that a step may use."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from backlog_worker.domain.bell import Bell
from backlog_worker.domain.cadence import Cadence
from backlog_worker.executors import Executor, Report
from backlog_worker.executors.command import CommandExecutor
from backlog_worker.integrations import Answer, Artifacts, Definitions, Reports, Teller, Tracker, unknown
from backlog_worker.lifecycle.book import Book
from backlog_worker.lifecycle.heart import Heart
from backlog_worker.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Kit:
    """Built by `wiring`, passed down by doors; nothing in it is looked up anywhere else.

    It works on one environment, and so do its store, its book and its folders.
    """

    env: str
    worker: str
    store: Store
    definitions: Definitions
    book: Book
    executors: Mapping[str, Executor]
    gates: CommandExecutor
    artifacts: Artifacts
    tracker: Tracker
    reports: Reports
    notifier: Teller
    heart: Heart
    report: Callable[..., Report]
    secrets: Callable[[str], str | None] = field(repr=False)
    new_id: Callable[[str], str]
    jitter: Callable[[], float]
    pause: Callable[[float], None] = field(repr=False)
    elsewhere: "Callable[[str], Kit]" = field(repr=False)  # the same project and database, another environment
    ring: Callable[[Sequence[Bell]], object] = field(default=len, repr=False)  # whoever drops bells relies on the sweep
    seen_within: timedelta = timedelta(seconds=45)
    cadences: Callable[[], Sequence[Cadence]] = field(default=tuple, repr=False)  # the governed jobs of the clock
    fleet: bool = False  # a worker, or what starts one: the files of its folder come into force
    broker: Callable[[], Answer] = field(default=unknown, repr=False)  # asks the broker whether it answers
