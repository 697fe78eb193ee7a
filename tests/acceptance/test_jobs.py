"""Governed jobs by a real clock: beat sends their names, a worker runs them, and what was missed is made up for once."""

import pytest

from tests.acceptance.fleet import Fleet

pytestmark = [pytest.mark.servers, pytest.mark.timeout(180)]
SCHEDULE = """\
from celery.schedules import crontab, schedule
BEAT_SCHEDULE = {{
    "dispatch": {{"task": "backlog.dispatch", "schedule": schedule(2.0)}},
    "weekly_platform_priority_digest": {{"task": "backlog.job", "args": ("weekly_platform_priority_digest",), "schedule": schedule(3.0)}},
    "hourly_check": {{"task": "backlog.job", "args": ("hourly_check",), "schedule": schedule(3.0)}},
    "unheard": {{"task": "backlog.job", "args": ("unheard",), "schedule": schedule(3.0)}},
    "daily_seal": {{"task": "backlog.job", "args": ("daily_seal",), "schedule": crontab(minute="{minute}", hour="{hour}")}},
}}
"""


@pytest.fixture
def fleet(tmp_path, valkey, postgres_url):
    made = Fleet(tmp_path, valkey, postgres_url)
    try:
        yield made
    finally:
        made.stop()
        print(made.logs())


def test_beat_runs_governed_jobs_and_makes_up_for_one_that_it_missed(fleet, eventually):
    with fleet.kit.store.begin() as unit:
        now = unit.now()
        due = now.replace(second=0, microsecond=0)
        unit.take_slot(
            "beat:daily_seal", due.replace(year=due.year - 1)
        )  # it ran long ago; its time today has just passed
    (fleet.root / "beat_schedule.py").write_text(SCHEDULE.format(minute=due.minute, hour=due.hour))
    fleet.file(3, service="gateway", due_date="2026-01-01", labels=[])
    fleet.worker("control", queues="control,dead_letter,writeback", pool="threads", slots=3)
    fleet.beat("one")
    fleet.beat("two")

    def _done(action):
        return fleet.value(
            f"SELECT count(*) FROM operations WHERE actor = 'scheduler' AND action = '{action}' AND result = 'done'"
        )

    for action in ("architecture_pressure_tool.digest", "audit_tool.check", "audit_tool.seal"):
        eventually(lambda action=action: _done(action) >= 1, within=60, what=action)
    checks = _done("audit_tool.check")
    eventually(lambda: _done("audit_tool.check") > checks, within=30, what="one more round")
    assert _done("audit_tool.seal") == 1, "of two beats one makes up for it, once"
    assert fleet.kit.reports.read("platform")[1]["services"][0]["service"] == "gateway"
    assert "no job 'unheard'" in fleet.logs()
    assert fleet.value("SELECT max((detail ->> 'broken')::int) FROM operations WHERE action = 'audit_tool.check'") == 0
