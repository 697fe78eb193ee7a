"""B3, B4: every connection and request has a deadline, and whoever is not known learns no address."""

import socket
import threading
import time
from contextlib import contextmanager
from dataclasses import replace

import pytest
import uvicorn
from fastapi.testclient import TestClient

from backlog_worker.cli import remote
from backlog_worker.domain.errors import FullError, StoreError, UnauthenticatedError, UnreachableError
from backlog_worker.integrations.broker import Answer
from backlog_worker.settings import Settings
from backlog_worker.testing import bench
from backlog_worker.web import app, limits
from backlog_worker.web.problem import problem

HOST = "db.internal.example"


@contextmanager
def served(made):
    """Serve an app on a real socket with the limits of `backlog-worker web`."""
    config = uvicorn.Config(made, log_level="critical", loop="asyncio", http=limits.Deadline, lifespan="off")
    server = uvicorn.Server(config)
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield listener.getsockname()
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()


def rest(connection):
    """Read until the other side closes."""
    connection.settimeout(20)
    found = b""
    try:
        while chunk := connection.recv(4096):
            found += chunk
    except ConnectionResetError:
        pass
    return found


async def slow_app(scope, receive, send):
    """Answer after the whole body."""
    while (await receive()).get("more_body"):
        pass
    await problem(200, "whole")(scope, receive, send)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET /healthz HTTP/1.1\r\nhost: x\r\n",
        b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\nG",  # whole, and then half of the next one
    ],
)
def test_a_connection_that_owes_a_request_is_closed_at_its_deadline(monkeypatch, sent):
    monkeypatch.setattr(limits, "HEAD_SECONDS", 0.2)
    with served(app.made(bench().kit, b"pepper")) as address, socket.create_connection(address) as connection:
        connection.sendall(sent)
        assert rest(connection).count(b"HTTP/1.1 ") == 1


def test_a_byte_now_and_then_gives_no_more_time(monkeypatch):
    monkeypatch.setattr(limits, "HEAD_SECONDS", 0.3)
    with served(app.made(bench().kit, b"pepper")) as address, socket.create_connection(address) as connection:
        connection.settimeout(0.05)
        until = time.monotonic() + 20
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            while time.monotonic() < until:
                connection.sendall(b"a")
                with pytest.raises(TimeoutError):
                    if connection.recv(100) == b"":
                        raise BrokenPipeError
                    raise TimeoutError


def test_hundreds_of_half_open_connections_leave_room_for_a_whole_one(monkeypatch):
    monkeypatch.setattr(limits, "HEAD_SECONDS", 0.5)
    with served(app.made(bench().kit, b"pepper")) as address:
        half = [socket.create_connection(address) for _ in range(300)]
        for each in half:
            each.sendall(b"POST /v1/tools/execute HTTP/1.1\r\n")
        for each in half:
            rest(each)  # ends because the server closed it
            each.close()
        with socket.create_connection(address) as whole:
            whole.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            assert b"200 OK" in rest(whole)


def test_a_body_that_does_not_come_is_answered_with_408(monkeypatch):
    monkeypatch.setattr(limits, "BODY_SECONDS", 0.2)
    made = app.made(bench().kit, b"pepper")
    with served(made) as address, socket.create_connection(address) as connection:
        connection.sendall(
            b"POST /v1/hooks/spec HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 100\r\n\r\n{"
        )
        assert b"408" in rest(connection).split(b"\r\n")[0]


def test_an_answer_that_takes_too_long_is_503_and_says_that_it_may_still_be_done(monkeypatch):
    monkeypatch.setattr(limits, "ANSWER_SECONDS", 0.2)

    async def stuck(_scope, receive, _send):
        while True:
            await receive()

    with served(limits.Limited(stuck, most=10)) as address, socket.create_connection(address) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        answer = rest(connection)
    assert answer.startswith(b"HTTP/1.1 503")
    assert b"may still be carried out" in answer


@pytest.mark.parametrize("said", ["9" * 5000, "1000001"])
def test_a_length_that_is_too_large_is_413_whatever_it_says(said):
    with served(limits.Limited(slow_app, most=1_000_000)) as address, socket.create_connection(address) as connection:
        connection.sendall(f"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: {said}\r\n\r\n".encode())
        connection.shutdown(socket.SHUT_WR)
        assert rest(connection).split(b" ")[1] in {b"413", b"400"}


class _Away:
    """A store that refuses with an error that names its host."""

    def __init__(self, error):
        self.error = error

    def __getattr__(self, _name):
        raise self.error


@pytest.mark.parametrize("kind", [UnreachableError, FullError, StoreError])
@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/readyz"), ("POST", "/v1/hooks/spec"), ("GET", "/v1/backlog/dashboard"), ("GET", "/metrics")],
)
def test_no_answer_names_the_host_of_the_database(kind, method, path):
    kit = replace(bench().kit, store=_Away(kind(f"the database {HOST} does not answer", hint=f"start {HOST}")))
    client = TestClient(app.made(bench().kit, b"p"), raise_server_exceptions=False)
    client.app.state.kit = kit
    answer = client.request(method, path, headers={"authorization": "Bearer bw_x"})
    assert HOST not in answer.text
    if path == "/readyz":
        assert answer.status_code == (500 if kind is StoreError else 503)
        assert "doctor" in answer.json()["hint"]


def test_readyz_says_that_the_broker_does_not_answer_and_not_where_it_is():
    kit = replace(bench().kit, broker=lambda: Answer(address=f"redis://{HOST}", error=f"{HOST} refused"))
    answer = TestClient(app.made(kit, b"p")).get("/readyz")
    assert (answer.status_code, answer.json()["detail"]) == (503, "the broker does not answer")
    assert HOST not in answer.text


def test_a_fault_of_the_server_is_a_problem_without_its_insides():
    kit = replace(bench().kit, store=_Away(RuntimeError("secret insides")))
    client = TestClient(app.made(bench().kit, b"p"), raise_server_exceptions=False)
    client.app.state.kit = kit
    answer = client.get("/readyz")
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    assert "insides" not in answer.text


def test_b4_a_missing_token_says_so_and_sends_nothing():
    given = Settings(url="http://127.0.0.1:9")
    with pytest.raises(UnauthenticatedError, match="BACKLOG_TOKEN is not set"):
        remote.execute(given, {})
