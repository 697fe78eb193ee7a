"""The lifecycle of an entry, one module per step; `Kit` holds the objects that the steps use."""

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


def _not_an_exit(error: BaseException) -> bool:
    """Say of what was raised outside of a worker whether it stops this process: no signal raises SystemExit there."""
    return not isinstance(error, SystemExit)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kit:
    """The live objects of one environment, with its store, its book of definitions and its folders.

    `wiring` builds it and doors pass it down; nothing in it is looked up anywhere else.
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
    ring: Callable[[Sequence[Bell]], object] = field(default=len, repr=False)  # without one the sweep finds the work
    seen_within: timedelta = timedelta(seconds=45)
    cadences: Callable[[], Sequence[Cadence]] = field(default=tuple, repr=False)  # the governed jobs of the clock
    fleet: bool = False  # a worker or `up`: the files of its folder come into force
    broker: Callable[[], Answer] = field(default=unknown, repr=False)  # asks the broker whether it answers
    stopping: Callable[[BaseException], bool] = field(
        default=_not_an_exit, repr=False
    )  # is it what stops this process?
