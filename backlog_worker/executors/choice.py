"""Choose the executor of an agent: the one that its file names, or the first that works here."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from backlog_worker import installed
from backlog_worker.domain.agent import Agent
from backlog_worker.domain.budget import Usage
from backlog_worker.domain.lint import INSIDE
from backlog_worker.domain.outcome import Done, FailureKind, Faulted, Refused, Result
from backlog_worker.domain.pipeline import Job
from backlog_worker.executors import Executor, Work, presets


class AgentExecutor:
    """Passes a job of an agent to the executor that drives the agent."""

    def __init__(
        self, executors: Mapping[str, Executor], *, endpoint: bool = False, speaks: Callable[[], bool] = bool
    ) -> None:
        self._executors = executors
        self._speaks = speaks
        self._endpoint = endpoint

    def perform(self, job: Job, work: Work) -> Result:
        """Perform *job* by the agent of *work*."""
        agent = work.agent
        if agent is None:
            return Refused(kind=FailureKind.POLICY, reason=f"the job {job.id} has no agent", role="operator")
        name = "openai" if job.execution.method == "api" and agent.executor == "auto" else self.chosen(agent)
        if name not in self._executors:
            return Refused(kind=FailureKind.POLICY, reason=self._missing(agent, name), role="operator")
        if unheld := agent.unheld(name):
            text = f'agent "{agent.name}" asks for {", ".join(unheld)}, which executor {name} cannot enforce'
            return Refused(
                kind=FailureKind.POLICY, reason=f"{text}; set executor: acp, or take it out", role="operator"
            )
        if name in INSIDE and job.execution.isolation == "strict":
            text = f'executor {name} of agent "{agent.name}" runs inside its worker; `isolation: strict` refuses it'
            return Refused(kind=FailureKind.POLICY, reason=text, role="operator")
        driven = replace(job, target=agent.target) if name in {"python", "template"} else job
        if agent.output_bytes is not None:
            most = min(agent.output_bytes, job.execution.output_bytes)
            driven = replace(driven, execution=job.execution.model_copy(update={"output_bytes": most}))
        before = len(work.report.usages)
        result = self._executors[name].perform(driven, work)
        return _within(agent, result, work.report.usages[before:])

    def chosen(self, agent: Agent) -> str:
        """Return the name of the executor that drives an agent here; empty if none works."""
        if agent.executor != "auto":
            return agent.executor
        if "acp" in self._executors and not agent.command and self._speaks():
            return "acp"
        if agent.command or agent.preset or presets.here():
            return "command"
        if agent.endpoint or self._endpoint:
            return "openai"
        return "template" if agent.target == "specification" else "python" if agent.target else ""

    def _missing(self, agent: Agent, name: str) -> str:
        if not name:
            return f'agent "{agent.name}": no agent was found on this machine; install one, or set `executor`'
        if name == "acp":
            return f'agent "{agent.name}" needs executor acp; {installed.command("acp")}'
        return f'agent "{agent.name}" needs executor {name}; this worker has: {", ".join(sorted(self._executors))}'


def _within(agent: Agent, result: Result, usages: Sequence[Usage]) -> Result:
    """Enforce the limits of an agent, whichever executor drove it: its cost and the size of its output."""
    costs = [each.usd for each in usages]
    if agent.usd is not None and isinstance(result, Done | Faulted):
        if None in costs:
            text = f'the cost of agent "{agent.name}" is unknown, so its limit of {agent.usd:g} USD cannot be enforced'
            reason = f"{text}; name its model under `prices` of the policy"
            return Refused(kind=FailureKind.BUDGET, reason=reason, role="operator")
        if (spent := sum(each for each in costs if each is not None)) > agent.usd:
            reason = f'agent "{agent.name}" spent {spent:.2f} USD, its limit is {agent.usd:g}'
            return Refused(kind=FailureKind.BUDGET, reason=reason, role="operator")
    if agent.output_bytes is not None and isinstance(result, Done):
        size = len(json.dumps(result.output, ensure_ascii=False, default=str).encode())
        if size > agent.output_bytes:
            text = f'the output has {size} bytes, the limit of agent "{agent.name}" is {agent.output_bytes}'
            return Faulted(kind=FailureKind.VALIDATION, reason=text)
    return result
