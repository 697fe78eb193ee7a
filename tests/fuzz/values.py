"""Doors of single values: times, expressions, settings, prices, definitions; and what is asked of them afterwards."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest import mock

from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, ValidationError

from backlog_worker import settings
from backlog_worker.domain import agent, budget, document, duration, pipeline, policy, template, usage, wire
from backlog_worker.domain.condition import compiled as condition
from backlog_worker.domain.draft import checked as draft
from backlog_worker.domain.errors import BacklogError
from backlog_worker.domain.expression import compiled
from backlog_worker.domain.slots import Slots
from backlog_worker.domain.window import Window, announced
from backlog_worker.testing import PIPELINE, POLICY
from backlog_worker.testing import draft as good_draft
from tests.fuzz import hostile
from tests.fuzz.door import Door, nothing, ours

# What an entry carries is judged at moments at which we live; what a person writes may be at the ends of time.
NOWS = [
    datetime(2026, 11, 25, 9, 30, tzinfo=UTC),
    datetime(1970, 1, 1, tzinfo=UTC),
    datetime(2099, 12, 31, 23, 59, tzinfo=UTC),
]
NAMES = (("entry.title", "string"), ("entry.age_days", "double"), ("entry.labels", "texts"), ("entry.signals", "any"))
VALUES = {"entry.title": "a", "entry.age_days": 1.0, "entry.labels": ["x"], "entry.signals": {"risk": 1.0}}
PIECES = ["entry.title", "entry.labels", "entry.signals.risk", "'a'", "1.0", "1", "==", "&&", "in", "?", ":", "[", "]", "(", ")", ".size()", ".matches('(')", ".map(x, x)", "/", "0", "-", "!", "math.floor(", "null", "b'\\xff'", "entry.signals['x']", "duration('9999999999999s')", "timestamp('x')", "{", "}", ",", "int(1e300)", "string(", "has("]  # fmt: skip


class Lasting(BaseModel):
    """A model with a length, as every file has some."""

    model_config = ConfigDict(strict=True)

    length: duration.Duration


def moments() -> st.SearchStrategy[str]:
    """Moments as texts: anywhere in time, with any offset, and what only looks like one."""
    zones = st.sampled_from(["", "Z", "+14:00", "-14:00", "+24:00", "-24:00", "+23:59", "+00:00:01", "-12:00"])
    return st.builds(lambda at, zone: at.isoformat() + zone, st.datetimes(), zones) | hostile.texts()


def crons() -> st.SearchStrategy[str]:
    """Cron lines, most of them nearly right."""
    field = st.sampled_from(
        [
            "*",
            "*/5",
            "0",
            "59",
            "60",
            "1-5",
            "5-1",
            "31",
            "29",
            "2",
            "L",
            "0#6",
            "FRI",
            "?",
            "1,2",
            "*/0",
            "1-5/9",
            "99999",
        ]
    )
    return st.lists(field, min_size=4, max_size=6).map(" ".join) | hostile.texts()


def check_time(_world: None, value: tuple[str, str, str, dict[str, object]]) -> None:
    """Lengths, cron lines, windows and moments are refused or work, also at every change of a clock."""
    length, cron, zone, window = value
    for call, kinds in (
        (lambda: Lasting.model_validate({"length": length}), ValidationError),
        (lambda: Window.model_validate(window), ValidationError),
        (lambda: Slots.of(cron, zone), ValueError),
    ):
        try:
            made = call()
        except kinds:
            continue
        for now in NOWS:
            if isinstance(made, Window):
                announced([made], now)
            if isinstance(made, Slots):
                made.next(now), made.last(now), made.between(now - timedelta(days=40), now, 50)
            if isinstance(made, Lasting):
                duration.spoken(made.length), now - made.length


def windows() -> st.SearchStrategy[dict[str, object]]:
    """Windows of which each part is right or not."""
    days = st.sampled_from(["mon-fri", "sun-mon", "mon,,", "mon-", "x", "mon-tue-wed"]) | hostile.texts()
    hours = st.sampled_from(["08:00-20:00", "22:00-06:00", "24:00-24:00", "00:00-00:00", "8-9"]) | hostile.texts()
    zone = (
        st.sampled_from(["Europe/Berlin", "Pacific/Apia", "UTC", "Etc/GMT+12", "localtime", "posixrules"])
        | hostile.texts()
    )
    return st.fixed_dictionaries({}, optional={"days": days, "hours": hours, "timezone": zone, "x": hostile.values()})


def check_drafts(_world: None, value: dict[str, object]) -> None:
    """A record becomes a draft that every database keeps, or is refused with words that can be printed."""
    found = ours(draft, value)
    if isinstance(found, BacklogError):
        str(found).encode()
        return
    assert not wire.fault(found.model_dump(mode="json")), found


def drafts() -> st.SearchStrategy[dict[str, object]]:
    """Drafts with hostile fields."""
    usual = good_draft(
        dedupe_key="k", due_date="2026-01-01", signals={"risk": 1.0}, constraints={"windows": [{"days": "mon"}], "not_before": "2026-01-01"},
        url="https://x/1", depends_on=["a"], eligible_at="2026-01-01", owner="ana",
    )  # fmt: skip
    moment = st.builds(
        lambda name, at: {**usual, name: at}, st.sampled_from(["created_at", "due_date", "eligible_at"]), moments()
    )
    return hostile.spoiled(usual) | moment


def check_expressions(_world: None, value: tuple[str, object]) -> None:
    """CEL, conditions and templates give a value or one of our errors."""
    text, given = value
    for wants in ("bool", "number", "any"):
        made = ours(compiled, text, NAMES, wants)
        if not isinstance(made, BacklogError):
            for how in (made.truth, made.number, made.scalar):
                ours(how, VALUES)
    ours(condition, text, {"a": "a", "b-c": "b"})
    ours(template.filled, text, {"context": {"x": given}, "entry": VALUES, "inputs": {}}, {})


def expressions() -> st.SearchStrategy[str]:
    """Pieces of CEL in any order, in holes and without, and hostile texts."""
    cel = st.lists(st.sampled_from(PIECES), min_size=1, max_size=8).map(" ".join)
    holes = st.builds(lambda before, text: f"{before}${{{{ {text} }}}}{{{{ context.{text} }}}}", hostile.texts(), cel)
    return cel | holes | hostile.texts()


def check_settings(folder: Path, value: dict[str, str]) -> None:
    """Settings are refused when they are loaded, or the process opens what they name or says why not."""
    from backlog_worker import wiring

    with mock.patch.dict(os.environ, {}, clear=True):
        os.environ["BACKLOG_DIR"] = str(folder / ".backlog-worker")
        for name, each in value.items():
            os.environ[name] = each
        given = ours(settings.load)
        if isinstance(given, BacklogError):
            str(given).encode()
            return
        assert given.broker
        assert given.database
        assert given.who
        if given.keeps in {"auto", "postgres"} or given.folder == folder / ".backlog-worker":
            store = ours(wiring.plain_store_of, given)
            if not isinstance(store, BacklogError):
                store.close()


def variables() -> st.SearchStrategy[dict[str, str]]:
    """Every BACKLOG_ variable, with values that other programs take and hostile ones."""
    names = [f"BACKLOG_{name.upper()}" for name in settings.Settings.model_fields] + [
        "POSTGRES_DSN",
        "BACKLOG_POSTGRES_DSN",
        "BACKLOG_NOTIFY_ONCALL",
        "BACKLOG_UNHEARD",
    ]
    addresses = ["postgres://u:p@h/d", "postgresql://h:99999/d", "postgresql://h:x/d", "postgresql://[::1/d", "postgresql://", "postgresql:///", "postgresql+asyncpg://h/d", "mysql://h/d", "sqlite://", "sqlite:///", "sqlite:////proc/x.db", "sqlite:///\udcff.db", "sqlite:relative", "jsonl://", "memory://", "http://h", "redis://h:99999", "redis://h:x/0", "redis://", "rediss://h/abc", "amqp://h:70000//", "amqp://", "valkey+unix://", "redis+socket://", "valkey://[::1", "redis://h/0?socket_timeout=x", "postgresql://h/d?sslmode=bogus", "postgresql://h/d?x=y", "sqlite:///x.db?mode=ro&uri=true", "prod", "auto", "/", "5", "DEBUG"]  # fmt: skip
    possible = hostile.texts().map(lambda text: os.fsdecode(text.encode("utf-8", "replace").replace(b"\x00", b"\xff")))
    return st.dictionaries(st.sampled_from(names), st.sampled_from(addresses) | possible, min_size=1, max_size=3)


@contextmanager
def in_folder(folder: Path) -> Iterator[Path]:
    """A folder to work in."""
    here = Path.cwd()
    (folder / ".backlog-worker").mkdir()
    os.chdir(folder)
    try:
        yield folder
    finally:
        os.chdir(here)


def check_prices(_world: None, told: dict[str, object]) -> None:
    """What a job tells of its cost gives a usage; its price is a finite number from zero, or unknown."""
    for found in (usage.claimed(told), usage.checked(usage.claimed(told))):
        cost = ours(budget.price, found, {"m": {"input": 1.0, "output": 2.0}})
        assert cost is None or 0 <= cost < float("inf"), cost


def check_definitions(_world: None, text: str) -> None:
    """A definition file is refused with its place, or gives what can be asked."""
    ours(policy.load, text, file="policy.yml")
    ours(pipeline.load, text, file="p.yml", contract={}.__getitem__)
    ours(agent.load, text, name="a", file="a.md")
    ours(document.formatted, text, file="p.yml")


@st.composite
def definitions(draw: st.DrawFn) -> str:
    """A good file of which one to three lines hold something else."""
    lines = draw(st.sampled_from([POLICY, PIPELINE, "---\ndescription: x\n---\nDo it.\n"])).split("\n")
    for _ in range(draw(st.integers(1, 3))):
        row = draw(st.integers(0, len(lines) - 1))
        head, _, rest = lines[row].partition(":")
        odd = draw(hostile.texts())
        lines[row] = draw(
            st.sampled_from([f"{head}: {odd}", f"{odd}:{rest}", lines[row] + odd, odd, f"{head}: {{ {odd}: {odd} }}"])
        )
    return "\n".join(lines)


TIME = st.tuples(hostile.texts() | st.from_regex(r"\d{1,12}(\.\d)?(ms|s|m|h|d)", fullmatch=True), crons(), st.sampled_from(["UTC", "Europe/Berlin", "Pacific/Apia", "Africa/Casablanca"]) | hostile.texts(), windows())  # fmt: skip
TOLD = st.fixed_dictionaries(
    {},
    optional={
        name: hostile.values() for name in ("usd", "model", "provider", "input_tokens", "output_tokens", "counted", "x")
    },
)
DOORS = [
    Door(name="time", inputs=TIME, check=check_time, world=nothing),
    Door(name="drafts", inputs=drafts(), check=check_drafts, world=nothing, examples=60),
    Door(name="expressions", inputs=st.tuples(expressions(), hostile.values()), check=check_expressions, world=nothing),
    Door(name="settings", inputs=variables(), check=check_settings, world=in_folder),
    Door(name="prices", inputs=TOLD, check=check_prices, world=nothing),
    Door(name="definitions", inputs=definitions(), check=check_definitions, world=nothing, examples=50),
]
