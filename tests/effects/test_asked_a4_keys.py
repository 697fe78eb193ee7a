"""Keys of the policy and of pipelines, each with and without: what they change is seen in what the backlog does."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backlog_worker.domain import agent, document, pipeline, policy
from backlog_worker.domain.errors import InvalidFileError
from backlog_worker.domain.outcome import Done, FailureKind, Faulted, Refused, Throttled
from backlog_worker.domain.roles import everything
from backlog_worker.domain.search import parsed
from backlog_worker.executors import Report, Work
from backlog_worker.executors.choice import AgentExecutor
from backlog_worker.executors.command import CommandExecutor
from backlog_worker.lifecycle import claim, retire, tools
from backlog_worker.testing import POLICY, bench

ONE = 'name: spec\njobs:\n  - { id: draft, python: "f:draft" }\n'
DIGEST = {
    "schema": "backlog-worker/digest@1",
    "env": "prod",
    "generated_at": "2026-11-16T06:00:00Z",
    "services": [{"service": "gateway", "score": 9, "findings": [{"category": "reliability", "title": "It falls."}]}],
}


def table(*lines, replaced=("", "")):
    return bench(policy=POLICY.replace(*replaced) + "".join(f"{line}\n" for line in lines), pipelines=[ONE])


def rows(made):
    with made.kit.store.read() as unit:
        return unit.search("prod", parsed(""), most=100)


def generated(made, action, kind, period):
    made.kit.reports.write(kind, period, {**DIGEST, "kind": kind, "period": period})
    return tools.execute(made.kit, everything("ana"), "backlog_tool", action, {})


@pytest.mark.parametrize(("most", "ready"), [(1, 1), (2, 2), (100, 3)])
def test_admission_max_in_progress_bounds_what_is_under_way(most, ready):
    made = table(replaced=("maxInProgress: 100", f"maxInProgress: {most}"))
    made.file({}, {}, {})
    made.tick()
    assert made.statuses() == {"ready": ready} | ({"queued": 3 - ready} if ready < 3 else {})


@pytest.mark.parametrize(("given", "hours"), [("", 3), (", quotaMax: 1h", 1)])
def test_claims_quota_max_caps_how_long_a_provider_may_put_a_job_off(given, hours):
    made = table(replaced=("retryDelay: 10s", f"retryDelay: 10s{given}"))
    made.executor.results["draft"] = [Throttled(reason="429", wait=timedelta(hours=3))]
    (filed,) = made.file({})
    made.tick()
    made.ring()
    made.clock.forward(hours * 3600 - 60)
    made.run(2)
    assert len(made.executor.performed) == 1
    made.clock.forward(120)
    made.run(2)
    assert made.executor.performed == [(filed.entry_id, "draft")] * 2


@pytest.mark.parametrize(("timeout", "seconds"), [("2m", 120), ("10m", 600)])
def test_claims_timeout_is_how_long_a_claim_holds(timeout, seconds):
    made = table(replaced=("timeout: 2m", f"timeout: {timeout}"))
    seen = []

    def look(job, work):
        seen.append(rows(made)[0].leased_until.timestamp() - made.clock.now)
        return Done(output={})

    made.executor.results["draft"] = [look]
    made.file({})
    made.tick()
    made.ring()
    assert seen == [pytest.approx(seconds, abs=5)]


@pytest.mark.parametrize(("given", "hours"), [("", 24), (", answerWithin: 2h", 2)])
def test_dead_letter_answer_within_is_when_its_review_is_due(given, hours):
    made = table(replaced=("owner: team-platform", f"owner: team-platform{given}"))
    made.executor.results["draft"] = [Refused(kind=FailureKind.VALIDATION, reason="no")]
    made.file({})
    made.run(2)
    with made.kit.store.read() as unit:
        (review,) = unit.reviews("prod")
    assert review.due_at - review.opened_at == timedelta(hours=hours)


@pytest.mark.parametrize(("given", "status"), [("", "escalated"), (", onDeadline: ignore", "completed")])
def test_dead_letter_on_deadline_says_whether_late_work_still_begins(given, status):
    made = table(replaced=("owner: team-platform", f"owner: team-platform{given}"))
    made.file({"due_date": datetime.fromtimestamp(made.clock.now - 60, UTC).isoformat()})
    made.run(3)
    assert made.statuses() == {status: 1}


@pytest.mark.parametrize(("given", "reminders"), [("", 2), (", remindAfter: 6h", 8)])
def test_dead_letter_remind_after_is_how_often_an_overdue_review_is_said(given, reminders, monkeypatch):
    made = table(replaced=("owner: team-platform", f"owner: team-platform{given}"))
    made.executor.results["draft"] = [Refused(kind=FailureKind.VALIDATION, reason="no")]
    made.file({})
    made.run(2)
    made.clock.forward(86_400)
    said = []
    monkeypatch.setattr(claim, "emit", lambda event, **fields: said.append(event))
    for _ in range(47):
        made.sweep()
        made.clock.forward(3600)
    assert said.count("review_late") == reminders


@pytest.mark.parametrize(("line", "prefix"), [("", "platform_backlog"), ("dedupe: { key_prefix: ours }", "ours")])
def test_dedupe_key_prefix_begins_the_keys_of_what_is_generated(line, prefix):
    made = table("generation: { labels: [ai-ok] }", line)
    assert generated(made, "auto_generate_weekly", "platform", "2026-47")["created"] == 1
    assert [each.dedupe_key for each in rows(made)] == [f"{prefix}:prod:2026-47:gateway:reliability"]


@pytest.mark.parametrize(("switch", "created"), [("false", 0), ("true", 1)])
def test_generation_daily_from_risk_digest_lets_the_risk_digest_file_work(switch, created):
    made = table(f"generation: {{ daily_from_risk_digest: {switch} }}")
    done = generated(made, "auto_generate_daily", "risk", "2026-11-16")
    assert (done["created"], len(rows(made))) == (created, created)
    assert any("daily_from_risk_digest is false" in why for why in done["why"]) is not bool(created)


@pytest.mark.parametrize(("line", "gone"), [("", 0), ("retention: { logs: 5d }", 1)])
def test_retention_logs_is_how_long_the_words_of_jobs_are_kept(line, gone):
    made = table(line)
    (filed,) = made.file({})
    made.run(2)
    with made.kit.store.begin() as unit:
        run = unit.runs(filed.entry_id)[0]["id"]
        unit.add_log({"run_id": run, "job_id": "draft", "take": 1, "n": 0, "text": "hello"}, keep=10)
    made.clock.forward(6 * 86_400)
    assert retire.cleanup(made.kit)["removed"]["logs"] == gone
    with made.kit.store.read() as unit:
        assert len(unit.log(run)) == 1 - gone


def perform(tmp_path, keys):
    text = f"name: p\njobs:\n  - id: j\n    run: 'while :; do :; done'\n    timeout: 2s\n    execution: {{ {keys} }}\n"
    made = pipeline.load(text).jobs[0]
    work = Work(
        run_id="run_1", entry_id="bl_1", take=1, entry={"title": "T"}, input={}, previous={},
        timeout=timedelta(seconds=20), report=Report(),
    )  # fmt: skip
    return CommandExecutor(project=tmp_path, workspaces=tmp_path / "w").perform(made, work)


def test_cpu_seconds_end_a_job_that_computes_for_longer(tmp_path):
    found = perform(tmp_path, "cpuSeconds: 1")
    assert isinstance(found, Faulted)
    assert found.kind != FailureKind.TIMEOUT


class Named:
    """An executor that answers with its name."""

    def __init__(self, name):
        self.name = name

    def perform(self, job, work):
        return Done(output=self.name)


@pytest.mark.parametrize(("keys", "driver"), [("", "command"), ("execution: { method: api }", "openai")])
def test_execution_method_api_takes_the_endpoint_instead_of_a_program(keys, driver):
    written = "---\nmodel: default\ncommand: [cat]\n---\nWork."
    worker = agent.load(written, name="w", file="w.md")
    text = f"name: p\njobs:\n  - id: j\n    agent: w\n    {keys}\n"
    job = pipeline.load(text, contract={"agents/w.md": written}.__getitem__).jobs[0]
    chooser = AgentExecutor({name: Named(name) for name in ("command", "openai")})
    work = Work(
        run_id="run_1", entry_id="bl_1", take=1, entry={}, input={}, previous={}, agent=worker,
        timeout=timedelta(seconds=20), report=Report(),
    )  # fmt: skip
    assert chooser.perform(job, work).output == driver


ALLOWED = "{ comment: %s, labels: { add: [done], remove: [todo] } }"
SILENT = {"comment": True, "labels_added": [], "labels_removed": []}
TOLD = {"comment": True, "labels_added": ["done"], "labels_removed": ["todo"]}


@pytest.mark.parametrize(
    ("top", "job", "effects"),
    [
        ("", "", SILENT),
        (f"writeBack: {ALLOWED % 'true'}\n", "", TOLD),
        (f"writeBack: {ALLOWED % 'false'}\n", "", {**TOLD, "comment": False}),
        ("", f", writeBack: {ALLOWED % 'false'}", {**TOLD, "comment": False}),
        ("writeBack: { comment: false }\n", f", writeBack: {ALLOWED % 'true'}", TOLD),
        ("writeBack: { labels: { remove: [old] } }\n", "", {**SILENT, "labels_removed": ["old"]}),
        ("", ", writeBack: { labels: { remove: [old] } }", {**SILENT, "labels_removed": ["old"]}),
    ],
)
def test_write_back_is_what_the_record_allows_at_the_source(top, job, effects):
    made = bench(pipelines=[f'name: spec\n{top}jobs:\n  - {{ id: draft, python: "f:draft"{job} }}\n'])
    (filed,) = made.file({})
    made.run(2)
    with made.kit.store.read() as unit:
        assert unit.wishes(filed.entry_id)[0]["body"]["effects"] == effects


@pytest.mark.parametrize(
    ("claims", "place"),
    [
        ("{ timeout: 30s, heartbeat: 30s }", "policy.yml:4:"),
        ("{ timeout: 1m, heartbeat: 2m }", "policy.yml:4:"),
        ("{ timeout: 20s }", "policy.yml:4:"),
    ],
)
def test_a_heartbeat_that_is_no_shorter_than_the_lease_is_refused_with_the_way_out(claims, place):
    text = f"version: 1\neligibility:\n  - {{ id: A, check: 'true' }}\nclaims: {claims}\n"
    with pytest.raises(InvalidFileError, match=r"heartbeat .* is not shorter than timeout") as refused:
        policy.load(text)
    assert place in str(refused.value)
    assert "three heartbeats" in str(refused.value)
    assert policy.load(text, stored=True).claims.heartbeat >= policy.load(text, stored=True).claims.timeout


def test_every_code_that_a_finding_can_have_is_explained():
    numbers = set()
    for path in Path(document.__file__).parents[1].rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        numbers |= set(re.findall(r"\bBW\d(\d\d)\b", text))
        numbers |= set(re.findall(r'(?:finding|warning)\([^"]{0,120}(?:\([^()]*\)[^"]{0,80})?"(\d\d)"', text))
    assert {"03", "32", "33"} <= numbers
    assert numbers <= set(document.CODES)
