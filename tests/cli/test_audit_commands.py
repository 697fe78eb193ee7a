"""What an auditor types: verify, show and export, and what retired entries answer."""

import json

import pytest
from typer.testing import CliRunner

from backlog_worker.cli import app, audits, entries, local, runs
from backlog_worker.lifecycle import evidence, retire, send
from backlog_worker.settings import Settings
from backlog_worker.testing import bench


@pytest.fixture
def table(monkeypatch):
    made = bench()
    for module in (audits, entries, local, runs):
        monkeypatch.setattr(module, "kit", lambda: (made.kit, Settings(actor="ana")))
    return made


@pytest.fixture
def run():
    def _run(*arguments, code=0):
        done = CliRunner().invoke(app, [str(each) for each in arguments], catch_exceptions=False)
        assert done.exit_code == code, done.output
        return done.output

    return _run


@pytest.fixture
def done(table):
    (filed,) = table.file({"title": "Login <b>loop</b>"})
    table.run(3)
    send.send(table.kit)
    table.clock.forward(3600)
    return filed.entry_id


def test_c1_a_bundle_is_verified_under_a_seal_or_the_seal_is_named_as_what_it_is(table, run, done, tmp_path):
    seal, bundle = tmp_path / "seal.json", tmp_path / "bundle.json"
    run("audit", "seal", "--out", seal)
    run("audit", "export", done, "--out", bundle)
    assert "The history is whole" in run("audit", "verify", bundle)
    assert "No seal was given" in run("audit", "verify", bundle)
    assert "Included under seal" in run("audit", "verify", bundle, "--seal", seal)
    anything = tmp_path / "any.json"
    for text, words in (
        ("{}", "not a seal"),
        (bundle.read_text(), "not a seal"),
        (json.dumps({**json.loads(seal.read_text()), "events": 1}), "does not match its own hash"),
    ):
        anything.write_text(text)
        told = run("audit", "verify", bundle, "--seal", anything, code=7)
        assert words in told
        assert "whole" not in told
        assert words in run("audit", "verify", "--seal", anything, code=7)
    for text in ("no json", "[]"):
        anything.write_text(text)
        with pytest.raises(Exception, match=r"any\.json"):
            run("audit", "verify", bundle, "--seal", anything)
    forged = json.loads(bundle.read_text())
    forged["runs"][0]["worker"] = "eve"
    bundle.write_text(
        json.dumps(evidence.bundles.bundle({k: v for k, v in forged.items() if k not in {"schema", "sha256"}}))
    )
    assert "worker" in run("audit", "verify", bundle, code=7)


def test_c1_verify_says_what_was_proved_and_what_not(table, run, done):
    told = run("audit", "verify")
    assert "every history is whole" in told
    assert "1 histories" in told
    assert "no external seal was given" in told
    with table.kit.store.begin() as unit:
        unit.run("UPDATE stages SET worker = 'eve'")
    told = run("audit", "verify", code=7)
    assert "stage draft: worker" in told
    assert "whole" not in told


def test_c2_a_bundle_is_shown_and_exported_in_every_form(table, run, done, tmp_path):
    bundle, page = tmp_path / "bundle.json", tmp_path / "page.html"
    run("audit", "export", done, "--out", bundle)
    shown = run("audit", "show", bundle)
    assert max(len(line) for line in shown.splitlines()) <= 80
    assert "What is proved" in shown
    assert run("audit", "show", bundle, "--format", "markdown").startswith("# Login &lt;b&gt;loop&lt;/b&gt;")
    run("audit", "export", done, "--format", "html", "--out", page)
    assert "&lt;b&gt;loop" in page.read_text()
    assert "## What is proved" in run("audit", "export", done, "--format", "markdown")
    bundle.write_text(bundle.read_text().replace("worker@bench", "worker@eve"))
    assert "This bundle proves nothing" in run("audit", "show", bundle, code=7)
    bundle.write_text("{}")
    with pytest.raises(Exception, match="cannot be shown"):
        run("audit", "show", bundle)


def test_c2_commands_answer_for_a_retired_entry(table, run, done):
    record = json.loads(run("--json", "writeback", "show", done))
    table.clock.forward(86_400 * 200)
    retire.cleanup(table.kit)
    assert "retired on 20" in run("entry", "history", done)
    assert "completed" in run("entry", "history", done)
    shown = json.loads(run("--json", "entry", "show", done))["data"]
    assert "evidence until 20" in shown["retired"]
    assert [each["ended_by"] for each in shown["runs"]] == ["completed"]
    assert shown["records"] == [record["data"]]
    assert json.loads(run("--json", "writeback", "show", done)) == record
    assert "Login" in run("writeback", "show", done, "--markdown")
    told = run("explain", done)
    assert "evidence until 20" in told
    assert "position" in told
