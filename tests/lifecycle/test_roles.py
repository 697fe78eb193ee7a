"""Who may answer a review: one rule for the command line, the API and Python, and every refusal is on record."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backlog_worker.domain import pipeline as pipelines
from backlog_worker.domain import policy as policies
from backlog_worker.domain import roles
from backlog_worker.domain.errors import InvalidFileError, NotAllowedError, RefusedError
from backlog_worker.domain.outcome import Asked, Done, FailureKind, Refused
from backlog_worker.domain.review import Answer, Decided
from backlog_worker.domain.roles import ROLES, SCOPES, Caller, everything, holds
from backlog_worker.engine import Engine
from backlog_worker.lifecycle import operate, review, tools
from backlog_worker.testing import POLICY, bench

PEOPLE = POLICY.replace("lead: [ana, li]", "lead: [ana, li], reviewer: [rita], operator: [otto], governor: [gus]")
JOBS = {
    "approval": '  - {{ id: a, python: "f:a", approval: {{ roles: [{role}] }} }}\n',
    "several": '  - {{ id: a, python: "f:a", approval: {{ roles: [{role}, governor] }} }}\n',
    "gate": '  - {{ id: a, python: "f:a", gates: [{{ id: G-1, check: "1 == 2", onFail: ask }}] }}\n',
    "permission": '  - {{ id: a, python: "f:a" }}\n',
    "question": '  - {{ id: a, interactive: true, prompt: "How many?" }}\n',
    "dead_letter": '  - {{ id: a, python: "f:a" }}\n',
}
ASKS = {"gate": "reviewer", "permission": "operator", "question": "reviewer", "dead_letter": "reviewer"}
WHO = {"lead": "ana", "reviewer": "rita", "operator": "otto", "governor": "gus"}


def waiting(kind, role):
    """Return a table whose one entry waits for an answer of that kind."""
    table = bench(policy=PEOPLE, pipelines=["name: spec\nversion: 1\njobs:\n" + JOBS[kind].format(role=role)])
    first = {
        "permission": Asked(question="may I?", kind="permission", detail="shell: ls", role="operator"),
        "dead_letter": Refused(kind=FailureKind.GATE, reason="no", rule="G-9"),
    }
    table.executor.results = {"a": [first.get(kind, Done(output={"n": 1}))]}
    (filed,) = table.file({"pipeline": "spec"})
    assert not filed.bars, filed.reason
    table.run(3)
    with table.kit.store.read() as unit:
        (only,) = unit.open_reviews(filed.entry_id)
    return table, only


def by_command(table, only, name):
    review.decide(table.kit, only.id, said(only, name))


def by_bulk(table, only, name):
    done, kept, _ = review.answer_all(table.kit, [only], said(only, name))
    if kept:
        raise NotAllowedError(kept[0][1])
    assert done == [only.entry_id]


def by_python(table, only, name):
    word = said(only, name)
    Engine(table.kit, ring=table.bells.extend, actor=name).answer(only.id, word.answer, "so be it", value=word.value)


def by_api(table, only, name):
    """Ask as the API does: an account of that name, whose token has every scope and no role of its own."""
    word = said(only, name)
    params = {"id": only.id, "answer": str(word.answer), "reason": "so be it", "value": word.value}
    caller = Caller(name=name, scopes=frozenset(SCOPES), env="prod")
    tools.execute(table.kit, caller, "review_tool", "decide", params, env="prod")


def said(only, name):
    answer = Answer.ANSWER if only.kind == "question" else Answer.REJECT
    return Decided(answer=answer, actor=name, reason="so be it", value={"n": 1} if only.kind == "question" else None)


DOORS = {"command": by_command, "bulk": by_bulk, "python": by_python, "api": by_api}
KINDS = ("approval", "several", "gate", "permission", "question", "dead_letter")


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("kind", KINDS)
def test_b7_only_who_has_the_role_answers_by_every_door_and_who_has_not_is_on_record(kind, door):
    table, only = waiting(kind, "lead")
    wanted = {"approval": {"lead"}, "several": {"lead", "governor"}}.get(kind, {ASKS.get(kind)})
    assert set(only.roles) == wanted
    for role, name in [("nothing", "mallory"), *WHO.items()]:
        if role in wanted:
            continue
        with pytest.raises(NotAllowedError, match=f"{name} may not answer this review: it needs the role") as caught:
            DOORS[door](table, only, name)
        assert all(f"{each}: {WHO[each]}" in str(caught.value) for each in wanted), "and who has it"
        with table.kit.store.read() as unit:
            assert unit.review(only.id).answer is None
            denied = [row for row in unit.acts("prod", result="denied") if row["actor"] == name]
        assert [(row["action"], row["subject"]) for row in denied] == [("review.decide", only.id)]
    name = WHO[min(wanted)]
    DOORS[door](table, only, name)
    with table.kit.store.read() as unit:
        assert unit.review(only.id).answered_by == name


@pytest.mark.parametrize("role", ROLES)
def test_b7_a_token_of_a_role_answers_what_asks_for_that_role_only(role):
    table, only = waiting("dead_letter", "lead")
    caller = Caller(name="bot", scopes=ROLES[role], env="prod", roles=frozenset({role}))
    if role == "reviewer":
        review.decide(table.kit, only.id, Decided(answer=Answer.REJECT, actor="bot", reason="no"), caller=caller)
        return
    with pytest.raises(NotAllowedError):
        review.decide(table.kit, only.id, Decided(answer=Answer.REJECT, actor="bot", reason="no"), caller=caller)


def test_b7_a_role_that_the_policy_leaves_out_belongs_to_all_who_may_as_much():
    table = bench(policy=POLICY.replace("roles: { lead: [ana, li] }\n", ""))
    table.executor.results = {"draft": [Refused(kind=FailureKind.GATE, reason="no")]}
    (filed,) = table.file({"pipeline": "spec"})
    table.run(3)
    viewer = Caller(name="vi", scopes=ROLES["operator"])
    word = Decided(answer=Answer.DISCARD, actor="vi", reason="no")
    with pytest.raises(NotAllowedError, match=r"no scope reviews\.decide"):
        review.decide(table.kit, filed.entry_id, word, caller=viewer)
    review.decide(table.kit, filed.entry_id, word, caller=everything("vi"))


@given(
    st.sampled_from([*ROLES, "lead", "nobody"]),
    st.sampled_from(["ana", "li", "mallory"]),
    st.sets(st.sampled_from(sorted(SCOPES))),
    st.sets(st.sampled_from([*ROLES, "lead"]), max_size=2),
    st.dictionaries(
        st.sampled_from([*ROLES, "lead"]), st.lists(st.sampled_from(["ana", "li"]), min_size=1, max_size=2)
    ),
)
@settings(max_examples=400, deadline=None)
def test_b7_a_role_is_held_by_a_token_by_name_or_by_scopes_and_never_else(role, name, scopes, own, people):
    caller = Caller(name=name, scopes=frozenset(scopes), roles=frozenset(own))
    wanted = (
        role in own or name in people.get(role, ()) or (role not in people and role in ROLES and ROLES[role] <= scopes)
    )
    assert holds(caller, role, people) == wanted
    if "reviews.decide" not in scopes or not wanted:
        with pytest.raises(NotAllowedError):
            roles.must_answer(caller, [role], people, env="")
    else:
        roles.must_answer(caller, [role], people, env="")


def test_b7_completing_by_hand_is_no_way_around_the_role():
    table, only = waiting("approval", "lead")
    with pytest.raises(NotAllowedError, match="role lead"):
        operate.complete(table.kit, only.entry_id, actor="mallory", reason="done elsewhere")
    with pytest.raises(NotAllowedError, match="role lead"):
        tools.execute(table.kit, everything("mallory"), "backlog_tool", "close", {"id": only.entry_id, "reason": "r"})
    with table.kit.store.read() as unit:
        assert {row["action"] for row in unit.acts("prod", result="denied")} == {"entry.complete"}
        assert unit.entry(only.entry_id).status == "blocked"
    operate.complete(table.kit, only.entry_id, actor="ana", reason="done elsewhere")


@pytest.mark.parametrize(
    ("roles_of", "line", "near"),
    [
        ("leed", 4, 'did you mean "lead"?'),
        ("lead, reviwer", 4, 'did you mean "reviewer"?'),
        ("Lead", 4, "lead"),
        ('""', 4, "one of:"),
    ],
)
def test_b7_a_role_that_nobody_has_is_a_finding_with_its_line_and_a_suggestion(roles_of, line, near):
    body = f"name: spec\nversion: 1\njobs:\n  - {{ id: a, run: x, approval: {{ roles: [{roles_of}] }} }}\n"
    with pytest.raises(InvalidFileError) as caught:
        pipelines.load(body, people=["lead"])
    (finding,) = caught.value.findings
    assert (finding.code, finding.line) == ("BW218", line)
    assert near in finding.hint
    assert "roles: {" in finding.hint


@pytest.mark.parametrize(("old", "new", "words"), [
    ("team-platform }", "team-platform, role: reviwer }", 'nobody has the role "reviwer"'),
    ("lead: [ana, li]", "lead: []", "at least 1"),
    ("lead: [ana, li]", "lead: ana", "valid list"),
    ("lead: [ana, li]", "'a, b': [ana]", "match"),
    ("lead: [ana, li]", "lead: ['ana ']", "match"),
    ("lead: [ana, li]", "lead: ['']", "match"),
])  # fmt: skip
def test_b7_a_policy_with_a_role_that_is_none_is_refused(old, new, words):
    with pytest.raises(InvalidFileError, match=words):
        policies.load(POLICY.replace(old, new))


def test_b7_a_pipeline_that_asks_for_nobody_does_not_come_into_force_and_does_when_the_policy_names_them():
    body = 'name: spec\nversion: 1\njobs:\n  - { id: a, python: "f:a", approval: { roles: [chief] } }\n'
    table = bench(pipelines=[body])
    assert "nobody has the role" in str(table.kit.book.findings["0.yml"])
    first, *rest = table.texts.texts
    table.texts.texts = [
        type(first)(
            kind="policy",
            file="policy.yml",
            body=POLICY.replace("version: 1", "version: 2").replace("lead:", "chief: [li], lead:"),
        ),
        *rest,
    ]
    table.tick()
    assert not table.kit.book.findings
    (filed,) = table.file({"pipeline": "spec"})
    assert not filed.bars


GRAPH = """\
name: spec
version: 1
jobs:
  - { id: draft, python: "f:draft" }
  - { id: side, python: "f:side", when: "1 == 2" }
  - { id: check, python: "f:check", dependsOn: draft }
  - { id: publish, python: "f:publish", dependsOn: check }
"""


def stopped(at):
    table = bench(pipelines=[GRAPH])
    table.executor.results = {at: [Refused(kind=FailureKind.GATE, reason="no")]}
    (filed,) = table.file({"pipeline": "spec"})
    table.run(4)
    return table, filed.entry_id


@pytest.mark.parametrize(("at", "left"), [("draft", "check, publish"), ("check", "publish"), ("publish", "")])
@pytest.mark.parametrize("door", ["command", "python", "api"])
def test_b7_an_approval_that_would_complete_what_never_ran_says_so_before_and_in_the_record(at, left, door):
    table, entry_id = stopped(at)

    def _approve(*, unfinished):
        if door == "command":
            review.decide(
                table.kit, entry_id, Decided(answer=Answer.APPROVE, actor="ana", reason="fine", unfinished=unfinished)
            )
        elif door == "python":
            Engine(table.kit, ring=len, actor="ana").answer(entry_id, "approve", "fine", unfinished=unfinished)
        else:
            params = {"id": entry_id, "answer": "approve", "reason": "fine", "unfinished": unfinished}
            tools.execute(table.kit, everything("ana"), "review_tool", "decide", params)

    assert tools.execute(table.kit, everything("ana"), "review_tool", "list", {})[0]["never_ran"] == [
        each for each in left.split(", ") if each
    ]
    if left:
        with pytest.raises(RefusedError, match=f"although {left} never ran") as caught:
            _approve(unfinished=False)
        assert "--even-though-unfinished" in caught.value.hint
        with table.kit.store.read() as unit:
            assert unit.entry(entry_id).status == "escalated"
    _approve(unfinished=True)
    with table.kit.store.read() as unit:
        entry, history = unit.entry(entry_id), unit.history(entry_id)
    although = f" although {left} never ran" if left else ""
    assert (entry.status, entry.reason) == ("completed", f"approve by ana{although}: fine")
    answered = next(event for event in history if event.change == "answered")
    assert answered.data.get("never_ran", []) == [each for each in left.split(", ") if each]
    record = next(
        event for event in history if event.change == "recorded" and event.data["record"]["status"] == "completed"
    )
    assert although.strip() in str(record.data["record"])


def test_b7_every_door_of_an_answer_leads_to_the_one_place(request):
    """Nothing but `review.decide` and the clock's own word writes an answer."""
    root = request.config.rootpath / "backlog_worker"
    writers = sorted(
        str(path.relative_to(root))
        for path in itertools.chain(root.rglob("*.py"))
        if "unit.answer(" in path.read_text()
    )
    assert writers == ["lifecycle/answer.py", "lifecycle/review.py"]
