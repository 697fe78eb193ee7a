"""What an agent's file limits is limited, by whatever executor, or the file is refused."""

from datetime import timedelta

import pytest

from backlog_worker.domain import agent as agents
from backlog_worker.domain.agent import HELD, AgentFile, PermissionsFile
from backlog_worker.domain.budget import Usage
from backlog_worker.domain.errors import InvalidFileError
from backlog_worker.domain.outcome import Done, FailureKind, Faulted, Refused
from backlog_worker.domain.pipeline import load
from backlog_worker.executors import Work
from backlog_worker.executors.choice import AgentExecutor

RESTRICTS = {"read": "deny", "write": "workspace", "shell": "ask", "network": "deny"}
DRIVERS = [name for name in HELD if name != "replay"]


class Spends:
    """Reports what it is told to, and returns an output."""

    def __init__(self, *costs, output=None):
        self.costs, self.output, self.limit = costs, output, None

    def perform(self, job, work):
        self.limit = job.execution.output_bytes
        for usd in self.costs:
            work.report.spend(Usage(model="m", input_tokens=1, output_tokens=1, usd=usd))
        return Done(output=self.output)


def performed(executor, head):
    text = "name: p\njobs: [{ id: a, agent: x, execution: { outputBytes: 500 } }]"
    job = load(text, contract={"agents/x.md": f"---\n{head}\n---\nDo."}.__getitem__).jobs[0]
    names = dict.fromkeys(("acp", "command", "openai", "python", "template"), executor)
    work = Work(
        run_id="r",
        entry_id="e",
        take=1,
        entry={},
        input={},
        previous={},
        timeout=timedelta(seconds=5),
        agent=job.agent,
    )
    return AgentExecutor(names, endpoint=True, speaks=lambda: "acp" in head or "auto" in head).perform(job, work)


def test_every_executor_and_permission_is_in_the_table():
    kinds = set(AgentFile.model_fields["executor"].annotation.__args__) - {"auto"}
    assert set(HELD) == kinds
    assert HELD["acp"] == set(PermissionsFile.model_fields) == set(RESTRICTS)


@pytest.mark.parametrize(
    ("driver", "name"),
    [
        (driver, name)
        for driver in ("command", "python")
        for name in RESTRICTS
        if (driver, name) != ("command", "network")
    ],
)
def test_a_permission_that_the_executor_cannot_enforce_is_refused_at_load(driver, name):
    text = f"---\nexecutor: {driver}\npermissions:\n  {name}: {RESTRICTS[name]}\n---\nDo."
    with pytest.raises(InvalidFileError, match=f"{driver} cannot enforce the permission `{name}") as refused:
        agents.load(text, name="x")
    (finding,) = refused.value.findings
    assert (finding.code, finding.line) == ("BW535", 4)
    assert "executor: acp" in finding.hint
    assert agents.load(text.replace(RESTRICTS[name], "allow"), name="x"), "what is allowed needs no enforcement"


def test_a_command_of_an_automatic_executor_counts_as_one():
    with pytest.raises(InvalidFileError, match="command cannot enforce"):
        agents.load("---\ncommand: [x]\npermissions: { shell: deny }\n---\nDo.", name="x")


@pytest.mark.parametrize("driver", ["acp", "openai", "template"])
def test_permissions_that_are_enforced_are_accepted(driver):
    text = f"---\nexecutor: {driver}\npermissions: {{ shell: deny, network: deny }}\n---\nDo."
    assert agents.load(text, name="x").unheld(driver) == []


def test_an_automatic_choice_that_cannot_enforce_a_permission_refuses_before_it_runs():
    spends = Spends()
    result = performed(spends, "executor: auto\npreset: claude\npermissions: { shell: ask }".replace("auto", '"auto"'))
    assert isinstance(result, Done), "acp is there and enforces it"
    result = performed(spends, "preset: claude\npermissions: { shell: ask }")
    assert isinstance(result, Refused)
    assert "shell: ask, which executor command cannot enforce" in result.reason


@pytest.mark.parametrize("driver", DRIVERS)
def test_limits_usd_holds_the_cost_of_a_job(driver):
    head = f"executor: {driver}\nlimits: {{ usd: 0.5 }}"
    assert isinstance(performed(Spends(0.2, 0.2), head), Done)
    over = performed(Spends(0.3, 0.3), head)
    assert isinstance(over, Refused)
    assert (over.kind, over.reason) == (FailureKind.BUDGET, 'agent "x" spent 0.60 USD, its limit is 0.5')
    unknown = performed(Spends(0.3, None), head)
    assert isinstance(unknown, Refused)
    assert "is unknown, so its limit" in unknown.reason


@pytest.mark.parametrize("driver", DRIVERS)
def test_limits_output_bytes_holds_the_output(driver):
    head = f"executor: {driver}\nlimits: {{ outputBytes: 20 }}"
    assert isinstance(performed(Spends(output="x" * 10), head), Done)
    long = Spends(output="x" * 30)
    result = performed(long, head)
    assert isinstance(result, Faulted)
    assert "the output has 32 bytes" in result.reason
    assert long.limit == 20, "an executor that reads a file reads no more"
    assert performed(Spends(output="x" * 400), head.replace("20", "9000")) == Done(output="x" * 400)


def test_limits_timeout_ends_an_attempt_earlier_than_its_job():
    text = "name: p\njobs: [{ id: a, agent: x, timeout: 10m }]"
    job = load(text, contract={"agents/x.md": "---\nlimits: { timeout: 45s }\n---\nDo."}.__getitem__).jobs[0]
    assert job.timeout == timedelta(seconds=45)


def test_runs_on_says_that_it_counts_in_exported_files_only():
    made = load("name: p\njobs: [{ id: a, run: 'true', runsOn: gpu }]")
    assert [(each.code, each.level) for each in made.warnings] == [("BW236", "warning")]
    assert "exported CI files only" in made.warnings[0].text
