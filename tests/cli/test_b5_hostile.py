"""B5: what strangers wrote is never control: every command, in words, on a terminal and as JSON, and every document."""

import ast
import json
import logging
import re
from pathlib import Path

import pytest

import backlog_worker
from backlog_worker import settings, telemetry
from backlog_worker.domain import digest as digests
from backlog_worker.domain.digest import DigestFile
from backlog_worker.domain.markdown import code, comment, escaped
from backlog_worker.domain.outcome import Asked, Done, FailureKind, Refused
from backlog_worker.testing import bench
from tests.fuzz.cli import ENDLESS, answer, commands

MARK = "QZX"
# What a terminal, a reader of Markdown or a browser would take for more than text; MARK finds it again.
CONTROL = ("\x1b[31m", "\x1b]0;", "\x07", "\x08", "\x9b2J", "\x7f", "\u202e", "\u2066", "\u200e", "\u2028", "\x0c")
HOSTILE = f"{MARK}{''.join(f'{each}{MARK}' for each in CONTROL)} [bold]B[/bold] [/] <img src=x> `a`|b| @everyone #1"
INERT = f"{MARK} [bold]B[/bold] [/] <img src=x> `a`|b| @everyone #1 [l](http://evil) ![i](x) www.evil.com ~~~~ --> x.md"
OURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")  # colours of a drawing, and the cursor of one that is drawn again

PACKAGE = Path(backlog_worker.__file__).parent
PRINTING = {"print", "echo", "secho", "Console", "Live", "Progress", "pprint"}
# Markup that no text may become: a tag, a mention, a reference, a link, a code span, a cell.
MARKUP = (
    r"<(?!!-- backlog)\w",
    r"@\w",
    r"#\d",
    r"\w://",
    r"(?<!\\)\]\(",
    r"(?<!\\)`a",
    r"www\.",
    r"(?<!\\)\|b",
    r"GH-\d",
)

POLICY = """\
version: 1
eligibility:
  - { id: ELIG-LABEL, check: "'ai-ok' in entry.labels" }
claims: { timeout: 2m, heartbeat: 30s, maxAttempts: 1, retryDelay: 0s }
admission: { maxInProgress: 100 }
"""
PIPELINE = """\
name: spec
version: 1
jobs:
  - { id: draft, python: "fake:draft" }
  - { id: check, python: "fake:check", dependsOn: draft }
"""
SAID = ["--reason", HOSTILE]
# Every command with what it needs; those that change come after those that read. DONE, LATE and ASKED are entries.
LINES = """
status | doctor | explain DONE | explain LATE | schema policy | explain-code NOT_ELIGIBLE | entry show DONE
entry history DONE | entry history LATE | entry next | entry list | entry list --retired | run list | run show DONE
run logs DONE | run watch DONE --timeout 0.1 | run replay LATE | run compare DONE LATE | run artifacts DONE
writeback list | writeback show DONE | writeback show DONE --markdown | writeback show LATE --markdown
writeback verify | review list | review list --answered | review show ASKED | review show LATE | dlq list
dlq show LATE | dlq groups | pipeline list | pipeline show spec | pipeline validate | pipeline graph spec
pipeline graph spec --to mermaid | pipeline estimate spec | pipeline test spec | pipeline record DONE
pipeline fmt spec --check | pipeline diff spec 1 1 | pipeline cache | policy validate | policy show | policy history
policy test | agent list | agent check | agent try WORD --task WORD | budget list | tool list
tool run --tool backlog_tool --action list | generate weekly | generate daily | alert list | alert test WORD | token list
role list | schedule list | schedule export | schedule registry | schedule check WORD | worker list
worker healthy WORD | db status | db verify | audit verify | audit export DONE --out bundle.json
audit export LATE | audit show bundle.json | audit show bundle.json --format markdown | audit show bundle.json --format html
audit operations | audit at DONE 2030-01-01 | audit diff DONE 2020-01-01 2030-01-01 | audit rebuild
pipeline export spec --to github-actions --out ci --install WORD | db migrate | db merge | db compact | db retain --dry-run
entry add WORD --label WORD --owner WORD --team WORD --source WORD | entry import bad.json | entry import bad.json --dry-run
entry comment DONE WORD | entry hold ASKED | entry release ASKED | entry edit ASKED --title WORD
entry requeue DONE | entry cancel --where MARK --dry-run | entry requeue --where MARK --dry-run
dlq requeue --where MARK --dry-run | dlq discard LATE | review decide ASKED reject | writeback send
run start spec --title WORD --timeout 0.1 | run cancel DONE | run resume LATE | run retry LATE | run rerun LATE
run fork DONE --from draft | pipeline run spec --job draft --outputs missing.json | pipeline apply spec.yml
pipeline retire spec | policy apply | alert ack WORD | token create WORD --role viewer | token revoke WORD
schedule run sweep | db backup out.sqlite | audit seal | audit redact DONE --field title | audit hold DONE
audit release DONE | entry cancel ASKED | init
"""
CASES = [case.strip() for case in LINES.replace("\n", "|").split("|") if case.strip()]


def written(folder):
    """Write a file of which one record is good, and others are refused in many ways."""
    named = {"title": HOSTILE, "labels": [HOSTILE], "number": 7, "createdAt": "2026-01-01T00:00:00Z", "url": HOSTILE}
    bad = [named, {**named, "priority": HOSTILE}, {HOSTILE: HOSTILE}, {**named, "title": {"a": HOSTILE}}, HOSTILE]
    (folder / "bad.json").write_text(json.dumps([*bad, {**named, "url": f"https://github.com/a/b/issues/9{HOSTILE}"}]))


def lived(url):
    """Let three entries run whose every text is hostile: one is done, one needs a person, one failed."""
    table = bench(url=url, policy=POLICY, pipelines=[PIPELINE])
    table.executor.results = {
        "draft": [
            Done(output={"said": HOSTILE, MARK: [HOSTILE]}, artifacts={INERT: HOSTILE.encode()}),
            Refused(kind=FailureKind.GATE, reason=HOSTILE, rule=INERT, data={"said": HOSTILE}),
            Asked(question=HOSTILE, detail=HOSTILE),
        ]
    }
    found = {}
    for name in ("DONE", "LATE", "ASKED"):
        fields = {
            "title": f"{name} {HOSTILE}",
            "labels": ["ai-ok", INERT],
            "input": {"title": HOSTILE, "body": HOSTILE},
        }
        (filed,) = table.file(fields)
        assert filed.entry_id, filed
        found[name] = filed.entry_id
        table.run(4)
    return table, found


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A project whose entries, runs, reviews and files are full of hostile texts; commands run in it."""
    folder = tmp_path_factory.mktemp("b5")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        patched.setenv("BACKLOG_ACTOR", "ana")
        assert answer(["init"])[0] == 0
        (folder / ".backlog-worker/policy.yml").write_text(POLICY)
        (folder / ".backlog-worker/pipelines/spec.yml").write_text(PIPELINE.replace("fake:", "json:"))
        assert answer(["entry", "add", HOSTILE])[0] == 0, "the database is made by a command"
        table, names = lived(settings.load().database)
        written(folder)
        yield table, names


def safe(line, said, *, drawn=False):
    text = OURS.sub("", said).replace("\r", "") if drawn else said
    if drawn:
        assert f"\x1b[31m{MARK}" not in said, line
    found = {each for each in text if not each.isprintable() and each not in "\n\t\u200b"}
    assert not found, (line, found, [each for each in text.splitlines() if found & set(each)][:3])


def spoken(names, case):
    words = [{"WORD": HOSTILE, "MARK": MARK}.get(each, names.get(each, each)) for each in case.split()]
    wants = next(each for each in commands() if words[: len(each.words)] == list(each.words))
    return words + (SAID if "--reason" in wants.options else [])


def test_b5_every_command_has_a_case():
    named = {each.words for each in commands()}
    have = {next((words for words in named if case.split()[: len(words)] == list(words)), case) for case in CASES}
    assert have == named, named ^ have
    assert {"up", "demo", "web"} == ENDLESS, "what never ends is said by tests of its own"


def test_b5_no_text_is_control_in_any_command_whether_in_words_on_a_terminal_or_as_json(world, monkeypatch):
    _, names = world
    told = 0
    for case in CASES:
        line = spoken(names, case)
        _, said = answer(["--json", *line])
        safe(line, said)
        monkeypatch.setenv("TTY_COMPATIBLE", "1")
        _, said = answer(line)
        monkeypatch.delenv("TTY_COMPATIBLE")
        safe(line, said, drawn=True)
        told += MARK in said
    assert told > 40, "the texts are there"


def test_b5_a_hostile_argument_is_shown_as_a_text(world, monkeypatch):
    monkeypatch.setenv("BACKLOG_ACTOR", HOSTILE.replace("\u2028", ""))
    for command in commands():
        for line in ([*command.words, HOSTILE], [*command.words, f"--{HOSTILE}"]):
            safe(line, answer(line)[1])


def test_b5_records_of_runs_keep_texts_as_texts_in_markdown(world):
    table, _ = world
    found = list(Path(table.kit.tracker.folder).glob("*.md"))
    assert len(found) >= 2
    for path in found:
        text = path.read_text()
        safe(path.name, text)
        head = text.partition("<details>")[0]
        assert MARK in head
        found = [each for each in MARKUP if re.search(each, head.replace(MARK, ""))]
        assert not found, (found, head)


def test_b5_names_and_notices_cannot_break_out_of_their_place():
    names = [
        "a`b",
        "a|b",
        "<img src=x>",
        "x --> <b>",
        "@ana",
        "#1",
        "[x](y)",
        "\x1b[2J",
        "- x",
        "1. x",
        "`",
        "GH-12",
        "x\ny",
    ]
    for name in names:
        assert "`" not in code(name).replace("\\`", "").replace(f"`{name}`", ""), name
        assert not [each for each in MARKUP if re.search(each, escaped(name))], name
        assert "-->" not in comment(name)
        assert "<" not in comment(name)
        assert not re.match(r"(\d+[.)]|[-+=#>])(\s|$)", escaped(name)), name
    digest = {"kind": "risk", "period": "2026-01-01", "env": "prod", "generated_at": "2026-01-01T00:00:00Z"}
    title = INERT[:280]
    services = [{"service": "api", "findings": [{"category": "risk", "title": title}]}]
    text = digests.markdown(DigestFile.model_validate({**digest, "services": services}))
    assert not [each for each in MARKUP if re.search(each, text.replace(MARK, ""))], text
    assert all(row.count("|") - row.count("\\|") == 4 for row in text.splitlines() if row.startswith("|"))


def test_b5_lines_of_logs_on_a_terminal_hold_no_control(capsys):
    telemetry.configure(level="INFO", as_json=False)
    telemetry.emit("denied", actor=HOSTILE, why={HOSTILE: [HOSTILE]})
    logging.getLogger("celery").warning("from a library: %s", HOSTILE)
    said = capsys.readouterr().err
    telemetry.configure(level="ERROR")
    assert said.count(MARK) > 3
    safe("a log", said, drawn=True)


def test_b5_nothing_prints_but_the_two_doors_of_the_command_line():
    doors = {"cli/output.py", "cli/screen.py"}
    # the log, a child of its own, the templates that `init` writes, and the streams that `main` makes ready
    doors |= {"telemetry.py", "executors/reaper.py", "cli/__init__.py"}
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        if name in doors or name.startswith("cli/files/"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            stream = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
            if called.rpartition(".")[2] in PRINTING or stream in {"sys.stdout", "sys.stderr"}:
                found.append(f"{name}:{node.lineno} {called or stream}")
    assert not found, found
