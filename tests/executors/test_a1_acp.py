"""A1: an agent that breaks its protocol fails its attempt with words, at once or at its deadline, and leaves nobody."""

import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from backlog_worker.domain import pipeline
from backlog_worker.domain.outcome import Done, Faulted
from backlog_worker.executors.acp import LINE_BYTES_MAX, AcpExecutor
from tests.executors.test_costs import work

SCRIPT = Path(__file__).parent / "acp_broken_agent.py"
MODES = ["only garbage", "wrong types", "no object", "unknown id", "a list", "mid-answer", "deep"]
MODES += ["an error without words", "no version", "no session"]


def asked(tmp_path, mode, seconds=20.0):
    agent = f"---\nexecutor: acp\ncommand: [{sys.executable}, {SCRIPT}]\n---\nDo it."
    job = pipeline.load("name: p\njobs:\n  - { id: j, agent: w }\n", contract={"agents/w.md": agent}.__getitem__).jobs[
        0
    ]
    given = replace(work(), agent=job.agent, env={"AGENT_MODE": mode}, timeout=timedelta(seconds=seconds))
    return AcpExecutor(tmp_path, tmp_path / "w").perform(job, given)


@pytest.mark.parametrize("mode", MODES)
def test_a1_an_agent_that_breaks_its_protocol_fails_with_words(tmp_path, mode):
    result = asked(tmp_path, mode)
    assert isinstance(result, Faulted), result
    assert len(result.reason) > len("the agent failed: "), "it says what was wrong"
    assert "timed out" not in result.reason, "nobody waits for an answer that cannot come"


def test_a1_a_message_without_an_end_is_bounded(tmp_path):
    """The library collects a line of any length; a worker that did so would run out of memory."""
    result = asked(tmp_path, "endless line")
    assert f"a message of more than {LINE_BYTES_MAX} bytes" in result.reason


@pytest.mark.parametrize("mode", ["garbage", "wrong update"])
def test_a1_what_stands_between_the_messages_harms_no_answer(tmp_path, mode):
    assert isinstance(asked(tmp_path, mode), Done | Faulted)
