"""A backlog in two readable, append-only files: `items.jsonl` and `events.jsonl`.

The files are loaded into SQLite in memory, which runs the same SQL as the other stores. A transaction appends its
events, then a line for every changed row, then a commit line; without the commit line it has no effect. A file lock
admits one writer at a time, and each process first reads what others wrote. The last line of an id is valid. `compact`
rewrites the files; a redo note makes the two renames atomic.
"""

import json
import os
import secrets
import shutil
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock, Timeout
from sqlalchemy.engine import Connection

from backlog_worker.domain.errors import BusyError, Finding, InvalidFileError, UsageError
from backlog_worker.domain.masking import cut
from backlog_worker.store import migrate, rendering
from backlog_worker.store.disk import on_disk
from backlog_worker.store.sql import connection
from backlog_worker.store.sql.connection import Clock
from backlog_worker.store.sql.dialect import METADATA
from backlog_worker.store.sql.unit import ENV, Store, Unit
from backlog_worker.telemetry import emit

FORMAT = "backlog-worker/jsonl@1"
ITEMS, EVENTS, REDO = "items.jsonl", "events.jsonl", "compaction.json"
LOCK_SECONDS = 60
_TABLES = tuple(METADATA.tables)
_UNREADABLE = (ValueError, RecursionError)
_MISSHAPEN = (*_UNREADABLE, TypeError, AttributeError, KeyError, OverflowError, sqlite3.Error)


class JsonlStore(Store):
    """A store in a folder; safe for several processes of one machine, not for a network file system."""

    def __init__(self, folder: Path, *, clock: Clock | None = None, env: str = ENV) -> None:
        super().__init__("memory://", clock=clock, env=env)
        self._clock = clock
        self.url = f"jsonl://{folder}"
        self.folder = folder
        self._alone = threading.RLock()  # always taken before the file's lock
        self._generation = -1
        self._items = self._events = 0  # how much of each file is loaded
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.lock = FileLock(folder / "lock", timeout=LOCK_SECONDS)

    @contextmanager
    def begin(self, *, actor: str = "system") -> Iterator[Unit]:
        """Open a writing transaction; it is synced to the files before it is committed in memory."""
        with self.exclusively():
            self._catch_up(writes=True)
            with connection.opened(self.engine, writes=True) as opened:
                unit = Unit(opened, self.dialect, self.env)
                unit.actor = actor
                yield unit
                unit.flush()
                try:
                    self._append(opened)
                except BaseException:
                    self._generation = -1  # memory and files may differ now, so the next transaction reloads the files
                    raise
                self._counted(unit)

    @contextmanager
    def read(self) -> Iterator[Unit]:
        """Open a read-only transaction over everything committed so far."""
        with self._alone:
            with self.exclusively():
                self._catch_up(writes=False)
            with super().read() as unit:
                yield unit

    @contextmanager
    def connected(self) -> Iterator[Connection]:
        """Open a bare connection for migrations; a changed schema is written to the files."""
        with self.exclusively():
            self._catch_up(writes=True)
            with super().connected() as opened:
                before = _revision(opened)
                yield opened
                changed = _revision(opened) != before
            if changed:
                self._watch()
                self._rewrite()

    @contextmanager
    def exclusively(self) -> Iterator[None]:
        """Lock out other threads and processes, over several transactions; raises BusyError."""
        with self._alone, ExitStack() as stack:
            self._locked(stack)
            yield

    def of(self, env: str) -> Store:
        """Return a store of the same files for another environment, with its own copy in memory."""
        return JsonlStore(self.folder, clock=self._clock, env=env)

    def compact(self) -> tuple[int, int]:
        """Rewrite the files with the last line of every id; return their size before and after, in bytes."""
        with self.exclusively():
            self._catch_up(writes=True)
            before = self._items + self._events
            self._rewrite()
            return before, self._items + self._events

    @on_disk
    def backup(self, path: Path) -> None:
        """Copy both files, as of the last complete transaction, into a new folder."""
        with self.exclusively():
            self._catch_up(writes=True)
            try:
                path.mkdir(parents=True)
            except FileExistsError:
                message = f"{path} already exists"
                raise UsageError(message, hint="name a new folder") from None
            for name in (EVENTS, ITEMS):
                if (self.folder / name).exists():
                    shutil.copyfile(self.folder / name, path / name)

    def empty(self) -> bool:
        """Return whether nothing was ever written here, without opening the store."""
        return not (self.folder / ITEMS).exists()

    def move_to(self, folder: Path) -> None:
        """Move the files away and start with empty ones; the caller holds `exclusively`."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in (EVENTS, ITEMS):
            shutil.copyfile(self.folder / name, folder / name)
        for name in (ITEMS, EVENTS):  # items first: without them the store counts as empty, even after a crash
            (self.folder / name).unlink()
        self._reset()

    @on_disk
    def _locked(self, stack: ExitStack) -> None:
        try:
            stack.enter_context(self.lock)
        except Timeout:
            message = f"another process has held the files of {self.folder} for {LOCK_SECONDS} s"
            raise BusyError(message, hint="find the stopped process and end it") from None

    @on_disk
    def _catch_up(self, *, writes: bool) -> None:
        """Load what others committed since; a writer truncates an uncommitted end, and reports it."""
        self._finish_compaction()
        path = self.folder / ITEMS
        if not path.exists():
            if self._generation >= 0:
                self._reset()
            return
        with path.open("rb") as items:
            header = self._header(items)
            if header["generation"] != self._generation:
                self._reset()
                self._build(header)
                self._items = items.tell()
            items.seek(self._items)
            self._apply(items)
        if writes:
            self._cut(ITEMS, self._items)
            self._cut(EVENTS, self._events)

    def _header(self, items: BinaryIO) -> dict[str, Any]:
        line = items.readline()
        try:
            header = json.loads(line)
            if header["format"] == FORMAT and isinstance(header["generation"] + header["revision"], int):
                return dict(header)
        except (*_UNREADABLE, TypeError, KeyError):
            pass
        raise self._wrong(ITEMS, 1, "the first line is not the header of a backlog", "restore the file from a backup")

    def _build(self, header: Mapping[str, Any]) -> None:
        with super().connected() as opened:
            memory: Any = opened.connection.driver_connection
            memory.deserialize(_schema(int(header["revision"])))
        self._watch()
        self._generation = int(header["generation"])

    def _watch(self) -> None:
        """Record every change of a row, whichever statement makes it."""
        with super().connected() as opened:
            raw = opened.connection.cursor()
            raw.execute("CREATE TEMP TABLE IF NOT EXISTS capturing (live INTEGER)")
            raw.execute("CREATE TEMP TABLE IF NOT EXISTS changed (name TEXT, place INTEGER)")
            raw.execute("CREATE TEMP TABLE IF NOT EXISTS gone (name TEXT, id TEXT)")
            raw.execute("DELETE FROM capturing")
            raw.execute("INSERT INTO capturing VALUES (1)")
            there = {row[0] for row in raw.execute("SELECT name FROM main.sqlite_master WHERE type = 'table'")}
            for table in (name for name in _TABLES if name in there):
                for statement in rendering.triggers(raw, table):
                    raw.execute(statement)

    def _apply(self, items: BinaryIO) -> None:
        """Load complete transactions from the current position; data after the last commit is ignored."""
        waiting: list[dict[str, Any]] = []
        at = items.tell()
        with super().connected() as opened:
            raw = opened.connection.cursor()
            for line in items:
                value = self._line(line, at)
                if value is None:
                    break
                at += len(line)
                if "commit" not in value:
                    waiting.append(value)
                    continue
                self._transaction(raw, waiting, value["events"], at - len(line))
                waiting = []
                self._items = at

    def _line(self, line: bytes, at: int) -> dict[str, Any] | None:
        """Read one line; None where it is torn: whoever wrote it died before the commit."""
        try:
            value = json.loads(line)
        except _UNREADABLE:
            if not line.endswith(b"\n"):
                return None
            raise self._spoiled(ITEMS, at, "is no JSON") from None
        kept = isinstance(value, dict) and (
            type(value.get("events")) is int if "commit" in value else isinstance(value.get("table"), str)
        )
        if not kept:
            raise self._spoiled(ITEMS, at, "is neither a row nor a commit")
        return dict(value)

    def _transaction(self, raw: Any, lines: Sequence[Mapping[str, Any]], events: int, at: int) -> None:  # noqa: ANN401 - the driver's cursor
        raw.execute("BEGIN IMMEDIATE")
        try:
            raw.execute("UPDATE capturing SET live = 0")
            self._put_events(raw, events, at)
            known = [each for each in lines if each["table"] in rendering.KEYS]
            for each in sorted(known, key=lambda each: "put" not in each):
                self._put(raw, each, at)
            raw.execute("UPDATE capturing SET live = 1")
        except BaseException:
            raw.execute("ROLLBACK")
            raise
        raw.execute("COMMIT")
        self._events = events

    def _put_events(self, raw: Any, events: int, at: int) -> None:  # noqa: ANN401 - the driver's cursor
        """Read the events of one transaction, all of which must be there."""
        with (self.folder / EVENTS).open("rb") as file:
            there = file.seek(0, os.SEEK_END)
            if not self._events <= events <= there:
                text = f"commits {events} bytes of {EVENTS}, of which {there} are there and {self._events} are read"
                raise self._spoiled(ITEMS, at, text)
            file.seek(self._events)
            place = self._events
            for line in file.read(events - self._events).splitlines(keepends=True):
                try:
                    rendering.put(raw, "events", json.loads(line))
                except _MISSHAPEN as error:
                    raise self._spoiled(EVENTS, place, f"holds no event: {error}") from None
                place += len(line)

    def _put(self, raw: Any, line: Mapping[str, Any], at: int) -> None:  # noqa: ANN401 - the driver's cursor
        """Put one row in its place, or take it away."""
        table = line["table"]
        try:
            if "put" in line:
                rendering.put(raw, table, line["put"])
                return
            # as far as the release that wrote it knew the key
            key = [name for name in rendering.KEYS[table] if name in line["gone"]]
            values = [rendering.stored(table, name, line["gone"][name]) for name in key]
            raw.execute(f"DELETE FROM {table} WHERE {' AND '.join(f'{n} IS ?' for n in key)}", values)
        except _MISSHAPEN as error:
            raise self._spoiled(ITEMS, at, f"ends a transaction with a row of {table} that is none: {error}") from None

    @on_disk
    def _append(self, opened: Connection) -> None:
        raw = opened.connection.cursor()
        events, rows = [], []
        for table, place in raw.execute("SELECT DISTINCT name, place FROM changed ORDER BY name, place").fetchall():
            found = rendering.row(raw, table, place)
            if found is not None and table == "events":
                events.append(found)
            elif found is not None:
                rows.append({"table": table, "put": found})
        for table, key in raw.execute("SELECT DISTINCT name, id FROM gone").fetchall():
            names = json.loads(key)
            where = " AND ".join(f"{name} IS ?" for name in names)
            if not raw.execute(f"SELECT 1 FROM {table} WHERE {where}", list(names.values())).fetchone():
                shown = {name: rendering.shown(table, name, value) for name, value in names.items()}
                rows.append({"table": table, "gone": shown})
        raw.execute("DELETE FROM changed")
        raw.execute("DELETE FROM gone")
        if not events and not rows:
            return
        if events:
            self._events += self._written(EVENTS, [rendering.line_of(event) for event in events])
        rows.append({"commit": datetime.now(UTC).isoformat(timespec="milliseconds"), "events": self._events})
        self._items += self._written(ITEMS, [rendering.line_of(row) for row in rows])

    def _written(self, name: str, lines: Sequence[bytes]) -> int:
        content = b"".join(lines)
        with (self.folder / name).open("ab") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        return len(content)

    def _cut(self, name: str, size: int) -> None:
        path = self.folder / name
        over = path.stat().st_size - size if path.exists() else 0
        if over > 0:
            emit("journal_torn", file=str(path), bytes=over)
            os.truncate(path, size)

    @on_disk
    def _rewrite(self) -> None:
        """Write new files, note that, and rename them; after a crash either the old or the new pair is valid."""
        with super().connected() as opened:
            raw = opened.connection.cursor()
            # Random, not counted, so that new files are never mistaken for the ones moved away.
            header = {"format": FORMAT, "revision": _revision(opened), "generation": 1 + secrets.randbits(48)}
            events = self._aside(EVENTS, (rendering.line_of(row) for row in rendering.rows(raw, "events")))
            lines = [rendering.line_of(header)]
            for table in _TABLES:
                if table != "events":
                    lines += [rendering.line_of({"table": table, "put": row}) for row in rendering.rows(raw, table)]
            lines.append(
                rendering.line_of({"commit": datetime.now(UTC).isoformat(timespec="milliseconds"), "events": events})
            )
            items = self._aside(ITEMS, iter(lines))
        self._written(REDO, [rendering.line_of({"items": items, "events": events})])
        self._finish_compaction()
        self._generation, self._items, self._events = int(str(header["generation"])), items, events

    def _aside(self, name: str, lines: Iterator[bytes]) -> int:
        with (self.folder / f"{name}.new").open("wb") as file:
            size = sum(file.write(line) for line in lines)
            file.flush()
            os.fsync(file.fileno())
        return size

    def _finish_compaction(self) -> None:
        redo = self.folder / REDO
        if not redo.exists():
            return
        try:
            json.loads(redo.read_bytes())
        except ValueError:  # the note itself is incomplete, so nothing was renamed yet
            redo.unlink()
            return
        for name in (EVENTS, ITEMS):
            aside = self.folder / f"{name}.new"
            if aside.exists():
                aside.replace(self.folder / name)
        folder = os.open(self.folder, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
        redo.unlink()

    def _reset(self) -> None:
        self.engine.dispose()
        self._generation, self._items, self._events = -1, 0, 0

    def _spoiled(self, name: str, at: int, text: str) -> InvalidFileError:
        """Return the error that names the line at a place of a file."""
        with (self.folder / name).open("rb") as file:
            number = file.read(at).count(b"\n") + 1
        hint = "restore the file from a backup, or remove what was written into it by hand"
        return self._wrong(name, number, f"this line {cut(text, 300)}", hint)

    def _wrong(self, name: str, line: int, text: str, hint: str) -> InvalidFileError:
        return InvalidFileError([Finding(code="BW601", text=text, file=str(self.folder / name), line=line, hint=hint)])


@lru_cache(maxsize=8)
def _schema(revision: int) -> bytes:
    """Return an empty database of a revision, cached in the process."""
    store = Store("memory://")
    with store.connected() as opened:
        migrate.build(opened, revision)
        memory: Any = opened.connection.driver_connection
        made: bytes = memory.serialize()
    store.close()
    return made


def _revision(opened: Connection) -> int:
    raw = opened.connection.cursor()
    if not raw.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone():
        return 0
    found = raw.execute("SELECT version_num FROM alembic_version").fetchone()
    return int(found[0]) if found else 0
