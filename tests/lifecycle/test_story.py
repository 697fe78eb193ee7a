"""One entry from draft to write-back, and every way in which it may leave the straight path."""

import json
from datetime import timedelta

import pytest

from backlog_worker.domain.errors import ConflictError, NotFoundError, UsageError
from backlog_worker.domain.outcome import Done, FailureKind, Faulted, Refused, Throttled
from backlog_worker.domain.review import Answer, Decided
from backlog_worker.domain.search import parsed
from backlog_worker.integrations import DefinitionFile
from backlog_worker.lifecycle import audit, claim, explain, operate, review, watch
from backlog_worker.testing import PIPELINE, POLICY, bench

GATED = """\
name: spec
version: 2
jobs:
  - { id: draft, python: "fake:draft" }
  - id: check
    python: "fake:check"
    dependsOn: draft
    gates:
      - { id: G-1, check: "output.score >= 0.5" }
      - { id: G-2, check: "!('security' in entry.labels)", onFail: ask }
  - { id: publish, python: "fake:publish", dependsOn: check, approval: { roles: [lead], timeout: 1h } }
"""


@pytest.fixture
def table():
    made = bench()
    yield made
    assert watch.verify(made.kit) == []
    assert list(audit.verify(made.kit)) == []


@pytest.fixture
def gated():
    made = bench(pipelines=[GATED])
    yield made
    assert watch.verify(made.kit) == []
    assert list(audit.verify(made.kit)) == []


def history(table, entry_id):
    with table.kit.store.read() as unit:
        return [event.change for event in unit.history(entry_id)]


def entry(table, entry_id):
    with table.kit.store.read() as unit:
        return unit.entry(entry_id)


def record(table, entry_id):
    with table.kit.store.read() as unit:
        return unit.wishes(entry_id)[0]["body"]


def test_the_nominal_path_is_a_history_that_reads_like_the_story(table):
    (filed,) = table.file({})
    table.run(3)
    assert history(table, filed.entry_id) == [
        "filed", "cleared", "dispatched", "claimed",
        "taken", "checkpointed", "taken", "checkpointed", "taken", "checkpointed", "completed", "recorded", "sent",
    ]  # fmt: skip
    body = record(table, filed.entry_id)
    assert body["schema"] == "backlog-worker/writeback@2"
    assert [stage["status"] for stage in body["stages"]] == ["completed"] * 3
    assert body["decision"]["eligibility"] == {"ELIG-LABEL": True}
    assert body["decision"]["terms"].keys() == {"label", "age"}
    assert body["run"]["worker"] == "worker@bench"


def test_the_record_is_delivered_once_and_readable(table):
    (filed,) = table.file({"title": "Break *out* <b>of</b> @here | #1"})
    table.run(3)
    folder = table.kit.tracker.folder
    markdown = (folder / f"{filed.entry_id}.md").read_text()
    assert "**Completed**" in markdown
    assert "<b>" not in markdown.split("<details>")[0]
    assert "@here" not in markdown.split("<details>")[0]
    assert json.loads((folder / f"{filed.entry_id}.json").read_text()) == record(table, filed.entry_id)
    with table.kit.store.read() as unit:
        (wish,) = unit.wishes(filed.entry_id)
    assert (wish["status"], wish["attempts"]) == ("sent", 1)


def test_the_same_key_is_filed_once_and_the_winner_is_told(table):
    first, second = table.file({"dedupe_key": "k"}, {"dedupe_key": "k"})
    (third,) = table.file({"dedupe_key": "k"})
    assert first.entry_id == second.entry_id == third.entry_id
    assert [first.new, second.new, third.new] == [True, False, False]


def test_one_bad_record_never_stops_the_rest(table):
    filed = table.file({}, {"title": "", "created_at": "soon"}, {})
    good, bad, other = sorted(filed, key=lambda each: each.place)
    assert good.new
    assert other.new
    assert "title" in bad.error
    assert "created_at" in bad.error


def test_what_nobody_declared_eligible_never_enters_the_queue(table):
    (filed,) = table.file({"labels": ["bug"]})
    table.run(2)
    assert entry(table, filed.entry_id).bars == ["NOT_ELIGIBLE"]
    operate.edit(table.kit, filed.entry_id, {"labels": ["bug", "ai-ok"]}, actor="ana", reason="it is fit")
    found = entry(table, filed.entry_id)
    assert found.status == "queued"
    assert found.provenance["eligible_by"] == "ana"
    table.run(3)
    assert entry(table, filed.entry_id).status == "completed"


def test_eligibility_is_judged_again_at_the_claim(table):
    (filed,) = table.file({})
    table.tick()
    table.texts.texts[0] = DefinitionFile(kind="policy", file="policy.yml", body=POLICY.replace("'ai-ok'", "'new-ok'"))
    table.tick()
    table.ring()
    found = entry(table, filed.entry_id)
    assert (found.status, found.bars) == ("blocked", ["NOT_ELIGIBLE"])
    assert table.executor.performed == []


def test_an_outage_backs_off_and_then_succeeds_from_its_checkpoints(table):
    (filed,) = table.file({})
    table.executor.results = {"check": [Faulted(kind=FailureKind.INFRASTRUCTURE, reason="away")]}
    table.tick()
    table.ring()
    waiting = entry(table, filed.entry_id)
    assert (waiting.status, waiting.outages) == ("retrying", 1)
    assert explain.explain(table.kit, filed.entry_id).reasons[0][0] == "BACKING_OFF"
    table.run(10)
    assert entry(table, filed.entry_id).status == "completed"
    assert [job for _, job in table.executor.performed] == ["draft", "check", "check", "publish"]


def test_one_fault_too_many_is_a_dead_letter_with_owner_role_and_date(table):
    (filed,) = table.file({})
    table.executor.results = {"draft": [Faulted(kind=FailureKind.TIMEOUT, reason="slow")] * 3}
    table.run(40)
    assert entry(table, filed.entry_id).status == "escalated"
    with table.kit.store.read() as unit:
        (letter,) = unit.reviews("prod", kind="dead_letter")
    assert (letter.owner, letter.role, letter.failure) == ("team-platform", "reviewer", "timeout")
    assert letter.due_at - letter.opened_at == timedelta(hours=24)
    assert letter.assigned_at is not None
    body = record(table, filed.entry_id)
    assert (body["status"], body["failed_stage"]) == ("escalated", "draft")
    assert body["recovery"]["review"] == letter.id


def test_a_quota_uses_up_no_attempt(table):
    (filed,) = table.file({})
    table.executor.results = {"draft": [Throttled(reason="429", wait=timedelta(seconds=20))] * 5}
    table.run(80)
    found = entry(table, filed.entry_id)
    assert (found.status, found.faults) == ("completed", 0)


def test_a_gate_that_fails_escalates_with_its_rule(gated):
    (filed,) = gated.file({})
    gated.executor.results = {"check": [Done(output={"score": 0.1})]}
    gated.run(3)
    body = record(gated, filed.entry_id)
    assert body["reason"]["rule"] == "G-1"
    assert body["stages"][1]["gates"][0]["result"] == "fail"
    assert body["not_reached"] == ["publish"]


def test_a_gate_that_asks_and_an_approval_park_the_run_and_go_on_after_the_answer(gated):
    (filed,) = gated.file({"labels": ["ai-ok", "security"]})
    gated.executor.results = {"check": [Done(output={"score": 0.9})]}
    gated.run(3)
    parked = entry(gated, filed.entry_id)
    assert (parked.status, parked.run_id) == ("blocked", None)
    decided = Decided(answer=Answer.APPROVE, actor="li", reason="looked at it")
    review.decide(gated.kit, filed.entry_id, decided)
    gated.run(3)
    assert "Approve" in entry(gated, filed.entry_id).reason
    review.decide(gated.kit, filed.entry_id, decided)
    gated.run(3)
    assert entry(gated, filed.entry_id).status == "completed"
    assert [job for _, job in gated.executor.performed] == ["draft", "check", "publish"]
    assert [person["name"] for person in record(gated, filed.entry_id)["people"]] == ["li", "li"]


def test_nothing_publishes_after_a_rejection(gated):
    (filed,) = gated.file({})
    gated.executor.results = {"check": [Done(output={"score": 0.9})]}
    gated.run(3)
    review.decide(gated.kit, filed.entry_id, Decided(answer=Answer.REJECT, actor="li", reason="wrong"))
    gated.run(5)
    assert entry(gated, filed.entry_id).status == "canceled"
    assert ("publish" in {job for _, job in gated.executor.performed}) is False


def test_an_approval_that_nobody_gives_in_time_becomes_a_dead_letter(gated):
    (filed,) = gated.file({})
    gated.executor.results = {"check": [Done(output={"score": 0.9})]}
    gated.run(3)
    gated.clock.forward(3700)
    gated.sweep()
    gated.ring()
    assert entry(gated, filed.entry_id).status == "escalated"


def test_an_entry_may_ask_for_a_sign_off_of_its_own(table):
    (filed,) = table.file({"constraints": {"sign_off_before": ["publish"]}})
    table.run(3)
    assert entry(table, filed.entry_id).bars == ["APPROVAL_REQUIRED"]
    review.decide(table.kit, filed.entry_id, Decided(answer=Answer.APPROVE, actor="li", reason="fine"))
    table.run(3)
    assert entry(table, filed.entry_id).status == "completed"


def escalated(table):
    (filed,) = table.file({})
    table.executor.results = {"draft": [Refused(kind=FailureKind.VALIDATION, reason="bad input")]}
    table.run(2)
    return filed.entry_id


@pytest.mark.parametrize(
    ("answer", "status"),
    [("approve", "completed"), ("reject", "failed"), ("requeue", "queued"), ("discard", "canceled")],
)
def test_every_answer_to_a_dead_letter(table, answer, status):
    entry_id = escalated(table)
    review.decide(
        table.kit,
        entry_id,
        Decided(answer=Answer(answer), actor="li", reason="so be it", unfinished=answer == "approve"),
    )
    assert entry(table, entry_id).status == status
    if status != "queued":
        assert record(table, entry_id)["people"][-1]["answer"] == answer


def test_a_requeue_may_correct_the_input(table):
    entry_id = escalated(table)
    decided = Decided(answer=Answer.REQUEUE, actor="li", reason="corrected", input={"body": "better"})
    review.decide(table.kit, entry_id, decided)
    table.run(3)
    found = entry(table, entry_id)
    assert found.status == "completed"
    with table.kit.store.read() as unit:
        assert unit.input(entry_id, found.input_sha256) == {"body": "better"}


def test_an_answer_is_applied_once_and_the_second_is_told_who_was_first(table):
    entry_id = escalated(table)
    with table.kit.store.read() as unit:
        letter = unit.review(entry_id)
    review.decide(table.kit, letter.id, Decided(answer=Answer.REJECT, actor="li", reason="no"))
    with pytest.raises(ConflictError, match="reject by li"):
        review.decide(table.kit, letter.id, Decided(answer=Answer.DISCARD, actor="ana", reason="no"))


def test_an_answer_to_what_has_changed_is_refused_with_the_change(table):
    entry_id = escalated(table)
    with table.kit.store.read() as unit:
        letter = unit.review(entry_id)
    operate.edit(table.kit, entry_id, {"priority": "high"}, actor="ana", reason="urgent")
    with pytest.raises(ConflictError, match="edited by ana"):
        review.decide(table.kit, letter.id, Decided(answer=Answer.REJECT, actor="li", reason="no"), seq=letter.seq)
    review.decide(table.kit, letter.id, Decided(answer=Answer.REJECT, actor="li", reason="no"))


def test_a_decision_needs_a_reason_and_must_make_sense(table):
    entry_id = escalated(table)
    with pytest.raises(UsageError, match="reason"):
        review.decide(table.kit, entry_id, Decided(answer=Answer.REJECT, actor="li", reason=" "))
    with pytest.raises(NotFoundError):
        review.decide(table.kit, "rev_none", Decided(answer=Answer.REJECT, actor="li", reason="x"))


def test_a_dead_worker_gives_its_entry_back_and_a_poison_entry_stops(table):
    (filed,) = table.file({})
    for lost in range(3):
        table.tick()
        bell = table.bells.popleft()
        with table.kit.store.begin() as unit:  # a worker claims and dies
            unit.lease = 120.0
            found = unit.hold([filed.entry_id])[filed.entry_id]
            assert found.status == "ready", bell
            policy = table.kit.book.policy(unit)
            claim._begin_runs(table.kit, unit, claim._admitted(table.kit, unit, policy, [found]), policy)
        table.sweep()
        table.clock.forward(30)
        table.sweep()
        assert entry(table, filed.entry_id).status == "in_progress", "a lease is not taken back before it is over"
        for _ in range(4):
            table.clock.forward(29)
            table.sweep()
        assert entry(table, filed.entry_id).expiries == lost + 1
        table.bells.clear()
    found = entry(table, filed.entry_id)
    assert found.status == "escalated"
    assert record(table, filed.entry_id)["reason"]["kind"] == "poison"


def test_hold_takes_the_claim_away_and_release_gives_the_entry_back(table):
    (filed,) = table.file({})
    operate.hold(table.kit, filed.entry_id, actor="ana", reason="wait for legal")
    table.run(2)
    assert entry(table, filed.entry_id).bars == ["ON_HOLD"]
    operate.release(table.kit, filed.entry_id, actor="ana", reason="legal is fine")
    table.run(3)
    assert entry(table, filed.entry_id).status == "completed"


def test_a_canceled_entry_has_a_record_and_only_a_person_brings_it_back(table):
    (filed,) = table.file({})
    operate.cancel(table.kit, filed.entry_id, actor="ana", reason="duplicate")
    table.run(2)
    assert record(table, filed.entry_id)["status"] == "canceled"
    assert record(table, filed.entry_id)["run"] is None
    operate.requeue(table.kit, filed.entry_id, actor="ana", reason="it is not")
    table.run(3)
    assert entry(table, filed.entry_id).status == "completed"
    with pytest.raises(ConflictError, match="cannot be requeued"):
        operate.requeue(table.kit, filed.entry_id, actor="ana", reason="again")


def test_dependencies_come_first(table):
    (first,) = table.file({"dedupe_key": "first"})
    (second,) = table.file({"dedupe_key": "second", "depends_on": ["first"]})
    assert entry(table, second.entry_id).bars == ["WAITS_ON_ENTRY"]
    table.run(2)
    assert [entry(table, each.entry_id).status for each in (first, second)] == ["completed", "completed"]


def test_a_missing_pipeline_bars_until_its_file_comes(table):
    (filed,) = table.file({"pipeline": "report"})
    assert entry(table, filed.entry_id).bars == ["DEFINITION_MISSING"]
    body = PIPELINE.replace("name: spec", "name: report")
    table.texts.texts = [*table.texts.texts, DefinitionFile(kind="pipeline", file="report.yml", body=body)]
    table.run(3)
    assert entry(table, filed.entry_id).status == "completed"


def test_a_bad_policy_leaves_the_last_good_one_in_force_and_says_so(table):
    table.texts.texts[0] = DefinitionFile(kind="policy", file="policy.yml", body="version: x")
    (filed,) = table.file({})
    table.run(3)
    assert entry(table, filed.entry_id).status == "completed"
    assert "policy.yml:1:10" in watch.report(table.kit).findings[0]


def test_an_unknown_priority_is_held_with_its_error_and_the_tick_goes_on(table):
    odd, fine = table.file({"priority": "purple"}, {})
    table.run(2)
    assert entry(table, fine.entry_id).status == "completed"
    found = explain.explain(table.kit, odd.entry_id)
    assert found.reasons[0][0] == "SCORE_ERROR"
    assert "purple" in found.reasons[0][1]


def test_explain_at_a_past_tick_reads_the_receipt_of_that_tick(table):
    table.file(*({"created_at": f"2026-11-{day:02d}T00:00:00Z"} for day in range(1, 31)))
    table.tick()
    with table.kit.store.read() as unit:
        waiting = unit.search("prod", parsed("status:queued"))[0]
        now = unit.now()
    found = explain.explain(table.kit, waiting.id, at=now)
    assert found.reasons[0][0] == "BELOW_CUTOFF"
    assert found.position == 21 or found.position > 20


def test_a_closed_window_keeps_an_entry_out_and_lets_others_by(table):
    closed = {"constraints": {"windows": [{"days": "sat", "hours": "03:00-04:00"}]}}
    table.file(*([closed] * 100))
    (open_one,) = table.file({})
    table.run(6)
    assert entry(table, open_one.entry_id).status == "completed"
    assert table.statuses()["queued"] == 100


def test_a_due_date_that_passes_escalates_what_still_waits(table):
    (filed,) = table.file({"constraints": {"not_before": "2030-01-01T00:00:00Z"}, "due_date": "2027-01-16T00:00:00Z"})
    table.clock.forward(86_400 * 3)
    table.sweep()
    found = entry(table, filed.entry_id)
    assert (found.status, "DEADLINE_PASSED" in found.reason) == ("escalated", True)


def test_secrets_never_reach_a_record(table):
    (filed,) = table.file({})
    table.executor.results = {
        "draft": [Refused(kind=FailureKind.EXECUTION, reason="push to https://bot:hunter22@x failed: ghp_" + "a" * 36)]
    }
    table.run(2)
    text = json.dumps(record(table, filed.entry_id))
    assert "hunter22" not in text
    assert "ghp_a" not in text
