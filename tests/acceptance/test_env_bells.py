"""D, A7: on one broker no message of one environment reaches another, and bells of another project are refused."""

import json

import pytest
import redis

from backlog_worker.lifecycle import dispatch
from tests.acceptance.fleet import Fleet

pytestmark = [pytest.mark.servers, pytest.mark.timeout(120)]
RING = """\
import json, sys
from backlog_worker.celery import app, ring
from backlog_worker.domain.bell import Bell, Step
for _ in range(10):
    ring([Bell(step=Step.CLAIM, ids=(each,)) for each in json.loads(sys.argv[1])])
    ring([Bell(step=Step.SWEEP), Bell(step=Step.SEND)])
"""
FORGED = """\
import json, sys
from celery import signals
from backlog_worker import celery
signals.before_task_publish.disconnect(celery._marked)
for mark in ({}, {celery.MARK: "0" * 16}, {celery.MARK: ["x"]}, {celery.MARK: "'; DROP TABLE leases"}):
    for each in json.loads(sys.argv[1]):
        celery.app.send_task("backlog.claim", (each,), headers=mark)
"""


@pytest.fixture
def fleets(tmp_path, valkey):
    made = []

    def _made(name, **more):
        (tmp_path / name).mkdir(exist_ok=True)
        more.setdefault("database", f"sqlite:///{tmp_path / name / 'backlog.db'}")
        made.append(Fleet(tmp_path / name, valkey, **more))
        return made[-1]

    yield _made
    for each in made:
        each.stop()
        print(each.logs())


def script(fleet, name, text, *arguments):
    fleet.start(name, ["-c", text, *arguments], celery=False)
    assert fleet.processes.pop(name).wait(60) == 0


def refused(fleet):
    return [
        value["sender"]
        for line in fleet.logs().splitlines()
        if line.startswith("{") and (value := json.loads(line)).get("code") == "bell_refused"
    ]


def workers(fleet):
    fleet.worker("control", queues="control,dead_letter,writeback", pool="threads", slots=2)
    fleet.worker("stages", queues="stages", slots=2)


def test_d_a_worker_refuses_the_bells_of_another_project_and_of_nobody_and_says_so_once(fleets, eventually):
    one, two = fleets("one"), fleets("two")
    one.file(3, pipeline="quick")
    with one.kit.store.begin() as unit:
        unit.see_worker({"name": "w", "queues": ["stages"], "slots": 9, "schema_min": 1, "schema_max": 9})
    bells = dispatch.tick(one.kit)
    ids = [each for bell in bells for each in bell.ids]
    before = one.counts()
    assert before == {"ready": 3}
    two.file(2, pipeline="quick")
    workers(two)
    mine = two.kit.store.fingerprint()
    theirs = one.kit.store.fingerprint()
    script(one, "ring", RING, json.dumps(ids))
    script(two, "forge", FORGED, json.dumps(ids))
    two.beat()
    eventually(two.done, within=60, what="the other project's own work")
    eventually(lambda: len(refused(two)) >= 3, what="that it is said")
    assert sorted(refused(two)) == sorted([theirs, "0" * 16, "none"]), "once for each sender, on whatever worker"
    assert mine not in refused(two)
    assert one.counts() == before
    with two.kit.store.read() as unit:
        assert unit.statuses("prod") == {"completed": 2}
    one.sound()
    two.sound()


def test_a7_two_environments_share_a_broker_a_database_and_a_folder_and_never_meet(
    fleets, valkey, eventually, tmp_path
):
    one = fleets("same")
    two = fleets("same", env="staging")
    assert one.database == two.database
    one.file(4, pipeline="quick")
    two.file(4, pipeline="quick")
    workers(two)
    two.start("beat", ["beat", "--pidfile="])
    eventually(two.done, within=60, what="the work of staging")
    assert one.counts() == {"queued": 4}, "nobody of staging touched it"
    client = redis.Redis(unix_socket_path=valkey.removeprefix("redis+socket://"))
    names = [key.decode() for key in client.keys("*")]
    assert names
    kombus_own = {"_kombu.binding_deadlines"}  # when bindings may be forgotten, by their exchange
    assert [name for name in names if "staging." not in name and name not in kombus_own] == []
    with one.kit.store.read() as unit:
        assert (unit.workers(), unit.leases(), unit.wishes()) == ([], [], [])
    eventually(lambda: len(two.kit.tracker.topics()) == 4, what="what is written back")
    assert one.kit.tracker.topics() == []
    assert refused(two) == []
    one.sound()
    two.sound()
