"""A process that does jobs keeps no secret in its environment, and still knows them all."""

import os
import subprocess
import sys

import pytest

from backlog_worker import settings
from backlog_worker.integrations import secrets
from backlog_worker.integrations.secrets import Secrets


@pytest.fixture(autouse=True)
def _forget(monkeypatch):
    monkeypatch.setattr(secrets, "_taken", {})
    monkeypatch.setattr(secrets, "_withdrawing", False)


GIVEN = {
    "BACKLOG_DATABASE_URL": "postgresql://u:p4ssword@h/d",
    "BACKLOG_BROKER_URL": "redis://:p4ssword@h/0",
    "BACKLOG_TOKEN": "bw_token_of_a_caller",
    "BACKLOG_TOKEN_PEPPER": "pepper-pepper",
    "BACKLOG_NOTIFY_ONCALL": "https://h/hook?token=abcdefgh",
}


def test_the_settings_stay_the_same_when_their_secrets_leave_the_environment(monkeypatch, tmp_path):
    for name, value in GIVEN.items():
        monkeypatch.setenv(name, value)
    before = settings.load()
    settings.withdraw()
    assert not set(GIVEN) & set(os.environ)
    assert settings.load() == before
    assert {name: secrets.environment()[name] for name in GIVEN} == GIVEN


def test_a_secret_of_a_job_leaves_the_environment_when_it_is_read(monkeypatch, tmp_path):
    monkeypatch.setenv("OF_A_JOB", "s3cret-value")
    assert Secrets(tmp_path)("OF_A_JOB") == "s3cret-value"
    assert "OF_A_JOB" in os.environ, "a command of a person keeps its environment"
    settings.withdraw()
    assert [Secrets(tmp_path)("OF_A_JOB") for _ in range(2)] == ["s3cret-value"] * 2
    assert "OF_A_JOB" not in os.environ


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux")
def test_workers_and_beat_are_closed_to_other_processes_of_their_user(tmp_path):
    text = "import ctypes, backlog_worker.celery; print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"
    env = {**os.environ, "BACKLOG_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", text], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0"
