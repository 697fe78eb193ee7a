"""Why an entry does not run, as stable codes; the same in commands, records and history."""

from enum import StrEnum


class Bar(StrEnum):
    """A reason that keeps an entry out of the queue until something happens."""

    INPUT_INVALID = "INPUT_INVALID"
    DEFINITION_MISSING = "DEFINITION_MISSING"
    NOT_ELIGIBLE = "NOT_ELIGIBLE"
    ON_HOLD = "ON_HOLD"
    APPROVAL_REQUIRED = "APPROVAL_REQUIRED"
    WAITS_ON_ENTRY = "WAITS_ON_ENTRY"


class Wait(StrEnum):
    """A reason that keeps a queued entry back for this tick only; in the order in which they are named."""

    SCORE_ERROR = "SCORE_ERROR"
    PIPELINE_RETIRED = "PIPELINE_RETIRED"
    DEADLINE_PASSED = "DEADLINE_PASSED"
    OUTSIDE_WINDOW = "OUTSIDE_WINDOW"
    BACKING_OFF = "BACKING_OFF"
    BUDGET_EXHAUSTED = "BUDGET_EXHAUSTED"
    KEY_LIMIT = "KEY_LIMIT"
    NO_WORKER = "NO_WORKER"
    NO_SLOT = "NO_SLOT"
    BELOW_CUTOFF = "BELOW_CUTOFF"


# Nobody who comes later in the order can go where one of these is said.
ROOM = frozenset({Wait.NO_WORKER, Wait.NO_SLOT, Wait.BELOW_CUTOFF})


class Standing(StrEnum):
    """Where an entry is instead of waiting."""

    DISPATCHED = "DISPATCHED"
    CLAIMED = "CLAIMED"


REMEDIES: dict[str, tuple[str, str]] = {
    Bar.INPUT_INVALID: (
        "The input breaks the contract of its pipeline, or `sign_off_before` names a job that is not in it.",
        "Correct it with `backlog-worker entry edit ID --input FILE --reason TEXT`, or file it anew.",
    ),
    Bar.DEFINITION_MISSING: (
        "The pipeline that the entry names is not in force here, or its pinned version is gone.",
        "Add its file under .backlog-worker/pipelines/, or `entry edit ID --pipeline NAME --reason TEXT`.",
    ),
    Bar.NOT_ELIGIBLE: (
        "An eligibility rule of the policy said no; nothing that nobody declared eligible is ever queued.",
        "Let somebody who may declare it: `backlog-worker entry edit ID --add-label ai-ok --reason TEXT`.",
    ),
    Bar.ON_HOLD: ("A person holds the entry.", "`backlog-worker entry release ID --reason TEXT`."),
    Bar.APPROVAL_REQUIRED: (
        "A stage or a gate needs a person's approval.",
        "`backlog-worker review list`, then `backlog-worker review decide ID approve --reason TEXT`.",
    ),
    Bar.WAITS_ON_ENTRY: (
        "It depends on entries that are not completed.",
        "`backlog-worker explain ID` names them; complete them or remove the dependency.",
    ),
    Wait.SCORE_ERROR: (
        "A term of the priority formula failed, for instance on an unknown priority label.",
        "Correct the priority of the entry, or add the label to `priority.labels` of the policy.",
    ),
    Wait.PIPELINE_RETIRED: (
        "Its pipeline was taken out of force, by a person or because its file is gone.",
        "`backlog-worker pipeline apply NAME --reason TEXT` brings it back; or move or cancel the entry.",
    ),
    Wait.OUTSIDE_WINDOW: (
        "It is not the time: `not_before` is in the future, or a run window is closed.",
        "Wait for the time shown, or edit the constraints of the entry.",
    ),
    Wait.BACKING_OFF: (
        "It goes on at `retry_at`: it failed, met a quota, or pauses between two attempts.",
        "Wait for the time shown; `backlog-worker run list --entry ID` tells what failed.",
    ),
    Wait.BUDGET_EXHAUSTED: (
        "A budget of the policy has no room for what a run of this pipeline usually costs.",
        "`backlog-worker budget list`; wait for the next day, or raise `budgets` in the policy.",
    ),
    Wait.KEY_LIMIT: (
        "Others hold the same concurrency group of the pipeline.",
        "Wait for them: `backlog-worker explain ID` names them; or raise `concurrency.group.limit`.",
    ),
    Wait.NO_WORKER: ("No worker is alive.", "`backlog-worker worker list`, then start one."),
    Wait.NO_SLOT: (
        "Every slot is taken.",
        "Wait, add workers, or raise `admission.maxInProgress` in the policy.",
    ),
    Wait.BELOW_CUTOFF: (
        "Better entries go first in this tick.",
        "Wait: the score grows with age; or raise the priority of the entry.",
    ),
    Standing.DISPATCHED: ("It is chosen and its bell has been rung.", "A worker takes it as soon as a slot is free."),
    Standing.CLAIMED: ("A worker holds it.", "`backlog-worker run show` tells how far it is."),
    Wait.DEADLINE_PASSED: (
        "Its due date passed before it ran.",
        "The sweep hands it to people; `backlog-worker dlq show ID`, then requeue it with a new date, or discard it.",
    ),
}
