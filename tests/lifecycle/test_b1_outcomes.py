"""What a run did: nothing to do, failures handled and overcome, and ends that name their jobs; on both databases."""

from backlog_worker.domain import writeback
from backlog_worker.domain.entry import standing
from backlog_worker.domain.outcome import Done, FailureKind, Refused
from backlog_worker.domain.review import Answer, Decided
from backlog_worker.lifecycle import review
from tests.lifecycle import runs
from tests.lifecycle.runs import entry, go, performed, pipeline, record, run, stages, statuses

NO = Refused(kind=FailureKind.VALIDATION, reason="no")
made, either = runs.made, runs.either


def test_b1_a_run_in_which_no_job_did_anything_had_nothing_to_do(either):
    table = either(
        pipeline("""\
  - { id: a, python: "f:a", when: "1 == 2" }
  - { id: b, python: "f:b", dependsOn: a, when: "a.status == 'completed'" }
""")
    )
    found = run(table)
    assert performed(table) == []
    assert (found.status, found.outcome, standing(found)) == ("completed", "nothing_to_do", "nothing to do")
    assert found.reason.startswith("nothing to do: every job was skipped (a: `when` is false: 1 == 2")
    body = record(table, found)
    assert (body["status"], body["outcome"], body["jobs"]["skipped"]) == ("completed", "nothing_to_do", ["a", "b"])
    assert "**Nothing to do**" in writeback.markdown(body)
    assert "Completed" not in writeback.markdown(body)
    with table.kit.store.read() as unit:
        assert unit.runs(found.id)[0]["outcome"] == "nothing_to_do"
        assert unit.counts("prod").by_status == {"nothing to do": 1}


def test_b1_a_job_behind_one_that_had_nothing_to_do_runs_and_the_end_names_both(made):
    table = made(
        pipeline("""\
  - { id: a, python: "f:a", when: "1 == 2" }
  - { id: b, python: "f:b", dependsOn: a }
""")
    )
    found = run(table)
    assert performed(table) == ["b"]
    assert (found.status, found.outcome, found.reason) == ("completed", "", "completed: b; nothing to do: a")
    assert record(table, found)["jobs"]["completed"] == ["b"]


def test_b1_nine_of_eleven_skipped_read_so_everywhere(made):
    skipped = "".join(
        f'  - {{ id: s{n}, python: "f:s", dependsOn: m, when: "context.on == true" }}\n' for n in range(9)
    )
    table = made(pipeline(f'  - {{ id: m, python: "f:m" }}\n{skipped}  - {{ id: z, python: "f:z", dependsOn: s0 }}\n'))
    found = run(table, input={"on": False})
    words = "nothing to do (9 of 11): s0, s1, s2, s3, s4, s5 and 3 more"
    assert found.reason == f"completed: m, z; {words}"
    text = writeback.markdown(record(table, found))
    assert "completed 2 (m, z)" in text
    assert "skipped 9 (s0" in text
    assert "| s0 | nothing to do |" in text


FIX = """\
  - { id: review, python: "f:r" }
  - { id: fix, python: "f:f", dependsOn: review, when: "review.status == 'failed'" }
  - { id: validate, python: "f:v", dependsOn: [review, fix] }
  - { id: other, python: "f:o", dependsOn: review, when: "always()" }
  - { id: publish, python: "f:p", dependsOn: [validate] }
"""


def test_b1_fix_only_if_the_review_failed_then_validate_goes_on_in_both_cases(either):
    table = either(pipeline(FIX))
    found = run(table)
    assert found.reason == "completed (4 of 5): review, validate, other, publish; nothing to do: fix"
    found = run(table, ("review", [NO]))
    assert (found.status, found.outcome) == ("completed", "")
    assert found.reason == "completed (4 of 5): fix, validate, other, publish; overcome: review"
    jobs = record(table, found)["jobs"]
    assert (jobs["overcome"], jobs["failed"]) == (["review"], [])


def test_b1_a_failure_that_its_fix_did_not_mend_fails_the_run_and_cancels_the_rest(made):
    table = made(pipeline(FIX))
    found = run(table, ("review", [NO]), ("fix", [NO]))
    assert found.status == "escalated"
    assert found.reason.startswith("failed at review; other completed (no)")
    assert statuses(table, found)["publish"] == "canceled"
    found = run(table, ("review", [NO]), ("validate", [NO]))
    assert found.status == "escalated"
    assert found.reason.startswith("failed at review; fix, other completed (no); failed: validate")


ROLLBACK = """\
  - { id: deploy, python: "f:d" }
  - { id: verify, python: "f:v", dependsOn: deploy }
  - { id: rollback, python: "f:r", dependsOn: [deploy, verify], undoes: deploy, when: "verify.status == 'failed'" }
  - { id: notice, python: "f:n", dependsOn: rollback }
  - { id: after, python: "f:a", dependsOn: [verify, rollback] }
"""


def test_b1_a_handler_alone_overcomes_nothing_and_what_stands_behind_it_runs(either):
    table = either(pipeline(ROLLBACK))
    found = run(table, ("verify", [NO]))
    assert performed(table) == ["deploy", "verify", "rollback", "notice", "after"]
    assert found.status == "escalated"
    assert found.reason.startswith("failed at verify; rollback completed (no)")
    body = record(table, found)
    assert (body["failed_stage"], body["jobs"]["failed"], body["jobs"]["void"]) == ("verify", ["verify"], ["deploy"])
    assert "deploy" not in body["jobs"]["completed"]


def test_b1_a_handler_that_asks_a_person_is_waited_for_although_the_run_fails(made):
    body = ROLLBACK.replace("undoes: deploy,", "undoes: deploy, approval: {},")
    table = made(pipeline(body))
    found = run(table, ("verify", [NO]))
    assert found.status == "blocked"
    _, bells = review.decide(table.kit, found.id, Decided(answer=Answer.APPROVE, actor="li", reason="yes"))
    table.bells += bells
    go(table)
    done = entry(table, found.id)
    assert done.reason.startswith("failed at verify; rollback completed")
    assert performed(table).count("verify") == 1, "what had failed is not done again while its handler is asked for"


def test_b1_other_branches_go_on_while_a_failure_may_still_be_overcome(made):
    table = made(pipeline(FIX + '  - { id: docs, python: "f:x" }\n  - { id: site, python: "f:s", dependsOn: docs }\n'))
    found = run(table, ("review", [NO]))
    assert statuses(table, found)["site"] == "completed"
    assert found.status == "completed"


def test_b1_an_overcome_failure_starts_no_rollback(made):
    more = '  - { id: back, python: "f:b", dependsOn: [publish], when: "failure()" }\n'
    table = made(pipeline(FIX + more))
    found = run(table, ("review", [NO]))
    assert (found.status, statuses(table, found)["back"]) == ("completed", "skipped")


def test_b1_a_when_waits_for_the_job_that_it_reads(made):
    table = made(
        pipeline("""\
  - { id: a, python: "f:a", when: "z.output.go == true" }
  - { id: y, python: "f:y" }
  - { id: z, python: "f:z", dependsOn: y }
""")
    )
    found = run(table, ("z", [Done(output={"go": True})]))
    assert performed(table) == ["y", "z", "a"]
    assert found.status == "completed"


def test_b1_a_call_whose_child_had_nothing_to_do_had_nothing_to_do_either(made):
    table = made(
        pipeline("  - { id: sub, pipeline: child }\n"),
        "name: child\njobs:\n  - { id: x, python: 'f:x', when: '1 == 2' }\n",
    )
    found = run(table)
    assert (found.status, found.outcome) == ("completed", "nothing_to_do")
    assert "had nothing to do" in stages(table, found)["sub"].reason["text"]


def test_b1_what_depends_on_an_entry_that_had_nothing_to_do_goes_on(made):
    table = made(pipeline('  - { id: a, python: "f:a", when: "context.on == true" }\n'))
    (first,) = table.file({"dedupe_key": "first", "input": {"on": False}})
    (second,) = table.file({"depends_on": ["first"], "input": {"on": True}})
    go(table)
    assert entry(table, first.entry_id).outcome == "nothing_to_do"
    assert (entry(table, second.entry_id).status, entry(table, second.entry_id).outcome) == ("completed", "")


def test_b1_a_stored_result_counts_as_done(made):
    table = made(pipeline('  - { id: a, python: "f:a", cache: { ttl: 1d } }\n'))
    run(table)
    found = run(table)
    assert performed(table) == []
    assert (found.outcome, found.reason) == ("", "completed: a")
