"""Lengths of time: a zero that means nothing is refused, a bare number that looks like seconds is warned of."""

import json
import types
import typing
from datetime import timedelta

import pytest
from pydantic import BaseModel

from backlog_worker.domain import agent, pipeline, policy
from backlog_worker.domain.agent import AgentFile
from backlog_worker.domain.errors import InvalidFileError
from backlog_worker.domain.language import PipelineFile
from backlog_worker.domain.policy import PolicyFile

MAY_BE_ZERO = {("claims", "retryDelay"), ("alerts", 0, "for")}
# What must stand beside a key for its file to be right.
JOB = {"id": "a", "run": "true"}
AROUND = {
    "for": {"id": "mine", "when": "dashboard.overdue_count > threshold"},
    "after": {"value": 1},
}


def lengths(model: type[BaseModel]) -> typing.Iterator[tuple[str | int, ...]]:
    """Return the path of every length of time that a file may hold."""
    for name, field in model.model_fields.items():
        for inner, index in parts(field.annotation):
            key = field.alias or name
            if inner is timedelta:
                yield (key, *index)
            elif isinstance(inner, type) and issubclass(inner, BaseModel):
                yield from ((key, *index, *rest) for rest in lengths(inner))


def parts(annotation: object, index: tuple[int, ...] = ()) -> typing.Iterator[tuple[object, tuple[int, ...]]]:
    """Return the types inside an annotation, with a 0 where they stand in a list."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        yield from parts(typing.get_args(annotation)[0], index)
    elif origin in {typing.Union, types.UnionType}:
        for each in typing.get_args(annotation):
            yield from parts(each, index)
    elif origin is list:
        yield from parts(typing.get_args(annotation)[0], (*index, 0))
    else:
        yield annotation, index


def file_of(path: tuple[str | int, ...], value: object, head: dict[str, object]) -> str:
    """Write a file with *value* at *path*, and what must stand around it."""
    for step in reversed(path):
        value = (
            [{**(JOB if path[0] == "jobs" else {}), **value}] if step == 0 else {**AROUND.get(step, {}), step: value}
        )
    return json.dumps({**head, **value}, indent=1)


POLICY = {"version": "1", "eligibility": [{"id": "all", "check": "true"}]}
PIPELINE = {"name": "p", "jobs": [{"id": "a", "run": "true"}]}
OTHER = {"heartbeat": {"timeout": "2h"}, "timeout": {"heartbeat": "1ms"}}  # a heartbeat is shorter than the lease
CASES = [
    *(("policy", path) for path in lengths(PolicyFile)),
    *(("pipeline", path) for path in lengths(PipelineFile)),
    *(("agent", path) for path in lengths(AgentFile)),
]


def load(kind: str, path: tuple[str | int, ...], value: object) -> typing.Any:
    """Load a file of one kind in which the length at *path* is *value*."""
    if kind == "policy" and path[0] == "claims" and path[1] in OTHER:
        return policy.load(json.dumps({**POLICY, "claims": {path[1]: value, **OTHER[path[1]]}}, indent=1))
    if kind == "policy":
        return policy.load(file_of(path, value, POLICY))
    if kind == "agent":
        return agent.load(f"---\n{file_of(path, value, {})}\n---\nDo it.", name="a")
    return pipeline.load(file_of(path, value, PIPELINE))


def test_every_length_of_every_file_is_tried():
    assert len(CASES) >= 20
    assert ("agent", ("limits", "timeout")) in CASES
    assert ("pipeline", ("jobs", 0, "cache", "ttl")) in CASES


@pytest.mark.parametrize(("kind", "path"), CASES)
def test_a_length_of_zero_is_refused_where_it_means_nothing(kind, path):
    assert load(kind, path, "45m")
    if path in MAY_BE_ZERO:
        assert load(kind, path, "0s")
        return
    for value in ("0s", 0, "-5s", -1):
        with pytest.raises(InvalidFileError, match="a duration"):
            load(kind, path, value)


@pytest.mark.parametrize(("kind", "path"), CASES)
def test_a_bare_number_that_looks_like_seconds_is_warned_of_with_its_unit(kind, path):
    (found,) = load(kind, path, 30).warnings
    assert (found.code[-2:], found.level, found.hint) == ("34", "warning", "write 30s, or 30ms")
    assert "30 milliseconds" in found.text
    assert "30" in found.source, "the warning has the line"
    for plain in ("30s", "30ms", 60000):
        assert load(kind, path, plain).warnings == ()


def test_a_bare_number_in_an_agent_or_an_included_file_is_warned_of_by_its_file():
    files = {
        "agents/a.md": "---\nlimits:\n  timeout: 30\n---\nDo it.",
        "more.yml": 'name: more\njobs:\n  - id: b\n    run: "true"\n    timeout: 45\n',
    }
    text = "name: p\nincludes: [more.yml]\njobs:\n  - id: a\n    agent: a\n  - id: c\n    agent: a\n"
    found = pipeline.load(text, contract=files.__getitem__).warnings
    assert sorted(each.file for each in found) == ["agents/a.md", "more.yml"]
