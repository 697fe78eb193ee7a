"""Resume is causal: what is done again voids all that came after it, and a handler takes back what it undoes."""

import pytest

from backlog_worker.domain.entry import Change
from backlog_worker.domain.outcome import Done, FailureKind, Faulted, Refused
from backlog_worker.domain.review import Answer, Decided
from backlog_worker.lifecycle import again, review
from tests.lifecycle import runs
from tests.lifecycle.runs import entry, go, last_run, performed, pipeline, record, resume, run, stages, statuses

NO = Refused(kind=FailureKind.VALIDATION, reason="no")
FAULT = Faulted(kind=FailureKind.INFRASTRUCTURE, reason="away")
made, either = runs.made, runs.either

DEPLOY = """\
  - { id: build, python: "f:b" }
  - { id: deploy, python: "f:d", dependsOn: build }
  - { id: verify, python: "f:v", dependsOn: deploy }
  - { id: rollback, python: "f:r", dependsOn: [deploy, verify], when: "failure()", UNDOES }
  - { id: notice, python: "f:n", dependsOn: rollback }
"""
UNDONE = DEPLOY.replace("UNDOES", "undoes: deploy")
KEPT = DEPLOY.replace(", UNDOES", "")


def test_b2_what_was_rolled_back_is_deployed_again(either):
    table = either(pipeline(UNDONE))
    found = run(table, ("verify", [NO]))
    assert performed(table) == ["build", "deploy", "verify", "rollback", "notice"]
    assert resume(table, found) == ["deploy", "verify", "notice"]
    done = entry(table, found.id)
    assert (done.status, statuses(table, done)["rollback"]) == ("completed", "skipped")
    body = record(table, done)
    assert body["jobs"]["void"] == ["deploy", "rollback", "notice"]
    assert body["jobs"]["completed"] == ["build", "deploy", "verify", "notice"]
    with table.kit.store.read() as unit:
        claims = [each.data for each in unit.history(done.id) if each.change == Change.CLAIMED]
    assert [each["void"] for each in claims] == [[], ["deploy", "rollback", "notice"]]


def test_b2_a_handler_is_void_when_its_failure_is_done_again(made):
    table = made(pipeline(KEPT))
    found = run(table, ("verify", [NO]))
    assert resume(table, found, ("verify", [NO])) == ["verify", "rollback", "notice"]
    assert entry(table, found.id).reason.startswith("failed at verify; rollback completed (no)")
    assert resume(table, found) == ["verify", "notice"]
    assert record(table, found)["jobs"]["void"] == ["rollback", "notice"]


@pytest.mark.parametrize("by", [again.resume, again.retry])
def test_b2_a_skip_and_a_tolerated_failure_stand_while_what_they_were_decided_from_stands(made, by):
    table = made(
        pipeline("""\
  - { id: a, python: "f:a" }
  - { id: b, python: "f:b", dependsOn: a, when: "a.output.go == true" }
  - { id: c, python: "f:c", dependsOn: b }
  - { id: d, python: "f:d", dependsOn: c }
""")
    )
    found = run(table, ("a", [Done(output={"go": False})]), ("d", [NO]))
    assert resume(table, found, by=by) == ["d"]
    assert entry(table, found.id).status == "completed"


def test_b2_resume_keeps_a_tolerated_failure_and_retry_does_it_again_with_all_behind_it(made):
    body = pipeline("""\
  - { id: check, python: "f:q", continueOnError: true }
  - { id: fix, python: "f:f", dependsOn: check, when: "check.status == 'failed'" }
  - { id: publish, python: "f:p", dependsOn: [check, fix] }
""")
    table = made(body)
    found = run(table, ("check", [NO]), ("publish", [NO]))
    assert resume(table, found) == ["publish"]
    found = run(table, ("check", [NO]), ("publish", [NO]))
    assert resume(table, found, by=again.retry) == ["check", "publish"]
    assert statuses(table, found)["fix"] == "skipped"


def test_b2_a_fault_that_is_tried_again_by_itself_is_causal_too(made):
    table = made(
        pipeline("""\
  - { id: a, python: "f:a" }
  - { id: b, python: "f:b" }
  - { id: c, python: "f:c", dependsOn: a }
""")
    )
    found = run(table, ("b", [FAULT]))
    assert found.status == "completed"
    assert sorted(performed(table)) == ["a", "b", "b", "c"]
    assert stages(table, found)["c"].based_on == {"a": stages(table, found)["a"].run_id}


def test_b2_a_fault_behind_a_handled_failure_is_all_that_is_tried_again_by_itself(made):
    table = made(
        pipeline("""\
  - { id: review, python: "f:r" }
  - { id: fix, python: "f:f", dependsOn: review, when: "review.status == 'failed'" }
  - { id: validate, python: "f:v", dependsOn: [review, fix] }
  - { id: end, python: "f:e", dependsOn: validate }
""")
    )
    found = run(table, ("review", [NO]), ("validate", [FAULT]))
    assert performed(table) == ["review", "fix", "validate", "validate", "end"]
    assert found.reason == "completed: fix, validate, end; overcome: review"


def test_b2_an_approval_of_what_was_taken_back_is_asked_for_again(made):
    table = made(pipeline(UNDONE.replace('"f:d",', '"f:d", approval: {},')))
    found = run(table, ("verify", [NO]))

    def approve():
        _, bells = review.decide(table.kit, found.id, Decided(answer=Answer.APPROVE, actor="li", reason="yes"))
        table.bells += bells
        go(table)

    approve()
    assert entry(table, found.id).reason.startswith("failed at verify; rollback completed")
    assert resume(table, found) == []
    assert entry(table, found.id).status == "blocked", "the word was for the first deployment"
    approve()
    assert performed(table) == ["deploy", "verify", "notice"]


@pytest.mark.parametrize("at", ["verify", "rollback", "notice"])
def test_b2_a_worker_that_dies_anywhere_changes_nothing_in_the_end(either, at):
    whole, broken = either(pipeline(UNDONE)), either(pipeline(UNDONE))
    found = run(whole, ("verify", [NO]))

    class Killed(BaseException):
        """The process is gone: nothing more is written."""

    def dies(job, work):
        raise Killed

    results = {"verify": [dies, NO]} if at == "verify" else {"verify": [NO], at: [dies]}
    (filed,) = broken.file({})
    broken.executor.results |= results
    with pytest.raises(Killed):
        go(broken)
    broken.sweep()  # the first one gives everybody grace
    with broken.kit.store.begin() as unit:
        ago = "interval '1 hour'" if unit.dialect.name == "postgresql" else "3600"
        unit.count(f"UPDATE entries SET leased_until = {{now}} - {ago} WHERE run_id IS NOT NULL")
    broken.bells.clear()
    go(broken)
    died = entry(broken, filed.entry_id)
    assert died.expiries == 1
    assert died.reason == found.reason
    assert statuses(broken, died) == statuses(whole, found)
    assert performed(broken).count("deploy") == 1, "what was taken back is not done again behind people's backs"
    assert len(last_run(broken, died)["goes_on"]) == 1
    assert resume(broken, died) == resume(whole, found) == ["deploy", "verify", "notice"]


def test_b2_a_fork_takes_over_what_stands_and_nothing_that_was_taken_back(either):
    table = either(pipeline(UNDONE + '  - { id: skipped, python: "f:s", when: "1 == 2" }\n'
                          '  - { id: after, python: "f:a", dependsOn: skipped }\n'))  # fmt: skip
    found = run(table, ("verify", [NO]), ("after", [Done(output=1)]))
    assert "after" in performed(table)
    table.executor.performed.clear()
    new = again.fork(table.kit, last_run(table, found)["id"], "verify", actor="ana", reason="what if")
    go(table)
    assert sorted(performed(table)) == ["deploy", "notice", "verify"]
    assert entry(table, new).status == "completed"


def test_b2_a_fork_with_an_edited_output_stands_on_the_word_of_a_person(made):
    table = made(pipeline(UNDONE))
    found = run(table, ("verify", [NO]))
    table.executor.performed.clear()
    new = again.fork(table.kit, last_run(table, found)["id"], "verify", actor="ana", reason="seen", output={"ok": 1})
    go(table)
    assert performed(table) == ["deploy", "notice"]
    assert (entry(table, new).status, stages(table, entry(table, new))["verify"].output) == ("completed", {"ok": 1})


def test_b2_a_large_graph_is_as_causal_as_a_small_one(either):
    more = "".join(f'  - {{ id: x{n}, python: "f:x", dependsOn: build, inline: true }}\n' for n in range(70))
    table = either(pipeline(UNDONE + more, concurrency="{ maxConcurrentJobs: 100 }"))
    found = run(table, ("verify", [NO]))
    assert found.reason.startswith("failed at verify; rollback completed")
    body = record(table, found)
    assert {each["job"] for each in body["stages"]} >= {"build", "x0", "x69"}, "every stage is named"
    again_done = resume(table, found)
    assert [each for each in again_done if not each.startswith("x")] == ["deploy", "verify", "notice"]
    assert not [each for each in again_done if each.startswith("x") and again_done.count(each) > 1]
