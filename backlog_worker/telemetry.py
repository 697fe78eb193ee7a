"""emit(event): one log line; wording and levels live here, and nothing secret passes."""

import logging
import sys
from collections.abc import Mapping
from contextlib import suppress

import structlog

from backlog_worker.domain.legible import visible
from backlog_worker.domain.masking import masked, masked_value

# event -> level and words; a line carries its fields beside them. Hot paths are at debug.
EVENTS: Mapping[str, tuple[int, str]] = {
    "dispatched": (logging.INFO, "entries were dispatched to workers"),
    "claimed": (logging.DEBUG, "a worker claimed entries"),
    "claim_refused": (logging.INFO, "an entry was no longer eligible when a worker claimed it; it is blocked now"),
    "stage_ended": (logging.DEBUG, "a stage ended"),
    "stage_retried": (logging.INFO, "a stage failed and will be retried"),
    "settled": (logging.INFO, "a run ended"),
    "stage_lost": (
        logging.WARNING,
        "the worker of a stage died while other workers still hold the run; the stage is dispatched again",
    ),
    "fallback_used": (logging.WARNING, "a job failed or timed out; its fallback was used"),
    "cache_used": (logging.INFO, "a cached result was used"),
    "cost_refused": (logging.WARNING, "a job reported an invalid cost or count; the value is recorded as unknown"),
    "price_unknown": (logging.WARNING, "the price of a model is unknown; set it under `prices` in the policy"),
    "budget_exceeded": (logging.WARNING, "a budget with `onExceeded: warn` is used up"),
    "triggered": (logging.INFO, "a trigger filed an entry"),
    "slots_missed": (logging.WARNING, "a schedule missed slots; its `catchUp` decides which of them still run"),
    "delivery_refused": (logging.WARNING, "a webhook message was refused: the signature is wrong, or it is a replay"),
    "not_ready": (logging.WARNING, "a request was answered with 503; this line names the address that did not answer"),
    "request_failed": (logging.ERROR, "a request failed because of an error in the server"),
    "claim_lost": (logging.WARNING, "a worker lost its claim; its child process was killed and nothing was written"),
    "stale_write_refused": (logging.WARNING, "a late write was refused because its run had lost the claim"),
    "given_back": (logging.INFO, "a worker that shuts down returned a run; it does not count as an attempt"),
    "expired": (logging.WARNING, "leases expired; their entries were taken back"),
    "review_opened": (logging.WARNING, "a review was opened; it waits for a person"),
    "review_late": (logging.WARNING, "a review is overdue"),
    "definition_applied": (logging.INFO, "a definition is now in force"),
    "definition_doubtful": (logging.WARNING, "a definition that comes into force has warnings"),
    "definition_invalid": (logging.ERROR, "a definition is invalid; the last good version stays in force"),
    "definition_stale": (logging.WARNING, "a file differs from the definition in force; apply it to put it in force"),
    "definitions_elsewhere": (
        logging.WARNING,
        "the fleet uses the definitions of another folder; the files of this folder are not in force",
    ),
    "pipeline_retired": (logging.WARNING, "a pipeline was retired; its entries wait"),
    "bells_unsent": (logging.WARNING, "the broker does not answer; the sweep will send the messages again"),
    "bell_refused": (
        logging.ERROR,
        "a message of another backlog was refused; give each project its own broker database or vhost",
    ),
    "step_refused": (logging.ERROR, "a step was refused; nothing changed"),
    "store_opened": (logging.INFO, "the store was opened"),
    "store_fallback": (
        logging.ERROR,
        "PostgreSQL is unavailable; new entries go to the journal, and nothing else is processed",
    ),
    "store_returned": (logging.WARNING, "PostgreSQL is available again"),
    "store_merged": (logging.WARNING, "the journal was merged into the backlog"),
    "journal_torn": (
        logging.WARNING,
        "an incomplete transaction at the end of a journal file was removed; committed data is complete",
    ),
    "alert_fired": (logging.ERROR, "an alert fired"),
    "alert_resolved": (logging.INFO, "an alert was resolved"),
    "notified": (logging.WARNING, "a notification was sent to the log"),
    "denied": (logging.WARNING, "an action was denied"),
    "job_failed": (logging.ERROR, "a scheduled job failed"),
    "database_away": (logging.WARNING, "the database does not answer; the operation is tried again"),
    "database_busy": (logging.WARNING, "another session holds a lock that is needed; the operation is tried again"),
    "log_unwritable": (logging.ERROR, "a log file cannot be opened; its service runs without it"),
    "row_unreadable": (logging.ERROR, "a row cannot be read; it is skipped, and the other rows are processed"),
    "loop_failed": (logging.ERROR, "a step failed unexpectedly; its loop continues"),
    "loop_replaced": (logging.ERROR, "a background thread had ended or was stuck; a new thread replaces it"),
    "writeback_failed": (logging.WARNING, "a write-back was not delivered"),
    "writeback_given_up": (logging.ERROR, "a write-back was given up"),
    "orphan_killed": (logging.WARNING, "a process of a dead worker was killed"),
    "message_rejected": (logging.ERROR, "a message was rejected; no entry changed"),
    "grace_given": (logging.WARNING, "the sweep had not run for some time; leases were extended"),
}


class Masked(logging.Formatter):
    """Formats lines of libraries, tracebacks included, without secrets and without what a terminal would obey."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record, masked."""
        return visible(masked(super().format(record)))


def configure(*, level: str = "INFO", as_json: bool | None = None) -> None:
    """Log to standard error: JSON where nobody looks, text at a terminal."""
    pretty = sys.stderr.isatty() if as_json is None else not as_json
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(colors=True, repr_native_str=True)
        if pretty
        else structlog.processors.JSONRenderer()
    )
    processors: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        renderer,
    ]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level)),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    words = "%(asctime)s %(levelname)s %(name)s %(message)s"
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Masked(words))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    if level != "DEBUG":  # a line per task, and per message of the clock, is what nobody reads
        for name in ("celery.app.trace", "celery.worker.strategy", "celery.beat"):
            logging.getLogger(name).setLevel(logging.WARNING)


def emit(event: str, **fields: object) -> None:
    """Log one event with its fields, masked; an event that EVENTS does not know is a mistake and raises KeyError."""
    level, words = EVENTS[event]
    logger = structlog.get_logger()
    if logger.is_enabled_for(level):
        clean = {name: masked_value(value) for name, value in fields.items()}
        with suppress(OSError, ValueError):  # a full disk or a closed stream: what nobody can read must stop nobody
            logger.log(level, words, code=event, **clean)
