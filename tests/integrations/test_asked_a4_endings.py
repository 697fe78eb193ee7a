"""Definitions are read with either ending of YAML, and two of one name are refused by both their names."""

from pathlib import Path

import pytest

from backlog_worker.cli.machine import write_files
from backlog_worker.integrations.project import Project
from backlog_worker.lifecycle.book import Book
from backlog_worker.testing import PIPELINE, POLICY, bench


def looked(folder: Path) -> Book:
    book = Book(env="prod")
    book.look(Project(folder))
    return book


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.mark.parametrize("ending", ["yml", "yaml"])
def test_a_file_is_read_with_either_ending(tmp_path, ending):
    more = "name: more\njobs: [{ id: b, run: 'true' }]\n"
    text = f"name: spec\nincludes: [common/more.{ending}]\njobs: [{{ id: a, run: 'true' }}]\n"
    files = {f"policy_{ending}": POLICY, f"pipelines__spec_{ending}": text, f"pipelines__common__more_{ending}": more}
    book = looked(write(tmp_path, **files))
    assert sorted(each.key for each in book.files) == ["pipeline/spec", "policy/policy"]
    assert book.findings == {}


def test_a_change_of_a_yaml_file_is_seen(tmp_path):
    project = Project(write(tmp_path, policy_yaml=POLICY, pipelines__spec_yaml=PIPELINE))
    project.files()
    assert not project.changed()
    write(tmp_path, pipelines__other_yaml=PIPELINE.replace("name: spec", "name: other"))
    assert project.changed()


def test_two_files_of_one_policy_are_refused_by_both_names(tmp_path):
    book = looked(write(tmp_path, policy_yml=POLICY, policy_yaml=POLICY.replace("version: 1", "version: 2")))
    assert book.files == ()
    assert {Path(file).name for file in book.findings} == {"policy.yml", "policy.yaml"}
    text = str(book.findings[str(tmp_path / "policy.yml")].findings[0])
    assert "policy.yaml" in text


def test_two_files_of_one_pipeline_are_refused_by_both_names_and_a_third_is_read(tmp_path):
    other = PIPELINE.replace("name: spec", "name: other")
    files = {"pipelines__spec_yml": PIPELINE, "pipelines__spec_yaml": PIPELINE, "pipelines__other_yml": other}
    book = looked(write(tmp_path, policy_yml=POLICY, **files))
    assert sorted(each.key for each in book.files) == ["pipeline/other", "policy/policy"]
    assert {Path(file).name for file in book.findings} == {"spec.yml", "spec.yaml"}
    for file, error in book.findings.items():
        (other_name,) = {"spec.yml", "spec.yaml"} - {Path(file).name}
        assert other_name in str(error.findings[0])


def test_init_writes_no_second_file_of_a_name(tmp_path):
    write(tmp_path, policy_yaml=POLICY)
    _, kept = write_files(tmp_path, force=True)
    assert tmp_path / "policy.yaml" in kept
    assert not (tmp_path / "policy.yml").exists()


def test_what_is_doubtful_in_a_definition_is_logged_as_it_comes_into_force(monkeypatch):
    said = {}
    monkeypatch.setattr("backlog_worker.lifecycle.definitions.emit", lambda event, **more: said.update({event: more}))
    bench(pipelines=[PIPELINE + "timeout: 30\n"])
    assert "30 milliseconds" in said["definition_doubtful"]["findings"][0]
