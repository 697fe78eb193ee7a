"""The HTTP door as its OpenAPI document has it: requests that fit the document, and requests that do not."""

from functools import cache
from typing import Any

import schemathesis
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from schemathesis.generation import GenerationMode

from backlog_worker.lifecycle import tools
from backlog_worker.testing import bench
from backlog_worker.web import app
from backlog_worker.web.problem import Problem
from tests.fuzz.backlog import PEPPER, World, served
from tests.fuzz.door import Door

PROBLEM = Draft202012Validator({**Problem.model_json_schema(), "additionalProperties": False})
MISSED = {405}  # another method than the document names


@cache
def document() -> dict[str, Any]:
    """Return the OpenAPI document of the app."""
    table = bench()
    made = app.made(table.kit, PEPPER).openapi()
    table.kit.store.close()
    return made


def requests() -> st.SearchStrategy[tuple[Any, int]]:
    """A request of any operation, and a number that chooses a tool and whether a token is held."""
    operations = [each.ok() for each in schemathesis.openapi.from_dict(document()).get_all_operations()]
    cases = [each.as_strategy(generation_mode=mode) for each in operations for mode in GenerationMode]
    return st.tuples(st.one_of(cases), st.integers(0, 1000))


def check(world: World, value: tuple[Any, int]) -> None:
    """An answer is one that the document names; one of an error is a problem, and none is a fault of the server."""
    case, number = value
    sent = case.as_transport_kwargs(base_url="http://testserver")
    headers = {name: text.encode("utf-8", "replace") for name, text in (sent.pop("headers") or {}).items()}
    if number % 8:
        headers = {name: text for name, text in headers.items() if name.lower() != "authorization"}
        headers["authorization"] = f"Bearer {world.token}".encode()
    if isinstance(sent.get("json"), dict) and number % 4:
        tool = tools.TOOLS[number % len(tools.TOOLS)]
        sent["json"] = {**sent["json"], "tool": tool.tool, "action": tool.action}
    sent = {name: each for name, each in sent.items() if name in {"method", "url", "params", "json", "data", "cookies"}}
    answer = world.client.request(
        **{"content" if name == "data" else name: each for name, each in sent.items()}, headers=headers
    )
    assert answer.status_code < 500, (answer.status_code, answer.text[:300])
    known = case.operation.definition.raw["responses"]
    assert str(answer.status_code) in known or answer.status_code in MISSED, (case.operation.label, answer.status_code)
    if answer.status_code >= 400:
        assert answer.headers["content-type"] == "application/problem+json", answer.headers
        PROBLEM.validate(answer.json())
        assert answer.json()["status"] == answer.status_code


DOOR = Door(name="openapi", inputs=st.deferred(requests), check=check, world=served, examples=35)
