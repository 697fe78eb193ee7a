"""Options of every command, and of those that start processes: which are started, and what is printed how."""

import json
import re
import time

import pytest

from backlog_worker.cli import machine, supervisor
from backlog_worker.lifecycle import watch


def test_dir_names_another_project(story, tmp_path):
    assert story.entries()
    other = tmp_path / "other" / ".backlog-worker"
    story(f"--dir {other} init")
    assert json.loads(story(f"--dir {other} --json entry list").stdout)["data"] == []


def test_version_prints_the_release_and_does_nothing_else(story):
    assert re.search(r"\d+\.\d+", story("--version entry list").stdout)
    assert "wait-0" not in story("--version entry list").stdout


def test_json_lines_prints_one_line_for_each(story):
    lines = story("--json-lines entry list --limit 3").stdout.splitlines()
    assert [sorted(json.loads(line)) == sorted(story.data("entry list")[0]) for line in lines] == [True] * 3


def test_no_color_prints_none(story, monkeypatch):
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    colored = re.compile(r"\x1b\[[\d;]*3\d[;m]")
    assert colored.search(story("status").stdout)
    assert not colored.search(story("--no-color status").stdout)


def test_status_watch_looks_again_every_second(story, monkeypatch):
    reports, real = [], watch.report
    monkeypatch.setattr(watch, "report", lambda kit: reports.append(1) or real(kit))
    story("status")
    assert len(reports) == 1
    pauses = []

    def pause(seconds):
        pauses.append(seconds)
        if len(pauses) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", pause)
    story("status --watch", code=130)
    assert (len(reports), pauses) == (3, [1.0, 1.0])


@pytest.fixture
def started(story, monkeypatch):
    """Start nothing, and return which services would be started and how long they are watched."""

    def _started(line):
        seen = {"services": [], "watched": 0}

        def start(self, ready):
            seen["services"] = [(each.name, each.arguments) for each in self.services]

        def look(kit, of, *, done):
            seen["watched"] += 1
            return watch.report(kit)

        monkeypatch.setattr(supervisor.Supervisor, "start", start)
        monkeypatch.setattr(machine, "_watch", look)
        monkeypatch.setattr(machine, "_deliver", lambda kit: None)
        story(line)
        return seen

    return _started


@pytest.mark.parametrize(
    ("line", "more"),
    [
        ("up", set()),
        ("up --flower", {"flower"}),
        ("up --web", {"web"}),
        ("demo --entries 1", set()),
        ("demo --entries 1 --flower", {"flower"}),
    ],
)
def test_flower_and_web_start_one_service_more(started, line, more):
    names = {name for name, _ in started(line)["services"]}
    assert names & {"flower", "web"} == more
    assert {"stages", "beat"} <= names


@pytest.mark.parametrize(
    ("line", "slots"), [("demo --entries 1", "2"), ("demo --entries 1 --workers 5", "5"), ("up --workers 3", "3")]
)
def test_workers_are_the_slots_of_the_fleet(started, line, slots):
    arguments = dict(started(line)["services"])["stages"]
    assert arguments[arguments.index("-c") + 1] == slots


@pytest.mark.parametrize(("line", "watched"), [("demo --entries 1", 1), ("demo --entries 1 --keep", 2)])
def test_demo_keep_leaves_everything_up_when_the_backlog_is_done(started, line, watched):
    assert started(line)["watched"] == watched


@pytest.mark.parametrize(
    ("options", "place"), [("", ("127.0.0.1", 8420)), ("--host 0.0.0.0 --port 99", ("0.0.0.0", 99))]
)
def test_web_listens_where_it_is_told(story, monkeypatch, options, place):
    told = []
    monkeypatch.setattr("backlog_worker.web.limits.serve", lambda app, host, port: told.append((host, port)))
    story(f"web {options}")
    assert told == [place]


@pytest.mark.parametrize(("options", "words"), [("", "ready"), ("--task 'Count to three.'", "Count to three.")])
def test_agent_try_task_is_what_the_agent_is_asked(story, options, words):
    agents = story.folder / ".backlog-worker" / "agents"
    agents.mkdir()
    (agents / "parrot.md").write_text("---\nexecutor: command\ncommand: [cat]\n---\nSay it.\n")
    assert words in story(f"agent try parrot {options}").stdout
