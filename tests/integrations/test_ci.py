"""Exports: what the systems' own validators accept, what is listed as missing, and that nothing in them is injected."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from backlog_worker.domain import pipeline
from backlog_worker.integrations import ci, github_actions, gitlab_ci, jenkins
from backlog_worker.integrations.project import contracts

FILES = Path(__file__).parents[2] / "backlog_worker" / "cli" / "files"
NAMES = ("feature-development", "bugfix", "continuous-validation", "deploy-production", "spec")
EVIL = """\
name: evil
jobs:
  - id: a
    name: "${{ github.token }} '); sh('id') // \\" \\n x"
    run: "echo 'it''s' \\"$(id)\\" \\\\ ${HOME}"
    setup: [{ name: "${{ secrets.X }}", command: "echo 'quo''ted' \\"$HOME\\" \\\\" }]
    env: { T: "${{ secrets.TOKEN }}" }
  - { id: default, run: x, dependsOn: a }
"""


def load(name):
    path = FILES / "pipelines" / f"{name}.yml"
    return pipeline.load(path.read_text(), file=str(path), contract=contracts(path).__getitem__)


@pytest.fixture(params=[*NAMES, "evil"])
def made(request):
    return pipeline.load(EVIL) if request.param == "evil" else load(request.param)


def checked(schema, path):
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr + path.read_text()


def test_github_accepts_the_workflow(made, tmp_path):
    path = tmp_path / "workflow.yml"
    path.write_text(github_actions.exported(made).text)
    checked("vendor.github-workflows", path)
    if shutil.which("actionlint"):
        done = subprocess.run(["actionlint", str(path)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


def test_gitlab_accepts_the_file(made, tmp_path):
    path = tmp_path / ".gitlab-ci.yml"
    path.write_text(gitlab_ci.exported(made).text)
    checked("vendor.gitlab-ci", path)


def test_the_jenkinsfile_parses_as_groovy(made):
    import tree_sitter
    import tree_sitter_groovy

    text = jenkins.exported(made).text
    tree = tree_sitter.Parser(tree_sitter.Language(tree_sitter_groovy.language())).parse(text.encode())
    broken = []
    waiting = [tree.root_node]
    while waiting:
        node = waiting.pop()
        broken += [text.encode()[node.start_byte : node.start_byte + 80]] * (node.type == "ERROR" or node.is_missing)
        waiting += node.children
    assert not broken


def test_no_text_of_a_pipeline_becomes_an_expression_of_the_system():
    made = pipeline.load(EVIL)
    text = github_actions.exported(made).text
    inside = [part.split("}}")[0].strip() for part in text.split("${{")[1:]]
    assert sorted(inside) == ["github.ref", "secrets.TOKEN"]
    assert (
        '"'
        not in [line.strip() for line in jenkins.exported(made).text.splitlines() if line.strip().startswith("sh ")][1][
            :4
        ]
    )


def test_regression_jenkins_keeps_the_dependencies():
    text = jenkins.exported(load("feature-development")).text
    order = [
        text.index(f"--job {name} ")
        for name in ("design", "implement-backend", "write-tests", "fix-issues", "review", "document")
    ]
    assert order == sorted(order)
    between = text[text.index("parallel {") : text.index("--job write-tests")]
    assert "--job implement-backend" in between
    assert "--job implement-frontend" in between
    assert "unstash 'backlog-implement-backend'\n" in text
    assert "unstash 'backlog-implement-frontend'\n" in text


def test_triggers_needs_timeouts_env_secrets_setup_and_artifacts_are_there():
    from ruamel.yaml import YAML

    made = load("deploy-production")
    workflow = YAML(typ="safe").load(github_actions.exported(made).text)
    assert workflow["on"]["repository_dispatch"]["types"] == ["deploy_production"]
    job = workflow["jobs"]["deploy-production"]
    assert job["needs"] == ["smoke-tests"]
    assert job["timeout-minutes"] == 15
    assert job["env"] == {"DEPLOY_TOKEN": "${{ secrets.DEPLOY_TOKEN }}"}
    assert job["environment"] == "approve-deploy-production"
    assert any(step.get("name") == "tools" for step in workflow["jobs"]["build"]["steps"])
    assert "!cancelled()" in workflow["jobs"]["rollback"]["if"]
    validation = load("continuous-validation")
    workflow = YAML(typ="safe").load(github_actions.exported(validation).text)
    assert workflow["on"]["push"] == {"branches": ["main", "release/*"]}
    assert workflow["on"]["schedule"] == [{"cron": "0 3 * * *"}]
    gitlab = YAML(typ="safe").load(gitlab_ci.exported(validation).text)
    assert gitlab["report"]["needs"] == [{"job": each} for each in validation.job("report").depends_on]
    assert gitlab["report"]["when"] == "always"
    assert gitlab["security-check"]["allow_failure"] is True


def test_what_cannot_be_expressed_is_listed():
    for system in (github_actions, gitlab_ci, jenkins):
        missing = " ".join(system.exported(load("feature-development")).missing)
        for word in ("maxConcurrentJobs", "budget", "document.cache", "document.writeBack"):
            assert word in missing, (system.SYSTEM, word)
    assert "timezone Europe/Berlin" in " ".join(github_actions.exported(load("continuous-validation")).missing)


def test_a_job_of_an_exported_file_reads_what_came_before_and_obeys_its_condition(tmp_path):
    made = load("deploy-production")
    folder = tmp_path / ".backlog-worker"
    shutil.copytree(FILES / "pipelines", folder / "pipelines")
    shutil.copytree(FILES / "tools", folder / "tools")
    shutil.copytree(FILES / "agents", folder / "agents")
    shutil.copyfile(FILES / "policy.yml", folder / "policy.yml")
    (tmp_path / "input.json").write_text(json.dumps({"commit": "abc", "fail": "verify"}))

    def job(name, **env):
        arguments = [*ci.command(made, made.job(name)).split()[1:], "--input", "input.json"]
        command = [sys.executable, "-m", "backlog_worker", *arguments]
        given = {
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "DEPLOY_TOKEN": "t0ken-value",
            **env,
        }
        done = subprocess.run(command, cwd=tmp_path, env=given, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    results = {name: job(name) for name in made.order}
    assert {name: code for name, (code, _) in results.items()} == {
        **dict.fromkeys(made.order, 0),
        "verify-production": 1,
    }, results
    kept = {name: json.loads((tmp_path / ci.FOLDER / f"{name}.json").read_text()) for name in made.order}
    assert kept["build"]["output"] == {"step": "build", "commit": "abc"}
    assert kept["rollback"]["status"] == "completed", "it reads the failure of the job before"
    assert "t0ken-value" not in json.dumps(kept)
    code, text = job("nobody-knows") if "nobody-knows" in made.index else (3, "")
    assert (code, text) == (3, "")


def test_drift_is_found(tmp_path):
    path = tmp_path / "p.yml"
    path.write_text("name: p\njobs:\n  - { id: a, run: x }\n")

    def export(*more):
        command = [
            sys.executable,
            "-m",
            "backlog_worker",
            "pipeline",
            "export",
            str(path),
            "--to",
            "jenkins",
            "--install",
            "true",
            *more,
        ]
        env = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path(__file__).parents[2])}
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)

    assert export("--check").returncode == 7
    assert export().returncode == 0
    assert export("--check").returncode == 0
    path.write_text(path.read_text().replace("id: a", "id: b"))
    assert export("--check").returncode == 7
