"""The clock: the only place where a cadence is written. It names tasks as strings and imports nothing of ours."""

from celery.schedules import crontab, schedule

# What becomes of a time of day that passed while nothing ran: `once` (where a job is not named here), `all`, `none`.
# A snapshot and a check tell of the moment at which they are made: one that was missed is told by the next one.
CATCH_UP = {"hourly_risk_snapshot": "none", "hourly_check": "none"}

# Nothing here expires: a moment stamped by the clock of one host means nothing to another. While nobody hears a tick
# it is sent ever more rarely, so that an outage of the workers piles up a few.
BEAT_SCHEDULE = {
    "dispatch": {"task": "backlog.dispatch", "schedule": schedule(2.0)},
    "sweep": {"task": "backlog.sweep", "schedule": schedule(2.0)},
    "triggers": {"task": "backlog.triggers", "schedule": schedule(20.0)},
    "send": {"task": "backlog.send", "schedule": schedule(10.0)},
    # Governed jobs, by name; times are UTC.
    "alerts": {"task": "backlog.job", "args": ("alerts",), "schedule": schedule(60.0)},
    "hourly_risk_snapshot": {
        "task": "backlog.job",
        "args": ("hourly_risk_snapshot",),
        "schedule": crontab(minute="0"),
    },
    "hourly_check": {
        "task": "backlog.job",
        "args": ("hourly_check",),
        "schedule": crontab(minute="15"),
    },
    "daily_seal": {
        "task": "backlog.job",
        "args": ("daily_seal",),
        "schedule": crontab(minute="0", hour="3"),
    },
    "risk_history_cleanup": {
        "task": "backlog.job",
        "args": ("risk_history_cleanup",),
        "schedule": crontab(minute="20", hour="3"),
    },
    "daily_backlog_cleanup": {
        "task": "backlog.job",
        "args": ("daily_backlog_cleanup",),
        "schedule": crontab(minute="40", hour="3"),
    },
    "daily_verify": {  # every chain, fold and seal: it reads the whole history
        "task": "backlog.job",
        "args": ("daily_verify",),
        "schedule": crontab(minute="10", hour="4"),
    },
    "daily_risk_digest": {
        "task": "backlog.job",
        "args": ("daily_risk_digest",),
        "schedule": crontab(minute="0", hour="9"),
    },
    "daily_backlog_generate": {  # off unless the policy says daily_from_risk_digest
        "task": "backlog.job",
        "args": ("daily_backlog_generate",),
        "schedule": crontab(minute="20", hour="9"),
    },
    "weekly_platform_priority_digest": {
        "task": "backlog.job",
        "args": ("weekly_platform_priority_digest",),
        "schedule": crontab(minute="0", hour="6", day_of_week="1"),
    },
    "weekly_backlog_generate": {  # twenty minutes after the digest that it reads
        "task": "backlog.job",
        "args": ("weekly_backlog_generate",),
        "schedule": crontab(minute="20", hour="6", day_of_week="1"),
    },
}
