"""D: the gates of the pipeline that `init` and the demo write refuse placeholders and what is not enough."""

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from backlog_worker.cli import files, samples
from backlog_worker.domain.gates import Gate, GateResult, evaluated
from backlog_worker.domain.specification import analysed, duplicates
from tests.domain.extraction import corpus, found

PIPELINE = Path(files.__path__[0]) / "pipelines" / "spec.yml"


def asked(output, labels=()):
    """What each gate of the specification says of an output."""
    jobs = YAML(typ="safe").load(PIPELINE)["jobs"]
    gates = next(job["gates"] for job in jobs if job["id"] == "draft")
    values = {"output": output, "entry.labels": list(labels)}
    return {
        each["id"]: evaluated(Gate.made(each["id"], each["check"], None, each.get("onFail", "escalate")), values).result
        for each in gates
    }


def test_d_what_a_reader_calls_ready_passes_and_what_is_not_goes_to_people():
    for issue in corpus():
        said = asked(found(issue).as_data(), issue.get("labels", ()))
        passed = all(result == GateResult.PASS for result in said.values())
        if "ready" not in issue["want"].get("loose", ()):
            assert passed == issue["want"]["ready"], (issue["id"], said)
        assert passed or found(issue).questions or found(issue).kind in {"question", "unclear"}, issue["id"]


@pytest.mark.parametrize(
    "left",
    [
        "<!-- what should happen -->",
        "Verified: <!-- x -->",
        "Verified: Verified:",
        "_No response_",
        "N/A",
        "Verified: TBD",
        "...",
        "A clear and concise description of it",
    ],
)
def test_d_a_placeholder_that_somebody_else_left_is_refused(left):
    output = found(next(each for each in corpus() if each["id"] == "form-with-checklists")).as_data()
    assert set(asked(output).values()) == {GateResult.PASS}
    output["sections"]["acceptance"] = [left]
    assert asked(output)["SPEC-004"] == GateResult.FAIL


def test_d_the_sample_issues_are_mostly_enough_and_some_need_a_person():
    issues = list(duplicates.pointed(samples.issues(samples.NUMBER)))
    ready = [
        analysed(each["title"], each["body"], labels=[label["name"] for label in each["labels"]]).ready
        for each in issues
    ]
    assert 0.8 < sum(ready) / len(ready) < 0.97
    assert any(each["similar"] for each in issues)
