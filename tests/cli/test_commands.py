"""Commands: what people type, what they read, and how it ends."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from backlog_worker.cli import samples
from backlog_worker.domain.errors import InvalidFileError, InvalidInputError
from backlog_worker.integrations import files
from backlog_worker.store import migrate


@pytest.fixture
def run(tmp_path):
    def _run(*arguments, code=0, **env):
        done = subprocess.run(
            [sys.executable, "-m", "backlog_worker", *arguments],
            cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
            env={"PATH": "/usr/bin:/bin", "BACKLOG_ACTOR": "ana", "HOME": str(tmp_path), **env},
        )  # fmt: skip
        assert done.returncode == code, f"{arguments} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        return done

    return _run


@pytest.fixture
def project(run, tmp_path):
    run("init")
    (tmp_path / "issues.json").write_text(json.dumps(samples.issues(40)))
    return tmp_path


def data(done):
    return json.loads(done.stdout)["data"]


def test_the_first_minutes_of_a_user(run, project):
    dry = run("entry", "import", "issues.json", "--dry-run")
    assert "would file:" in dry.stdout
    assert data(run("--json", "entry", "list")) == []
    first = data(run("--json", "entry", "import", "issues.json"))
    assert first["counts"] == {"blocked": 2, "done before": 7, "known before": 5, "queued": 31}
    assert data(run("--json", "entry", "import", "issues.json"))["counts"] == {"known before": 45}
    entry = data(run("--json", "entry", "list", "status:queued"))[0]["id"]
    assert "NO_WORKER" in run("explain", entry).stdout
    assert "filed" in run("entry", "history", entry).stdout
    run("entry", "hold", entry, "--reason", "wait")
    assert "ON_HOLD" in run("explain", entry).stdout
    run("entry", "release", entry, "--reason", "go")
    assert "NO_WORKER" in run("entry", "next").stdout
    assert "eligible completed" in run("status").stdout
    assert "invariants hold" in run("db", "verify").stdout
    assert "produces its row" in run("audit", "verify").stdout
    assert "an old low overtakes" in run("policy", "test").stdout
    run("pipeline", "validate")
    assert "collect" in run("pipeline", "show", "spec").stdout
    assert "BAD" in run("doctor", code=7).stdout, "no broker and no worker here"
    cancel = run("entry", "cancel", "--where", "priority:low status:queued", "--reason", "not now", "--yes")
    assert " done, 0 refused" in cancel.stdout


def test_whoever_puts_a_new_policy_in_force_asks_again_what_it_bars(run, project):
    run("entry", "add", "x", "--label", "robot")
    assert data(run("--json", "entry", "list", "status:blocked")) != []
    policy = project / ".backlog-worker" / "policy.yml"
    policy.write_text(policy.read_text().replace("'ai-ok' in", "'robot' in"))
    run("status")
    assert data(run("--json", "entry", "list", "status:blocked")) != [], "reading puts nothing in force"
    run("policy", "apply", "--reason", "robots may go")
    assert data(run("--json", "entry", "list", "status:blocked")) == []


def test_errors_say_what_where_and_the_way_out(run, project):
    assert "help: backlog-worker entry list" in run("explain", "bl_none", code=3).stderr
    assert "position 1" in run("entry", "list", "stauts:queued", code=2).stderr
    assert (
        "needs a reason"
        in run(
            "entry",
            "hold",
            data(run("--json", "entry", "add", "x", "--label", "ai-ok"))["entry_id"],
            "--reason",
            " ",
            code=2,
        ).stderr
    )
    policy = project / ".backlog-worker" / "policy.yml"
    policy.write_text(policy.read_text().replace("weeks", "").replace("entry.labels)", "entry.lables)"))
    said = run("policy", "validate", code=7).stderr
    lines = policy.read_text().splitlines()
    (line,) = [number for number, text in enumerate(lines, start=1) if "entry.lables)" in text]
    assert f"policy.yml:{line}:" in said
    assert "error[BW304]" in said
    assert "did you mean BACKLOG_DIR" in run("entry", "list", code=2, BACKLOG_DIT="x").stderr
    away = run("entry", "list", code=9, BACKLOG_DATABASE_URL="postgresql://u:secret@127.0.0.1:9/x")
    assert "127.0.0.1:9" in away.stderr
    assert "secret" not in away.stderr
    assert "Traceback" not in away.stderr
    run("entry", "import", "nothing.json", code=3)
    run("nonsense", code=2)
    assert "NOT_ELIGIBLE" in run("explain-code", "NOT_ELIGIBEL", code=3).stderr


def test_schemas_fit_the_files_that_init_writes(run, project):
    import check_jsonschema

    assert check_jsonschema
    for kind, file in (("policy", "policy.yml"), ("pipeline", "pipelines/spec.yml")):
        schema = project / f"{kind}.json"
        schema.write_text(run("schema", kind).stdout)
        done = subprocess.run(
            [sys.executable, "-m", "check_jsonschema", "--schemafile", str(schema), str(project / ".backlog-worker" / file)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout


def test_migrations_show_what_they_would_do(run, tmp_path):
    url = {"BACKLOG_DATABASE_URL": f"sqlite:///{tmp_path / 'x.db'}"}
    assert "CREATE TABLE entries" in run("db", "migrate", "--dry-run", **url).stdout
    run("db", "status", code=7, **url)
    newest = migrate.head()
    assert f"0 -> {newest}" in run("db", "migrate", **url).stdout
    assert f"{newest} -> {newest}" in run("db", "migrate", **url).stdout


def read(path: Path):
    return list(files.records(path))


def test_every_format_gives_the_same_drafts(tmp_path):
    records = [
        {"title": "a", "dedupe_key": "k1", "labels": ["x", "y"], "input": {"body": "b"}},
        {"title": "c", "dedupe_key": "k2"},
    ]
    (tmp_path / "a.json").write_text(json.dumps(records, indent=2))
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(each) for each in records))
    (tmp_path / "a.yml").write_text(
        "- { title: a, dedupe_key: k1, labels: [x, y], input: { body: b } }\n- { title: c, dedupe_key: k2 }\n"
    )
    with (tmp_path / "a.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [["title", "dedupe_key", "labels", "input.body"], ["a", "k1", "x;y", "b"], ["c", "k2", "", ""]]
        )
    for name in ("a.json", "a.jsonl", "a.yml", "a.csv"):
        assert [dict(record) for _, record in read(tmp_path / name)] == records, name
    assert [place for place, _ in read(tmp_path / "a.jsonl")] == ["a.jsonl:1", "a.jsonl:2"]


def test_an_issue_of_github_becomes_a_draft(tmp_path):
    issue = {
        "number": 790, "title": "Rate limit", "body": "b", "url": "https://github.com/acme/platform/issues/790",
        "labels": [{"name": "P1"}, {"name": "team:api"}, {"name": "ai-ok"}], "createdAt": "2026-10-28T00:00:00Z",
        "updatedAt": "2026-11-01T00:00:00Z", "author": {"login": "li"}, "assignees": [{"login": "ana"}],
    }  # fmt: skip
    (tmp_path / "i.json").write_text(json.dumps([issue]))
    ((_, draft),) = read(tmp_path / "i.json")
    wanted = {
        "dedupe_key": "github:acme/platform#790", "priority": "medium", "team": "api", "owner": "ana", "author": "li",
        "eligible_by": "label ai-ok", "eligible_at": "2026-11-01T00:00:00Z", "created_at": "2026-10-28T00:00:00Z",
    }  # fmt: skip
    assert {name: draft[name] for name in wanted} == wanted


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.json", '[{"title": "a"}, {"tit', "a.json:1:"),
        ("a.json", '[{"title": "a"}', "does not end"),
        ("a.json", "nonsense", "not a JSON array"),
        ("a.yml", "a: &x 1\nb: *x", "anchors and aliases"),
    ],
)
def test_a_file_that_is_unusable_says_where(tmp_path, name, text, words):
    (tmp_path / name).write_text(text)
    with pytest.raises(InvalidFileError, match=words):
        read(tmp_path / name)


def test_a_bad_line_is_an_error_of_that_line(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"title": "a"}\n{broken\n[1]\n{"title": "b"}\n')
    found = read(tmp_path / "a.jsonl")
    assert [isinstance(record, InvalidInputError) for _, record in found] == [False, True, True, False]


def test_a_huge_array_is_read_record_by_record(tmp_path):
    with (tmp_path / "a.json").open("w") as file:
        file.write("[")
        for number in range(20_000):
            file.write(("," if number else "") + json.dumps({"title": f"t{number}", "body": "x" * 200}) + "\n")
        file.write("]")
    stream = files.records(tmp_path / "a.json")
    assert next(stream)[1]["title"] == "t0"
    assert sum(1 for _ in stream) == 19_999


def test_the_sample_backlog_tells_the_story_of_the_seed():
    made = samples.issues()
    assert len(made) == 345
    unique = {issue["number"]: issue for issue in made}.values()
    labels = [{label["name"] for label in issue["labels"]} for issue in unique]
    assert len(unique) == 340
    assert sum("spec-ready" in each for each in labels) == 60
    assert sum(len(issue.get("comments", ())) == 2 for issue in unique) == 3
    assert sum("ai-ok" not in each for each in labels) == 18
    assert samples.issues(50)[7]["title"] == samples.issues(50)[7]["title"]
