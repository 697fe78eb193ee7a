"""A deadline for every answer of PostgreSQL, kept on this side: a network that swallows packets says nothing at all.

The server's own time-outs end a statement that takes too long. They do not help where its answer never arrives, or
where its host is gone without a word: then the connection is closed from here, and whoever waited gets an error.
"""

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

ANSWER_SECONDS = 35.0  # above the server's statement_timeout, which is the better word where it still comes
# Packets that nobody acknowledges end a connection after these, in the kernel's time.
SOCKET = {
    "connect_timeout": 5,
    "tcp_user_timeout": 10_000,
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 3,
    "keepalives_count": 3,
}


def limited(engine: Engine) -> None:
    """Let no connection of *engine* wait longer for an answer."""
    seconds = ANSWER_SECONDS
    silent: Any = engine.dialect.loaded_dbapi

    @sa.event.listens_for(engine, "connect")
    def _connected(raw: Any, _record: object) -> None:  # noqa: ANN401 - the driver, which is imported where it is used
        waits = raw.wait

        def _late() -> Exception:
            raw.pgconn.finish()
            error: Exception = silent.OperationalError(f"no answer within {seconds:g} s")
            return error

        def _wait(steps: Generator[Any, Any, Any], *arguments: Any, **named: Any) -> object:
            patient = getattr(raw, "patient", False)
            bounded = steps if patient else _until(time.monotonic() + seconds, steps, _late)
            return waits(bounded, *arguments, **named)

        raw.wait = _wait


@contextmanager
def patiently(connection: Connection) -> Iterator[None]:
    """Wait as long as it takes, for a migration; only PostgreSQL's connections have a deadline."""
    raw: Any = connection.connection.driver_connection
    if connection.dialect.name != "postgresql":
        yield
        return
    raw.patient = True
    try:
        yield
    finally:
        raw.patient = False


def _until(deadline: float, steps: Generator[Any, Any, Any], late: Callable[[], Exception]) -> Generator[Any, Any, Any]:
    """Pass on what the driver's generator waits for; past *deadline*, and with nothing to read, raise what *late* is.

    The driver wakes its generators several times a second, with nothing where nothing came.
    """
    try:
        wanted = next(steps)
        while True:
            ready = yield wanted
            if not ready and time.monotonic() > deadline:
                raise late()
            wanted = steps.send(ready)
    except StopIteration as end:
        return end.value
