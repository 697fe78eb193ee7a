"""A job that tries to print its secret in every way: nothing of it is stored, delivered, told or shown."""

import base64
import json
import logging
from types import MappingProxyType

import pytest

from backlog_worker.domain import masking
from backlog_worker.domain.forms import forms
from backlog_worker.telemetry import Masked
from backlog_worker.testing import bench, draft

SECRET = "Tr0ub4dor&3/" + "k9Z" * 8
SHOUT = """
import base64, json, os, sys
s = os.environ["TOKEN"]
said = [s, json.dumps(s), repr(s), s.encode().hex(), base64.b64encode(("user:" + s).encode()).decode()]
said += [base64.b64encode(b"x" * n + s.encode()).decode() for n in range(3)]
print("." * 380 + s)
print("." * (16 * 1024 - 10) + s + "." * 40)
for each in said:
    print(each)
sys.stdout.write(s[:9]); sys.stdout.flush(); sys.stdout.write(s[9:] + "\\n")
print("x" * (64 * 1024 - 400))
for each in said:
    print(each)
sys.stdout.flush()
"""


@pytest.fixture(autouse=True)
def _unknown():
    masking.forget()
    yield
    masking.forget()


def _table(tmp_path, body: str, secrets=MappingProxyType({"TOKEN": SECRET})):
    (tmp_path / "shout.py").write_text(SHOUT)
    env = "name: spec\njobs:\n  - id: j\n    env: { TOKEN: '${{ secrets.TOKEN }}' }\n"
    table = bench(pipelines=[env + body.replace("FOLDER", str(tmp_path))], secrets=secrets)
    table.file(draft())
    table.run()
    return table


def _everything(table) -> str:
    with table.kit.store.read() as unit:
        names = [row[0] for row in unit.run("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return "\n".join(str(tuple(row)) for name in names for row in unit.run("SELECT * FROM " + name))


def _nothing_is_left(text: str) -> None:
    left = [each for form in forms(SECRET) for each in (form, form[: (len(form) + 1) // 2]) if each in text]
    assert not left


@pytest.mark.parametrize(
    "body",
    [
        "    run: 'python FOLDER/shout.py; exit 1'\n",
        "    run: 'python FOLDER/shout.py; python -c \"import os; print(379 * chr(46) + os.environ[chr(84) + chr(79) + chr(75) + chr(69) + chr(78)])\"; exit 1'\n",
        '    run: \'echo $TOKEN | base64 > $BACKLOG_WORKSPACE/x; printf "{\\"a\\": \\"%s\\"}" $TOKEN > $BACKLOG_OUTPUT\'\n',
        "    run: 'true'\n    gates:\n      - { id: G-1, run: 'python FOLDER/shout.py; exit 1' }\n",
        "    run: 'true'\n    gates:\n      - { id: G-1, run: 'python FOLDER/shout.py; exit 1', onFail: ask }\n",
        '    run: \'printf "{\\"success\\": false, \\"message\\": \\"%0380d%s\\"}" 0 $TOKEN > $BACKLOG_OUTPUT\'\n',
        '    run: \'printf "{\\"%s\\": [\\"%s\\"]}" $TOKEN $TOKEN > $BACKLOG_OUTPUT\'\n    output: { type: string }\n',
        "    setup: [{ name: s, command: 'echo $TOKEN; exit 3' }]\n    run: 'true'\n",
    ],
    ids=["log", "last line", "output", "gate", "question", "message", "contract", "setup"],
)
def test_nothing_that_a_job_says_of_its_secret_is_stored(tmp_path, body):
    table = _table(tmp_path, body)
    text = _everything(table)
    assert "***" in text or "output" not in body
    _nothing_is_left(text)


def test_artifacts_hold_no_secret_in_any_writing(tmp_path):
    body = "    run: 'python FOLDER/shout.py > all.txt'\n    execution: { isolation: isolated }\n    artifacts: ['*.txt']\n"
    table = _table(tmp_path, body)
    with table.kit.store.read() as unit:
        [artifacts] = [row["artifacts"] for row in unit.select("stages", "SELECT artifacts FROM stages")]
    [kept] = artifacts
    content = table.kit.artifacts.read(kept["sha256"])
    _nothing_is_left(content.decode())
    assert b"***" in content


@pytest.mark.parametrize("value", ["", "abc", "12345", "  a b "])
def test_a_secret_too_short_to_mask_is_refused_with_the_way_out(tmp_path, value):
    table = _table(tmp_path, "    run: 'echo ran > FOLDER/ran.txt'\n", secrets={"TOKEN": value})
    assert not (tmp_path / "ran.txt").exists()
    assert "cannot be masked; use a longer one" in _everything(table)


def test_lines_of_libraries_and_their_tracebacks_hold_no_secret():
    masking.keep([SECRET])
    error = ValueError(f"proxy {SECRET} and Basic {base64.b64encode(f'u:{SECRET}'.encode()).decode()}")
    caught = (ValueError, error, error.__traceback__)
    record = logging.LogRecord("x", logging.ERROR, "f", 1, "%s", (SECRET,), caught)
    said = Masked("%(message)s").format(record)
    assert "ValueError" in said
    _nothing_is_left(said)


def test_what_is_printed_and_answered_holds_no_secret(capsys):
    from backlog_worker.cli import output
    from backlog_worker.web.app import Answer

    masking.keep([SECRET])
    output.say(f"a {SECRET}")
    output.talk(f"b {SECRET}")
    output.as_json("x", {"a": SECRET, SECRET: 1})
    output.table("", ("why",), [(f"c {SECRET}",)])
    body = Answer({"detail": f"d {SECRET}"}).body
    said = capsys.readouterr()
    _nothing_is_left(said.out + said.err + bytes(body).decode())
    assert json.loads(body) == {"detail": "d ***"}
