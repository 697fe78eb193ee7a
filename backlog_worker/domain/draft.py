"""Drafts: the input of intake before it becomes an entry, and the bars that keep an entry out of the queue."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, ValidationError

from backlog_worker.domain import dedupe, expression, wire
from backlog_worker.domain.document import suggestion
from backlog_worker.domain.entry import Entry
from backlog_worker.domain.errors import InvalidInputError
from backlog_worker.domain.events import digest
from backlog_worker.domain.masking import cut
from backlog_worker.domain.moment import in_utc
from backlog_worker.domain.pipeline import Pipeline, violation
from backlog_worker.domain.policy import Policy
from backlog_worker.domain.reasons import Bar
from backlog_worker.domain.window import Window, parsed

# The fields that an edit may set: everything that policies, windows and reports read from an entry.
EDITABLE = (
    *("title", "priority", "service", "category", "team", "owner", "labels", "pipeline", "due_date", "constraints"),
    *("signals", "url", "source", "created_at"),
)
INPUT_BYTES_MAX = 256 * 1024
TITLE_CHARACTERS_MAX = 512
_BARE_NUMBER = re.compile(r"[-+]?\d+(?:[.,]\d*)?")


def _written(value: object) -> object:
    """Refuse a bare number: it could be seconds, milliseconds, or a spreadsheet's day number."""
    if isinstance(value, int | float) or (isinstance(value, str) and _BARE_NUMBER.fullmatch(value.strip())):
        message = "a bare number is not a date; write 2026-12-24 or 2026-12-24T18:00:00+01:00"
        raise ValueError(message)
    return value


def _title(value: str) -> str:
    value = " ".join(value.split())
    if not value:
        message = "a title must not be empty"
        raise ValueError(message)
    if len(value) > TITLE_CHARACTERS_MAX:
        message = f"a title may have at most {TITLE_CHARACTERS_MAX} characters, this one has {len(value)}"
        raise ValueError(message)
    return value


def _no_null(value: object) -> object:
    if isinstance(value, str) and "\x00" in value:
        message = "a text must not contain NUL"
        raise ValueError(message)
    return value


Moment = Annotated[datetime, BeforeValidator(_written), AfterValidator(in_utc)]
Text = Annotated[str, Field(max_length=300), BeforeValidator(_no_null)]


class Place(str):
    """The origin of a record, as `file:line`: its first line and its number, both counted from 1."""

    __slots__ = ("line", "record")
    line: int
    record: int

    def __new__(cls, file: str, line: int, record: int) -> Self:
        """Return the place of one record of a file."""
        made = super().__new__(cls, f"{file}:{line}")
        made.line, made.record = line, record
        return made


class Constraints(BaseModel):
    """Conditions on running that are part of the entry."""

    model_config = ConfigDict(extra="forbid")

    windows: list[Annotated[Window, BeforeValidator(parsed)]] = Field(default=[], max_length=20)
    sign_off_before: list[Text] = Field(default=[], max_length=50)
    not_before: Moment | None = None


class Draft(BaseModel):
    """The input for a new entry: everything that a worker needs, validated before anything is written."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    title: Annotated[str, BeforeValidator(_no_null), AfterValidator(_title)]
    dedupe_key: Annotated[str, Field(min_length=1, max_length=300), BeforeValidator(_no_null)]
    url: Annotated[str, Field(max_length=2000), BeforeValidator(_no_null)] = ""
    source: Text = ""
    external_ref: Text = ""
    pipeline: Text = "spec"
    service: Text = ""
    category: Text = ""
    team: Text = ""
    owner: Text = ""
    author: Text = ""
    author_association: Text = ""
    labels: list[Text] = Field(default=[], max_length=64)
    priority: Text = "medium"
    signals: dict[Text, Annotated[float, Field(allow_inf_nan=False)]] = Field(default={}, max_length=20)
    constraints: Constraints = Constraints()
    depends_on: list[Text] = Field(default=[], max_length=100)
    eligible_by: Text = ""
    eligible_at: Moment | None = None
    created_at: Moment
    due_date: Moment | None = None
    input: dict[str, Any] = {}

    _spelled: str = PrivateAttr(default="")

    @property
    def former_keys(self) -> tuple[str, ...]:
        """Return the keys under which an earlier release filed the same record."""
        return tuple(dedupe.former(self.dedupe_key, self._spelled, self.url, self.external_ref))


def checked(record: Mapping[str, Any]) -> Draft:
    """Validate one record; raises InvalidInputError that names every invalid field, its value and what is expected."""
    key = record.get("dedupe_key")
    named = {"dedupe_key": dedupe.folded(key)} if isinstance(key, str) else {}
    if why := wire.fault(record):
        raise InvalidInputError(why)
    try:
        draft = Draft.model_validate({**record, **named})
        size = len(json.dumps(draft.input).encode())
    except ValidationError as error:
        parts = []
        for each in error.errors(include_url=False, include_context=False):
            where = ".".join(str(part) for part in each["loc"]) or "the record"
            given = "" if each["type"] == "missing" else f" (got {cut(str(each['input']), 60)!r})"
            near = _near(each["loc"]) if each["type"] == "extra_forbidden" else ""
            parts.append(f"{where}: {each['msg'].removeprefix('Value error, ')}{given}{near}")
        raise InvalidInputError("; ".join(parts)) from None
    except (TypeError, ValueError) as error:
        message = f"input: {error}"
        raise InvalidInputError(message) from None
    if size > INPUT_BYTES_MAX:
        message = f"input: may have {INPUT_BYTES_MAX} bytes, has {size}"
        raise InvalidInputError(message)
    if isinstance(key, str):
        draft._spelled = key.strip()  # noqa: SLF001 - our own
    return draft


def _near(path: Sequence[str | int]) -> str:
    """Return a suggestion if the last name of *path* is not a field of a draft."""
    model: type[BaseModel] = Constraints if path[0] == "constraints" else Draft
    model = Window if "windows" in path[:-1] else model
    near = suggestion(str(path[-1]), list(model.model_fields))
    return f"; {near or 'known: ' + ', '.join(model.model_fields)}"


def edited(entry: Entry, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns that an edit of *entry* writes, except `input`, validated like those of a draft."""
    if unknown := [name for name in changes if name not in {*EDITABLE, "input"}]:
        near = suggestion(unknown[0], [*EDITABLE, "input"]) or f"name one of: {', '.join((*EDITABLE, 'input'))}"
        message = f"{unknown[0]!r} cannot be edited"
        raise InvalidInputError(message, hint=near)
    whole = {"title": entry.title, "dedupe_key": entry.dedupe_key, "created_at": entry.created_at}
    draft = checked({**whole, **changes})
    columns = fields(draft, env=entry.env, entry_id=entry.id, actor="", channel="")
    return {name: columns[name] for name in changes if name in EDITABLE}


def fields(draft: Draft, *, env: str, entry_id: str, actor: str, channel: str) -> dict[str, Any]:
    """Return the columns of the new entry; `provenance` records who declared it eligible, and when."""
    content = digest(draft.input)
    return {
        "id": entry_id,
        "env": env,
        "schema_version": 1,
        "title": draft.title,
        "dedupe_key": draft.dedupe_key,
        "pipeline": draft.pipeline,
        "url": draft.url,
        "source": draft.source,
        "external_ref": draft.external_ref,
        "service": draft.service,
        "category": draft.category,
        "team": draft.team,
        "owner": draft.owner,
        "labels": list(dict.fromkeys(draft.labels)),
        "priority": draft.priority,
        "signals": dict(draft.signals),
        "constraints": draft.constraints.model_dump(mode="json", exclude_defaults=True),
        "provenance": {
            "channel": channel,
            "author": draft.author,
            **({"author_association": draft.author_association} if draft.author_association else {}),
            "filed_by": actor,
            "eligible_by": draft.eligible_by,
            "eligible_at": draft.eligible_at.isoformat() if draft.eligible_at else None,
            "content_sha256": content,
        },
        "input_sha256": content,
        "created_at": draft.created_at,
        "due_date": draft.due_date,
    }


def of_category(draft: Draft, policy: Policy, now: datetime) -> dict[str, Any]:
    """Return the priority and due date of the draft's category, where the draft sets none."""
    category = policy.categories.get(draft.category)
    if category is None:
        return {}
    priority = {} if "priority" in draft.model_fields_set else {"priority": category.priority}
    return priority | ({} if draft.due_date else {"due_date": now + timedelta(days=category.due_days)})


def unknown_category(draft: Draft, policy: Policy) -> list[str]:
    """Return a warning if the policy has no category of this name."""
    if not draft.category or draft.category in policy.categories:
        return []
    near = suggestion(draft.category, list(policy.categories)) or f"it has {', '.join(policy.categories) or 'none'}"
    return [f'the policy has no category "{draft.category}", so it sets neither priority nor due date; {near}']


def unknown_sign_off(constraints: Mapping[str, Any], pipeline: Pipeline) -> str:
    """Return an error if `sign_off_before` names a job that the pipeline does not have, or ""."""
    for name in constraints.get("sign_off_before", ()):
        if name not in pipeline.index:
            near = suggestion(name, list(pipeline.index))
            text = f'constraints.sign_off_before names "{name}", which is no job of pipeline {pipeline.name}'
            return cut(f"{text}; {near or 'its jobs: ' + ', '.join(pipeline.index)}", 400)
    return ""


def rule_values(columns: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that eligibility rules and gates may read from an entry."""
    return {
        "entry.title": columns["title"],
        "entry.source": columns["source"],
        "entry.url": columns["url"],
        "entry.service": columns["service"],
        "entry.category": columns["category"],
        "entry.team": columns["team"],
        "entry.owner": columns["owner"],
        "entry.labels": list(columns["labels"]),
        "entry.priority": columns["priority"],
        "entry.signals": expression.plain(columns["signals"]),
        "entry.pipeline": columns["pipeline"],
        "entry.provenance": expression.plain(columns["provenance"]),
    }


def bars(
    columns: Mapping[str, Any],
    input_value: Mapping[str, Any] | None,
    *,
    policy: Policy,
    pipelines: Callable[[str], Pipeline | None],
    waits_on: Sequence[str] = (),
) -> list[tuple[Bar, str]]:
    """Return the bars of an entry, each with its text; without one the entry may be cleared.

    *input_value* is None if the input was validated before and has not changed since.
    """
    found: list[tuple[Bar, str]] = []
    pipeline = pipelines(columns["pipeline"])
    if pipeline is None:
        found.append((Bar.DEFINITION_MISSING, f'the pipeline "{columns["pipeline"]}" is not in force here'))
    elif why := unknown_sign_off(columns["constraints"], pipeline):
        found.append((Bar.INPUT_INVALID, why))
    elif input_value is not None and (why := violation(pipeline.accepts, input_value)):
        found.append((Bar.INPUT_INVALID, f"input {why}"))
    if no := [rule for rule, said in policy.eligibility(rule_values(columns)).items() if not said]:
        found.append((Bar.NOT_ELIGIBLE, f"rule {', '.join(no)} of policy {policy.stamp} says no"))
    if waits_on:
        found.append((Bar.WAITS_ON_ENTRY, f"depends on {', '.join(waits_on[:5])}"))
    return found
