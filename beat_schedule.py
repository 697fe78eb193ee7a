"""The clock: the only place where a cadence is written. It names tasks as strings and imports nothing of ours."""

from celery.schedules import schedule

# Every entry expires before the next one, or an outage of the workers would pile them up.
BEAT_SCHEDULE = {
    "dispatch": {"task": "backlog.dispatch", "schedule": schedule(2.0), "options": {"expires": 2}},
    "sweep": {"task": "backlog.sweep", "schedule": schedule(2.0), "options": {"expires": 2}},
    "triggers": {"task": "backlog.triggers", "schedule": schedule(20.0), "options": {"expires": 20}},
    "send": {"task": "backlog.send", "schedule": schedule(10.0), "options": {"expires": 10}},
}
