"""A client-side deadline for every answer of PostgreSQL, because a network may drop packets silently.

The server's timeouts end slow statements. They do not help if an answer never arrives or the host disappears: then the
connection is closed on this side, and the caller gets an error.
"""

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

ANSWER_SECONDS = 35.0  # above the server's statement_timeout, whose error is more precise if it arrives
# The kernel closes a connection with unacknowledged packets after these times.
SOCKET = {
    "connect_timeout": 5,
    "tcp_user_timeout": 10_000,
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 3,
    "keepalives_count": 3,
}


def limited(engine: Engine) -> None:
    """Apply the deadline to every connection of *engine*."""
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
    """Suspend the deadline, for a migration; only PostgreSQL connections have one."""
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
    """Drive the driver's generator; raise the error from *late* after *deadline* if there is nothing to read.

    The driver resumes its generators several times a second even if no data arrived.
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
