"""What commands change of the rules, and what they do not: in another folder, in a fresh one, with a role that reads."""

import json
import sys

import psycopg
import pytest

from backlog_worker import settings, telemetry, wiring
from backlog_worker.cli import main, samples
from backlog_worker.lifecycle import dispatch
from backlog_worker.store import Store
from tests.conftest import with_database


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run a command in this process, in a folder."""
    monkeypatch.setenv("BACKLOG_ACTOR", "ana")
    (tmp_path / "home").mkdir()

    def _run(*arguments, code=0, folder="home", **env):
        (tmp_path / folder).mkdir(exist_ok=True)
        with monkeypatch.context() as patched:
            patched.chdir(tmp_path / folder)
            for name, value in env.items():
                patched.setenv(name, value)
            patched.setattr(sys, "argv", ["backlog-worker", *arguments])
            with pytest.raises(SystemExit) as ended:
                main()
        said = capsys.readouterr()
        assert (ended.value.code or 0) == code, f"{arguments} ended with {ended.value.code}:\n{said}"
        return said.out + said.err

    yield _run
    with capsys.disabled():
        telemetry.configure(level="ERROR")


def stricter(folder):
    """A policy that lets nobody in, and a pipeline that is another one."""
    path = folder / ".backlog-worker" / "policy.yml"
    path.write_text(path.read_text().replace("version: 1", "version: 9").replace("'ai-ok' in", "'robot' in"))
    path = folder / ".backlog-worker" / "pipelines" / "spec.yml"
    path.write_text(path.read_text().replace("description:", "description: other,"))


READING = (
    ("status",),
    ("policy", "show"),
    ("policy", "history"),
    ("pipeline", "list"),
    ("pipeline", "show", "spec"),
    ("entry", "list"),
    ("entry", "next"),
    ("run", "list"),
    ("review", "list"),
    ("alert", "list"),
    ("worker", "list"),
    ("budget", "list"),
    ("writeback", "list"),
    ("dlq", "groups"),
    ("schedule", "list"),
)


def rules(url):
    store = Store(url)
    with store.read() as unit:
        return [
            unit.live_hashes("prod"),
            unit.acts("prod"),
            unit.enactments("prod", "policy", "policy"),
        ]


def test_a6_commands_in_another_folder_change_nothing_and_status_says_that_the_files_differ(
    run, postgres_url, tmp_path
):
    at = {"BACKLOG_DATABASE_URL": postgres_url}
    run("init")
    run("init", folder="elsewhere")
    run("db", "migrate", **at)
    run("entry", "add", "Login loop", "--label", "ai-ok", **at)
    before = rules(postgres_url)
    stricter(tmp_path / "elsewhere")
    for command in READING:
        run(*command, folder="elsewhere", **at)
    assert rules(postgres_url) == before
    said = run("status", folder="elsewhere", **at)
    assert "policy policy 9" in said
    assert "policy apply --reason TEXT" in said
    assert "is not in force" in run("policy", "validate", folder="elsewhere", **at)
    assert "is not in force" in run("doctor", folder="elsewhere", code=7, **at)
    run("policy", "apply", folder="elsewhere", code=2, **at)
    assert "is in force" in run("policy", "apply", "--reason", "stricter", folder="elsewhere", **at)
    assert "version: 9" in run("policy", "show", **at)
    assert "robot" not in run("policy", "validate", **at)


def test_a6_a_role_that_may_only_select_can_run_every_command_that_shows(run, postgres_url, postgres_server):
    run("init")
    run("db", "migrate", BACKLOG_DATABASE_URL=postgres_url)
    added = run("--json", "entry", "add", "Login loop", "--label", "ai-ok", BACKLOG_DATABASE_URL=postgres_url)
    entry_id = json.loads(added)["data"]["entry_id"]
    name = postgres_url.partition("?")[0].rpartition("/")[2]
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute(f"CREATE ROLE reader_{name} LOGIN")
        admin.execute(f"GRANT USAGE ON SCHEMA public TO reader_{name}")
        admin.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader_{name}")
    try:
        url = with_database(postgres_server, name).replace("postgres:", f"reader_{name}:", 1)
        reads = {"BACKLOG_DATABASE_URL": url}
        for command in (*READING, ("entry", "show", entry_id), ("entry", "history", entry_id), ("explain", entry_id)):
            run(*command, **reads)
    finally:
        with psycopg.connect(postgres_url, autocommit=True) as admin:
            admin.execute(f"DROP OWNED BY reader_{name}")
            admin.execute(f"DROP ROLE reader_{name}")


def test_a6_a_fresh_project_works_in_any_order_and_begins_with_its_first_entry(run, tmp_path):
    run("init")
    (tmp_path / "home" / "issues.json").write_text(json.dumps(samples.issues(12)))
    assert "nothing is in force yet" in run("status")
    run("entry", "import", "issues.json", "--dry-run")
    url = f"sqlite:///{tmp_path / 'home' / '.backlog-worker' / 'state' / 'backlog.db'}"
    assert rules(url)[0] == {}, "reading and rehearsing wrote nothing"
    run("entry", "import", "issues.json")
    live, acts, _ = rules(url)
    assert sorted(live) == ["pipeline/spec", "policy/policy"]
    assert {(act["actor"], act["reason"]) for act in acts} == {("ana", "the first entry")}
    assert "nothing is in force yet" not in run("status")


def test_a6_a_bad_policy_of_a_fresh_project_is_named_by_whatever_needs_it(run, tmp_path):
    run("init")
    path = tmp_path / "home" / ".backlog-worker" / "policy.yml"
    path.write_text(path.read_text().replace("version: 1", "versoin: 1"))
    said = run("entry", "add", "x", code=2)
    assert "policy.yml:" in said
    assert "versoin" in said


def test_a6_pipeline_retire_and_apply_say_what_they_did(run, tmp_path):
    run("init")
    run("entry", "add", "Login loop", "--label", "ai-ok")
    run("pipeline", "retire", "spec", code=2)
    assert "1 entries wait" in run("pipeline", "retire", "spec", "--reason", "wrong")
    said = run("run", "start", "spec", code=5)
    assert "retired (by ana)" in said
    assert "pipeline apply spec" in said
    assert "retired" in run("pipeline", "list")
    assert "retired" in run("status")
    assert "would come into force" in run("pipeline", "apply", "spec", "--reason", "x", "--dry-run")
    assert "is in force" in run("pipeline", "apply", "spec", "--reason", "mended")
    assert "already" in run("pipeline", "apply", "--reason", "again")
    run("pipeline", "apply", "unheard", "--reason", "x", code=3)


def test_a6_the_fleet_of_the_project_puts_its_files_in_force_at_its_start_and_with_its_ticks(
    run, tmp_path, monkeypatch
):
    run("init")
    run("entry", "add", "x", "--label", "ai-ok")
    stricter(tmp_path / "home")
    monkeypatch.chdir(tmp_path / "home")
    kit = wiring.kit_of(settings.load(), fleet=True)
    with kit.store.read() as unit:
        assert kit.book.policy(unit).version == 9
    path = tmp_path / "home" / ".backlog-worker" / "policy.yml"
    path.write_text(path.read_text().replace("version: 9", "version: 10"))
    dispatch.tick(kit)
    with kit.store.read() as unit:
        assert kit.book.policy(unit).version == 10
