"""Governed jobs by name, with a scope, typed parameters and a dry run; the clock, people and programs share them.

The caller is named in the history, and denied attempts are recorded too.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from backlog_worker.domain import wire
from backlog_worker.domain.document import suggestion
from backlog_worker.domain.entry import Entry, Status
from backlog_worker.domain.errors import BacklogError, ConflictError, InvalidInputError, NotAllowedError, NotFoundError
from backlog_worker.domain.masking import cut
from backlog_worker.domain.roles import Caller
from backlog_worker.domain.search import parsed
from backlog_worker.lifecycle import (
    Kit,
    alerts,
    audit,
    digests,
    generate,
    inbox,
    intake,
    journal,
    lookup,
    operate,
    operation,
    retire,
    seals,
    unowned,
    watch,
)
from backlog_worker.lifecycle.dashboard import dashboard
from backlog_worker.store import Unit, Violation
from backlog_worker.telemetry import emit

SCHEDULER = "scheduler"
_NAMES = {"open": Status.QUEUED, "done": Status.COMPLETED}


class Params(BaseModel):
    """Parameters of one action; unknown names are refused."""

    model_config = ConfigDict(extra="forbid")


class ListParams(Params):
    """A filter of the search language and a limit."""

    q: str = Field(default="", description="a filter, such as status:queued service:gateway")
    limit: int = Field(default=100, ge=1, le=1000)
    after: str = Field(default="", description="the id after which the page begins")


class EntryParams(Params):
    """One entry."""

    id: str = Field(description="the id of an entry")


class ReasonParams(EntryParams):
    """One entry and a reason."""

    reason: str = Field(min_length=1, description="why; it is kept in the history")


class StatusParams(ReasonParams):
    """One entry, its new status, and a reason."""

    status: str = Field(description="open or queued, done or completed, blocked, canceled")


class CommentParams(EntryParams):
    """One entry and a comment."""

    text: str = Field(min_length=1)


class UpsertParams(Params):
    """A draft; an entry with its key is updated."""

    entry: dict[str, Any] = Field(description="a draft: title, dedupe_key, and what `schema entry` names")


class WeekParams(Params):
    """A week; by default that of the newest digest."""

    week: str = Field(default="", pattern=r"^(\d{4}-\d{2})?$", description="such as 2026-47")


class DateParams(Params):
    """A day; by default that of the newest digest."""

    date: str = Field(default="", pattern=r"^(\d{4}-\d{2}-\d{2})?$", description="such as 2026-11-24")


class DaysParams(Params):
    """A number of days; 0: as the policy says."""

    retention_days: int = Field(default=0, ge=0, le=36_500)


class PressureParams(Params):
    """The number of days of runs that count."""

    days: float = Field(default=digests.DAYS, gt=0, le=366)


Run = Callable[[Kit, Caller, Any, bool], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """One action of one tool."""

    tool: str
    action: str
    scope: str
    words: str
    run: Run
    params: type[BaseModel] = Params
    writes: bool = True
    rehearses: str = "shows what it would do, and writes nothing"

    @property
    def name(self) -> str:
        """Return the name under which operations are recorded."""
        return f"{self.tool}.{self.action}"

    @property
    def dry(self) -> str:
        """Return what a dry run does."""
        return self.rehearses


def execute(
    kit: Kit, caller: Caller, tool: str, action: str, params: Mapping[str, Any], *, env: str = "", dry_run: bool = False
) -> Any:  # noqa: ANN401 - each action has a result of its own
    """Execute one action for a caller; raises NotFoundError, NotAllowedError, InvalidInputError, or the action's
    errors.

    A writing action is recorded as an operation with its result, and so is every refusal.
    """
    found = wanted(tool, action)
    try:
        caller.must(found.scope, f"run {found.name}", env=env)
    except NotAllowedError as error:
        _recorded(kit, caller, found, "denied", {"error": str(error)})
        emit("denied", actor=caller.name, action=found.name, error=str(error))
        raise
    of = kit if env in {"", kit.env} else kit.elsewhere(env)
    given = _checked(found, params)
    try:
        result = found.run(of, caller, given, dry_run)
    except BacklogError as error:
        denied = isinstance(error, NotAllowedError)  # already recorded
        if found.writes and not dry_run and not denied and not journal.takes_in(of):
            _recorded(of, caller, found, "failed", {"error": cut(str(error), 500)})
        raise
    if found.writes and not dry_run:
        _recorded(of, caller, found, "done", result if isinstance(result, dict) else {}, given)
    return result


def wanted(tool: str, action: str) -> Tool:
    """Return one action; raises NotFoundError with the known ones."""
    known = [each for each in TOOLS if each.tool == tool]
    found = next((each for each in known if each.action == action), None)
    if found is None:
        words = [each.action for each in known] or sorted({each.tool for each in TOOLS})
        what = f"{tool} has no action {action!r}" if known else f"there is no tool {tool!r}"
        near = suggestion(action if known else tool, words)
        raise NotFoundError(what, hint=near or f"one of: {', '.join(words)}")
    return found


def job(kit: Kit, name: str) -> Any:  # noqa: ANN401 - each action has a result of its own
    """Run a scheduled job as the service account `scheduler`; raises NotFoundError if it is unknown."""
    from_clock = JOBS.get(name)
    if from_clock is None:
        message = f"there is no job {name!r}"
        raise NotFoundError(message, hint=f"one of: {', '.join(JOBS)}")
    tool = wanted(*from_clock)
    return execute(kit, Caller(name=SCHEDULER, scopes=frozenset({tool.scope})), *from_clock, {})


def _checked(tool: Tool, params: Mapping[str, Any]) -> BaseModel:
    wire.check(dict(params), "the parameters")
    try:
        return tool.params.model_validate(params)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False)
        parts = [f"{'.'.join(map(str, each['loc'])) or 'parameters'}: {each['msg']}" for each in found]
        known = ", ".join(tool.params.model_fields) or "none"
        raise InvalidInputError("; ".join(parts), hint=f"{tool.name} takes: {known}") from None


def _recorded(
    kit: Kit, caller: Caller, tool: Tool, result: str, detail: Mapping[str, Any], given: BaseModel | None = None
) -> None:
    subject, reason = str(getattr(given, "id", "")), str(getattr(given, "reason", ""))
    said = {name: each for name, each in detail.items() if name not in {"entries", "overdue"}}

    def _record(unit: Unit) -> None:  # in the journal, beside what it took in, while PostgreSQL is away
        operation.record(kit, unit, tool.name, subject=subject, reason=reason, result=result, detail=said)

    intake.within(kit, caller.name, _record)


def _listed(kit: Kit, _caller: Caller, given: ListParams, _dry: bool) -> list[dict[str, Any]]:
    found = lookup.listed(kit, parsed(given.q), after=given.after, most=given.limit)
    gone = [{"retired_at": each.retired_at.isoformat()} if each.retired_at else {} for each in found]
    return [{**shown(each.entry), **left} for each, left in zip(found, gone, strict=True)]


def _got(kit: Kit, _caller: Caller, given: EntryParams, _dry: bool) -> dict[str, Any]:
    return shown(operation.wanted(kit, given.id))


def _status(kit: Kit, caller: Caller, given: StatusParams, dry: bool) -> dict[str, Any]:
    """Move an entry to the status that a person wants, by the matching change of the state machine."""
    entry = operation.wanted(kit, given.id)
    name = str(_NAMES.get(given.status, given.status))
    acts: dict[str, Callable[..., Any]] = {
        "completed": operate.complete,
        "blocked": operate.hold,
        "canceled": operate.cancel,
        "queued": operate.release if entry.status == Status.BLOCKED else operate.requeue,
    }
    if name not in acts:
        message = f"{given.status!r} cannot be set by hand"
        raise InvalidInputError(message, hint="one of: open, done, blocked, canceled")
    if name == entry.status:
        message = f"{entry.id} is {entry.status} already"
        raise ConflictError(message)
    if not dry:
        who = {"caller": caller} if name == Status.COMPLETED else {}
        done = acts[name](kit, entry.id, actor=caller.name, reason=given.reason, **who)
        if isinstance(done, tuple):
            kit.ring(done[1])
    return {"id": entry.id, "from": str(entry.status), "to": name, "dry_run": dry}


def _closed(kit: Kit, caller: Caller, given: ReasonParams, dry: bool) -> dict[str, Any]:
    return _status(kit, caller, StatusParams(id=given.id, reason=given.reason, status="done"), dry)


def _commented(kit: Kit, caller: Caller, given: CommentParams, dry: bool) -> dict[str, Any]:
    entry = operation.wanted(kit, given.id)
    if not dry:
        operate.comment(kit, entry.id, given.text, actor=caller.name)
    return {"id": entry.id, "dry_run": dry}


def _sealed(kit: Kit, _caller: Caller, _given: Params, dry: bool) -> dict[str, Any]:
    if dry:
        with kit.store.read() as unit:
            last = unit.last_seal()
        return {"last": seals.sealed(last) if last else None, "dry_run": True}
    value = seals.seal(kit)
    if value:
        kit.reports.write("seals", str(value["at"])[:19].replace(":", ""), value)
    return value


def _checked_rows(kit: Kit, _caller: Caller, _given: Params, _dry: bool) -> dict[str, Any]:
    return _broken(watch.verify(kit))


def _verified(kit: Kit, _caller: Caller, _given: Params, _dry: bool) -> dict[str, Any]:
    return _broken([*watch.verify(kit), *audit.verify(kit), *unowned.verify(kit), *seals.verify_seals(kit)])


def _broken(found: Sequence[Violation]) -> dict[str, Any]:
    rows = [{"invariant": each.invariant, "subject": each.subject, "text": each.text} for each in found[:20]]
    return {"broken": len(found), "first": rows}


def shown(entry: Entry) -> dict[str, Any]:
    """Return an entry for programs, without its input, which is payload."""
    names = (
        *("id", "env", "status", "title", "url", "source", "dedupe_key", "category", "service", "team", "owner"),
        *("labels", "priority", "pipeline", "created_at", "due_date", "attempt", "score", "bars", "reason"),
        "outcome",
    )
    values = {name: getattr(entry, name) for name in names}
    return {name: each.isoformat() if isinstance(each, datetime) else each for name, each in values.items()}


_B, _P, _R = "backlog_tool", "architecture_pressure_tool", "risk_history_tool"
_ADMIN, _READ, _WRITE, _OPERATE = "tools.backlog.admin", "entries.read", "entries.write", "runs.operate"


def _tool(
    tool: str, action: str, scope: str, run: Run, words: str, *, params: type[BaseModel] = Params, writes: bool = True
) -> Tool:
    made = Tool(tool=tool, action=action, scope=scope, words=words, run=run, params=params, writes=writes)
    return made if writes else replace(made, rehearses="the same; the action only reads")


TOOLS: tuple[Tool, ...] = (
    _tool(_B, "dashboard", _READ, lambda k, _c, _p, _d: dashboard(k), "return the backlog as one value", writes=False),
    _tool(_B, "list", _READ, _listed, "list the entries that match a filter", params=ListParams, writes=False),
    _tool(_B, "get", _READ, _got, "return one entry", params=EntryParams, writes=False),
    _tool(
        *(_B, "upsert", _WRITE),
        lambda k, c, p, d: generate.upsert(k, p.entry, actor=c.name, dry_run=d),
        "file an entry, or update the entry with its key; the owner changes only if the update names one",
        params=UpsertParams,
    ),
    _tool(_B, "set_status", _OPERATE, _status, "change the status of an entry", params=StatusParams),
    _tool(_B, "add_comment", _WRITE, _commented, "add a comment to the history of an entry", params=CommentParams),
    _tool(_B, "close", _OPERATE, _closed, "complete an entry that is not in progress", params=ReasonParams),
    _tool(
        *(_B, "auto_generate_weekly", _ADMIN),
        lambda k, c, p, d: generate.weekly(k, actor=c.name, week=p.week, dry_run=d).as_data(),
        "file the entries that the platform digest asks for, once per week, service and category",
        params=WeekParams,
    ),
    _tool(
        *(_B, "auto_generate_daily", _ADMIN),
        lambda k, c, p, d: generate.daily(k, actor=c.name, date=p.date, dry_run=d).as_data(),
        "file the entries that the risk digest asks for, once per day, service and category",
        params=DateParams,
    ),
    _tool(
        *(_B, "cleanup", _ADMIN),
        lambda k, _c, p, d: retire.cleanup(k, retention_days=p.retention_days, dry_run=d),
        "retire entries that have been final for the retention period, and remove the bulk of old runs",
        params=DaysParams,
    ),
    _tool(
        *(_P, "digest", "tools.pressure.write"),
        lambda k, _c, p, d: digests.platform(k, days=p.days, dry_run=d),
        "compute the platform digest of this week from the history",
        params=PressureParams,
    ),
    _tool(
        *(_R, "snapshot", "tools.risk.write"),
        lambda k, _c, _p, d: digests.snapshot(k, dry_run=d),
        "store the current risk of each service",
    ),
    _tool(
        *(_R, "digest", "tools.risk.write"),
        lambda k, _c, _p, d: digests.risk(k, dry_run=d),
        "compute the risk digest of today from the snapshots of the day",
    ),
    _tool(
        *(_R, "cleanup", "tools.risk.write"),
        lambda k, _c, p, d: digests.cleanup(k, days=p.retention_days, dry_run=d),
        "delete old snapshots",
        params=DaysParams,
    ),
    _tool("audit_tool", "seal", "audit.read", _sealed, "seal all histories up to five minutes ago"),
    Tool(
        tool="audit_tool",
        action="check",
        scope="audit.read",
        run=_checked_rows,
        words="check all invariants",
        rehearses="the same, without recording the operation",
    ),
    Tool(
        tool="audit_tool",
        action="verify",
        scope="audit.read",
        run=_verified,
        words="check all invariants, hash chains and seals, and that the history gives the tables",
        rehearses="the same, without recording the operation",
    ),
    _tool("review_tool", "list", _READ, lambda k, _c, _p, _d: inbox.waiting(k), "list the open reviews", writes=False),
    _tool("review_tool", "decide", "reviews.decide", inbox.decide, "answer a review", params=inbox.DecideParams),
    Tool(
        tool="alert_tool",
        action="evaluate",
        scope=_READ,
        run=lambda k, _c, _p, d: {"rules": alerts.rehearse(k)} if d else alerts.evaluate(k),
        words="evaluate all alert rules",
        writes=False,  # alerts are rows of their own; an operation a minute would say nothing more
        rehearses="shows which rules hold and who would be notified",
    ),
)
# The jobs of the clock, by the names under which beat_schedule.py keeps them.
JOBS: Mapping[str, tuple[str, str]] = {
    "hourly_risk_snapshot": (_R, "snapshot"),
    "daily_risk_digest": (_R, "digest"),
    "risk_history_cleanup": (_R, "cleanup"),
    "weekly_platform_priority_digest": (_P, "digest"),
    "weekly_backlog_generate": (_B, "auto_generate_weekly"),
    "daily_backlog_generate": (_B, "auto_generate_daily"),
    "daily_backlog_cleanup": (_B, "cleanup"),
    "daily_seal": ("audit_tool", "seal"),
    "hourly_check": ("audit_tool", "check"),
    "daily_verify": ("audit_tool", "verify"),
    "alerts": ("alert_tool", "evaluate"),
}
