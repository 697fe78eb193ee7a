"""Every name that a user sees stands in the documents."""

import logging
import re
from pathlib import Path

import pytest

from backlog_worker import telemetry
from backlog_worker.domain.agent import AgentFile
from backlog_worker.domain.budget import Mode
from backlog_worker.domain.document import CODES
from backlog_worker.domain.entry import TRANSITIONS, Change, Note, Status
from backlog_worker.domain.frontier import StageStatus
from backlog_worker.domain.language import PipelineFile
from backlog_worker.domain.outcome import FailureKind
from backlog_worker.domain.policy import PolicyFile
from backlog_worker.domain.reasons import REMEDIES, Bar, Standing, Wait
from backlog_worker.domain.review import Answer, ReviewKind
from backlog_worker.domain.search import KEYS
from backlog_worker.lifecycle.follow import NAMES
from backlog_worker.settings import Settings

DOCS = Path(__file__).parents[1] / "docs"
CONFIGURATION = (DOCS / "configuration.md").read_text()
GLOSSARY = (DOCS / "glossary.md").read_text()
LIFECYCLE = (DOCS / "lifecycle.md").read_text()


@pytest.mark.parametrize(
    "words", [Status, Change, Note, StageStatus, FailureKind, Bar, Wait, Standing, Answer, ReviewKind, Mode]
)
def test_every_closed_list_stands_in_the_glossary(words):
    assert not [word for word in words if f"`{word}`" not in GLOSSARY]


def test_every_setting_is_documented():
    assert not [name for name in Settings.model_fields if f"`BACKLOG_{name.upper()}`" not in CONFIGURATION]


def keys(model) -> set[str]:
    schema = model.model_json_schema(by_alias=True)
    return {key for part in [schema, *schema["$defs"].values()] for key in part.get("properties", {})}


@pytest.mark.parametrize("model", [PolicyFile, PipelineFile, AgentFile])
def test_every_key_of_a_file_is_documented(model):
    assert not [key for key in keys(model) if not re.search(rf"[`.]{key}[`.\[]", CONFIGURATION)]


def test_every_policy_section_stands_in_the_glossary():
    sections = PolicyFile.model_json_schema(by_alias=True)["properties"]
    assert not [key for key in sections if f"`{key}`" not in GLOSSARY]


def test_every_command_is_documented():
    import typer

    from backlog_worker.cli import app

    group = typer.main.get_command(app)
    for name, command in group.commands.items():
        assert f"`{name}`" in CONFIGURATION, name
        for verb in getattr(command, "commands", {}):
            assert f"`{verb}`" in CONFIGURATION, f"{name} {verb}"


def test_every_event_code_and_key_is_documented():
    assert not [event for event in telemetry.EVENTS if f"`{event}`" not in CONFIGURATION]
    assert not [key for key in KEYS if f"`{key}`" not in CONFIGURATION]
    assert not [code for code in REMEDIES if f"`{code}`" not in LIFECYCLE]
    assert all(text and way for text, way in [*REMEDIES.values(), *CODES.values()])
    assert set(REMEDIES) == {*Bar, *Wait, *Standing}


def test_c5_the_table_of_events_has_the_levels_and_words_of_the_log():
    table = CONFIGURATION.split("## Log events")[1].split("\n## ")[0]
    rows = {
        name: (level, words)
        for name, level, words in re.findall(r"^\| `(\w+)` \| (\w+) \| (.*) \|$", table, re.MULTILINE)
    }
    assert rows == {
        name: (logging.getLevelName(level).lower(), words) for name, (level, words) in telemetry.EVENTS.items()
    }


def test_c5_the_table_of_reasons_has_the_words_of_explain_code():
    rows = re.findall(r"^\| `([A-Z_]+)` \| (.*) \| (.*) \|$", LIFECYCLE, re.MULTILINE)
    assert {code: (text, way) for code, text, way in rows} == {code.value: words for code, words in REMEDIES.items()}


def test_c5_the_table_of_metrics_has_the_words_of_the_metrics():
    from backlog_worker.web.metrics import NAMES

    table = CONFIGURATION.split("## Metrics")[1].split("\n## ")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| [^|]* \| (.*) \|$", table, re.MULTILINE))
    assert rows == {name: words for name, (_, words) in NAMES.items()}


def test_the_diagram_is_the_table():
    drawn = set(re.findall(r"^    (\w+) --> (\w+): (\w+)$", LIFECYCLE, re.MULTILINE))
    table = {(a.value, b.value, change.value) for change, moves in TRANSITIONS.items() for a, b in moves.items()}
    assert drawn == {row for row in table if row[2] != "canceled"}


def test_every_event_of_a_run_is_documented():
    assert not [name for name in NAMES if f"`{name}`" not in (DOCS / "pipelines.md").read_text()]


def test_links_between_documents_lead_somewhere():
    for path in [*DOCS.parent.glob("*.md"), *DOCS.rglob("*.md")]:
        for link in re.findall(r"\]\((?!http)([^)#]+)\)", path.read_text()):
            assert (path.parent / link).exists(), f"{path.name}: {link}"


def test_the_commands_of_the_readme_are_those_of_ci():
    readme = (DOCS.parent / "README.md").read_text()
    assert 'python -m pip install -e ".[dev]" && pytest' in readme
    assert 'python -m pip install ".[local]" && backlog-worker demo' in readme
    script = (DOCS.parent / ".ci" / "run").read_text()
    assert '-e ".[dev]"' in script
    assert script.rstrip().endswith("pytest")


def test_every_metric_scope_and_role_is_documented():
    from backlog_worker.domain.roles import ROLES, SCOPES
    from backlog_worker.web.metrics import NAMES

    assert not [name for name in (*NAMES, *SCOPES, *ROLES) if f"`{name}`" not in CONFIGURATION]


def test_every_alert_and_every_job_stands_in_the_documents():
    from backlog_worker.cli.schedules import document
    from backlog_worker.domain.governing import ALERTS

    runbook = (DOCS / "runbook.md").read_text()
    assert not [
        rule["id"] for rule in ALERTS if f"`{rule['id']}`" not in runbook or f"`{rule['id']}`" not in CONFIGURATION
    ]
    assert (DOCS / "schedule.md").read_text() == document(), "backlog-worker schedule registry > docs/schedule.md"


def test_every_anchor_in_the_documents_is_a_heading():
    for path in DOCS.rglob("*.md"):
        for name, anchor in re.findall(r"\]\(([\w.-]*)#([\w-]+)\)", path.read_text()):
            text = (path.parent / name).read_text() if name else path.read_text()
            heads = {
                re.sub(r"[^\w -]", "", head).strip().lower().replace(" ", "-")
                for head in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
            }
            assert anchor in heads, f"{path.name}: #{anchor}"


def test_every_route_is_documented():
    from backlog_worker.web.app import routes

    assert not [route.path for route in routes.routes if f"{route.path}`" not in CONFIGURATION]
