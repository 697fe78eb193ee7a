"""Other systems; a module knows one of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class DefinitionFile:
    """The text of one definition, as a person keeps it, with the contracts that it names by path."""

    kind: str
    file: str
    body: str
    contracts: Mapping[str, Any] = field(default_factory=dict)


class Definitions(Protocol):
    """Where policy and pipelines are kept by people."""

    def files(self) -> Sequence[DefinitionFile]:
        """Return every definition; an unreadable one has an empty body."""
        ...

    def changed(self) -> bool:
        """Return whether anything changed since the last call of `files`, without reading it."""
        ...


class Artifacts(Protocol):
    """Where lasting products are kept, by digest."""

    def keep(self, content: bytes) -> tuple[str, str]:
        """Store *content* whole or not at all; returns where it is and its SHA-256."""
        ...

    def read(self, sha256: str) -> bytes | None:
        """Return what was kept under a digest, or None where it is gone."""
        ...


class Tracker(Protocol):
    """A place that is told how runs ended."""

    def write(self, topic: str, body: Mapping[str, Any], markdown: str) -> str:
        """Put the record of *topic* in place of an older one, and return where it stands; raises OSError."""
        ...
