"""Options of pipeline, policy, schema and init, each with and without: what it promises is seen in files and versions."""

import json

import pytest

SOLO = """\
name: solo
jobs:
  - id: say
    run: 'cat made'
    setup: [{ name: make, command: 'printf x > made' }]
    execution: { isolation: project }
"""


def policy_file(story):
    return story.folder / ".backlog-worker" / "policy.yml"


def pipeline_file(story, name="spec"):
    return story.folder / ".backlog-worker" / "pipelines" / f"{name}.yml"


@pytest.mark.parametrize(
    ("kind", "path", "named"), [("policy", policy_file, "policy"), ("pipeline", pipeline_file, "spec")]
)
def test_apply_dry_run_changes_nothing_and_follow_moves_the_fleet(story, kind, path, named):
    path(story).write_text(path(story).read_text().replace("version: 1", "version: 2"))
    live = f"{kind} list" if kind == "pipeline" else "policy show"
    before = story.data(live)
    assert named in story(f"{kind} apply --reason r --dry-run").stdout
    assert story.data(live) == before
    story(f"{kind} apply --reason r")
    assert story.data(live) != before
    acts = "audit operations --action definitions.follow"
    assert story.data(acts) == []
    story(f"{kind} apply --reason r --follow")
    assert len(story.data(acts)) == 1


def test_pipeline_cache_names_one_pipeline_and_forgets_with_purge(story):
    assert len(story.data("pipeline cache")) == 1
    assert len(story.data("pipeline cache --pipeline cached")) == 1
    assert story.data("pipeline cache --pipeline spec") == []
    story("pipeline cache --purge --pipeline spec --yes")
    story("pipeline cache --purge --dry-run")
    story("pipeline cache --purge", code=1, given="n\n")
    assert len(story.data("pipeline cache")) == 1
    story("pipeline cache --purge --yes")
    assert story.data("pipeline cache") == []


def test_pipeline_estimate_last_reads_so_many_past_stages(story):
    story("entry requeue dead-0 --reason r")
    runs = [
        {each["job_id"]: each["runs"] for each in story.data(f"pipeline estimate spec{more}")["jobs"]}
        for more in ("", " --last 1")
    ]
    assert sum(runs[0].values()) > sum(runs[1].values()) == 1


def test_pipeline_fmt_check_changes_no_file(story):
    path = pipeline_file(story)
    odd = path.read_text().replace("jobs:\n  - ", "jobs:\n      - ").replace("\n  - ", "\n      - ")
    path.write_text(odd)
    story("pipeline fmt --check", code=7)
    assert path.read_text() == odd
    story("pipeline fmt")
    assert path.read_text() != odd
    story("pipeline fmt --check")


def test_pipeline_graph_to_and_run_draw_a_form_with_statuses(story):
    drawn = {
        form: story(f"pipeline graph spec{form}").stdout for form in ("", " --to mermaid", " --to dot", " --to svg")
    }
    assert ["flowchart" in drawn[" --to mermaid"], "digraph" in drawn[" --to dot"], "<svg" in drawn[" --to svg"]] == [
        True
    ] * 3
    assert len(set(drawn.values())) == 4
    assert story("pipeline graph spec --run done").stdout != drawn[""]


def test_pipeline_run_does_one_job_with_its_setup_and_leaves_its_output_in_a_folder(story):
    (story.folder / "solo.yml").write_text(SOLO)
    story("pipeline run solo.yml --job nothing", code=3)
    story("pipeline run solo.yml --job say --no-setup", code=1)
    story("pipeline run solo.yml --job say")
    assert (story.folder / ".backlog-outputs" / "say.json").exists()
    story("pipeline run solo.yml --job say --outputs elsewhere")
    assert json.loads((story.folder / "elsewhere" / "say.json").read_text())["status"] == "completed"


def test_schema_version_prints_an_older_one(story):
    newest, first = (json.loads(story(f"schema writeback{more}").stdout) for more in ("", " --version 1"))
    assert newest != first
    story("schema writeback --version 99", code=3)


def test_init_template_writes_another_pipeline_and_force_replaces_files(story):
    folder = story.folder / ".backlog-worker"
    before = policy_file(story).read_text()
    story("init")
    assert policy_file(story).read_text() == before
    assert not (folder / "pipelines" / "bugfix.yml").exists()
    story("init --template bugfix")
    assert (folder / "pipelines" / "bugfix.yml").exists()
    story("init --force")
    assert policy_file(story).read_text() != before
