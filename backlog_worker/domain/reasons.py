"""The reasons why an entry does not run, as stable codes used in commands, records and history."""

from enum import StrEnum


class Bar(StrEnum):
    """A reason that keeps an entry blocked until something happens."""

    INPUT_INVALID = "INPUT_INVALID"
    DEFINITION_MISSING = "DEFINITION_MISSING"
    NOT_ELIGIBLE = "NOT_ELIGIBLE"
    ON_HOLD = "ON_HOLD"
    APPROVAL_REQUIRED = "APPROVAL_REQUIRED"
    WAITS_ON_ENTRY = "WAITS_ON_ENTRY"


class Wait(StrEnum):
    """A reason that keeps a queued entry back for this tick only, in the order of reporting."""

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


# After one of these no later candidate can be dispatched.
ROOM = frozenset({Wait.NO_WORKER, Wait.NO_SLOT, Wait.BELOW_CUTOFF})


class Standing(StrEnum):
    """The state of an entry that no longer waits."""

    DISPATCHED = "DISPATCHED"
    CLAIMED = "CLAIMED"


REMEDIES: dict[str, tuple[str, str]] = {
    Bar.INPUT_INVALID: (
        (
            "The input does not match the pipeline's `accepts`, or `sign_off_before` names a job that the pipeline "
            "does not have."
        ),
        "Correct it with `backlog-worker entry edit ID --input FILE --reason TEXT`, or file a new entry.",
    ),
    Bar.DEFINITION_MISSING: (
        "The entry names a pipeline that is not in force here, or its pinned version no longer exists.",
        (
            "Add the pipeline's file to .backlog-worker/pipelines/, or run `backlog-worker entry edit ID --pipeline"
            " NAME --reason TEXT`."
        ),
    ),
    Bar.NOT_ELIGIBLE: (
        "An eligibility rule of the policy rejects the entry. Only entries that somebody declared eligible are queued.",
        (
            "Ask somebody with that right to declare it eligible, for example with `backlog-worker entry edit ID "
            "--add-label ai-ok --reason TEXT`."
        ),
    ),
    Bar.ON_HOLD: ("A person put the entry on hold.", "Run `backlog-worker entry release ID --reason TEXT`."),
    Bar.APPROVAL_REQUIRED: (
        "A stage or a gate needs the approval of a person.",
        "Run `backlog-worker review list`, then `backlog-worker review decide ID approve --reason TEXT`.",
    ),
    Bar.WAITS_ON_ENTRY: (
        "The entry depends on entries that are not completed.",
        "`backlog-worker explain ID` lists them. Complete them, or remove the dependency.",
    ),
    Wait.SCORE_ERROR: (
        "A term of the priority formula cannot be computed, for example because the priority label is unknown.",
        "Correct the priority of the entry, or add the label to `priority.labels` of the policy.",
    ),
    Wait.PIPELINE_RETIRED: (
        "The pipeline of the entry is retired: a person retired it, or its file was deleted.",
        (
            "Bring it back with `backlog-worker pipeline apply NAME --reason TEXT`, or give the entry another "
            "pipeline, or cancel the entry."
        ),
    ),
    Wait.OUTSIDE_WINDOW: (
        "The entry may not run now: `not_before` is in the future, or its run window is closed.",
        "Wait until the time shown, or edit the constraints of the entry.",
    ),
    Wait.BACKING_OFF: (
        (
            "The entry waits until `retry_at`, because a run failed, a provider's quota is used up, or a job pauses"
            " between two attempts."
        ),
        "Wait until the time shown. `backlog-worker run list --entry ID` shows what failed.",
    ),
    Wait.BUDGET_EXHAUSTED: (
        "The remaining amount of a budget is smaller than the usual cost of a run of this pipeline.",
        "Look at `backlog-worker budget list`. Wait for the next day, or raise `budgets` in the policy.",
    ),
    Wait.KEY_LIMIT: (
        "Other entries hold the same concurrency group of the pipeline.",
        "Wait for them (`backlog-worker explain ID` lists them), or raise `concurrency.group.limit`.",
    ),
    Wait.NO_WORKER: ("No worker is alive.", "Check `backlog-worker worker list`, then start a worker."),
    Wait.NO_SLOT: (
        "All slots are in use.",
        "Wait, add workers, or raise `admission.maxInProgress` in the policy.",
    ),
    Wait.BELOW_CUTOFF: (
        "Entries with a higher score fill this tick.",
        "Wait, because the score can grow with age, or raise the priority of the entry.",
    ),
    Standing.DISPATCHED: (
        "The entry is dispatched: workers have been notified.",
        "Wait. A worker claims it as soon as a slot is free.",
    ),
    Standing.CLAIMED: (
        "A worker has claimed the entry and is running it.",
        "`backlog-worker run show` shows its progress.",
    ),
    Wait.DEADLINE_PASSED: (
        "The due date passed before the entry ran.",
        (
            "The sweep escalates it. Look at it with `backlog-worker dlq show ID`, then requeue it with a new due "
            "date, or discard it."
        ),
    ),
}
