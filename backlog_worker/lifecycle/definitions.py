"""The book of definitions: policy and pipelines in force, parsed once per content hash, read again when they change."""

from collections import OrderedDict
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from backlog_worker.domain import pipeline as pipelines
from backlog_worker.domain import policy as policies
from backlog_worker.domain.errors import ConflictError, InvalidFileError
from backlog_worker.domain.pipeline import Pipeline
from backlog_worker.domain.policy import Policy
from backlog_worker.integrations import DefinitionFile, Definitions
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

    def policy(self, unit: Unit) -> Policy:
        """Return the policy in force; raises ConflictError where there is none."""
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
        found = {name: self._known(unit, PIPELINE, hashes[f"{PIPELINE}/{name}"]) for name in names}
        return {name: each for name, each in found.items() if isinstance(each, Pipeline)}

    def pinned(self, unit: Unit, digest_of: str) -> Pipeline | None:
        """Return the pipeline with that hash, in force or not; None where its version is gone."""
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
        return self._known(unit, kind, found) if found else None

    def _known(self, unit: Unit, kind: str, digest_of: str) -> Policy | Pipeline | None:
        if digest_of not in self._parsed:
            row = unit.definition(self.env, kind, digest_of)
            if row is None:
                return None
            self._parsed[digest_of] = parsed(kind, row["body"], row["name"], row["contracts"], stored=True)
            while len(self._parsed) > KEPT:
                self._parsed.popitem(last=False)
        return self._parsed[digest_of]


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

    At the first look a file becomes live when its content was never seen before: a host with old files cannot bring
    an old policy back. Afterwards every change of a file is a person's act.
    """
    first = first or book.unread  # a process that started while its database was away looks for the first time now
    if not first and not definitions.changed():
        return []
    applied: list[str] = []
    with store.begin(actor=author) as unit:
        live = unit.live_hashes(book.env)
        files = definitions.files()
        people = _people(unit, book, files)
        for each in files:
            name = _applied(unit, book, each, (live, people), first=first, author=author)
            if name:
                applied.append(name)
    book.unread = False
    return applied


def _people(unit: Unit, book: Book, files: Sequence[DefinitionFile]) -> Collection[str]:
    """Return the roles of the policy as it will stand: that of the files where it is right, else that in force."""
    for each in files:
        if each.kind == POLICY:
            with suppress(InvalidFileError):
                return policies.load(each.body, file=each.file).people
    return book.policy(unit).people if f"{POLICY}/{POLICY}" in unit.live_hashes(book.env) else ()


def _applied(
    unit: Unit,
    book: Book,
    each: DefinitionFile,
    known: tuple[dict[str, str], Collection[str]],
    *,
    first: bool,
    author: str,
) -> str:
    live, people = known
    try:
        found = parsed(each.kind, each.body, each.file, dict(each.contracts), people)
    except InvalidFileError as error:
        book.findings[each.file] = error
        emit("definition_invalid", file=each.file, findings=[str(finding) for finding in error.findings])
        return ""
    book.findings.pop(each.file, None)
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
