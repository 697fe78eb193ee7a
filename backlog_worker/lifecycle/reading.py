"""Parse and check definitions; an error in one file never affects another."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from backlog_worker.domain import examples
from backlog_worker.domain import pipeline as pipelines
from backlog_worker.domain import policy as policies
from backlog_worker.domain.document import Document
from backlog_worker.domain.errors import InvalidFileError
from backlog_worker.domain.masking import cut
from backlog_worker.domain.pipeline import Pipeline
from backlog_worker.domain.policy import Policy
from backlog_worker.integrations import DefinitionFile
from backlog_worker.lifecycle.loops import attempt
from backlog_worker.store import POLICY


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """A valid file of the project and the definition it contains."""

    file: DefinitionFile
    found: Policy | Pipeline

    @property
    def name(self) -> str:
        """Return the name under which it is in force."""
        return self.found.name if isinstance(self.found, Pipeline) else POLICY

    @property
    def key(self) -> str:
        """Return kind and name, such as ``pipeline/spec``."""
        return f"{self.file.kind}/{self.name}"

    @property
    def words(self) -> str:
        """Return kind, name, version and the beginning of the hash."""
        return f"{self.file.kind} {self.name} {self.found.version} ({self.found.hash[:6]})"


def named_twice(files: Iterable[Read]) -> dict[str, InvalidFileError]:
    """Return an error for every file whose name is defined in another too; none of them is used."""
    by_key: dict[str, list[Read]] = {}
    for each in files:
        by_key.setdefault(each.key, []).append(each)
    return {
        each.file.file: wrong(
            each.file.kind,
            each.file.file,
            "05",
            f'"{each.name}" is the name in {", ".join(o.file.file for o in group if o is not each)} too',
        )
        for group in by_key.values()
        if len({each.file.file for each in group}) > 1
        for each in group
    }


def read(file: DefinitionFile, people: Collection[str] | None) -> Read | InvalidFileError:
    """Check a file; returns its definition or the error."""
    if file.fault:
        return wrong(file.kind, file.file, "20", file.fault)
    found = checked(file.kind, file.body, file.file, file.contracts, people)
    return found if isinstance(found, InvalidFileError) else Read(file=file, found=found)


def policy_of(file: DefinitionFile) -> Policy | Pipeline | InvalidFileError | None:
    """Return the policy of a file or the error; None if the file contains none."""
    return checked(file.kind, file.body, file.file, {}) if file.kind == POLICY and not file.fault else None


def checked(
    kind: str,
    body: str,
    file: str,
    contracts: Mapping[str, Any],
    people: Collection[str] | None = None,
    *,
    stored: bool = False,
) -> Policy | Pipeline | InvalidFileError:
    """Parse one definition or return the error; every error of the loader belongs to this file."""

    def _parsed() -> Policy | Pipeline | InvalidFileError:
        try:
            return parsed(kind, body, file, contracts, people, stored=stored)
        except InvalidFileError as error:
            return error

    tried = attempt("definition", _parsed, file=file)
    if tried.value is not None:
        return tried.value
    return wrong(kind, file, "19", cut(f"{type(tried.error).__name__}: {tried.error}", 300))


def wrong(kind: str, file: str, number: str, text: str) -> InvalidFileError:
    """Return an error about a whole file."""
    group = "3" if kind == POLICY else "2"
    return InvalidFileError([Document("", file, group, None, {}).finding((), number, text)])


def parsed(
    kind: str,
    body: str,
    file: str,
    contracts: Mapping[str, Any],
    people: Collection[str] | None = None,
    *,
    stored: bool = False,
) -> Policy | Pipeline:
    """Parse one definition; raises InvalidFileError.

    *people* are the roles of the policy, if known. *stored*: it was in force before, so its tests passed then.
    """
    if kind == POLICY:
        policy = policies.load(body, file=file, stored=stored)
        if not stored and (findings := examples.failing(policy, file=file)):
            raise InvalidFileError(findings)
        return policy
    return pipelines.load(body, file=file, contract=contracts.__getitem__, people=people)
