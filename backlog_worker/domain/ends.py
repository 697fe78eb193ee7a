"""The outcome of each job of a run, by name: for the entry's reason, for its record, and for people."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from backlog_worker.domain import causes
from backlog_worker.domain.handling import failures
from backlog_worker.domain.pipeline import Pipeline
from backlog_worker.domain.stages import Stage, StageStatus, idle

SHOWN = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """The jobs of a run by outcome, each in exactly one list; an undone job counts as void, not as completed.

    `idle_jobs` had nothing to do; `unmet` were skipped because an earlier job did not run, or failed.
    """

    total: int
    completed: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    overcome: tuple[str, ...] = ()
    idle_jobs: tuple[str, ...] = ()
    unmet: tuple[str, ...] = ()
    canceled: tuple[str, ...] = ()
    void: tuple[str, ...] = ()

    @property
    def idle(self) -> bool:
        """Return whether no job did anything."""
        return not (self.completed or self.failed or self.overcome or self.void)

    def as_data(self, void: Collection[str] = ()) -> dict[str, list[str]]:
        """Return the lists for the record; *void* are the jobs that were void when the run began."""
        return {
            "completed": list(self.completed),
            "failed": list(self.failed),
            "overcome": list(self.overcome),
            "skipped": [*self.idle_jobs, *self.unmet],
            "canceled": list(self.canceled),
            "void": list(dict.fromkeys([*void, *self.void])),
        }

    def words(self, besides: Collection[str] = ()) -> str:
        """Name the jobs in one line, except those in *besides*."""
        groups = (
            ("completed", self.completed),
            ("failed", self.failed),
            ("overcome", self.overcome),
            ("taken back", self.void),
            ("nothing to do", self.idle_jobs),
            ("skipped", self.unmet),
            ("canceled", self.canceled),
        )
        parts = []
        for word, names in groups:
            left = [each for each in names if each not in besides]
            if left:
                number = f" ({len(left)} of {self.total})" if len(left) > SHOWN // 2 else ""
                parts.append(f"{word}{number}: {listed(left)}")
        return "; ".join(parts)


def of(pipeline: Pipeline, stages: Mapping[str, Stage]) -> Ends:
    """Return the outcome of the jobs of a run that has ended, or ends now."""
    status = {job.id: stages[job.id].status if job.id in stages else StageStatus.PENDING for job in pipeline.jobs}
    overcome = failures(pipeline, status.__getitem__).overcome
    void = set(causes.taken_back(pipeline, stages))
    lists: dict[str, list[str]] = {}
    for job_id, said in status.items():
        lists.setdefault(_list(said, stages.get(job_id), void=job_id in void, past=job_id in overcome), []).append(
            job_id
        )
    lists.pop("", None)
    return Ends(total=len(status), **{name: tuple(jobs) for name, jobs in lists.items()})


def nothing(pipeline: Pipeline, stages: Mapping[str, Stage]) -> str:
    """Say that no job did anything, and why."""
    reasons = [
        f"{job.id}: {(stages[job.id].reason or {}).get('text', 'skipped')}" for job in pipeline.jobs if job.id in stages
    ]
    return f"nothing to do: every job was skipped ({listed(reasons, SHOWN // 2)})"


def listed(names: Sequence[str], most: int = SHOWN) -> str:
    """List some names, and the number of the others."""
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def _list(status: StageStatus, stage: Stage | None, *, void: bool, past: bool) -> str:
    match status:
        case StageStatus.COMPLETED:
            return "void" if void else "completed"
        case StageStatus.FAILED:
            return "overcome" if past else "failed"
        case StageStatus.SKIPPED:
            return "idle_jobs" if idle(stage) else "unmet"
        case StageStatus.CANCELED:
            return "canceled"
        case _:
            return ""
