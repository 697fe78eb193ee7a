"""Which executor drives an agent: the one that its file names, or the first that works here."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from backlog_worker.domain.agent import Agent
from backlog_worker.domain.outcome import FailureKind, Refused, Result
from backlog_worker.domain.pipeline import Job
from backlog_worker.executors import Executor, Work, presets


class AgentExecutor:
    """Hands a job of an agent to the executor that drives it."""

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
        driven = replace(job, target=agent.target) if name in {"python", "template"} else job
        return self._executors[name].perform(driven, work)

    def chosen(self, agent: Agent) -> str:
        """Return the name of the executor that drives an agent here; nothing where none works."""
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
            return f'agent "{agent.name}" wants executor acp; python -m pip install "backlog-worker[acp]"'
        return f'agent "{agent.name}" wants executor {name}, this worker has: {", ".join(sorted(self._executors))}'
