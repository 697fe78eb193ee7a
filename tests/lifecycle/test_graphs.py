"""Graphs of jobs, from the file to the record: order, conditions, people, money, calls, and the faults of old."""

import json
import random
import time
from dataclasses import replace
from datetime import timedelta

import pytest

from backlog_worker.domain.budget import Usage
from backlog_worker.domain.errors import ConflictError, InvalidInputError, RefusedError
from backlog_worker.domain.outcome import Asked, Done, FailureKind, Faulted, Refused, Throttled
from backlog_worker.domain.review import Answer, Decided
from backlog_worker.integrations import DefinitionFile
from backlog_worker.lifecycle import again, audit, operate, review, watch
from backlog_worker.testing import POLICY, bench

AGENTS = {"agents/writer.md": "---\nexecutor: template\nmodel: claude-sonnet-4-5\n---\nYou write about {{topic}}.\n"}


def tables(*pipelines, policy=POLICY, **fields):
    return bench(pipelines=pipelines, policy=policy, files={**AGENTS, **fields.pop("files", {})}, **fields)


def pipeline(jobs: str, **top) -> str:
    head = "".join(f"{name}: {value}\n" for name, value in top.items())
    return f"name: spec\n{head}jobs:\n{jobs}"


def sound(table):
    assert watch.verify(table.kit) == []
    assert list(audit.verify(table.kit)) == []


def run(table, *results, **fields):
    """File one entry, let it run, and return it."""
    (filed,) = table.file(fields)
    assert not filed.bars, filed.reason
    for job, listed in results:
        table.executor.results[job] = list(listed)
    table.run(12)
    sound(table)
    return entry(table, filed.entry_id)


def entry(table, entry_id):
    with table.kit.store.read() as unit:
        return unit.entry(entry_id)


def stages(table, found):
    with table.kit.store.read() as unit:
        return unit.stages({found.id: found.pipeline_hash})[found.id]


def statuses(table, found):
    return {job_id: str(stage.status) for job_id, stage in stages(table, found).items()}


def performed(table):
    return [job for _, job in table.executor.performed]


FAULT = Faulted(kind=FailureKind.EXECUTION, reason="boom")
OUTAGE = Faulted(kind=FailureKind.INFRASTRUCTURE, reason="the service is away")
NO = Refused(kind=FailureKind.VALIDATION, reason="no")
DIAMOND = pipeline("""\
  - { id: a, python: "f:a" }
  - { id: b, python: "f:b", dependsOn: a }
  - { id: c, python: "f:c", dependsOn: [a] }
  - { id: d, python: "f:d", dependsOn: [b, c] }
""")


def test_a_join_waits_for_both_and_runs_once():
    table = tables(DIAMOND)
    assert run(table).status == "completed"
    assert performed(table)[0] == "a"
    assert performed(table)[-1] == "d"
    assert sorted(performed(table)) == ["a", "b", "c", "d"]


def test_parallel_jobs_are_bells_of_their_own():
    table = tables(DIAMOND)
    table.file({})
    table.tick()
    table.answer(table.bells.popleft())
    assert [(bell.step.value, bell.ids[1]) for bell in table.bells] == [("stage", "b"), ("stage", "c")]


def test_no_more_jobs_of_a_run_go_at_once_than_the_file_allows():
    wide = "".join(f'  - {{ id: j{n}, python: "f:j" }}\n' for n in range(8))
    table = tables(pipeline(wide, concurrency="{ maxConcurrentJobs: 2 }"))
    most = 0

    def count(job, work):
        nonlocal most
        with table.kit.store.read() as unit:
            most = max(most, unit.value("SELECT count(*) FROM stages WHERE status = 'running' OR rung_at IS NOT NULL"))
        return Done(output={})

    found = run(table, *((f"j{n}", [count]) for n in range(8)))
    assert found.status == "completed"
    assert most == 2


# What the first implementation of the seed got wrong, each by its name.


WHEN = pipeline("""\
  - { id: quality-check, python: "f:q", continueOnError: true }
  - { id: fix-issues, python: "f:f", dependsOn: [quality-check], when: "quality-check.status == 'failed'" }
  - { id: publish, python: "f:p", dependsOn: [quality-check, fix-issues], when: "quality-check.status == 'completed' || fix-issues.status == 'completed'" }
""")


def test_regression_when_is_honoured():
    table = tables(WHEN)
    found = run(table)
    assert performed(table) == ["quality-check", "publish"]
    assert statuses(table, found) == {"quality-check": "completed", "fix-issues": "skipped", "publish": "completed"}


def test_regression_hyphenated_ids_in_conditions_are_read():
    table = tables(WHEN)
    found = run(table, ("quality-check", [NO]))
    assert performed(table) == ["quality-check", "fix-issues", "publish"]
    assert found.status == "completed"


def test_regression_conditions_are_never_run_as_code(tmp_path):
    mark = tmp_path / "pwned"
    output = {"x": f"'; open({str(mark)!r}, 'w'); '"}
    table = tables(
        pipeline("""\
  - { id: a, python: "f:a" }
  - { id: b, python: "f:b", dependsOn: a, when: "a.output.x == '__import__'" }
""")
    )
    found = run(table, ("a", [Done(output=output)]))
    assert statuses(table, found)["b"] == "skipped"
    assert not mark.exists()


def test_regression_a_failed_job_with_continue_on_error_ends_and_does_not_spin():
    table = tables(WHEN)
    before = table.kit.store.transactions
    found = run(table, ("quality-check", [FAULT]))
    assert performed(table).count("quality-check") == 1
    assert found.status == "completed"
    assert table.kit.store.transactions - before < 200


def test_regression_retries_pause_with_jitter_and_hold_no_slot_between_runs():
    table = tables(
        pipeline('  - { id: a, python: "f:a", retry: { maxAttempts: 3, backoff: exponential, delayMs: 1000 } }\n')
    )
    pauses = []
    object.__setattr__(table.kit, "pause", pauses.append)
    object.__setattr__(table.kit, "jitter", random.random)
    for _ in range(6):
        table.executor.results["a"] = [FAULT, FAULT]
        run(table)
    assert len(pauses) == 12
    assert len({round(each, 6) for each in pauses}) > 6, "full jitter: no two pauses are alike"
    (filed,) = table.file({})
    table.executor.results["a"] = [OUTAGE] * 3
    table.tick()
    table.ring()
    found = entry(table, filed.entry_id)
    assert (found.status, found.run_id, found.worker) == ("retrying", None, None), "it waits outside of every slot"


def test_regression_resume_keeps_the_counts_of_attempts():
    table = tables(DIAMOND)
    found = run(table, ("b", [NO]))
    assert found.status == "escalated"
    with table.kit.store.read() as unit:
        run_id = unit.runs(found.id)[0]["id"]
    again.resume(table.kit, run_id, actor="ana", reason="the service is back")
    table.run(6)
    sound(table)
    done = entry(table, found.id)
    assert done.status == "completed"
    assert (stages(table, done)["b"].attempts, done.attempt) == (2, 2)
    assert performed(table).count("a") == 1, "completed stages are never paid for again"


def test_an_outage_that_nobody_handles_is_tried_again_from_the_checkpoints():
    table = tables(DIAMOND)
    found = run(table, ("b", [OUTAGE]))
    assert (found.status, found.faults, found.outages) == ("completed", 0, 1)
    assert sorted(performed(table)) == ["a", "b", "b", "c", "d"]


ROLLBACK = pipeline("""\
  - { id: build, python: "f:b" }
  - { id: deploy, python: "f:d", dependsOn: build, approval: { roles: [lead], timeout: 1h } }
  - { id: check, python: "f:c", dependsOn: deploy }
  - { id: rollback, python: "f:r", dependsOn: [deploy, check], when: "failure() && deploy.status == 'completed'" }
""")


def approve(table, found, answer=Answer.APPROVE, **more):
    decided = Decided(answer=answer, actor="li", reason="looked at it", **more)
    _, bells = review.decide(table.kit, found.id, decided)
    table.bells += bells
    table.run(6)
    sound(table)
    return entry(table, found.id)


def test_a_handler_of_a_failure_gets_its_turn_and_the_run_still_fails():
    table = tables(ROLLBACK)
    found = run(table, ("check", [FAULT]))
    done = approve(table, found)
    assert performed(table) == ["build", "deploy", "check", "rollback"]
    assert (done.status, done.faults) == ("escalated", 0), "what was rolled back is not retried by itself"


def test_nothing_runs_after_a_refusal_that_does_not_ask_for_it():
    table = tables(ROLLBACK)
    found = run(table)
    done = approve(table, found, Answer.REJECT)
    assert done.status == "canceled"
    assert performed(table) == ["build"]
    assert "refused by li" in done.reason


def test_an_approval_that_runs_out_counts_as_a_no_where_the_file_says_so():
    table = tables(pipeline('  - { id: a, python: "f:a", approval: { timeout: 1h, onTimeout: reject } }\n'))
    found = run(table)
    table.clock.forward(3700)
    table.run(3)
    assert entry(table, found.id).status == "canceled"
    sound(table)


def test_a_job_behind_one_that_had_nothing_to_do_runs_and_one_behind_a_failure_does_not():
    body = pipeline("""\
  - { id: a, python: "f:a" }
  - { id: b, python: "f:b", dependsOn: a, when: "a.output.go == true" }
  - { id: c, python: "f:c", dependsOn: b }
  - { id: d, python: "f:d", dependsOn: c, when: "always()" }
""")
    table = tables(body)
    found = run(table, ("a", [Done(output={"go": False})]))
    assert statuses(table, found) == {"a": "completed", "b": "skipped", "c": "completed", "d": "completed"}
    table = tables(body)
    found = run(table, ("a", [Done(output={"go": True})]), ("b", [NO]))
    assert statuses(table, found) == {"a": "completed", "b": "failed", "c": "canceled", "d": "completed"}


def test_a_condition_that_cannot_be_evaluated_fails_its_job_and_says_why():
    table = tables(
        pipeline("""\
  - { id: a, python: "f:a" }
  - { id: b, python: "f:b", dependsOn: a, when: "a.output.score > 3.0" }
""")
    )
    found = run(table, ("a", [Done(output={"other": 1})]))
    assert found.status == "escalated"
    assert statuses(table, found)["b"] == "failed"
    assert "`when` cannot be evaluated" in found.reason
    assert performed(table) == ["a"]


def test_waiting_jobs_are_canceled_when_one_fails_and_running_ones_end():
    table = tables(
        pipeline("""\
  - { id: a, python: "f:a" }
  - { id: b, python: "f:b" }
  - { id: c, python: "f:c", dependsOn: b }
""")
    )

    def refused_while_b_runs(job, work):
        table.answer(table.bells.popleft())  # b begins and ends meanwhile, and c is rung for
        return NO

    found = run(table, ("a", [refused_while_b_runs]))
    assert statuses(table, found) == {"a": "failed", "b": "completed", "c": "canceled"}


# Texts, inputs, agents.


def test_outputs_and_context_reach_inputs_and_prompts_with_their_types():
    table = tables(
        pipeline("""\
  - { id: one, python: "f:one" }
  - id: two
    agent: writer
    dependsOn: one
    task: Write about "${{ entry.title }}" in {{tone}}.
    inputs: { path: "${{ one.output.path }}", count: "${{ one.output.count }}", whole: "${{ one.output }}", sum: "${{ one.output.count + 1.0 }}", note: "n=${{ context.tone }}" }
""")
    )
    seen = []

    def look(job, work):
        seen.append(work)
        return Done(output={})

    given = {"topic": "search", "tone": "short words"}
    found = run(table, ("one", [Done(output={"path": "/x", "count": 3})]), ("two", [look]), input=given)
    assert found.status == "completed", found.reason
    assert seen[0].inputs == {
        "path": "/x",
        "count": 3,
        "whole": {"path": "/x", "count": 3},
        "sum": 4.0,
        "note": "n=short words",
    }
    assert "You write about search." in seen[0].prompt
    assert 'Write about "Login loop on Safari" in short words.' in seen[0].prompt


def test_a_variable_that_nobody_gave_fails_the_job_and_says_which():
    table = tables(pipeline('  - { id: a, agent: writer, task: "{{missing}}" }\n'))
    found = run(table)
    assert found.status == "escalated"
    assert "topic" in found.reason or "missing" in found.reason


def test_secrets_reach_the_child_that_declared_them_and_nothing_else():
    canary = "s3cr3t-canary-value"
    table = tables(
        pipeline("""\
  - { id: a, run: 'echo "token $TOKEN"; echo "{\\"data\\": {\\"said\\": \\"$TOKEN\\"}}" > $BACKLOG_OUTPUT', env: { TOKEN: "${{ secrets.API_TOKEN }}" } }
  - { id: b, run: 'env', dependsOn: a }
"""),
        secrets={"API_TOKEN": canary},
    )
    found = run(table)
    assert found.status == "completed", found.reason
    with table.kit.store.read() as unit:
        everything = [
            [tuple(row) for row in unit.run(f"SELECT * FROM {name}")]
            for name in (
                "entries",
                "events",
                "stages",
                "log_chunks",
                "outbox",
                "runs",
                "reviews",
                "definitions",
                "spending",
                "results",
            )
        ]
        logged = [chunk["text"] for run_id in [unit.runs(found.id)[0]["id"]] for chunk in unit.log(run_id)]
    assert canary not in repr(everything)
    assert "token ***" in "\n".join(logged)
    assert stages(table, found)["a"].output == {"said": "***"}


def test_a_secret_that_is_not_set_is_said_by_name():
    table = tables(pipeline('  - { id: a, run: "true", env: { T: "${{ secrets.NOBODY }}" } }\n'))
    assert "NOBODY" in run(table).reason


# People.


def test_a_question_takes_a_typed_answer_and_its_job_returns_it():
    table = tables(
        pipeline("""\
  - { id: draft, python: "f:d" }
  - { id: ask, interactive: true, task: Which teams must read this?, dependsOn: draft, timeout: 1h, output: { type: object, required: [teams] } }
  - { id: publish, python: "f:p", dependsOn: ask, inputs: { teams: "${{ ask.output.teams }}" } }
""")
    )
    found = run(table)
    assert (found.status, found.worker) == ("blocked", None), "waiting for a person holds no slot"
    with pytest.raises(InvalidInputError, match="teams"):
        review.decide(table.kit, found.id, Decided(answer=Answer.ANSWER, actor="li", reason="r", value={"x": 1}))
    done = approve(table, found, Answer.ANSWER, value={"teams": ["web"]})
    assert done.status == "completed", done.reason
    assert stages(table, done)["ask"].output == {"teams": ["web"]}


def test_two_questions_wait_at_once_and_each_answer_lets_its_branch_go_on():
    table = tables(
        pipeline("""\
  - { id: a, python: "f:a", approval: { roles: [lead] } }
  - { id: b, python: "f:b", approval: { roles: [reviewer] } }
  - { id: c, python: "f:c", dependsOn: [a, b] }
""")
    )
    found = run(table)
    with table.kit.store.read() as unit:
        first, second = unit.open_reviews(found.id)
    review.decide(table.kit, first.id, Decided(answer=Answer.APPROVE, actor="li", reason="y"))
    table.run(4)
    assert performed(table) == [first.job_id]
    review.decide(table.kit, second.id, Decided(answer=Answer.APPROVE, actor="ana", reason="y"))
    table.run(4)
    sound(table)
    assert entry(table, found.id).status == "completed"


def test_a_question_may_be_answered_while_other_jobs_of_the_run_go_on():
    table = tables(
        pipeline("""\
  - { id: asks, python: "f:a", approval: { roles: [lead] } }
  - { id: works, python: "f:w" }
  - { id: more, python: "f:m", dependsOn: works }
""")
    )

    def answered(job, work):
        with table.kit.store.read() as unit:
            (open_one,) = unit.open_reviews(work.entry_id)
        _, bells = review.decide(
            table.kit, open_one.id, Decided(answer=Answer.APPROVE, actor="li", reason="y"), seq=open_one.seq
        )
        table.bells += bells
        return Done(output={})

    found = run(table, ("works", [answered]))
    assert found.status == "completed", found.reason
    assert found.attempt == 1, "the run never parked"


def test_a_permission_of_an_agent_is_an_approval_and_is_granted_once():
    table = tables(pipeline("  - { id: a, agent: writer, prompt: go }\n"))
    granted = []

    def wants(job, work):
        granted.append(work.granted)
        return Done(output={}) if work.granted else Asked(question="may I?", kind="permission", detail="shell: rm")

    found = run(table, ("a", [wants, wants]), input={"topic": "x"})
    assert found.status == "blocked"
    assert approve(table, found).status == "completed"
    assert granted == [(), ("shell: rm",)]


# Money.


def spends(usd, output=None):
    def _spend(job, work):
        work.report.spend(Usage(model="m", input_tokens=10, output_tokens=5, usd=usd))
        return Done(output=output or {})

    return _spend


def test_what_an_attempt_cost_counts_even_where_it_fails():
    table = tables(DIAMOND.replace("jobs:", "retryRuns: 1\njobs:"))

    def fails(job, work):
        work.report.spend(Usage(model="m", usd=0.5))
        return FAULT

    found = run(table, ("a", [fails, spends(0.25)]))
    with table.kit.store.read() as unit:
        assert unit.spent("prod", "entry", found.id) == 0.75
        assert unit.costs("prod", "pipeline", 1)[0]["usd"] == 0.75


def test_a_budget_of_a_pipeline_stops_asks_or_warns():
    chain = '  - { id: a, python: "f:a" }\n  - { id: b, python: "f:b", dependsOn: a }\n'
    for mode, status in (("stop", "escalated"), ("ask", "blocked"), ("warn", "completed")):
        table = tables(pipeline(chain, budget=f"{{ usd: 1, onExceeded: {mode} }}"))
        found = run(table, ("a", [spends(1.5)]))
        assert found.status == status, mode


def test_a_budget_survives_retries_and_a_person_may_let_it_go_on():
    chain = '  - { id: a, python: "f:a" }\n  - { id: b, python: "f:b", dependsOn: a }\n'
    table = tables(pipeline(chain, budget="{ usd: 1, onExceeded: ask }"))
    found = run(table, ("a", [spends(0.6), spends(0.6)]), ("b", [OUTAGE]))
    assert found.status == "completed", "0.60 is below the cap"
    table = tables(pipeline(chain, budget="{ usd: 1, onExceeded: ask }", retryRuns=2))

    def fails(job, work):
        work.report.spend(Usage(model="m", usd=0.6))
        return FAULT

    found = run(table, ("a", [fails, fails]))
    assert found.status == "blocked", "two attempts cost 1.20"
    assert approve(table, found).status == "completed"


def test_the_dispatcher_keeps_entries_back_when_the_day_has_no_room():
    policy = POLICY + "budgets: [{ id: BUD-DAY, scope: day, usd: 1.0, onExceeded: pause }]\n"
    table = tables(pipeline('  - { id: a, python: "f:a" }\n', budget="{ usd: 0.4 }"), policy=policy)
    table.executor.results["a"] = [spends(0.4)] * 5
    table.file({}, {}, {}, {})
    table.tick()
    assert table.statuses()["ready"] == 2, "two of 0.40 are reserved, a third would break the cap"
    table.run(5)
    assert table.statuses() == {"completed": 2, "queued": 2}
    sound(table)


def test_an_unknown_price_is_said_and_not_guessed():
    table = tables(DIAMOND)

    def nameless(job, work):
        work.report.spend(Usage(model="nobody-knows-me-9", input_tokens=10))
        return Done(output={})

    found = run(table, ("a", [nameless]))
    assert stages(table, found)["a"].cost["usd"] is None
    with table.kit.store.read() as unit:
        assert unit.costs("prod", "model", 1)[0]["unknown"] == 1


# Stored results.


CACHED = pipeline("""\
  - { id: a, python: "f:a", cache: { ttl: 1d }, inputs: { topic: "${{ context.topic }}" }, gates: [{ id: G-1, check: "output.n > 0.0" }] }
""")


def test_the_same_work_gives_the_stored_result_and_says_what_it_saved():
    table = tables(CACHED)
    first = run(table, ("a", [spends(0.8, {"n": 1})]), input={"topic": "x"})
    second = run(table, input={"topic": "x"})
    third = run(table, ("a", [Done(output={"n": 2})]), input={"topic": "y"})
    assert performed(table) == ["a", "a"], "the second did not work at all"
    assert stages(table, second)["a"].output == {"n": 1}
    assert stages(table, second)["a"].gates[0]["result"] == "pass", "its gates are asked again"
    assert stages(table, second)["a"].cost["cached_from"]
    assert third.status == first.status == "completed"
    with table.kit.store.read() as unit:
        assert unit.costs("prod", "pipeline", 1)[0]["saved_usd"] == 0.8
    table.clock.forward(86_400 * 2)
    table.executor.results["a"] = [Done(output={"n": 3})]
    assert stages(table, run(table, input={"topic": "x"}))["a"].output == {"n": 3}, "it is over after its ttl"


def test_nothing_is_stored_unless_a_job_asks_for_it():
    table = tables(DIAMOND)
    run(table)
    with table.kit.store.read() as unit:
        assert unit.results("prod", 10) == []


# Quotas and clocks.


def test_a_quota_parks_until_its_reset_and_uses_up_no_attempt():
    table = tables(DIAMOND)
    found = run(table, ("b", [Throttled(reason="429", wait=timedelta(seconds=8))] * 2))
    assert (found.status, found.faults) == ("completed", 0)
    assert performed(table).count("a") == 1


def test_a_fallback_stands_in_when_the_attempts_are_used_up():
    table = tables(
        pipeline("""\
  - { id: a, python: "f:a", retry: { maxAttempts: 2, delayMs: 0 }, fallback: { value: { heuristic: true } } }
  - { id: b, python: "f:b", fallback: { agent: writer } }
  - { id: c, python: "f:c", fallback: { escalate: true } }
""")
    )
    found = run(
        table,
        ("a", [FAULT, FAULT]),
        ("b", [FAULT, Done(output={"by": "writer"})]),
        ("c", [FAULT]),
        input={"topic": "x"},
    )
    assert stages(table, found)["a"].output == {"heuristic": True}
    assert stages(table, found)["b"].output == {"by": "writer"}
    assert (found.status, "the only fallback is a person" in found.reason) == ("escalated", True)


def test_a_stage_that_no_worker_begins_in_time_fails_by_the_clock_of_the_queue():
    table = tables(
        pipeline('  - { id: a, python: "f:a" }\n  - { id: b, python: "f:b", dependsOn: a }\n', clocks="{ queue: 1m }")
    )
    (filed,) = table.file({})
    table.tick()
    table.answer(table.bells.popleft())
    table.bells.clear()
    for _ in range(10):
        table.clock.forward(20)
        table.sweep()
        table.bells.clear()
    found = entry(table, filed.entry_id)
    assert (found.status, "clocks.queue" in found.reason) == ("escalated", True)


def test_a_run_that_lasts_too_long_ends_and_its_late_write_is_refused():
    table = tables(pipeline('  - { id: a, python: "f:a" }\n', clocks="{ total: 1m }"))

    def slow(job, work):
        table.clock.forward(70)
        table.sweep()
        return Done(output={})

    found = run(table, ("a", [slow]))
    assert (found.status, "clocks.total" in found.reason) == ("escalated", True)


# Again.


def last_run(table, found):
    with table.kit.store.read() as unit:
        return unit.runs(found.id)[0]["id"]


def test_retry_begins_with_fresh_attempts_and_takes_the_version_in_force():
    table = tables(DIAMOND)
    found = run(table, ("b", [NO]))
    again.retry(table.kit, last_run(table, found), actor="ana", reason="try")
    table.run(5)
    done = entry(table, found.id)
    assert (done.status, stages(table, done)["b"].attempts) == ("completed", 1)


def test_a_fork_keeps_what_came_before_and_may_begin_with_an_edited_output():
    table = tables(DIAMOND)
    first = run(table)
    new = again.fork(table.kit, last_run(table, first), "b", actor="ana", reason="what if", output={"edited": True})
    table.run(5)
    forked = entry(table, new)
    assert forked.status == "completed", forked.reason
    assert performed(table) == ["a", "b", "c", "d", "d"] or sorted(performed(table)) == ["a", "b", "c", "d", "d"]
    assert stages(table, forked)["b"].output == {"edited": True}
    with table.kit.store.read() as unit:
        assert unit.linked(new, "fork_of") == [first.id]
    assert entry(table, first.id).status == "completed", "completed is for good"
    (only,) = [
        each for each in again.compare(table.kit, last_run(table, first), last_run(table, forked)) if each.output
    ]
    assert only.job_id == "b"
    sound(table)


def test_a_run_is_pinned_and_a_version_that_is_gone_is_never_replaced():
    table = tables(DIAMOND)
    found = run(table, ("b", [NO]))
    table.texts.texts[1] = DefinitionFile(kind="pipeline", file="0.yml", body=DIAMOND.replace("f:d", "f:other"))
    table.tick()
    with table.kit.store.begin() as unit:
        unit.count("DELETE FROM definitions WHERE kind = 'pipeline' AND NOT live")
    table.kit.book._parsed.clear()
    with pytest.raises(ConflictError, match="is gone"):
        again.resume(table.kit, last_run(table, found), actor="ana", reason="x")


def test_starting_by_hand_obeys_the_policy():
    table = tables(DIAMOND)
    with pytest.raises(RefusedError, match="ELIG-LABEL"):
        again.start(table.kit, "spec", {}, actor="ana")
    entry_id, bells = again.start(table.kit, "spec", {"x": 1}, actor="ana", labels=["ai-ok"])
    table.bells += bells
    table.run(3)
    assert entry(table, entry_id).status == "completed"


def test_canceling_withdraws_questions_and_the_late_child_writes_nothing():
    table = tables(DIAMOND)

    def canceled(job, work):
        operate.cancel(table.kit, work.entry_id, actor="ana", reason="not needed")
        return Done(output={})

    found = run(table, ("a", [canceled]))
    assert found.status == "canceled"
    assert performed(table) == ["a"]


def test_an_edited_entry_stops_its_run_and_starts_again_where_the_file_says_so():
    table = tables(DIAMOND.replace("jobs:", "concurrency: { cancelInProgress: true }\njobs:"))

    def edited(job, work):
        operate.edit(table.kit, work.entry_id, {"input": {"body": "better"}}, actor="ana", reason="typo")
        return Done(output={})

    found = run(table, ("a", [edited]))
    assert found.status == "completed"
    assert performed(table).count("a") == 2
    with pytest.raises(ConflictError):
        operate.edit(table.kit, found.id, {"priority": "high"}, actor="ana", reason="late")


# Calls, groups.


CHILD = "name: child\njobs:\n  - { id: x, python: 'f:x' }\n  - { id: y, python: 'f:y', dependsOn: x }\n"
CALLER = pipeline("""\
  - { id: a, python: "f:a" }
  - { id: sub, pipeline: child, dependsOn: a, inputs: { n: "${{ a.output.n }}" } }
  - { id: z, python: "f:z", dependsOn: sub, inputs: { got: "${{ sub.output.made }}" } }
""")


def test_a_called_pipeline_is_an_entry_of_its_own_and_the_caller_waits_without_a_slot():
    table = tables(CALLER, CHILD)
    seen = []

    def last(job, work):
        seen.append(dict(work.inputs))
        return Done(output={})

    found = run(table, ("a", [Done(output={"n": 7})]), ("y", [Done(output={"made": "it"})]), ("z", [last]))
    assert found.status == "completed", found.reason
    assert seen == [{"got": "it"}]
    with table.kit.store.read() as unit:
        (child,) = unit.linked(found.id, "calls")
        called = unit.entry(child)
        assert unit.inputs([called])[child] == {"n": 7}
        assert unit.wishes(child)[0]["body"]["status"] == "completed", "its own record"
    assert called.provenance["called_by"] == found.id


def test_a_called_pipeline_that_is_canceled_fails_its_job():
    table = tables(CALLER, CHILD)

    def refused(job, work):
        operate.cancel(table.kit, work.entry_id, actor="ana", reason="no")
        return Done(output={})

    found = run(table, ("a", [Done(output={"n": 7})]), ("x", [refused]))
    assert found.status == "escalated"
    assert "canceled" in found.reason


@pytest.mark.parametrize(
    ("mode", "ends"),
    [
        ("wait", {"completed": 2}),
        ("cancelNewest", {"completed": 1, "canceled": 1}),
        ("replace", {"completed": 1, "canceled": 1}),
    ],
)
def test_a_concurrency_group_holds_across_the_fleet(mode, ends):
    body = pipeline(
        '  - { id: a, python: "f:a" }\n',
        concurrency=f"{{ group: {{ key: entry.team, limit: 1, onConflict: {mode} }} }}",
    )
    table = tables(body)
    older, newer = table.file({"team": "web", "created_at": "2026-01-01T00:00:00Z"}, {"team": "web"})
    table.tick()
    assert table.statuses().get("ready", 0) <= 1
    table.run(8)
    assert table.statuses() == ends
    if mode != "wait":
        assert entry(table, (newer if mode == "cancelNewest" else older).entry_id).status == "canceled"
    sound(table)


def test_a_thousand_jobs_run():
    wide = (
        '  - { id: first, python: "f:f", inline: true }\n'
        + "".join(f'  - {{ id: j{n}, python: "f:j", dependsOn: first, inline: true }}\n' for n in range(998))
        + f'  - {{ id: last, python: "f:l", inline: true, dependsOn: [{", ".join(f"j{n}" for n in range(998))}] }}\n'
    )
    table = tables(pipeline(wide, concurrency="{ maxConcurrentJobs: 1000 }"))
    table.file({})
    began = time.monotonic()
    table.run(2)
    assert table.statuses() == {"completed": 1}
    assert len(table.executor.performed) == 1000
    assert time.monotonic() - began < 120
    sound(table)


def test_the_record_tells_what_was_done_what_it_cost_and_who_said_what():
    table = tables(ROLLBACK)
    found = run(table, ("build", [spends(0.3)]))
    done = approve(table, found)
    with table.kit.store.read() as unit:
        body = unit.wishes(done.id)[0]["body"]
    assert body["cost_usd"] == 0.3
    assert [each["name"] for each in body["people"]] == ["li"]
    assert {each["job"]: each["status"] for each in body["stages"]}["rollback"] == "skipped"
    json.dumps(body)


def test_a_fallback_comes_at_its_deadline_however_many_attempts_are_left():
    table = tables(
        pipeline(
            '  - { id: a, python: "f:a", retry: { maxAttempts: 20, delayMs: 0 }, fallback: { value: late, after: 300ms } }\n'
        )
    )
    limits = []

    def slow(job, work):
        limits.append(work.timeout)
        time.sleep(0.2)
        return FAULT

    found = run(table, ("a", [slow] * 20))
    assert stages(table, found)["a"].output == "late"
    assert len(limits) <= 3
    assert limits[0] <= timedelta(milliseconds=300)


def test_a_call_that_cannot_be_made_fails_its_job_and_says_why():
    table = tables(pipeline('  - { id: sub, pipeline: child, inputs: { n: "{{nobody}}" } }\n'), CHILD)
    found = run(table)
    assert (found.status, "nobody" in found.reason) == ("escalated", True)


def test_a_pipeline_that_calls_itself_ends():
    table = tables(pipeline("  - { id: again, pipeline: spec }\n"))
    table.file({})
    for _ in range(6):
        table.run(10)
    sound(table)
    statuses = table.statuses()
    assert sum(statuses.values()) <= 10
    assert statuses["escalated"] == 1


def test_a_worker_that_stops_keeps_the_run_of_the_others():
    table = tables(DIAMOND)
    (filed,) = table.file({})

    def stops(job, work):
        with table.kit.store.begin() as unit:  # c is done on another machine meanwhile
            unit.count(
                "UPDATE stages SET status = 'running', worker = 'other', leased_until = {later}, rung_at = NULL WHERE job_id = 'c'",
                lease=120,
            )
        raise SystemExit

    table.kit = replace(table.kit, stopping=lambda error: isinstance(error, SystemExit))
    table.executor.results["b"] = [stops]
    table.tick()
    table.answer(table.bells.popleft())
    bell = next(each for each in table.bells if each.ids[1] == "b")
    with pytest.raises(SystemExit):
        table.answer(bell)
    found = entry(table, filed.entry_id)
    assert found.status == "in_progress", "the other machine goes on"
    assert str(stages(table, found)["b"].status) == "pending"
    table.bells.clear()
    table.clock.forward(3)
    table.sweep()
    assert [each.ids[1] for each in table.bells] == ["b"]


def test_what_a_fallback_gives_is_not_stored_as_the_result_of_the_work():
    table = tables(pipeline('  - { id: a, python: "f:a", cache: true, fallback: { value: late } }\n'))
    assert stages(table, run(table, ("a", [FAULT])))["a"].output == "late"
    assert stages(table, run(table, ("a", [Done(output="real")])))["a"].output == "real"
    assert stages(table, run(table))["a"].output == "real"


def test_what_was_spent_while_the_store_was_away_is_written_when_it_is_back(monkeypatch):
    from backlog_worker.domain.errors import UnreachableError
    from backlog_worker.store import Unit

    table = tables(DIAMOND)
    original = Unit.spend

    def away(self, rows):
        monkeypatch.setattr(Unit, "spend", original)
        raise UnreachableError

    def spending(job, work):
        monkeypatch.setattr(Unit, "spend", away)
        work.report.spend(Usage(model="m", usd=0.5))
        return Done(output={})

    found = run(table, ("a", [spending]))
    with table.kit.store.read() as unit:
        assert unit.spent("prod", "entry", found.id) == 0.5
