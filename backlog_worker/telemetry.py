"""emit(event): one log line; wording and levels live here, and nothing secret passes."""

import logging
import sys
from collections.abc import Mapping
from contextlib import suppress

import structlog

from backlog_worker.domain.masking import masked, masked_value

# event -> level and words; a line carries its fields beside them. Hot paths are at debug.
EVENTS: Mapping[str, tuple[int, str]] = {
    "dispatched": (logging.INFO, "entries were chosen"),
    "claimed": (logging.DEBUG, "entries were claimed"),
    "claim_refused": (logging.INFO, "an entry was not eligible any more and was blocked"),
    "stage_ended": (logging.DEBUG, "a stage ended"),
    "stage_retried": (logging.INFO, "a stage failed and is tried again"),
    "settled": (logging.INFO, "a run ended"),
    "stage_lost": (logging.WARNING, "the worker of one stage died while others keep its run; it is rung for again"),
    "fallback_used": (logging.WARNING, "a job could not be done, or not in time; its fallback was used"),
    "cache_used": (logging.INFO, "a stored result was used"),
    "cost_refused": (logging.WARNING, "a job told a cost or a count that is none; it counts as not known"),
    "price_unknown": (logging.WARNING, "nobody knows the price of a model; set it in `prices` of the policy"),
    "budget_exceeded": (logging.WARNING, "a budget that only warns is used up"),
    "triggered": (logging.INFO, "a trigger filed an entry"),
    "slots_missed": (logging.WARNING, "slots of a schedule were missed; `catchUp` says what is made up for"),
    "delivery_refused": (logging.WARNING, "a message was refused: a wrong signature, or a replay"),
    "not_ready": (logging.WARNING, "a request was answered with 503, without the address that this names"),
    "request_failed": (logging.ERROR, "a request failed by a fault of the server"),
    "claim_lost": (logging.WARNING, "a claim was lost; its child was killed and nothing was written"),
    "stale_write_refused": (logging.WARNING, "a late write of a run that lost its claim was refused"),
    "given_back": (logging.INFO, "a run was given back at shutdown; nothing was counted"),
    "expired": (logging.WARNING, "leases ran out and were taken back"),
    "review_opened": (logging.WARNING, "a person is asked"),
    "review_late": (logging.WARNING, "a review is past its due time"),
    "definition_applied": (logging.INFO, "a definition is in force now"),
    "definition_doubtful": (logging.WARNING, "a definition that comes into force may not say what is meant"),
    "definition_invalid": (logging.ERROR, "a definition is wrong; the last good one stays in force"),
    "definition_stale": (logging.WARNING, "a file is not what is in force, and stays so until somebody applies it"),
    "definitions_elsewhere": (
        logging.WARNING,
        "the fleet follows another folder; the files of this one are not put in force",
    ),
    "pipeline_retired": (logging.WARNING, "a pipeline is out of force; its entries wait"),
    "bells_unsent": (logging.WARNING, "the broker does not answer; the sweep will ring again"),
    "bell_refused": (
        logging.ERROR,
        "bells of another backlog arrive here and are refused; give each project a broker, or a vhost, of its own",
    ),
    "step_refused": (logging.ERROR, "a step was refused; nothing changed"),
    "store_opened": (logging.INFO, "the backlog is kept here"),
    "store_fallback": (logging.ERROR, "PostgreSQL is away: the journal takes in new work, and nothing else is done"),
    "store_returned": (logging.WARNING, "PostgreSQL answers again"),
    "store_merged": (logging.WARNING, "what the journal took in is in the backlog now"),
    "journal_torn": (logging.WARNING, "an unfinished transaction was cut off a file; nothing that counted is lost"),
    "alert_fired": (logging.ERROR, "an alert fired"),
    "alert_resolved": (logging.INFO, "an alert is over"),
    "notified": (logging.WARNING, "somebody is told by this line"),
    "denied": (logging.WARNING, "somebody was not allowed to do something"),
    "job_failed": (logging.ERROR, "a scheduled job failed"),
    "database_away": (logging.WARNING, "the database does not answer; this is tried again"),
    "database_busy": (logging.WARNING, "somebody else holds what this needs; it is tried again"),
    "log_unwritable": (logging.ERROR, "a log cannot be opened; its service goes without"),
    "row_unreadable": (logging.ERROR, "a row cannot be read; it is left out, and the others go on"),
    "loop_failed": (logging.ERROR, "a step failed as nobody foresaw; its loop goes on"),
    "loop_replaced": (logging.ERROR, "a background thread had ended or stood still; another goes on in its place"),
    "writeback_failed": (logging.WARNING, "a write-back was not delivered"),
    "writeback_given_up": (logging.ERROR, "a write-back was given up"),
    "orphan_killed": (logging.WARNING, "a process of a dead worker was killed"),
    "message_rejected": (logging.ERROR, "a message was refused; no entry changed"),
    "grace_given": (logging.WARNING, "the sweep was away; leases were given more time"),
}


class Masked(logging.Formatter):
    """Formats lines of libraries, tracebacks included, without secrets."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record, masked."""
        return masked(super().format(record))


def configure(*, level: str = "INFO", as_json: bool | None = None) -> None:
    """Log to standard error: JSON where nobody looks, text at a terminal."""
    pretty = sys.stderr.isatty() if as_json is None else not as_json
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(colors=True) if pretty else structlog.processors.JSONRenderer()
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
