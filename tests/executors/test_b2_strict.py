"""B2: `isolation: strict` is refused where it would have no effect: at load, and where the executor is chosen later."""

from dataclasses import replace

import pytest

from backlog_worker.domain import pipeline
from backlog_worker.domain.errors import InvalidFileError
from backlog_worker.domain.outcome import Refused
from backlog_worker.executors.choice import AgentExecutor
from backlog_worker.executors.openai import OpenAIExecutor
from tests.executors.test_costs import work

JOBS = ['python: "f:a"', "template: specification", "pipeline: other", "interactive: true", "agent: w"]
INSIDE = {"openai": "model: m", "python": 'python: "f:a"', "template": "template: specification"}


def load(does, executor="openai", isolation="strict"):
    agent = f"---\nexecutor: {executor}\n{INSIDE.get(executor, '')}\n---\nx"
    text = f"name: p\njobs:\n  - {{ id: j, {does}, execution: {{ isolation: {isolation} }} }}\n"
    return pipeline.load(text, contract={"agents/w.md": agent}.__getitem__).jobs[0]


@pytest.mark.parametrize("does", JOBS)
@pytest.mark.parametrize("executor", INSIDE)
def test_b2_a_job_that_nothing_keeps_apart_may_not_ask_for_it(does, executor):
    with pytest.raises(InvalidFileError, match="BW237"):
        load(does, executor)


@pytest.mark.parametrize("does", ["run: make", "agent: w"])
def test_b2_a_job_with_a_process_of_its_own_may(does):
    assert load(does, "acp").execution.isolation == "strict"
    assert load(does, "openai" if does.startswith("run") else "acp", "isolated")


def test_b2_a_strict_job_is_refused_where_only_an_executor_inside_of_the_worker_is_found():
    job = load("agent: w", "auto")
    chosen = AgentExecutor({"openai": OpenAIExecutor("http://127.0.0.1:9")}, endpoint=True)
    chosen.chosen = lambda agent: "openai"
    result = chosen.perform(job, replace(work(), agent=job.agent))
    assert isinstance(result, Refused)
    assert "strict` refuses it" in result.reason
