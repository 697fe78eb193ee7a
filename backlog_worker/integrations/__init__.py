"""Other systems; a module knows one of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class DefinitionFile:
    """The text of one definition, as a person keeps it, with the contracts that it names by path.

    `fault` says why a file could not be read; its body is empty then.
    """

    kind: str
    file: str
    body: str
    contracts: Mapping[str, Any] = field(default_factory=dict)
    fault: str = ""


class Definitions(Protocol):
    """Where policy and pipelines are kept by people."""

    def files(self) -> Sequence[DefinitionFile]:
        """Return every definition; one that cannot be read says why, and keeps no other one from being read."""
        ...

    def changed(self) -> bool:
        """Return whether anything changed since the last call of `files`, without reading it."""
        ...

    def complete(self) -> bool:
        """Return whether what is not among `files` is gone, and not merely out of sight."""
        ...

    @property
    def place(self) -> str:
        """Return where they are kept, in words that tell one project from another."""
        ...


class Artifacts(Protocol):
    """Where lasting products are kept, by digest."""

    def keep(self, content: bytes) -> tuple[str, str]:
        """Store *content* whole or not at all; returns where it is and its SHA-256."""
        ...

    def read(self, sha256: str) -> bytes | None:
        """Return what was kept under a digest, or None where it is gone."""
        ...

    def older(self, seconds: float) -> list[str]:
        """Return the digests of what was kept longer ago than *seconds*."""
        ...

    def forget(self, sha256: str) -> None:
        """Remove what was kept under a digest, if it is there."""
        ...


class Tracker(Protocol):
    """A place that is told how runs ended."""

    def write(self, topic: str, body: Mapping[str, Any], markdown: str) -> str:
        """Put the record of *topic* in place of an older one, and return where it stands; raises OSError."""
        ...

    def read(self, topic: str) -> Mapping[str, Any] | None:
        """Return the record that stands for *topic*, or None where there is none; raises OSError."""
        ...

    def topics(self) -> list[str]:
        """Return the topics that have a record here; raises OSError."""
        ...


class Reports(Protocol):
    """Where digests, seals and merge reports are kept for people and other programs."""

    def write(self, kind: str, period: str, value: Mapping[str, Any], markdown: str = "") -> list[str]:
        """Write a report whole, in place of an older one of the same period; returns where it stands."""
        ...

    def read(self, kind: str, period: str = "") -> tuple[str, Any] | None:
        """Return the place and value of a report, the newest where no period is named; None where there is none."""
        ...


class Teller(Protocol):
    """Who tells people."""

    def route(self, name: str) -> str:
        """Return where a name is told, without passwords."""
        ...

    def tell(self, name: str, title: str, text: str, body: Mapping[str, Any]) -> str:
        """Tell one name, and return how; raises OSError where nobody took it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of asking a broker: its address without secrets, and why it did not answer, if it did not.

    `asked` is false where there is none to ask: then nobody knows.
    """

    address: str
    error: str = ""
    asked: bool = True

    @property
    def answers(self) -> bool:
        """Return whether it was asked and answered."""
        return self.asked and not self.error

    @property
    def words(self) -> str:
        """Return it in one word or two: the address, or `unknown`."""
        return self.address if self.asked else "unknown"


def unknown() -> Answer:
    """Answer for a process that knows of no broker."""
    return Answer(address="", asked=False)
