"""A1: whatever a model's server sends over a real socket ends in a named failure, within bounds of size and of time."""

import gzip
import json
import re
import socket
import threading
import time
import tracemalloc
from dataclasses import replace
from datetime import timedelta

import pytest

from backlog_worker.domain import pipeline
from backlog_worker.domain.outcome import Done, FailureKind, Faulted
from backlog_worker.executors.body import ANSWER_BYTES_MAX
from backlog_worker.executors.openai import OpenAIExecutor
from tests.executors.test_costs import work

AGENT = "---\nexecutor: openai\nmodel: m\n---\nAnswer."
GOOD = {"choices": [{"message": {"content": '{"a": 1}'}}], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}
CHUNK = 1_000_000
BOMB = gzip.compress(bytes(4 * ANSWER_BYTES_MAX))


def head(status="200 OK", **headers):
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([f"HTTP/1.1 {status}", "Connection: close", *lines, "", ""]).encode()


class Server:
    """Answers one request after the other by what it is given, over a real socket, and counts them."""

    def __init__(self, answer):
        self.answer, self.requests = answer, 0
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.over = threading.Event()
        self.address = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            with connection:
                self._answered(connection)

    def _answered(self, connection):
        try:
            said = b""
            while b"\r\n\r\n" not in said:
                said += connection.recv(65_536)
            head_of, _, body = said.partition(b"\r\n\r\n")
            length = int(re.search(rb"(?i)content-length: *(\d+)", head_of)[1])
            while len(body) < length:  # what is not read would reset the connection
                body += connection.recv(65_536)
            self.requests += 1
            for part in self.answer():
                connection.sendall(part)
        except OSError:
            pass  # the client hung up, as it should

    def close(self):
        self.over.set()
        self.socket.close()


@pytest.fixture
def ask():
    """Ask a server that answers so; returns the result, and how many requests came."""
    servers = []

    def _ask(answer, seconds=20.0):
        server = Server(answer)
        servers.append(server)
        job = pipeline.load(
            "name: p\njobs:\n  - { id: j, agent: w }\n", contract={"agents/w.md": AGENT}.__getitem__
        ).jobs[0]
        given = replace(work(), agent=job.agent, timeout=timedelta(seconds=seconds))
        return OpenAIExecutor(server.address).perform(job, given), server.requests

    yield _ask
    for each in servers:
        each.close()


def endless():
    yield head(Content_Type="application/json")
    while True:
        yield b" " * CHUNK


def bomb():
    """A few kilobytes that are a gigabyte once they are unpacked: what is read is small, what comes of it is not."""
    yield head(Content_Type="application/json", Content_Encoding="gzip")
    for _ in range(16):
        yield BOMB


def test_a1_an_answer_is_read_over_a_socket(ask):
    body = gzip.compress(json.dumps(GOOD).encode())
    result, requests = ask(lambda: [head(Content_Encoding="gzip", Content_Length=len(body)), body])
    assert (result, requests) == (Done(output={"a": 1}), 1)


@pytest.mark.parametrize("answer", [endless, bomb], ids=["endless", "bomb"])
def test_a1_a_body_is_bounded_whether_it_is_packed_or_not(ask, answer):
    tracemalloc.start()
    try:
        result, _ = ask(answer)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(result, Faulted)
    assert result.kind == FailureKind.VALIDATION
    assert f"more than {ANSWER_BYTES_MAX} bytes" in result.reason
    assert most < 2 * ANSWER_BYTES_MAX, "no more was unpacked at once than is taken in all"


FAILED = {
    "a redirect": ([head("302 Found", Location="http://127.0.0.1:9/x", Content_Length=0)], "it redirects to"),
    "a page": (
        [head(Content_Type="text/html"), b"<html>Sign in</html>"],
        "did not answer with JSON: <html>Sign in</html>",
    ),
    "an image": ([head(Content_Type="image/png"), b"\x89PNG\r\n\x1a\n\x00\xff"], "did not answer with JSON"),
    "packed twice": ([head(Content_Encoding="gzip, gzip"), b"x"], "compressed more than once"),
    "not packed": ([head(Content_Encoding="gzip"), b"no gzip"], "answered with"),
    "packed and cut": (
        [head(Content_Encoding="gzip"), gzip.compress(json.dumps(GOOD).encode())[:-12]],
        "did not answer with JSON",
    ),
    "shorter than it says": ([head(Content_Length=500), b"{}"], "cannot be reached"),
    "no HTTP": ([b"SSH-2.0-OpenSSH_9.6\r\n"], "cannot be reached"),
    "nothing": ([], "cannot be reached"),
    "a status": ([head("503 Service Unavailable", Content_Length=0)], "503"),
}


@pytest.mark.parametrize("name", FAILED)
def test_a1_what_a_server_sends_that_is_no_answer_is_named(ask, name):
    parts, words = FAILED[name]
    result, requests = ask(lambda: parts)
    assert not isinstance(result, Done)
    assert words in result.reason
    assert requests == 1, "a redirect is not followed, and nothing is asked again"


def test_a1_a_body_that_trickles_has_a_deadline(ask):
    """Each byte comes in time, and all of them never do."""
    wait = threading.Event()

    def _slow():
        yield head(Content_Type="application/json")
        while not wait.wait(0.05):
            yield b" "

    began = time.monotonic()
    result, _ = ask(_slow, seconds=0.5)
    wait.set()
    assert isinstance(result, Faulted)
    assert result.kind == FailureKind.TIMEOUT
    assert time.monotonic() - began < 30
