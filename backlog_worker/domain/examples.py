"""The tests of a policy: orders that its terms must produce. They run at every load; a failing policy is not used.

Ages in an example are relative days, so its order does not depend on the current time.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import ConfigDict, Field, ValidationError

from backlog_worker.domain import document
from backlog_worker.domain.document import Document
from backlog_worker.domain.entry import Entry
from backlog_worker.domain.errors import Finding, InvalidFileError
from backlog_worker.domain.policy import GROUP, ExampleFile, Policy
from backlog_worker.domain.priority import Scored, rank

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DAYS_MAX = 36_500.0


class ExampleEntry(document.Model):
    """An entry in a test: its age, and the other fields that a term may read."""

    model_config = ConfigDict(alias_generator=None)

    age_days: float = Field(default=0.0, ge=0, le=DAYS_MAX)
    category: str = ""
    labels: list[str] = Field(default=[])
    pipeline: str = "spec"
    priority: str = "medium"
    service: str = ""
    signals: dict[str, float] = Field(default={})
    source: str = ""
    team: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One test: the expected order and the order that the policy produces."""

    name: str
    wanted: tuple[str, ...]
    given: tuple[Scored, ...]

    @property
    def holds(self) -> bool:
        """Return whether both orders are the same and every entry has a score."""
        return self.wanted == tuple(each.entry.id for each in self.given) and not self.error

    @property
    def error(self) -> str:
        """Return why an entry has no score, or ""."""
        return next((each.error for each in self.given if each.error), "")


def orders(policy: Policy, *, file: str) -> list[Order]:
    """Run the tests of a policy; raises InvalidFileError for a test that cannot be run."""
    source = document.read(policy.body, file=file, group=GROUP) if policy.tests else Document("", file, GROUP, None, {})
    findings: list[Finding] = []
    found = []
    for index, each in enumerate(policy.tests):
        entries = _entries(source, index, each, findings)
        if sorted(each.order) != sorted(each.entries):
            text = f"{each.name}: `order` must name each of {', '.join(each.entries)} once"
            findings.append(source.finding((*_AT, index, "order"), "03", text))
        found.append(Order(name=each.name, wanted=tuple(each.order), given=tuple(rank(entries, policy, NOW))))
    if findings:
        raise InvalidFileError(findings)
    return found


def failing(policy: Policy, *, file: str) -> list[Finding]:
    """Return a finding for every test that fails or cannot be run."""
    try:
        found = orders(policy, file=file)
    except InvalidFileError as error:
        return list(error.findings)
    return list(_failed(found, document.read(policy.body, file=file, group=GROUP))) if found else []


def _failed(found: Sequence[Order], source: Document) -> Iterator[Finding]:
    for index, each in enumerate(found):
        if not each.holds:
            gives = each.error or f"the policy produces {', '.join(scored.entry.id for scored in each.given)}"
            text = f"the test {each.name!r} fails: it wants {', '.join(each.wanted)}; {gives}"
            yield source.finding((*_AT, index, "order"), "21", text)


_AT: document.Path = ("priority", "tests")


def _entries(source: Document, index: int, example: ExampleFile, findings: list[Finding]) -> list[Entry]:
    entries = []
    for name, values in example.entries.items():
        try:
            given = ExampleEntry.model_validate(_whole_as_float(values))
        except ValidationError as error:
            for each in error.errors(include_url=False, include_context=False):
                inside = tuple(part for part in each["loc"] if isinstance(part, str | int))
                path = (*_AT, index, "entries", name, *inside)
                unknown = each["type"] == "extra_forbidden"
                hint = document.suggestion(str(inside[-1]), list(ExampleEntry.model_fields)) if unknown else ""
                text = f"{example.name}: a term reads no {inside[-1]}" if unknown else f"{inside[-1]}: {each['msg']}"
                findings.append(source.finding(path, "03", text, hint=hint))
            continue
        said = given.model_dump(exclude={"age_days"})
        created = NOW - timedelta(days=given.age_days)
        entries.append(Entry(id=name, env="test", title=name, dedupe_key=name, created_at=created, **said))
    return entries


def _whole_as_float(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Convert integers to floats, which strict models distinguish."""
    inside = {name: _whole_as_float(each) for name, each in values.items() if isinstance(each, Mapping)}
    whole = {name: float(each) for name, each in values.items() if type(each) is int}
    return {**values, **inside, **whole}
