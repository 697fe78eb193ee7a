"""How files come into force: one by one, recorded with an actor; an invalid file leaves the last valid version in
force.

`reload` is for the fleet of the project only; `enact` is for people.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial

from backlog_worker.domain.pipeline import Pipeline
from backlog_worker.integrations import Definitions
from backlog_worker.lifecycle.book import STORED, Book
from backlog_worker.lifecycle.loops import attempt
from backlog_worker.lifecycle.reading import Read, wrong
from backlog_worker.store import PIPELINE, POLICY, Store, Unit
from backlog_worker.telemetry import emit

FLEET = "file"  # the author of definitions that the fleet applies from files
Record = Callable[..., None]  # records an operation: the unit, the action, `subject`, `reason`, `detail`


def unrecorded(_unit: Unit, _action: str, **_said: object) -> None:
    """Record nothing: for stores that keep no operations, such as a journal."""


def reload(
    store: Store,
    book: Book,
    definitions: Definitions,
    *,
    author: str,
    first: bool = False,
    alone: bool = False,
    record: Record = unrecorded,
) -> list[str]:
    """Apply changed files, retire the pipelines whose files were removed, and return what was done; for the fleet.

    Each file is checked and written by itself. An invalid file leaves the last valid version in force, and a change
    that could not be written is tried again. At the first look a file is applied only if its content was never seen
    before, so that a host with old files cannot bring back an old policy. Afterwards every change of a file counts as a
    person's act, unless somebody put another version in force meanwhile. *alone*: no worker is running, so these files
    are those of the fleet.
    """
    first = first or book.unread  # a process that started while its database was away looks for the first time now
    if not first and not book.behind and not definitions.changed():
        return []
    book.behind = True
    with store.read() as unit:
        people = book.policy(unit).people if f"{POLICY}/{POLICY}" in unit.live_hashes(book.env) else ()
    book.look(definitions, people, tell=True)
    here = {each.file.file for each in book.files}
    book.done = {file: digest for file, digest in book.done.items() if file in here}
    how = _How(author=author, first=first, alone=alone, record=record)
    before = (None if alone else ()) if first else book.seen
    gone = _removed_pipelines(store, book, before) if definitions.complete() else []
    steps = [(each.file.file, partial(_applied, store, book, each, how)) for each in book.files]
    steps += [(name, partial(_retired, store, book, name, how)) for name in gone]
    applied: list[str] = []
    for file, step in steps:
        tried = attempt("definition", step)
        if tried.elsewhere and tried.error is not None:
            book.uncleared = book.uncleared or bool(applied)
            raise tried.error
        if tried.error is not None:
            book.findings[file] = wrong("", file, "19", str(tried.error))
        applied += [tried.value] if tried.value else []
    with store.read() as unit:
        book.lived = dict(unit.live_hashes(book.env))
    unsure = any(not file.endswith(STORED) for file in book.findings)  # removed files are looked for again then
    kept = frozenset(book.lived if before is None else before) if unsure else frozenset()
    book.seen = frozenset(each.key for each in book.files) | kept
    book.unread = book.behind = False
    return applied


@dataclass(frozen=True, slots=True, kw_only=True)
class _How:
    """Who applies the files, and at which look."""

    author: str
    first: bool
    alone: bool
    record: Record


def _removed_pipelines(store: Store, book: Book, before: Collection[str] | None) -> list[str]:
    """Return the pipelines in force whose files existed *before* (None: any) and are gone.

    While any file is invalid the names of the removed ones are unknown, and none is returned.
    """
    if any(not file.endswith(STORED) for file in book.findings) or not any(each.key == _POLICY for each in book.files):
        return []
    here = {each.key for each in book.files}
    with store.read() as unit:
        live = [key for key in unit.live_hashes(book.env) if key.startswith(f"{PIPELINE}/") and key not in here]
    return [key.partition("/")[2] for key in live if before is None or key in before]


_POLICY = f"{POLICY}/{POLICY}"


def _retired(store: Store, book: Book, name: str, how: _How) -> str:
    with store.begin(actor=how.author) as unit:
        return f"{retire(unit, book.env, name, 'its file is gone', how.author, how.record)} is retired"


def retire(unit: Unit, env: str, name: str, reason: str, author: str, record: Record) -> str:
    """Take a pipeline out of force until somebody applies it again; returns its kind and name."""
    was = unit.live_hashes(env)[f"{PIPELINE}/{name}"]
    unit.retire_definition(env, PIPELINE, name, author)
    record(unit, "pipeline.retire", subject=name, reason=reason, detail={"was": was})
    emit("pipeline_retired", name=name, by=author, reason=reason)
    return f"{PIPELINE} {name}"


def _applied(store: Store, book: Book, each: Read, how: _How) -> str:
    if not how.first and book.done.get(each.file.file) == each.found.hash:
        return ""
    with store.begin(actor=how.author) as unit:
        said = _enacted(unit, book, each, how)
    book.done[each.file.file] = each.found.hash
    return said


def _enacted(unit: Unit, book: Book, each: Read, how: _How) -> str:
    live = unit.live_hashes(book.env).get(each.key)
    if live == each.found.hash:
        return ""
    known = unit.definition(book.env, each.file.kind, each.found.hash) is not None
    taken = unit.retired_by(book.env, each.file.kind, each.name) if live is None else ""
    if (taken and taken != FLEET) or (known and not _comes_back(book, each, live, taken, how)):
        emit("definition_stale", file=each.file.file, name=each.name, live=live)
        return ""
    reason = "the file is back" if taken else "the file changed" if live else "the file is new"
    enact(unit, book.env, each, reason, how.author, how.record)
    return each.words


def _comes_back(book: Book, each: Read, live: str | None, taken: str, how: _How) -> bool:
    """Return whether a version that was in force before comes back because its file was restored."""
    if how.first:
        return bool(taken) and how.alone
    return book.lived.get(each.key, live) == live


def enact(unit: Unit, env: str, each: Read, reason: str, author: str, record: Record) -> None:
    """Put a definition in force, and record the actor and the reason."""
    was = unit.live_hashes(env).get(each.key, "")
    found = each.found
    row = {
        "kind": each.file.kind,
        "hash": found.hash,
        "name": each.name,
        "version": str(found.version),
        "body": each.file.body,
        "contracts": dict(found.used) if isinstance(found, Pipeline) else {},
        "author": author,
    }
    unit.enact(env, row)
    detail = {"version": str(found.version), "sha256": found.hash, "was": was, "file": each.file.file}
    record(unit, f"{each.file.kind}.apply", subject=each.name, reason=reason, detail=detail)
    if found.warnings:
        emit("definition_doubtful", file=each.file.file, findings=[str(finding) for finding in found.warnings])
    emit("definition_applied", kind=each.file.kind, name=each.name, version=str(found.version), sha256=found.hash[:12])


def found(store: Store, book: Book, *, author: str, record: Record) -> None:
    """Put the *offered* definitions in force, for the first entry of a backlog whose fleet has not run yet."""
    if not book.offered:
        return
    with store.intake(actor=author) as unit:
        for each in () if unit.live_hashes(book.env) else book.files:
            enact(unit, book.env, each, "the first entry", author, record)
    book.offered = {}
