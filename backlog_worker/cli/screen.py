"""The backlog on one screen, drawn with rich; all that is drawn passes here, as all lines pass through `output`."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from rich.columns import Columns
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.measure import Measurement
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from backlog_worker.cli.output import console, legible
from backlog_worker.domain.duration import spoken
from backlog_worker.domain.measures import Measures
from backlog_worker.lifecycle.watch import Report

COLORS = {
    "queued": "cyan",
    "ready": "blue",
    "in_progress": "yellow",
    "retrying": "magenta",
    "blocked": "bright_black",
    "escalated": "red",
    "completed": "green",
    "nothing to do": "bright_black",
    "failed": "red",
    "canceled": "bright_black",
}
WIDTH = 60
NEWS_SECONDS = 5.0  # an older count is shown with its time


@dataclass(frozen=True, slots=True)
class Inert:
    """A drawing of which a terminal obeys its colours alone, and nothing of the texts in it."""

    drawing: RenderableType

    def __rich_console__(self, on: Console, options: ConsoleOptions) -> RenderResult:
        """Render the drawing with every text made legible."""
        for segment in on.render(self.drawing, options):
            yield segment if segment.control else Segment(legible(segment.text), segment.style)

    def __rich_measure__(self, on: Console, options: ConsoleOptions) -> Measurement:
        """Return how wide the drawing is."""
        return Measurement.get(on, options, self.drawing)


@dataclass(frozen=True, slots=True)
class Screen:
    """A part of the terminal that is drawn again and again."""

    drawn: Live

    @property
    def terminal(self) -> bool:
        """Return whether anybody sees it."""
        return self.drawn.console.is_terminal

    def show(self, drawing: RenderableType) -> None:
        """Put a drawing in place of the one before."""
        self.drawn.update(Inert(drawing))

    def tell(self, words: str) -> None:
        """Print a line above the drawing."""
        self.drawn.console.print(Inert(Text(words)), soft_wrap=True)


@contextmanager
def live(*, error: bool = False) -> Iterator[Screen]:
    """Draw what is shown until the end of the block, and leave the last drawing there."""
    with Live(console=console(error=error), refresh_per_second=4, transient=False, redirect_stdout=False) as drawn:
        yield Screen(drawn)


def draw(drawing: RenderableType) -> None:
    """Print a drawing once."""
    console().print(Inert(drawing))


def counted(records: Iterable[Any], name: str) -> Iterator[Any]:
    """Count records on standard error while they are read, on a terminal only."""
    shown_on = console(error=True)
    if not shown_on.is_terminal:
        yield from records
        return
    columns = ("importing", BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=shown_on, transient=True) as progress:
        task = progress.add_task(legible(name), total=None)
        for record in records:
            progress.advance(task)
            yield record


def status_panel(report: Report, *, title: str = "") -> RenderableType:
    """Draw statuses, measures, waiting times and the fleet of one report."""
    counts = report.counts.by_status
    head = Text(f"{title or 'backlog'} {report.env}   policy {report.policy}   {report.at:%H:%M:%SZ}", style="bold")
    columns = Columns([_statuses(counts), _measures(report), _waiting(report), _fleet(report)], padding=(0, 4))
    alarms = [Text(f"ALERT {rule}: {words}", style="bold red") for rule, words in report.alerts.items()]
    return Group(head, _bar(report), columns, *alarms)


def _bar(report: Report) -> Text:
    """Return a bar with a colour per status, sized by its share, and below it the number of completed entries."""
    total = max(1, sum(report.counts.by_status.values()))
    bar = Text(overflow="fold")
    for status, color in COLORS.items():
        number = report.counts.by_status.get(status, 0)
        bar.append("█" * round(WIDTH * number / total), style=color)
    bar.append(f"\n{report.measures.covered} of {report.measures.eligible} eligible completed")
    bar.append(f" ({report.measures.coverage:.0%})")
    return bar


def _statuses(counts: dict[str, int] | object) -> Table:
    made = Table(box=None, show_header=False, pad_edge=False)
    for status, color in COLORS.items():
        number = counts.get(status, 0) if isinstance(counts, dict) else 0
        if number:
            made.add_row(Text(status, style=color), str(number))
    return made


def _measures(report: Report) -> Table:
    measures = report.measures
    made = Table(box=None, show_header=False, pad_edge=False)
    made.add_row("waits for people", str(report.counts.reviews_open))
    made.add_row("escalated", f"{measures.escalation_rate:.1%} of eligible")
    made.add_row("failed runs", f"{measures.failure_rate:.1%}  {_kinds(measures.failures)}")
    for priority, seconds in measures.wait_p50.items():
        made.add_row(
            f"wait {priority}",
            f"P50 {_length(seconds)}, P90 {_length(measures.wait_p90[priority])}{_still(measures, priority)}",
        )
    for words, number in (
        ("done before", measures.done_before),
        ("not eligible", measures.not_eligible),
        ("retired", sum(report.counts.retired.values())),
    ):
        if number:
            made.add_row(words, str(number))
    return made


def _waiting(report: Report) -> Table:
    """Return why entries wait, over the whole queue; for a long one as of the last count."""
    made = Table(box=None, show_header=False, pad_edge=False)
    for reason, number in report.waiting.items():
        made.add_row(reason, str(number))
    if report.next:
        made.add_row("go next", str(report.next))
    if (report.at - datetime.fromisoformat(report.waiting_at)).total_seconds() > NEWS_SECONDS:
        made.add_row(Text(f"waiting as of {report.waiting_at[11:19]}Z", style="bright_black"), "")
    return made


def _fleet(report: Report) -> Table:
    made = Table(box=None, show_header=False, pad_edge=False)
    for worker in report.workers[:6]:
        ago = (report.at - worker["seen_at"]).total_seconds()
        made.add_row(worker["name"], f"{worker['slots']} slots", f"seen {ago:.0f} s ago")
    if not report.workers:
        made.add_row(Text("no worker was seen", style="red"), "", "")
    tick = "never" if report.last_tick is None else f"{max(0.0, report.last_tick + 1):.0f} s ago"
    made.add_row("last tick", tick, "")
    made.add_row("write-backs due", str(report.writebacks_due), "")
    return made


def _still(measures: Measures, priority: str) -> str:
    number = measures.still_waiting.get(priority, 0)
    return f", {number} still wait" if number else ""


def _kinds(failures: object) -> str:
    pairs = failures.items() if isinstance(failures, dict) else ()
    return ", ".join(f"{kind} {number}" for kind, number in pairs)


def _length(seconds: float) -> str:
    return spoken(timedelta(seconds=seconds))
