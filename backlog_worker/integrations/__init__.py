"""Connections to other systems, one module for each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class DefinitionFile:
    """The text of one definition file, with the files that it refers to by path.

    `fault` says why a file could not be read; its body is empty then.
    """

    kind: str
    file: str
    body: str
    contracts: Mapping[str, Any] = field(default_factory=dict)
    fault: str = ""


class Definitions(Protocol):
    """The place where people keep policy and pipelines."""

    def files(self) -> Sequence[DefinitionFile]:
        """Return every definition; an unreadable one carries its error and does not affect the others."""
        ...

    def changed(self) -> bool:
        """Return whether anything changed since the last call of `files`, without reading the files."""
        ...

    def complete(self) -> bool:
        """Return whether definitions missing from `files` were removed, rather than being temporarily unavailable."""
        ...

    @property
    def place(self) -> str:
        """Return a description of the place that tells projects apart."""
        ...


class Artifacts(Protocol):
    """The storage of artifacts by digest."""

    def keep(self, content: bytes) -> tuple[str, str]:
        """Store *content* atomically; returns its address and its SHA-256."""
        ...

    def read(self, sha256: str) -> bytes | None:
        """Return the content with a digest, or None if it is gone."""
        ...

    def older(self, seconds: float) -> list[str]:
        """Return the digests of content stored more than *seconds* ago."""
        ...

    def forget(self, sha256: str) -> None:
        """Remove the content with a digest, if it exists."""
        ...


class Tracker(Protocol):
    """A system that receives the records of runs."""

    def write(self, topic: str, body: Mapping[str, Any], markdown: str) -> str:
        """Replace the record of *topic* and return its address; raises OSError."""
        ...

    def read(self, topic: str) -> Mapping[str, Any] | None:
        """Return the current record of *topic*, or None; raises OSError."""
        ...

    def topics(self) -> list[str]:
        """Return the topics that have a record; raises OSError."""
        ...


class Reports(Protocol):
    """The place where digests, seals and merge reports are stored for people and other programs."""

    def write(self, kind: str, period: str, value: Mapping[str, Any], markdown: str = "") -> list[str]:
        """Write a report atomically, replacing the one of the same period; returns its addresses."""
        ...

    def read(self, kind: str, period: str = "") -> tuple[str, Any] | None:
        """Return the address and value of a report, by default the newest; None if there is none."""
        ...


class Teller(Protocol):
    """Sends messages to people."""

    def route(self, name: str) -> str:
        """Return the route of a name, without passwords."""
        ...

    def tell(self, name: str, title: str, text: str, body: Mapping[str, Any]) -> str:
        """Send a message to one name and return the route; raises OSError if it was not accepted."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The result of asking a broker: its address without secrets, and its error if it did not answer.

    `asked` is false if no broker is configured: its state is then unknown.
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
        """Return the result in a word or two: the address, or `unknown`."""
        return self.address if self.asked else "unknown"


def unknown() -> Answer:
    """Return the answer of a process without a configured broker."""
    return Answer(address="", asked=False)
