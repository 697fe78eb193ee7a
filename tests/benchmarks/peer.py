"""The peer: plain Celery, as its documentation shows it; a chain of three no-ops, counted by its last task."""

import os
import time

import redis
from celery import Celery, chain

app = Celery("peer", broker=os.environ.get("PEER_BROKER", "memory://"))
app.conf.update(
    task_ignore_result=True,
    task_default_queue="peer",
    worker_prefetch_multiplier=int(os.environ.get("PEER_PREFETCH", "4")),
    broker_transport_options={"visibility_timeout": 3600},
)
_client: list[redis.Redis] = []


def client() -> redis.Redis:
    if not _client:
        _client.append(redis.Redis(unix_socket_path=os.environ["PEER_BROKER"].removeprefix("redis+socket://")))
    return _client[0]


@app.task(name="peer.first")
def first() -> None:
    return


@app.task(name="peer.last")
def last() -> None:
    client().incr("peer:done")


@app.task(name="peer.stamp")
def stamp(sent: float) -> None:
    client().rpush("peer:latency", time.time() - sent)


@app.task(name="peer.sleep")
def sleep(seconds: float) -> None:
    time.sleep(seconds)


def three():
    return chain(first.si(), first.si(), last.si())
