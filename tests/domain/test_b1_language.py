"""Conditions wait for what they read, and say so; what they cannot wait for is refused at its place."""

import pytest

from backlog_worker.domain import pipeline
from backlog_worker.domain.errors import InvalidFileError
from backlog_worker.integrations import github_actions, gitlab_ci, jenkins

READS = ["z.status == 'completed'", "z.output.x == 'y'", "jobs[\"z\"].status == 'failed'", "jobs['z'].output.x == 'y'"]


def load(jobs):
    return pipeline.load(f"name: p\njobs:\n{jobs}")


def findings(jobs):
    with pytest.raises(InvalidFileError) as caught:
        load(jobs)
    return caught.value.findings


def job(name, when="", **more):
    said = "".join(f"    {key}: {value}\n" for key, value in more.items())
    return f"  - id: {name}\n    run: x\n{said}" + (f"    when: {when}\n" if when else "")


@pytest.mark.parametrize("when", READS)
def test_b1_a_when_waits_for_the_job_that_it_reads_and_the_warning_has_the_line(when):
    made = load(job("a") + job("b", when, dependsOn="a") + job("z"))
    assert made.job("b").after == ("a", "z")
    assert made.job("b").depends_on == ("a",)
    assert made.precedes("z", "b")
    (found,) = made.warnings
    assert (found.code, found.level, found.hint) == ("BW232", "warning", "write `dependsOn: [a, z]`")
    assert found.line == 8
    assert load(job("a") + job("b", when, dependsOn="[a, z]") + job("z")).warnings == ()


@pytest.mark.parametrize("when", READS)
@pytest.mark.parametrize("between", [job("z", dependsOn="b"), job("m", dependsOn="b") + job("z", dependsOn="m")])
def test_b1_jobs_that_wait_for_each_other_through_a_when_are_a_finding_with_its_line(when, between):
    (found,) = findings(job("b", when) + between)
    assert (found.code, found.line) == ("BW212", 5)
    assert "b -> z" in found.text or "z -> b" in found.text or "-> b" in found.text


def test_b1_two_jobs_that_read_each_other_are_a_finding():
    (found,) = findings(job("a", "b.status == 'failed'") + job("b", "a.status == 'failed'"))
    assert (found.code, found.line in {5, 8}) == ("BW212", True)


@pytest.mark.parametrize(
    ("when", "words"),
    [("b.status == 'failed'", "the job itself"), ("jobs['b'].status == 'failed'", "the job itself"),
     ("jobs['nobody'].status == 'failed'", "does not exist"), ("nobody.status == 'failed'", "not a job")],
)  # fmt: skip
def test_b1_a_when_that_reads_itself_or_nobody_is_refused(when, words):
    (found,) = findings(job("a") + job("b", when, dependsOn="a"))
    assert (found.code, found.line, words in found.text) == ("BW204", 8, True)


@pytest.mark.parametrize("undoes", ["nobody", "c", "b"])
def test_b2_a_job_undoes_one_that_comes_before_it(undoes):
    jobs = job("a") + job("b", "a.status == 'failed'", dependsOn="a", undoes=undoes) + job("c")
    (found,) = findings(jobs)
    assert (found.code, found.line) == ("BW214", 8)
    assert load(jobs.replace(f"undoes: {undoes}", "undoes: a")).job("b").undoes == "a"


@pytest.mark.parametrize("name", ["rollback", "roll-back-db", "revert", "undo-it"])
def test_b2_a_way_back_that_does_not_say_what_it_takes_back_is_a_warning(name):
    made = load(job("a") + job(name, "failure()", dependsOn="a"))
    assert [(each.code, each.hint) for each in made.warnings] == [("BW233", "write `undoes: JOB`")]
    assert load(job("a") + job(name, "failure()", dependsOn="a", undoes="a")).warnings == ()


def test_b1_an_include_may_read_and_undo_by_its_own_names():
    other = "name: o\njobs:\n" + job("a") + job("b", "z.status == 'failed'", dependsOn="a", undoes="a") + job("z")
    body = "name: p\nincludes: [{ file: o.yml, as: base }]\njobs: []\n"
    made = pipeline.load(body, contract={"o.yml": other}.__getitem__)
    assert (made.job("base-b").after, made.job("base-b").undoes) == (("base-a", "base-z"), "base-a")
    assert made.warnings[0].hint == "write `dependsOn: [a, z]`"


def test_b1_exports_let_a_job_begin_that_may_overcome_a_failure():
    fix = job("fix", "review.status == 'failed'", dependsOn="review")
    made = load(job("review") + fix + job("validate", dependsOn="[review, fix]") + job("end", dependsOn="validate"))
    text = github_actions.exported(made).text
    for before in ("fix", "validate"):
        assert f"!cancelled() && needs.{before}.result == 'success'" in text
    for system in (github_actions, gitlab_ci, jenkins):
        assert any("validate.dependsOn: a failure of review" in each for each in system.exported(made).missing)
    assert "unstash 'backlog-z'" in jenkins.exported(load(job("b", "z.status == 'failed'") + job("z"))).text
