"""The house: style, types, layers and sizes; the tools' own words are shown where they fail."""

import ast
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = [path for path in (ROOT / "backlog_worker").rglob("*.py") if "versions" not in path.parts]


@pytest.mark.parametrize(
    "command",
    [
        ["ruff", "check", "."],
        ["ruff", "format", "--check", "."],
        ["mypy"],
        ["importlinter.cli", "lint"],
    ],
    ids=["ruff", "format", "mypy", "layers"],
)
def test_the_tools_find_nothing(command):
    runner = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()"]
    arguments = runner if command[0].startswith("importlinter") else [sys.executable, "-m", *command]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_modules_and_functions_stay_small():
    long = []
    sizes = []
    for path in MODULES:
        source = path.read_text()
        sizes.append(source.count("\n"))
        if sizes[-1] > 400:
            long.append(f"{path}: {sizes[-1]} lines")
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef):
                words = ast.get_docstring(node, clean=False)
                lines = node.end_lineno - node.lineno + 1 - (len(words.splitlines()) if words else 0)
                if lines > 40:
                    long.append(f"{path}:{node.lineno} {node.name}: {lines} lines")
    assert not long, "\n".join(long)
    assert statistics.median(sizes) <= 120


def test_nothing_is_called_utils():
    forbidden = {"utils", "helpers", "common", "manager", "base", "misc"}
    assert not [path for path in MODULES if path.stem in forbidden]


def test_except_exception_stands_at_the_edges_only():
    found = [path for path in MODULES for _ in range(path.read_text().count("except Exception"))]
    assert len(found) <= 4, found


def test_no_text_is_run_as_code_and_nothing_is_pickled():
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in {"eval", "exec", "compile", "__import__"}, path
            if isinstance(node, ast.Import):
                assert not {"pickle", "shelve", "marshal"} & {alias.name for alias in node.names}, path


def test_no_message_carries_anything_but_ids():
    from backlog_worker.domain.bell import claim_bell, stage_bell

    assert claim_bell(("bl_1", "bl_2"), 1).ids == ("bl_1", "bl_2")
    assert stage_bell("run_1", "draft", 2).task_id == "run_1.draft.2"
    assert stage_bell("run_1", "draft", 2, 3).task_id == "run_1.draft.2.r3"


def test_importing_the_package_does_nothing_and_help_is_light():
    code = "import sys, backlog_worker; print(sorted(m for m in sys.modules if m.split('.')[0] in {'celery', 'sqlalchemy', 'pydantic'}))"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )
    code = (
        "import sys; sys.argv = ['backlog-worker', '--help']\nfrom backlog_worker.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print('HEAVY', sorted({m.split('.')[0] for m in sys.modules} & {'celery', 'sqlalchemy', 'kombu', 'alembic', 'cel_expr_python'}))"
    )
    assert "HEAVY []" in subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_every_setting_of_celery_is_one_that_celery_knows():
    """A misspelt setting is ignored in silence."""
    code = (
        "import os\nfrom celery.app.defaults import NAMESPACES, flatten\n"
        "known = {key for key, _ in flatten(NAMESPACES)}\n"
        "from backlog_worker.celery import app, TASKS, ROUTES\nimport backlog_worker.tasks\n"
        "changed = set(app.conf.changes) | set(getattr(app.conf, 'maps', [{}])[0])\n"
        "ours = {k for k in open('backlog_worker/celery.py').read().split() if '=' in k}\n"
        "names = {k.split('=')[0] for k in ours if k.split('=')[0].startswith(('task_', 'worker_', 'broker_', 'beat_', 'result_'))}\n"
        "print(sorted(n for n in names if n not in known | {'task_id'}))\n"
        "print(sorted(set(TASKS.values()) - set(app.tasks)), sorted(set(TASKS) - set(ROUTES)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.split("\n")[:2] == ["[]", "[] []"], done.stdout + done.stderr
