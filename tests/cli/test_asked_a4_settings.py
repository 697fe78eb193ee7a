"""Settings: what is set is used, or the start is refused by the name of the setting."""

from pathlib import Path

import pytest

from backlog_worker import settings
from backlog_worker.domain.errors import InvalidInputError

POSTGRES = "postgresql://u:secret-word@h/d"


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("BACKLOG_DATABASE_URL", "BACKLOG_POSTGRES_DSN", "POSTGRES_DSN", "BACKLOG_BROKER_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("BACKLOG_DIR", str(tmp_path))


@pytest.mark.parametrize(
    "url",
    [
        "mysql://h/d",
        "mariadb+pymysql://h/d",
        "mongodb://h",
        "oracle:thin",
        "http://h",
        "file.db",
        "/tmp/x.db",
        "sqlit:///x",
    ],
)
def test_an_address_of_a_database_that_is_not_served_stops_the_start(monkeypatch, url):
    monkeypatch.setenv("BACKLOG_DATABASE_URL", url)
    with pytest.raises(InvalidInputError, match="BACKLOG_DATABASE_URL") as refused:
        settings.load()
    assert "postgresql://" in refused.value.hint


@pytest.mark.parametrize("url", ["http://h", "https://h", "mysql://h", "sqs://", "kafka://h", "localhost:6379"])
def test_an_address_of_a_broker_that_is_not_served_stops_the_start(monkeypatch, url):
    monkeypatch.setenv("BACKLOG_BROKER_URL", url)
    with pytest.raises(InvalidInputError, match="BACKLOG_BROKER_URL") as refused:
        settings.load()
    assert "redis://" in refused.value.hint


@pytest.mark.parametrize(
    ("url", "keeps", "database"),
    [
        (POSTGRES, "auto", POSTGRES),
        ("postgres://h/d", "auto", "postgresql://h/d"),
        ("PostgreSQL://h/d", "auto", "postgresql://h/d"),
        ("sqlite:////x/y.db", "sqlite", "sqlite:////x/y.db"),
        ("memory://", "memory", "memory://"),
        ("jsonl:///x/y", "jsonl", "jsonl:///x/y"),
    ],
)
def test_an_address_that_is_served_is_used(monkeypatch, url, keeps, database):
    monkeypatch.setenv("BACKLOG_DATABASE_URL", url)
    given = settings.load()
    assert (given.keeps, given.database) == (keeps, database)


@pytest.mark.parametrize(
    ("backend", "url"),
    [("sqlite", POSTGRES), ("postgres", "sqlite:///x"), ("auto", "")],
)
def test_a_backend_that_does_not_fit_the_address_is_refused_without_the_password(monkeypatch, backend, url):
    monkeypatch.setenv("BACKLOG_BACKEND", backend)
    monkeypatch.setenv("BACKLOG_DATABASE_URL", url)
    with pytest.raises(InvalidInputError, match=f"BACKLOG_BACKEND={backend}") as refused:
        settings.load()
    assert "secret-word" not in str(refused.value)


@pytest.mark.parametrize(("backend", "begins"), [("jsonl", "jsonl:///"), ("memory", "memory://")])
def test_files_and_memory_that_are_named_beside_the_address_of_the_fleet_are_used(monkeypatch, backend, begins):
    monkeypatch.setenv("BACKLOG_BACKEND", backend)
    monkeypatch.setenv("BACKLOG_DATABASE_URL", POSTGRES)
    assert settings.load().database.startswith(begins)


@pytest.mark.parametrize("name", ["BACKLOG_DATABASE_URL", "BACKLOG_POSTGRES_DSN", "POSTGRES_DSN"])
def test_each_name_of_the_database_is_read(monkeypatch, name):
    monkeypatch.setenv(name, POSTGRES)
    assert settings.load().database == POSTGRES


def test_two_names_of_the_database_that_differ_are_refused(monkeypatch):
    monkeypatch.setenv("BACKLOG_DATABASE_URL", POSTGRES)
    monkeypatch.setenv("BACKLOG_POSTGRES_DSN", "postgresql://h/other")
    with pytest.raises(InvalidInputError, match="BACKLOG_DATABASE_URL and BACKLOG_POSTGRES_DSN"):
        settings.load()


def test_the_name_that_other_programs_read_gives_way_to_ours(monkeypatch):
    monkeypatch.setenv("POSTGRES_DSN", POSTGRES)
    monkeypatch.setenv("BACKLOG_BACKEND", "jsonl")
    assert settings.load().database.startswith("jsonl://")
    monkeypatch.delenv("BACKLOG_BACKEND")
    monkeypatch.setenv("BACKLOG_DATABASE_URL", "sqlite:////mine.db")
    assert settings.load().database == "sqlite:////mine.db"
