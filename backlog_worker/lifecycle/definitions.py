"""The book of definitions: policy and pipelines in force, parsed once per content hash, read again when they change."""

from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from backlog_worker.domain import pipeline as pipelines
from backlog_worker.domain import policy as policies
from backlog_worker.domain.document import Document
from backlog_worker.domain.errors import ConflictError, InvalidFileError
from backlog_worker.domain.pipeline import Pipeline
from backlog_worker.domain.policy import Policy
from backlog_worker.integrations import DefinitionFile, Definitions
from backlog_worker.lifecycle.loops import attempt
from backlog_worker.store import PIPELINE, POLICY, Store, Unit
from backlog_worker.telemetry import emit

KEPT = 200


@dataclass(slots=True)
class Book:
    """What a process knows of the definitions of one environment; the store says which are in force."""

    env: str
    _parsed: "OrderedDict[str, Policy | Pipeline]" = field(default_factory=OrderedDict)
    findings: dict[str, InvalidFileError] = field(default_factory=dict)
    unread: bool = True  # this process has not looked at the files yet
    behind: bool = False  # it has, but could not write what it saw
    uncleared: bool = False  # something came into force, and who waited for it was not looked at yet
    _bad: set[str] = field(default_factory=set)

    def policy(self, unit: Unit) -> Policy:
        """Return the policy in force; raises ConflictError where there is none.

        Of one that this release cannot read, the last one that it can stays in force.
        """
        row = self._live(unit, POLICY, POLICY)
        if not isinstance(row, Policy):
            message = f"no policy is in force in environment {self.env}"
            raise ConflictError(message, hint="backlog-worker init")
        return row

    def pipeline(self, unit: Unit, name: str) -> Pipeline | None:
        """Return the pipeline of that name that is in force, if there is one."""
        found = self._live(unit, PIPELINE, name)
        return found if isinstance(found, Pipeline) else None

    def pipelines(self, unit: Unit) -> dict[str, Pipeline]:
        """Return every pipeline that is in force, by name."""
        hashes = unit.live_hashes(self.env)
        names = [key.partition("/")[2] for key in hashes if key.startswith(f"{PIPELINE}/")]
        found = {name: self._good(unit, PIPELINE, name, hashes[f"{PIPELINE}/{name}"]) for name in names}
        return {name: each for name, each in found.items() if isinstance(each, Pipeline)}

    def pinned(self, unit: Unit, digest_of: str) -> Pipeline | None:
        """Return the pipeline with that hash, in force or not; None where its version is gone or cannot be read."""
        found = self._known(unit, PIPELINE, digest_of)
        return found if isinstance(found, Pipeline) else None

    def policy_by_hash(self, unit: Unit, digest_of: str) -> Policy:
        """Return a policy by its hash; where it is gone, the one in force."""
        found = self._known(unit, POLICY, digest_of)
        return found if isinstance(found, Policy) else self.policy(unit)

    def policy_at(self, unit: Unit, moment: datetime) -> Policy | None:
        """Return the policy that was in force at a moment; None where that is not on record."""
        enacted = in_force(unit, self.env, moment)
        found = self._known(unit, POLICY, str(enacted["hash"])) if enacted else None
        return found if isinstance(found, Policy) else None

    def _live(self, unit: Unit, kind: str, name: str) -> Policy | Pipeline | None:
        found = unit.live_hashes(self.env).get(f"{kind}/{name}")
        return self._good(unit, kind, name, found) if found else None

    def _good(self, unit: Unit, kind: str, name: str, digest_of: str) -> Policy | Pipeline | None:
        """Return a definition in force, or the last one of its name that can be read."""
        found = self._known(unit, kind, digest_of)
        if found is not None:
            return found
        older = (row["hash"] for row in unit.definitions(self.env, kind) if row["name"] == name)
        return next((each for each in (self._known(unit, kind, digest) for digest in older) if each), None)

    def _known(self, unit: Unit, kind: str, digest_of: str) -> Policy | Pipeline | None:
        if digest_of not in self._parsed:
            row = unit.definition(self.env, kind, digest_of) if digest_of not in self._bad else None
            found = row and checked(kind, row["body"], row["name"], row["contracts"], stored=True)
            if not row or not found:
                return None
            if isinstance(found, InvalidFileError):
                self._bad.add(digest_of)
                self._refuse(f"{kind} {row['name']} {digest_of[:12]} of the database", found)
                return None
            self._parsed[digest_of] = found
            while len(self._parsed) > KEPT:
                self._parsed.popitem(last=False)
        return self._parsed[digest_of]

    def _refuse(self, file: str, error: InvalidFileError) -> None:
        self.findings[file] = error
        emit("definition_invalid", file=file, findings=[str(finding) for finding in error.findings])

    def take(self, each: DefinitionFile, people: Collection[str]) -> Policy | Pipeline | None:
        """Check a file; None, with its findings kept and said, where it is wrong."""
        if each.fault:
            found: Policy | Pipeline | InvalidFileError = _wrong(each.kind, each.file, "20", each.fault)
        else:
            found = checked(each.kind, each.body, each.file, dict(each.contracts), people)
        if isinstance(found, InvalidFileError):
            self._refuse(each.file, found)
            return None
        self.findings.pop(each.file, None)
        return found


def checked(
    kind: str,
    body: str,
    file: str,
    contracts: dict[str, Any],
    people: Collection[str] | None = None,
    *,
    stored: bool = False,
) -> Policy | Pipeline | InvalidFileError:
    """Parse one definition, or say what is wrong with it; whatever stops the loader is a finding of this file."""

    def _parsed() -> Policy | Pipeline | InvalidFileError:
        try:
            return parsed(kind, body, file, contracts, people, stored=stored)
        except InvalidFileError as error:
            return error

    tried = attempt("definition", _parsed, file=file)
    if tried.value is not None:
        return tried.value
    return _wrong(kind, file, "19", f"{type(tried.error).__name__}: {tried.error}"[:300])


def _wrong(kind: str, file: str, number: str, text: str) -> InvalidFileError:
    group = "3" if kind == POLICY else "2"
    return InvalidFileError([Document("", file, group, None, {}).finding((), number, text)])


def in_force(unit: Unit, env: str, moment: datetime) -> dict[str, Any] | None:
    """Return the enactment of the policy that was in force at a moment, with `until` where another followed.

    None where nothing is recorded of then: before the first policy, or before enactments were recorded.
    """
    found = unit.enactments(env, POLICY, POLICY)
    passed = [each for each in found if each["at"] <= moment]
    if not passed:
        return None
    later = [each["at"] for each in found if each["at"] > moment and each["hash"] != passed[-1]["hash"]]
    return {**passed[-1], "until": later[0] if later else None}


def parsed(
    kind: str,
    body: str,
    file: str,
    contracts: dict[str, Any],
    people: Collection[str] | None = None,
    *,
    stored: bool = False,
) -> Policy | Pipeline:
    """Parse one definition; raises InvalidFileError.

    *people* are the roles of the policy, where it is known. *stored*: it came into force before.
    """
    if kind == POLICY:
        return policies.load(body, file=file, stored=stored)
    return pipelines.load(body, file=file, contract=contracts.__getitem__, people=people)


def reload(store: Store, book: Book, definitions: Definitions, *, author: str, first: bool = False) -> list[str]:
    """Put changed files in force and return their names; a bad file leaves the last good one, and says so.

    Each file is checked and written by itself; a change that could not be written is looked at again.

    At the first look a file becomes live when its content was never seen before: a host with old files cannot bring
    an old policy back. Afterwards every change of a file is a person's act.
    """
    first = first or book.unread  # a process that started while its database was away looks for the first time now
    if not first and not book.behind and not definitions.changed():
        return []
    applied: list[str] = []
    book.behind = True
    files = definitions.files()
    with store.read() as unit:
        people = _people(unit, book, files)
    for each in files:
        found = book.take(each, people)
        if found is None:
            continue
        tried = attempt("definition", partial(_applied, store, book, each, found, author=author, first=first))
        if tried.elsewhere and tried.error is not None:
            book.uncleared = book.uncleared or bool(applied)
            raise tried.error
        if tried.error is not None:
            book.findings[each.file] = _wrong(each.kind, each.file, "19", str(tried.error))
        applied += [tried.value] if tried.value else []
    book.unread = book.behind = False
    return applied


def _people(unit: Unit, book: Book, files: Sequence[DefinitionFile]) -> Collection[str]:
    """Return the roles of the policy as it will stand: that of the files where it is right, else that in force."""
    for each in files:
        if each.kind == POLICY:
            found = checked(each.kind, each.body, each.file, {})
            if isinstance(found, Policy):
                return found.people
    return book.policy(unit).people if f"{POLICY}/{POLICY}" in unit.live_hashes(book.env) else ()


def _applied(
    store: Store, book: Book, each: DefinitionFile, found: Policy | Pipeline, *, author: str, first: bool
) -> str:
    with store.begin(actor=author) as unit:
        return _enacted(unit, book, each, found, author=author, first=first)


def _enacted(
    unit: Unit, book: Book, each: DefinitionFile, found: Policy | Pipeline, *, author: str, first: bool
) -> str:
    live = unit.live_hashes(book.env)
    name = found.name if isinstance(found, Pipeline) else POLICY
    if live.get(f"{each.kind}/{name}") == found.hash:
        return ""
    if first and unit.definition(book.env, each.kind, found.hash) is not None:
        emit("definition_stale", file=each.file, name=name, live=live.get(f"{each.kind}/{name}"))
        return ""
    row = {
        "kind": each.kind,
        "hash": found.hash,
        "name": name,
        "version": str(found.version),
        "body": each.body,
        "contracts": dict(found.used) if isinstance(found, Pipeline) else {},
        "author": author,
    }
    unit.enact(book.env, row)
    emit("definition_applied", kind=each.kind, name=name, version=str(found.version), sha256=found.hash[:12])
    return f"{each.kind} {name} {found.version} ({found.hash[:6]})"
