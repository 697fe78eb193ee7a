"""The book of definitions: those in force, each parsed once per content hash, and those in the project's files.

It writes nothing: `definitions` and `enact` put definitions in force.
"""

from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from backlog_worker.domain.errors import ConflictError, InvalidFileError
from backlog_worker.domain.pipeline import Pipeline
from backlog_worker.domain.policy import Policy
from backlog_worker.integrations import Definitions
from backlog_worker.lifecycle.reading import Read, checked, named_twice, policy_of, read
from backlog_worker.store import PIPELINE, POLICY, Unit
from backlog_worker.telemetry import emit

KEPT = 200
STORED = " of the database"


@dataclass(slots=True)
class Book:
    """The definitions of one environment as this process knows them; the store says which are in force.

    As long as none is in force, *offered* takes their place: the project's files, before its first entry.
    """

    env: str
    _parsed: "OrderedDict[str, Policy | Pipeline]" = field(default_factory=OrderedDict)
    findings: dict[str, InvalidFileError] = field(default_factory=dict)
    files: tuple[Read, ...] = ()  # the valid files, as this process last read them
    offered: Mapping[str, Policy | Pipeline] = field(default_factory=dict)
    looked: bool = False  # this process has read the files
    unread: bool = True  # it has not applied them yet, as the fleet does
    behind: bool = False  # it tried, but could not write the changes
    uncleared: bool = False  # a definition came into force, and the entries waiting for it were not checked yet
    _bad: set[str] = field(default_factory=set)
    done: dict[str, str] = field(default_factory=dict)  # the hash last applied, by file
    seen: frozenset[str] = frozenset()  # the definitions that had a file when files were last applied
    lived: dict[str, str] = field(default_factory=dict)  # and what was in force then

    def policy(self, unit: Unit) -> Policy:
        """Return the policy in force; raises ConflictError if there is none.

        If this release cannot read it, the last readable one applies.
        """
        row = self._live(unit, POLICY, POLICY)
        if not isinstance(row, Policy):
            for error in (each for each in self.findings.values() if each.findings[0].code.startswith("BW3")):
                raise error
            message = f"no policy is in force in environment {self.env}"
            raise ConflictError(message, hint="backlog-worker init, then backlog-worker up")
        return row

    def pipeline(self, unit: Unit, name: str) -> Pipeline | None:
        """Return the pipeline of that name in force, or None."""
        found = self._live(unit, PIPELINE, name)
        return found if isinstance(found, Pipeline) else None

    def pipelines(self, unit: Unit) -> dict[str, Pipeline]:
        """Return all pipelines in force, by name."""
        hashes = unit.live_hashes(self.env)
        if not hashes:
            return {each.name: each for each in self.offered.values() if isinstance(each, Pipeline)}
        names = [key.partition("/")[2] for key in hashes if key.startswith(f"{PIPELINE}/")]
        found = {name: self._good(unit, PIPELINE, name, hashes[f"{PIPELINE}/{name}"]) for name in names}
        return {name: each for name, each in found.items() if isinstance(each, Pipeline)}

    def names(self, unit: Unit) -> frozenset[str]:
        """Return the names of all pipelines in force, including those that this release cannot read."""
        hashes = unit.live_hashes(self.env) or self.offered
        return frozenset(key.partition("/")[2] for key in hashes if key.startswith(f"{PIPELINE}/"))

    def pinned(self, unit: Unit, digest_of: str) -> Pipeline | None:
        """Return the pipeline with that hash, in force or not; None if that version is gone or unreadable."""
        found = self._known(unit, PIPELINE, digest_of)
        return found if isinstance(found, Pipeline) else None

    def policy_by_hash(self, unit: Unit, digest_of: str) -> Policy:
        """Return a policy by its hash, or the one in force if it is gone."""
        found = self._known(unit, POLICY, digest_of)
        return found if isinstance(found, Policy) else self.policy(unit)

    def policy_at(self, unit: Unit, moment: datetime) -> Policy | None:
        """Return the policy that was in force at a moment; None if that was not recorded."""
        enacted = in_force(unit, self.env, moment)
        found = self._known(unit, POLICY, str(enacted["hash"])) if enacted else None
        return found if isinstance(found, Policy) else None

    def _live(self, unit: Unit, kind: str, name: str) -> Policy | Pipeline | None:
        hashes = unit.live_hashes(self.env)
        found = hashes.get(f"{kind}/{name}")
        if found:
            return self._good(unit, kind, name, found)
        return None if hashes else self.offered.get(f"{kind}/{name}")

    def _good(self, unit: Unit, kind: str, name: str, digest_of: str) -> Policy | Pipeline | None:
        """Return a definition in force, or the last readable one of its name."""
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
                self._refuse(f"{kind} {row['name']} {digest_of[:12]}{STORED}", found, tell=True)
                return None
            self._parsed[digest_of] = found
            while len(self._parsed) > KEPT:
                self._parsed.popitem(last=False)
        return self._parsed[digest_of]

    def _refuse(self, file: str, error: InvalidFileError, *, tell: bool) -> None:
        self.findings[file] = error
        if tell:
            emit("definition_invalid", file=file, findings=[str(finding) for finding in error.findings])

    def look(self, definitions: Definitions, people: Collection[str] = (), *, tell: bool = False) -> None:
        """Read the files of the project and check each by itself; *people* are the roles in force.

        Nothing is written and the database is not read. Errors are kept in `findings`, by file; *tell* also logs them.
        """
        given = definitions.files()
        own = [each for each in map(policy_of, given) if isinstance(each, Policy)]
        known = own[0].people if own else people
        good: list[Read] = []
        there = {each.file for each in given}
        for gone in [file for file in self.findings if file not in there and not file.endswith(STORED)]:
            del self.findings[gone]
        for each in given:
            found = read(each, known)
            if isinstance(found, InvalidFileError):
                self._refuse(each.file, found, tell=tell)
                continue
            self.findings.pop(each.file, None)
            good.append(found)
        twice = named_twice(good)
        for file, error in twice.items():
            self._refuse(file, error, tell=tell)
        self.files = tuple(each for each in good if each.file.file not in twice)
        self.looked = True


def in_force(unit: Unit, env: str, moment: datetime) -> dict[str, Any] | None:
    """Return the enactment of the policy that was in force at a moment, with `until` if another followed.

    None if nothing was recorded: before the first policy, or before enactments were recorded.
    """
    found = unit.enactments(env, POLICY, POLICY)
    passed = [each for each in found if each["at"] <= moment]
    if not passed:
        return None
    later = [each["at"] for each in found if each["at"] > moment and each["hash"] != passed[-1]["hash"]]
    return {**passed[-1], "until": later[0] if later else None}
