"""What stands of earlier runs, against a reference that only knows when each job ended, over random histories."""

from dataclasses import dataclass, field, replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backlog_worker.domain import causes
from backlog_worker.domain.frontier import Stage, StageStatus, outcome, plan
from backlog_worker.domain.outcome import Succeeded
from tests.domain import table
from tests.domain.test_table import IDS, made


@dataclass
class History:
    """One entry over all its runs: its stages as rows, and beside them a log of every end by its time."""

    pipeline: object
    graph: tuple
    stages: dict = field(default_factory=dict)
    runs: list = field(default_factory=list)
    tries: list = field(default_factory=list)
    log: list = field(default_factory=list)

    def begin(self, *, goes_on):
        """Begin a run, as the claim does."""
        self.tries = self.tries if goes_on else []
        if not goes_on:  # a person sends it round
            for job_id, each in self.stages.items():
                if each.status == "failed" and not self.pipeline.job(job_id).continue_on_error:
                    self.stages[job_id] = replace(each, status=StageStatus.PENDING)
        found = causes.standing(self.pipeline, self.stages, self.tries)
        self.runs.append(f"run{len(self.runs)}")
        self.tries = [*self.tries, self.runs[-1]]
        for job_id in self.stages:
            if found[job_id].status == "pending":
                self.log = [each for each in self.log if each[0] != job_id]
        self.stages = found

    def end(self, job_id, status, kind=None):
        """Let a job end, and log it."""
        job = self.pipeline.job(job_id)
        self.stages[job_id] = Stage(
            entry_id="e",
            pipeline_hash="h",
            job_id=job_id,
            status=StageStatus(status),
            run_id=self.runs[-1],
            reason={"kind": kind} if kind else None,
            based_on=causes.basis(self.stages, job),
        )
        self.log.append((job_id, str(status), len(self.tries) and self.tries[0]))

    def step(self):
        """Decide what never begins; returns what may begin, and the end of the run."""
        while True:
            now = plan(self.pipeline, self.stages)
            if not now.decided:
                return list(now.ready), outcome(self.pipeline, self.stages, now)
            for job_id, (status, _, kind) in now.decided.items():
                self.end(job_id, status, kind)

    def reference(self):
        """Say from the log alone what stands for a new try: what ended well, after all that it came after."""
        times = {job_id: at for at, (job_id, _, _) in enumerate(self.log)}
        words = {job_id: word for job_id, word, _ in self.log}

        def stands(job_id):
            at = IDS.index(job_id)
            if job_id not in words or words[job_id] == "canceled":
                return False
            if words[job_id] == "failed" and not self.graph[at].tolerant:
                return False
            undone = any(
                job.undoes == job_id and words.get(job.id) == "completed" and times[job.id] > times[job_id]
                for job in self.pipeline.jobs
            )
            past = [IDS[each] for each in table.before(self.graph, at)]
            return not undone and all(stands(each) and times[each] < times[job_id] for each in past)

        return {job_id for job_id in words if stands(job_id)}


@st.composite
def graphs(draw):
    nodes = []
    for at in range(4):
        needs = draw(st.sets(st.integers(0, at - 1), max_size=3)) if at else set()
        word, about = draw(st.sampled_from(table.conditions(at)))
        nodes.append(table.Node(tuple(sorted(needs)), word, about, draw(st.booleans())))
    graph = tuple(nodes)
    undoes = {at: draw(st.sampled_from([None, *sorted(table.before(graph, at))])) for at in range(4)}
    of = made(graph)
    jobs = [replace(job, undoes=None if undoes[at] is None else IDS[undoes[at]]) for at, job in enumerate(of.jobs)]
    return graph, replace(of, jobs=tuple(jobs))


FATES = st.lists(st.sampled_from(["completed", "completed", "failed"]), min_size=40, max_size=40)
STEPS = st.lists(st.integers(0, 5), min_size=6, max_size=6)


@given(graphs(), FATES, STEPS)
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_b2_what_stands_is_what_ended_well_after_all_that_it_came_after(graph, fates, steps):
    history, ends = History(graph[1], graph[0]), iter(fates)
    for most in steps:  # each run goes on for so many jobs, then it is canceled, and a person resumes it
        wanted = history.reference()
        history.begin(goes_on=False)
        assert {job_id for job_id, each in history.stages.items() if each.status != "pending"} == wanted
        for _ in range(most):
            ready, _ = history.step()
            if not ready:
                break
            history.end(ready[0], next(ends))
        if isinstance(history.step()[1], Succeeded):
            truthful(history)
            break


def truthful(history):
    """A run that succeeded rests on nothing older than itself, and on nothing that an earlier try took back."""
    times = {job_id: at for at, (job_id, _, _) in enumerate(history.log)}
    for job_id, at in times.items():
        assert all(times[IDS[each]] < at for each in table.before(history.graph, IDS.index(job_id)))
    for job in history.pipeline.jobs:
        done = next((each for each in history.log if each[0] == job.id and each[1] == "completed"), None)
        if done and job.undoes in times and times[job.undoes] < times[job.id]:
            assert done[2] == history.tries[0], "only this try took it back, and says so"


@given(graphs(), FATES, STEPS, st.integers(1, 6))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_b2_a_run_that_is_lost_and_gone_on_with_ends_as_if_it_had_not_been(graph, fates, steps, every):
    fate = dict(zip(IDS, fates, strict=False))
    ends = []
    for lost in (False, True):
        history = History(graph[1], graph[0])
        history.begin(goes_on=False)
        count = 0
        while (ready := history.step()[0]) and count < 40:
            count += 1
            if lost and count % every == 0 and count <= sum(steps):
                history.begin(goes_on=True)  # the worker died at it: nothing of this job is kept
                continue
            history.end(ready[0], fate[ready[0]])
        words = {job_id: (each.status, (each.reason or {}).get("kind")) for job_id, each in history.stages.items()}
        ends.append((words, history.step()[1], [job_id for job_id, _, _ in history.log]))
    assert ends[0] == ends[1]
