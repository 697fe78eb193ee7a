"""D: digests are kept in the database, count nothing that digests made, and a capped generation goes on."""

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backlog_worker.domain import digest as digests
from backlog_worker.domain.errors import ConflictError
from backlog_worker.domain.roles import everything
from backlog_worker.domain.search import parsed
from backlog_worker.lifecycle import again, retire, tools
from backlog_worker.lifecycle import digests as making
from backlog_worker.testing import POLICY, bench

ANA = everything("ana")
PIPELINE = """\
name: spec
jobs: [{ id: a, python: "f:a" }]
"""


def table(cap=50):
    rules = f"generation: {{ labels: [ai-ok] }}\ndefaults: {{ max_items_per_run: {cap} }}\n"
    return bench(policy=POLICY + rules, pipelines=[PIPELINE])


def service(name, score, title="old"):
    return {"service": name, "score": score, "findings": [{"category": "debt", "title": title}]}


def written(kit, *services, period="2026-47", made="2026-11-16T06:00:00Z", env="prod"):
    value = {"schema": "backlog-worker/digest@1", "kind": "platform", "env": env, "period": period}
    kit.reports.write("platform", period, {**value, "generated_at": made, "services": list(services)})


def run(made, action, tool="backlog_tool", **params):
    return tools.execute(made.kit, ANA, tool, action, params)


def generated(made, **params):
    return run(made, "auto_generate_weekly", **params)


def pressed(made):
    with made.kit.store.read() as unit:
        return {row["service"]: int(row["open"]) for row in unit.pressure("prod", 7.0)}


def services(made):
    with made.kit.store.read() as unit:
        return sorted(each.service for each in unit.search("prod", parsed(""), most=1000))


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 5), st.integers(0, 9), st.integers(0, 3))
def test_d_a_capped_generation_goes_on_until_all_is_filed(cap, number, changed):
    made = table(cap)
    names = [f"s{n}" for n in range(number)]
    written(made.kit, *(service(name, n) for n, name in enumerate(names)))
    filed = 0
    for _ in range(-(-number // cap)):
        done = generated(made)
        assert done["created"] == min(cap, number - filed)
        filed += done["created"]
        assert done["capped"] == number - filed
        left = number - filed
        assert done["summary"] == (f"{left} are left for the next run" if left else "all of 2026-47 is filed")
    assert services(made) == names
    more = generated(made)
    assert (more["created"], more["updated"], more["capped"]) == (0, 0, 0)
    assert more["summary"] == "all of 2026-47 is filed"
    newer = [service(name, n, "new" if n < changed else "old") for n, name in enumerate(names)]
    written(made.kit, *newer, made="2026-11-16T07:00:00Z")
    updated = [generated(made)["updated"] for _ in range(4)]
    assert max(updated) <= cap
    assert sum(updated) == min(changed, number)


def test_d_a_digest_counts_no_entry_that_digests_made():
    made = table()
    made.file({"service": "gateway", "labels": []}, {"service": "gateway", "labels": []})
    found = [{"category": each, "title": each} for each in ("debt", "risk", "reliability")]
    written(made.kit, service("gateway", 1) | {"findings": found})
    assert generated(made)["created"] == 3
    assert pressed(made) == {"gateway": 2}
    made.run(3)
    with made.kit.store.read() as unit:
        (one, *_) = unit.search("prod", parsed("status:completed"), most=10)
        run_id = unit.runs(one.id)[0]["id"]
    forked = again.fork(made.kit, run_id, "a", actor="ana", reason="x")
    with made.kit.store.begin() as unit:
        unit.run("UPDATE entries SET service = 'gateway' WHERE id = :id", id=forked)
    assert pressed(made) == {"gateway": 2}, "nor what was forked from one"
    path_one = run(made, "digest", "architecture_pressure_tool")
    generated(made)
    path_two = run(made, "digest", "architecture_pressure_tool")
    assert path_one["findings"] == path_two["findings"], "a digest does not press on itself"


def test_d_a_digest_is_kept_in_the_database_of_its_environment_and_written_as_a_file():
    made = table()
    made.file(*({"service": "gateway", "labels": [], "due_date": "2026-12-02"} for _ in range(3)))
    done = run(made, "digest", "architecture_pressure_tool")
    assert all("/reports/prod/platform/" in path for path in done["files"])
    with made.kit.store.read() as unit:
        row = unit.digest("prod", "platform")
        assert unit.digest("staging", "platform") is None
    assert row["body"] == made.kit.reports.read("platform")[1]
    assert row["sha256"] == making.digest_of(row["body"])
    for path in (made.kit.reports.folder / "platform").glob("*"):
        path.unlink()
    assert generated(made)["created"] == 1, "whoever has no file has the row"
    other = made.kit.elsewhere("staging")
    with pytest.raises(ConflictError, match="no policy is in force in environment staging"):
        tools.execute(other, ANA, "backlog_tool", "auto_generate_weekly", {})


def test_d_a_file_of_another_program_is_taken_into_the_database():
    made = table()
    written(made.kit, service("api", 1))
    assert generated(made)["created"] == 1
    with made.kit.store.read() as unit:
        assert unit.digest("prod", "platform", "2026-47")["body"]["services"][0]["service"] == "api"
    dry = table()
    written(dry.kit, service("api", 1))
    tools.execute(dry.kit, ANA, "backlog_tool", "auto_generate_weekly", {}, dry_run=True)
    with dry.kit.store.read() as unit:
        assert unit.digest("prod", "platform") is None


def test_d_a_digest_of_another_environment_is_refused():
    made = table()
    written(made.kit, service("api", 1), env="staging")
    with pytest.raises(ConflictError, match="is a digest of staging, not of prod"):
        generated(made)


MOMENTS = st.datetimes(datetime(2026, 1, 1), datetime(2026, 12, 31), timezones=st.sampled_from([None, UTC]))  # noqa: DTZ001 - a program may write no zone


@given(st.sampled_from(["2026-46", "2026-47"]), MOMENTS, st.sampled_from(["2026-46", "2026-47"]), MOMENTS)
def test_d_of_a_row_and_a_file_the_later_one_counts(one, at_one, two, at_two):
    stored, file = (
        digests.DigestFile(kind="platform", env="prod", period=period, generated_at=at)
        for period, at in ((one, at_one), (two, at_two))
    )
    assert digests.newer(stored, None) is stored
    assert digests.newer(None, file) is file
    assert digests.newer(None, None) is None
    chosen = digests.newer(stored, file)
    ages = [(period, at.replace(tzinfo=UTC)) for period, at in ((one, at_one), (two, at_two))]
    assert chosen is (file if ages[1] >= ages[0] else stored)


def test_d_a_key_whose_entry_was_retired_does_not_stop_the_others():
    made = table()
    written(made.kit, service("api", 2))
    generated(made)
    made.run(2)
    made.clock.forward(400 * 86_400)
    assert retire.cleanup(made.kit)["removed"]["entries"] == 1
    written(made.kit, service("api", 2), service("web", 1), made="2026-11-17T06:00:00Z")
    done = generated(made)
    assert (done["created"], done["skipped"]) == (1, 1)
    assert "was retired" in done["why"][0]
