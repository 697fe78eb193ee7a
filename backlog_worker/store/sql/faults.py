"""Translation of driver errors: no error of a driver or of SQLAlchemy leaves the store.

| ours | PostgreSQL | SQLite |
|---|---|---|
| FullError | 53100 | FULL, or an I/O error where the disk has no room |
| BusyError | class 40, lock and statement time-outs, every connection in use here | BUSY, LOCKED, PROTOCOL |
| UnreachableError | no connection, a lost one, too many, a standby | CANTOPEN, IOERR, READONLY |
| StoreError | everything else: a retry would fail too | the same |
"""

import re
import shutil
from pathlib import Path

from sqlalchemy.engine import Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from backlog_worker.domain.errors import BacklogError, BusyError, FullError, StoreError, UnreachableError
from backlog_worker.domain.masking import masked

ROOM_BYTES = 1024 * 1024
_BUSY = frozenset({"55P03", "55006", "57014", "25P03", "25P04", "53200"})
_AWAY = frozenset({"57P01", "57P02", "57P03", "57P05", "53300", "25006", "58000", "58030", "3D000"})
_BUSY_LITE = frozenset({5, 6, 15})  # SQLITE_BUSY, _LOCKED, _PROTOCOL
_AWAY_LITE = frozenset({8, 10, 14})  # SQLITE_READONLY, _IOERR, _CANTOPEN
_FULL_LITE = 13
_ROTTEN_LITE = frozenset({11, 26})  # SQLITE_CORRUPT, _NOTADB
_TABLE = re.compile(r"\b(?:FROM|INTO|UPDATE|TABLE|JOIN)\s+\"?([a-z_]+)", re.IGNORECASE)


def own(engine: Engine, error: Exception, *, connecting: bool = False) -> BacklogError:
    """Return our error for an error of the driver; *connecting* if no statement was sent yet."""
    if isinstance(error, PoolTimeoutError):
        return BusyError("every database connection of this process is in use", hint="it is retried")
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    lost = isinstance(error, DBAPIError) and error.connection_invalidated
    code = getattr(cause, "sqlite_errorcode", None)
    if engine.dialect.name == "sqlite":
        kind = _of_sqlite(engine, None if code is None else code & 0xFF)
    else:
        kind = _of_postgres(engine, cause)
    if kind is StoreError and (lost or connecting) and not _rotten(cause):
        kind = UnreachableError
    return _worded(engine, kind, error, cause)


def unreachable(engine: Engine, reason: str) -> UnreachableError:
    """Return the error that names the unreachable database and the remedy."""
    return UnreachableError(
        f"the database {_address(engine)} does not answer: {reason}",
        hint="start it, or correct BACKLOG_DATABASE_URL; workers wait and continue when it is back",
    )


def _of_postgres(engine: Engine, cause: BaseException) -> type[BacklogError]:
    state = str(getattr(cause, "sqlstate", None) or "")
    if state == "53100":
        return FullError
    if state.startswith("40") or state in _BUSY:
        return BusyError
    if state.startswith(("08", "28")) or state in _AWAY:
        return UnreachableError
    driver = engine.dialect.loaded_dbapi
    # Without a state the server sent no error: the connection was refused or lost.
    silent = not state and isinstance(cause, driver.OperationalError | driver.InterfaceError)
    return UnreachableError if silent else StoreError


def _of_sqlite(engine: Engine, code: int | None) -> type[BacklogError]:
    if code == _FULL_LITE or (code in _AWAY_LITE and not _room(engine)):
        return FullError
    if code in _BUSY_LITE:
        return BusyError
    return UnreachableError if code in _AWAY_LITE else StoreError


def _room(engine: Engine) -> bool:
    """Return whether the disk of SQLite has space: it reports some full disks as `disk I/O error`."""
    try:
        return shutil.disk_usage(Path(engine.url.database or ".").absolute().parent).free >= ROOM_BYTES
    except OSError:
        return True


def _worded(engine: Engine, kind: type[BacklogError], error: Exception, cause: BaseException) -> BacklogError:
    reason = _first(cause)
    if kind is UnreachableError:
        return unreachable(engine, reason)
    if kind is FullError:
        hint = "free some space; workers wait and then continue"
        return FullError(f"the disk of the database {_address(engine)} is full: {reason}", hint=hint)
    if kind is BusyError:
        return _busy(engine, error, cause, reason)
    if _rotten(cause):
        hint = "restore the file from a backup"
        return StoreError(f"the file {engine.url.database} is spoiled{_at(error)}: {reason}", hint=hint)
    return StoreError(f"the database refused{_at(error) or ' a statement'}: {reason}")


def _rotten(cause: BaseException) -> bool:
    """Return whether SQLite says that its file is none of a database, or no longer whole."""
    return (getattr(cause, "sqlite_errorcode", None) or 0) & 0xFF in _ROTTEN_LITE


def _busy(engine: Engine, error: Exception, cause: BaseException, reason: str) -> BusyError:
    """Return the error that names the holder of a lock, as far as the database reports it."""
    hint = "it is retried; if that does not help, find the holder of the lock"
    if engine.dialect.name == "sqlite":
        file = engine.url.database or "memory"
        hint = f"it is retried; if that does not help, end the process that holds it: fuser {file}"
        return BusyError(f"another process holds the lock of {file}{_at(error)}: {reason}", hint=hint)
    if getattr(cause, "sqlstate", None) == "55P03":
        hint = (
            "it is retried; a migration or a maintenance command may hold it: SELECT pid, query FROM"
            " pg_stat_activity WHERE pid IN (SELECT unnest(pg_blocking_pids(pid)) FROM pg_stat_activity)"
        )
        return BusyError(f"another session holds a lock that is needed here{_at(error)}: {reason}", hint=hint)
    return BusyError(f"the database is busy{_at(error)}: {reason}", hint=hint)


def _at(error: Exception) -> str:
    """Return a text with the table of the failed statement, or ""."""
    found = _TABLE.search(str(getattr(error, "statement", None) or ""))
    return f" a statement over {found[1]}" if found else ""


def _first(cause: BaseException) -> str:
    words = cause.args[0] if isinstance(cause, SQLAlchemyError) and cause.args else cause
    return masked((str(words).strip().splitlines() or ["no answer"])[0])


def _address(engine: Engine) -> str:
    return masked(engine.url.render_as_string(hide_password=True))
