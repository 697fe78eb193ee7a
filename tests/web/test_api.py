"""The HTTP door: who may, what comes back, and what is never told; over a real socket where bytes matter."""

import hashlib
import hmac
import json
from datetime import timedelta

import pytest
from fastapi.testclient import TestClient

from backlog_worker.domain.errors import InvalidInputError, NotFoundError
from backlog_worker.domain.roles import ROLES
from backlog_worker.lifecycle import access
from backlog_worker.testing import bench
from backlog_worker.web import app, metrics

PEPPER = b"pepper"
HOOKED = """\
name: hooked
jobs: [{ id: a, python: "f:a" }]
triggers:
  - { type: webhook, secret: "${{ secrets.HOOK }}", labels: [ai-ok], transform: { ref: "event.ref" } }
"""


@pytest.fixture
def table():
    return bench(pipelines=[HOOKED], secrets={"HOOK": "s" * 32})


@pytest.fixture
def client(table):
    with TestClient(app.made(table.kit, PEPPER), raise_server_exceptions=False) as made:
        yield made


def token(table, role="scheduler", **more):
    return access.create(table.kit, PEPPER, access.Asked(name=role, role=role, **more), actor="ana")


def bearer(value):
    return {"authorization": f"Bearer {value}"}


def execute(client, held, **body):
    return client.post("/v1/tools/execute", json=body, headers=bearer(held))


def test_a_call_without_a_token_or_with_a_wrong_one_is_401_and_says_how_to_get_one(client, table):
    held = token(table)
    near = held[:-1] + ("B" if held.endswith("A") else "A")
    for headers in ({}, {"authorization": "Basic x"}, bearer("nonsense"), bearer(near), bearer(held + "A")):
        answer = client.get("/v1/backlog/dashboard", headers=headers)
        assert answer.status_code == 401, headers
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["error"] == answer.json()["detail"]
        assert "token create" in answer.json()["hint"]
    assert client.get("/v1/backlog/dashboard", headers=bearer(held)).status_code == 200


def test_a_token_that_is_over_or_revoked_is_refused_and_on_record(client, table):
    short = token(table, lasts=timedelta(hours=1))
    gone = token(table)
    access.revoke(table.kit, gone.split("_")[1], actor="ana", reason="lost")
    with pytest.raises(NotFoundError):
        access.revoke(table.kit, gone.split("_")[1], actor="ana", reason="lost")
    assert "was revoked" in client.get("/v1/backlog/dashboard", headers=bearer(gone)).json()["detail"]
    table.clock.forward(3601)
    for _ in range(20):
        assert "has expired" in client.get("/v1/backlog/dashboard", headers=bearer(short)).json()["detail"]
    with table.kit.store.read() as unit:
        denied = unit.acts("prod", result="denied")
    assert [row["action"] for row in denied] == ["authenticate", "authenticate"], "once a minute, not once a try"


def test_of_a_token_only_a_keyed_hash_is_kept(table):
    held = token(table)
    with table.kit.store.read() as unit:
        everything = str(unit.run("SELECT * FROM tokens")) + str(unit.run("SELECT * FROM operations"))
    secret = held.split("_", 2)[2]
    assert secret not in everything
    assert hashlib.sha256(held.encode()).hexdigest() not in everything, "without the pepper a stolen table is no use"
    with pytest.raises(InvalidInputError, match="no role 'admn'"):
        token(table, role="admn")
    with pytest.raises(InvalidInputError, match="no scope"):
        token(table, scopes=("everything",))


def test_a_token_of_another_environment_is_refused(client, table):
    from dataclasses import replace

    other = access.create(replace(table.kit, env="test"), PEPPER, access.Asked(name="x", role="admin"), actor="ana")
    answer = client.get("/v1/backlog/dashboard", headers=bearer(other))
    assert (answer.status_code, "environment test" in answer.json()["detail"]) == (401, True)


def test_a_token_works_in_its_own_environment_only(client, table):
    held = token(table, role="admin")
    answer = execute(client, held, tool="backlog_tool", action="list", env="test")
    assert (answer.status_code, "belongs to prod" in answer.json()["detail"]) == (403, True)
    assert client.get("/v1/backlog/dashboard?env=test", headers=bearer(held)).status_code == 403
    with table.kit.store.read() as unit:
        assert {row["result"] for row in unit.acts("prod", result="denied")} == {"denied"}


@pytest.mark.parametrize("role", ROLES)
def test_every_role_may_run_what_its_scopes_say_and_nothing_else(client, table, role):
    from backlog_worker.lifecycle import tools

    held = token(table, role=role)
    for tool in tools.TOOLS:
        answer = execute(client, held, tool=tool.tool, action=tool.action, dry_run=True)
        may = tool.scope in ROLES[role]
        assert (answer.status_code == 403) is not may, f"{role} {tool.name} {answer.text}"
        assert answer.status_code < 500, answer.text


def test_the_scheduler_generates_over_http_as_in_the_runbook(client, table):
    held = token(table)
    missing = client.post("/v1/backlog/generate/weekly?env=prod", headers=bearer(held))
    assert missing.status_code == 409
    assert missing.json()["error"] == "No platform digest found. Run architecture_pressure_tool.digest first."
    table.file({"service": "gateway", "due_date": "2026-02-10", "labels": []})
    assert execute(client, held, tool="architecture_pressure_tool", action="digest", env="prod").status_code == 200
    done = client.post("/v1/backlog/generate/weekly?env=prod&dry_run=true", headers=bearer(held)).json()
    assert {name: done[name] for name in ("created", "updated", "skipped", "capped")} == {
        "created": 1, "updated": 0, "skipped": 0, "capped": 0,
    }  # fmt: skip
    assert client.post("/v1/backlog/generate/weekly?env=prod", headers=bearer(held)).json()["created"] == 1
    with table.kit.store.read() as unit:
        assert {row["actor"] for row in unit.acts("prod") if "tool" in row["action"]} == {"scheduler"}


def test_parameters_stand_beside_the_names_or_inside_params_and_wrong_ones_are_422(client, table):
    held = token(table, role="admin")
    assert execute(client, held, tool="backlog_tool", action="list", q="status:queued").json() == []
    assert execute(client, held, tool="backlog_tool", action="list", params={"limit": 1}).json() == []
    wrong = execute(client, held, tool="backlog_tool", action="list", unheard=1)
    assert (wrong.status_code, "unheard" in wrong.json()["detail"]) == (422, True)
    assert execute(client, held, tool="backlog_tool", action="list", q="stauts:x").status_code == 422
    assert execute(client, held, tool="backlog_tool", action="unheard").status_code == 404
    assert client.post("/v1/tools/execute", content=b"{", headers=bearer(held)).status_code == 422
    assert client.post("/v1/tools/execute", json={}, headers=bearer(held)).json()["detail"].startswith("tool:")


def test_a_body_that_is_too_large_is_refused_however_it_comes(client, table):
    held = token(table)
    large = b"x" * 1_000_001
    answer = client.post("/v1/tools/execute", content=large, headers=bearer(held))
    assert answer.status_code == 413

    def chunks():
        for _ in range(20):
            yield b"x" * 100_000

    assert client.post("/v1/tools/execute", content=chunks(), headers=bearer(held)).status_code == 413
    assert client.post("/v1/hooks/hooked", content=chunks()).status_code == 413


def test_a_signed_message_files_an_entry_once_and_a_wrong_signature_files_none(client, table):
    body = json.dumps({"ref": "main", "n": 1.0}).encode()
    signature = "sha256=" + hmac.new(b"s" * 32, body, hashlib.sha256).hexdigest()
    headers = {"x-hub-signature-256": signature, "x-github-delivery": "d1", "content-type": "application/json"}
    first = client.post("/v1/hooks/hooked", content=body, headers=headers)
    assert (first.status_code, first.json()["new"]) == (202, 1)
    again = client.post("/v1/hooks/hooked", content=body, headers=headers)
    assert again.json() == {"entries": first.json()["entries"], "new": 0, "refused": []}
    forged = client.post("/v1/hooks/hooked", content=body + b" ", headers=headers)
    assert forged.status_code == 401
    assert client.post("/v1/hooks/unheard", content=body, headers=headers).status_code == 404
    with table.kit.store.read() as unit:
        assert unit.statuses("prod") == {"queued": 1}


def test_metrics_come_from_the_database_with_documented_names_and_no_ids(client, table):
    (filed,) = table.file({"service": "gateway", "pipeline": "hooked"})
    table.run(3)
    text = client.get("/metrics").text
    assert 'backlog_entries{status="completed"} 1.0' in text
    assert "backlog_store_fallback 0.0" in text
    names = {line.split("{")[0].split(" ")[0] for line in text.splitlines() if line and not line.startswith("#")}
    assert {name.removesuffix("_total").removesuffix("_created") for name in names} <= set(metrics.NAMES)
    assert filed.entry_id not in text
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json()["status"] == "ok"
    assert client.get("/docs").status_code == 404, "it would load scripts of strangers"
    assert client.get("/v1/openapi.json").json()["openapi"].startswith("3.1")


def test_the_store_that_is_away_is_503_for_callers_and_a_number_for_metrics(tmp_path):
    from dataclasses import replace

    from backlog_worker.store import AutoStore

    table = bench()
    held = token(table)
    store = AutoStore("postgresql://nobody@127.0.0.1:9/away", tmp_path / "journal")
    with TestClient(app.made(replace(table.kit, store=store), PEPPER), raise_server_exceptions=False) as away:
        answer = away.get("/v1/backlog/dashboard", headers=bearer(held))
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert away.get("/readyz").status_code == 503
        assert away.get("/healthz").status_code == 200
        assert "backlog_store_fallback 1.0" in away.get("/metrics").text
