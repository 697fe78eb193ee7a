"""The planner and the language: every rule of what may begin, every mistake with its place, and no text that breaks it."""

from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backlog_worker.domain import agent, condition, drawing, estimate, pipeline, template, trigger
from backlog_worker.domain.errors import InvalidFileError
from backlog_worker.domain.expression import ExpressionError
from backlog_worker.domain.frontier import ENDED, Stage, StageStatus, outcome, plan
from backlog_worker.domain.handling import failures
from backlog_worker.domain.language import TriggerFile
from backlog_worker.domain.outcome import Stopped, Succeeded
from backlog_worker.domain.template import TemplateError
from backlog_worker.domain.trigger import Event


def load(jobs, **files):
    return pipeline.load(
        f"name: p\njobs:\n{jobs}", contract={name.replace("__", "/"): text for name, text in files.items()}.__getitem__
    )


def findings(body, files=()):
    with pytest.raises(InvalidFileError) as caught:
        pipeline.load(body, contract=dict(files).__getitem__)
    return caught.value.findings


def stage(job_id, status, **fields):
    return Stage(entry_id="e", pipeline_hash="h", job_id=job_id, status=StageStatus(status), run_id="r", **fields)


def planned(made, **statuses):
    return plan(made, {name.replace("_", "-"): stage(name.replace("_", "-"), said) for name, said in statuses.items()})


TWO = '  - { id: a, run: "x" }\n  - { id: b, run: "x", dependsOn: a%s }\n'


@pytest.mark.parametrize(
    ("when", "status", "stands"),
    [
        ("", "completed", "ready"), ("", "failed", "skipped"), ("", "skipped", "skipped"), ("", "running", "pending"),
        (", when: \"a.status == 'failed'\"", "failed", "ready"), (", when: \"a.status == 'failed'\"", "completed", "skipped"),
        (', when: "always()"', "failed", "ready"), (', when: "always()"', "skipped", "ready"), (', when: "always()"', "canceled", "ready"),
        (', when: "failure()"', "completed", "skipped"), (', when: "failure()"', "failed", "ready"),
        (', when: "success()"', "completed", "ready"), (', when: "a.status in [\'failed\', \'skipped\']"', "skipped", "ready"),
        (', when: "a.attempts > 1.0"', "completed", "skipped"), (', when: "context.go == true"', "completed", "done"),
    ],
)  # fmt: skip
def test_where_a_job_stands_behind_another(when, status, stands):
    now = planned(load(TWO % when), a=status)
    assert "b" in getattr(now, stands), now


def test_a_failure_that_is_tolerated_lets_the_next_one_begin_and_the_run_succeed():
    made = load('  - { id: a, run: "x", continueOnError: true }\n  - { id: b, run: "x", dependsOn: a }\n')
    assert planned(made, a="failed").ready == ("b",)
    done = {"a": stage("a", "failed"), "b": stage("b", "completed")}
    assert outcome(made, done, plan(made, done)) == Succeeded(job_id="b")


def test_a_failed_run_ends_only_when_nothing_runs_any_more():
    made = load('  - { id: a, run: "x" }\n  - { id: b, run: "x" }\n')
    still = {"a": stage("a", "failed"), "b": stage("b", "running")}
    assert outcome(made, still, plan(made, still)) is None
    over = {**still, "b": stage("b", "completed")}
    assert isinstance(outcome(made, over, plan(made, over)), Stopped)


names = st.integers(min_value=1, max_value=9)


@st.composite
def graphs(draw):
    size = draw(st.integers(min_value=1, max_value=12))
    jobs = []
    for at in range(size):
        before = draw(st.lists(st.integers(min_value=0, max_value=at - 1), unique=True, max_size=3)) if at else []
        when = draw(
            st.sampled_from(
                [
                    "",
                    'when: "always()", ',
                    'when: "failure()", ',
                    *[f"when: \"j{b}.status == 'failed'\", " for b in before],
                ]
            )
        )
        tolerant = draw(st.booleans())
        jobs.append(
            f'  - {{ id: j{at}, run: "x", {when}continueOnError: {str(tolerant).lower()}, dependsOn: [{", ".join(f"j{b}" for b in before)}] }}\n'
        )
    fates = draw(st.lists(st.sampled_from(["completed", "failed"]), min_size=size, max_size=size))
    return load("".join(jobs)), fates


@given(graphs())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_every_graph_comes_to_its_end_and_no_job_begins_before_its_dependencies(graph):
    made, fates = graph
    stages, begun = {}, []
    for _ in range(len(made.jobs) * 2 + 2):
        now = plan(made, stages)
        for job_id, (status, why, kind) in now.decided.items():
            stages[job_id] = stage(job_id, status, reason={"text": why, "kind": kind})
        now = plan(made, stages)
        if outcome(made, stages, now) is not None:
            break
        for job_id in now.ready:
            assert all(stages[each].status in ENDED for each in made.job(job_id).after)
            assert job_id not in begun
            begun.append(job_id)
            stages[job_id] = stage(job_id, fates[made.index[job_id]])
    else:
        pytest.fail("the run never ended")
    assert {job.id for job in made.jobs} == set(stages), "nothing is left without a word"
    standing = failures(made, lambda job_id: stages[job_id].status).standing
    assert isinstance(outcome(made, stages, plan(made, stages)), Stopped if standing else Succeeded)


@pytest.mark.parametrize(
    ("line", "code", "column", "words"),
    [
        ("when: \"quality-chek.status == 'failed'\"", "BW204", 12, "not a job before this one; did you mean"),
        ("when: \"a.stats == 'x'\"", "BW204", 14, 'did you mean "status"'),
        ("when: \"a.status == 'complete'\"", "BW204", 25, 'did you mean "completed"'),
        ("when: a.status == 'failed' && nobody.x", "BW204", 35, "nobody"),
        ("when: \"latre.status == 'failed'\"", "BW204", 12, 'did you mean "later"'),
        ("when: 'eval(1)'", "BW204", 12, "eval"),
        ("when: 'a.attempts > 3'", "BW204", 0, ""),
        ('task: "${{ nobody.output }}"', "BW213", 12, "nobody"),
        ('task: "${{ secrets.TOKEN }}"', "BW215", 12, "env"),
        ("inputs: { deep: { list: ['x', '${{ later.output }}'] } }", "BW213", 36, "later"),
        ("dependsOn: [a, nobody]", "BW214", 20, "nobody"),
        ("setup: ['echo {{x}}']", "BW231", 12, "command"),
        ("agent: nobody", "BW207", 9, "agent and run"),
        ("fallback: { after: 3m }", "BW207", 15, "fallback"),
        ("tmieout: 3", "BW203", 5, "tmieout"),
        ("retry: { maxAttempts: -1 }", "BW203", 27, "greater"),
        ("approval: { onTimeout: maybe }", "BW203", 28, "escalate"),
    ],
)  # fmt: skip
def test_a_mistake_has_its_code_its_place_and_a_hint(line, code, column, words):
    depends = "" if "dependsOn" in line else "    dependsOn: [a, quality-check]\n"
    body = f'name: p\njobs:\n  - {{ id: a, run: "x" }}\n  - {{ id: quality-check, run: "x" }}\n  - id: c\n    run: "x"\n{depends}    {line}\n  - {{ id: later, run: "x" }}\n'
    found = findings(body) if line != "when: 'a.attempts > 3'" else ()
    if not found:  # integers and decimals: CEL takes the number of attempts for any
        assert pipeline.load(body)
        return
    assert found[0].code == code, found
    assert words in str(found[0])
    if "fallback" not in line and "agent" not in line:
        assert found[0].line == (7 if "dependsOn" in line else 8)
    if column and code not in {"BW203", "BW207"}:
        assert found[0].column == column, str(found[0])


def test_a_circle_prints_its_path():
    body = "name: p\njobs:\n" + "".join(f"  - {{ id: {a}, run: x, dependsOn: {b} }}\n" for a, b in ("ac", "ba", "cb"))
    assert "a -> b -> c -> a" in findings(body)[0].text or "->" in findings(body)[0].text
    assert findings(body)[0].code == "BW212"


def test_all_mistakes_of_all_files_come_at_once():
    body = "name: p\nincludes: [other.yml, missing.yml]\njobs:\n  - { id: a, run: x, dependsOn: [q] }\n  - { id: b }\n"
    found = findings(body, {"other.yml": "name: o\njobs:\n  - { id: z, run: x, tmieout: 1 }\n"})
    assert {(each.file, each.code) for each in found} == {
        ("pipeline.yml", "BW211"),
        ("pipeline.yml", "BW214"),
        ("pipeline.yml", "BW207"),
        ("other.yml", "BW203"),
    }


def test_includes_are_flat_prefixed_and_take_parameters():
    other = "name: o\nparameters: { level: low }\njobs:\n  - { id: lint, run: x }\n  - { id: links, run: x, dependsOn: lint, when: \"lint.status == 'completed' && params.level == 'high'\", inputs: { l: '{{params.level}}' } }\n"
    body = "name: p\nincludes: [{ file: o.yml, as: base, with: { level: high } }]\njobs:\n  - { id: z, run: x, dependsOn: base-links, when: \"base-links.status == 'completed'\" }\n"
    made = pipeline.load(body, contract={"o.yml": other}.__getitem__)
    assert [job.id for job in made.jobs] == ["base-lint", "base-links", "z"]
    assert planned(made, base_lint="completed").ready == ("base-links",)
    assert made.job("base-links").params == {"level": "high"}
    assert made.hash != pipeline.load(body, contract={"o.yml": other + "\n"}.__getitem__).hash, (
        "the hash covers all files"
    )
    twice = "name: p\nincludes: [o.yml, o.yml]\njobs: []\n"
    assert "stands twice" in findings(twice, {"o.yml": other})[0].text
    assert (
        "includes itself" in findings("name: p\nincludes: [a.yml]\n", {"a.yml": "name: a\nincludes: [a.yml]\n"})[0].text
    )
    assert "has no parameter" in findings(body, {"o.yml": other.replace("{ level: low }", "{}")})[0].text


def test_going_on_after_a_refusal_is_a_warning():
    made = load('  - { id: a, run: x, approval: {} }\n  - { id: b, run: x, dependsOn: a, when: "always()" }\n')
    assert [(each.code, each.level) for each in made.warnings] == [("BW229", "warning")]
    fine = load(
        "  - { id: a, run: x, approval: {} }\n  - { id: b, run: x, dependsOn: a, when: \"always() && a.status == 'completed'\" }\n"
    )
    assert fine.warnings == ()


VALUES = {
    "context": {"x": 1, "l": [1, 2]},
    "input": {},
    "inputs": {},
    "env": {"E": "e"},
    "entry": {"title": "T"},
    "params": {},
    "run": {"id": "r"},
    "jobs": {"one-job": {"output": {"n": 3, "none": None}}},
}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("plain", "plain"), ("${{ context.x }}", 1), ("{{x}}", 1), ("n={{x}}!", "n=1!"), ("${{ one-job.output }}", {"n": 3, "none": None}),
        ("${{ one-job.output.none }}", None), ("${{ context.l[1] }}", 2), ("${{ context.x + 1.0 }}", 2.0), ("${{ 'a' + entry.title }}", "aT"),
        ("{{E}}", "e"), ("a ${{ context.l }}", "a [1, 2]"), ("{{ }}", TemplateError), ("{{nobody}}", TemplateError), ("${{ context.y.z }}", TemplateError),
        ("${{ context.l[9] }}", TemplateError), ("${{ [1] }}", TemplateError), ("${{ __import__('os') }}", TemplateError),
    ],
)  # fmt: skip
def test_holes_are_filled_with_typed_values_or_say_what_is_missing(text, value):
    if value is TemplateError:
        with pytest.raises(TemplateError):
            template.filled(text, VALUES, {"one-job": "one-job"})
    else:
        assert template.filled(text, VALUES, {"one-job": "one-job"}) == value


@given(st.text(max_size=200))
@settings(max_examples=300, deadline=None)
def test_no_text_breaks_conditions_templates_or_agents(text):
    with suppress(ExpressionError):
        condition.compiled(text, {"a": "a", "b-c": "b-c"}).holds({"jobs": {"a": {}}})
    with suppress(TemplateError):
        template.filled(f"{{{{{text}}}}} ${{{{{text}}}}}", VALUES, {"one-job": "one-job"})
    with suppress(InvalidFileError):
        agent.load(text, name="x")


KEYS = st.sampled_from(
    [
        "id",
        "run",
        "agent",
        "when",
        "dependsOn",
        "inputs",
        "retry",
        "timeout",
        "approval",
        "gates",
        "cache",
        "fallback",
        "includes",
        "jobs",
        "name",
        "concurrency",
        "triggers",
        "x",
    ]
)
TREES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=12)
    | st.sampled_from(["a", "${{ a.output }}", "{{x}}", "a.status == 'failed'", "7d"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=6),
    max_leaves=25,
)


@given(TREES)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_file_breaks_the_loader(tree):
    import json

    text = json.dumps(
        {"name": "p", "jobs": [{"id": "a", "run": "x"}, tree], "concurrency": tree if isinstance(tree, dict) else {}}
    )
    try:
        pipeline.load(text)
    except InvalidFileError as error:
        assert all(finding.code.startswith("BW") and finding.line >= 1 for finding in error.findings)


def test_a_condition_is_bounded_in_time():
    found = condition.compiled("context.l.all(a, context.l.all(b, context.l.all(c, a + b + c >= 0.0)))", {})
    with pytest.raises(ExpressionError, match="budget"):
        found.holds({"context": {"l": [1.0] * 500}})


def test_drawings_show_every_job_and_run_nothing():
    made = load(
        '  - { id: a, name: "<script>alert(1)</script> \\"q\\"", run: x }\n  - { id: b, run: x, dependsOn: a, when: "failure()" }\n'
    )
    for form, draw in drawing.DRAWINGS.items():
        text = draw(made, {"a": "completed"})
        assert "b" in text
        if form in {"svg", "mermaid"}:
            assert "<script>" not in text
    assert "j0 -.-> j1" in drawing.mermaid(made)


def test_an_estimate_schedules_side_by_side_and_guesses_nothing():
    made = load(
        "  - { id: a, run: x }\n  - { id: b, run: x }\n  - { id: c, run: x }\n  - { id: d, run: x, dependsOn: [a, b, c] }\n  - { id: e, run: x }\n"
    )
    seconds = {"a": 600.0, "b": 600.0, "c": 600.0, "d": 300.0}
    value = estimate.estimated(made, list(seconds.items()) * 3, {"a": (3, 0.5)})
    assert (value.sequential_seconds, value.parallel_seconds, value.usd) == (2100.0, 900.0, 0.5)
    assert value.unknown == ("e",)


def test_triggers_fit_what_they_say_and_nothing_else():
    push = TriggerFile(type="push", branches=["main", "release/*"], paths=["src/*"])
    event = Event(type="push", delivery="d", payload={}, branch="release/1", paths=("src/a.py",))
    assert trigger.fits(push, event)
    assert not trigger.fits(push, Event(type="push", delivery="d", payload={}, branch="dev", paths=("src/a.py",)))
    assert not trigger.fits(push, Event(type="push", delivery="d", payload={}, branch="main", paths=("docs/a.md",)))
    hook = TriggerFile(
        type="webhook",
        filters={"event_type": "deploy", "meta.env": ["prod", "stage"]},
        transform={"commit": "event.commit"},
    )
    good = Event(
        type="webhook", delivery="d", payload={"event_type": "deploy", "meta": {"env": "prod"}, "commit": "abc"}
    )
    assert trigger.fits(hook, good)
    assert trigger.given(hook, good) == {"commit": "abc"}
    assert not trigger.fits(hook, Event(type="webhook", delivery="d", payload={"event_type": "deploy"}))
