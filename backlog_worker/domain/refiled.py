"""Refiling: which fields of an existing entry a draft with the same key changes, and which stay."""

from collections.abc import Collection, Mapping
from typing import Any

from backlog_worker.domain.draft import Draft
from backlog_worker.domain.entry import Entry
from backlog_worker.domain.events import digest

# The origin of an entry never changes; an update changes every other field that a draft names.
ORIGIN = (
    "url",
    "source",
    "external_ref",
    "author",
    "author_association",
    "depends_on",
    "eligible_by",
    "eligible_at",
    "created_at",
)
CHANGES = (
    *("title", "priority", "service", "category", "team", "owner", "labels", "pipeline", "due_date", "constraints"),
    *("signals", "input"),
)


def changes(entry: Entry, draft: Draft, named: Collection[str]) -> dict[str, Any]:
    """Return the *named* fields that an update of *entry* would write."""
    found = {
        name: value for name in CHANGES if name in named and (value := _value(draft, name)) != _stored(entry, name)
    }
    return found | ({"input": draft.input} if "input" in found else {})


def kept(entry: Entry, draft: Draft, named: Collection[str]) -> list[str]:
    """Return the *named* fields with a different value that an update never changes."""
    said: Mapping[str, Any] = entry.provenance
    told = {name: getattr(entry, name, said.get(name)) for name in ORIGIN}
    told["eligible_at"] = draft.eligible_at if said.get("eligible_at") == _moment(draft) else said.get("eligible_at")
    told["depends_on"] = []  # links cannot be compared here
    return [name for name in ORIGIN if name in named and getattr(draft, name) != told[name]]


def _value(draft: Draft, name: str) -> Any:  # noqa: ANN401 - a value of any column
    if name == "constraints":
        return draft.constraints.model_dump(mode="json", exclude_defaults=True)
    if name == "input":
        return digest(draft.input)
    return list(dict.fromkeys(draft.labels)) if name == "labels" else getattr(draft, name)


def _stored(entry: Entry, name: str) -> Any:  # noqa: ANN401 - a value of any column
    if name == "input":
        return entry.input_sha256
    value = getattr(entry, name)
    return dict(value) if name in {"constraints", "signals"} else list(value) if name == "labels" else value


def _moment(draft: Draft) -> str | None:
    return draft.eligible_at.isoformat() if draft.eligible_at else None
