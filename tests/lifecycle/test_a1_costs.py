"""A1: what nobody knows the price of is shown as not known, is never added up as nothing, and leaves no room."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from backlog_worker.domain import estimate
from backlog_worker.domain.budget import Scope, Usage, learned, price
from backlog_worker.domain.outcome import Done, FailureKind, Faulted
from backlog_worker.domain.pipeline import load
from backlog_worker.lifecycle import dashboard
from backlog_worker.store import migrate, opened
from backlog_worker.testing import POLICY, bench
from tests.lifecycle import runs
from tests.lifecycle.runs import entry, go, performed, record, run, stages
from tests.lifecycle.test_budgets import UNKNOWN, approve, spends

SPEC = 'name: spec\njobs:\n  - { id: a, python: "f:a" }\n  - { id: b, python: "f:b", dependsOn: a }\n'
CAPPED = SPEC.replace('python: "f:b"', 'python: "f:b", budget: { usd: 1.0, onExceeded: MODE }')


either = runs.either


@pytest.fixture(params=["sqlite", "postgres"])
def url(request, tmp_path):
    found = request.getfixturevalue("postgres_url") if request.param == "postgres" else f"sqlite:///{tmp_path}/b.db"
    migrate.upgrade(opened(found))
    return found


def command(folder, url, *arguments):
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": str(Path(__file__).parents[2])}
    env |= {"BACKLOG_DATABASE_URL": url, "BACKLOG_ACTOR": "ana"}
    done = subprocess.run(
        [sys.executable, "-m", "backlog_worker", *arguments],
        cwd=folder, capture_output=True, text=True, timeout=60, check=False, env=env,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_price_that_nobody_knows_is_shown_as_not_known_and_never_as_nothing(url, tmp_path):
    folder = tmp_path / ".backlog-worker"
    (folder / "pipelines").mkdir(parents=True)
    (folder / "policy.yml").write_text(POLICY)
    (folder / "pipelines" / "spec.yml").write_text(SPEC)
    table = bench(pipelines=[SPEC], policy=POLICY, url=url)
    table.executor.results["a"] = [spends(UNKNOWN)]
    (filed,) = table.file({"team": "web"})
    table.run(3)
    found = entry(table, filed.entry_id)
    assert found.status == "completed"
    assert stages(table, found)["a"].cost["usd"] is None
    assert record(table, found)["cost_usd"] is None
    with table.kit.store.read() as unit:
        (by,) = unit.costs("prod", "pipeline", 1)
        assert (by["usd"], by["unknown"]) == (None, 1)
        assert unit.usage(unit.runs(found.id)[0]["id"])["a"]["usd"] is None
        assert unit.costs_of_jobs("prod", "spec") == {"a": (1, None)}
    assert "usd" not in json.dumps(dashboard.dashboard(table.kit), default=str), "dashboard and metrics show no money"
    printed = {each: command(tmp_path, url, *each.split()) for each in ("budget list", f"run show {found.id}")}
    printed["estimate"] = command(tmp_path, url, "pipeline", "estimate", "spec")
    for each, text in printed.items():
        assert "not known" in text, each
        assert "0.00 USD spent" not in text, each
    data = json.loads(command(tmp_path, url, "budget", "list", "--json"))["data"]
    assert (data["spent_today"], data["without_price_today"]) == (None, 1)
    assert data["costs"][0]["usd"] is None


def test_a_sum_with_a_part_that_nobody_knows_says_at_least(url):
    table = bench(pipelines=[SPEC], policy=POLICY, url=url)
    table.executor.results["a"] = [spends(UNKNOWN)]
    table.executor.results["b"] = [spends(Usage(model="m", usd=4.0))]
    (filed,) = table.file({"team": "web"})
    table.run(3)
    with table.kit.store.read() as unit:
        (by,) = unit.costs("prod", "pipeline", 1)
        assert (by["usd"], by["unknown"]) == (4.0, 1)
        assert unit.tally("prod", Scope.ENTRY, filed.entry_id, job="b") == (4.0, 0)
        assert unit.tally("prod", Scope.ENTRY, filed.entry_id, job="a") == (0.0, 1)


@pytest.mark.parametrize("mode", ["ask", "stop"])
def test_a_price_that_nobody_knows_leaves_no_room_under_the_budget_of_a_job(either, mode):
    table = either(CAPPED.replace("MODE", mode))
    fault = Faulted(kind=FailureKind.INFRASTRUCTURE, reason="the provider is away")
    found = run(table, ("b", [spends(UNKNOWN, fault), Done(output={})]))
    assert performed(table).count("b") == 1, "a second call would be under a cap of which nobody knows what is left"
    question = approve(table, found.id).question
    assert question.startswith("budget of job b: calls of nobody-knows-me-9")
    go(table)
    assert performed(table).count("b") == 2
    assert entry(table, found.id).status == "completed"


@pytest.mark.parametrize("mean", [None, 0.5])
def test_an_estimate_adds_up_no_price_that_nobody_knows(mean):
    made = load(SPEC)
    found = estimate.estimated(made, [("a", 1.0), ("b", 1.0)], {"a": (1, mean)})
    assert found.usd == mean
    assert found.unpriced == (("a",) if mean is None else ())
    assert estimate.estimated(made, [], {}).usd is None, "what never ran has no price"


@pytest.mark.parametrize(
    ("prices", "usd"),
    [
        ({"input": 10.0, "output": 20.0}, 12.0),
        ({"input": 10.0, "output": 20.0, "cached": 1.0}, 7.5),
        ({"input": 10.0, "output": 20.0, "cached": 1.0, "stored": 12.5}, 8.0),
        ({"input": 10.0, "output": 20.0, "cached": 0.0}, 7.0),
    ],
)
def test_tokens_of_a_cache_cost_their_own_price_under_prices_of_the_policy(prices, usd):
    """200,000 of a million that were read are put into the cache, 500,000 come from it, 100,000 are written."""
    used = Usage(model="m", input_tokens=1_000_000, output_tokens=100_000, cached_tokens=500_000, stored_tokens=200_000)
    assert price(used, {"m": prices}) == pytest.approx(usd)
    assert learned("m", 1_000_000, 100_000, {"m": prices}) >= usd - 1e-9, "what is learned later is never too cheap"


def test_a_policy_may_name_the_prices_of_a_cache_and_refuses_what_is_none():
    table = bench(pipelines=[SPEC], policy=POLICY + "prices: { m: { input: 10, cached: 1, stored: 12.5 } }\n")
    table.executor.results["a"] = [spends(Usage(model="m", input_tokens=1_000_000, cached_tokens=1_000_000))]
    (filed,) = table.file({})
    table.run(3)
    assert stages(table, entry(table, filed.entry_id))["a"].cost["usd"] == 1.0
