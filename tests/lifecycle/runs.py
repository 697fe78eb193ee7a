"""Runs of pipelines on either database, for tests: file an entry, let it go, look at what it left."""

import pytest

from backlog_worker.lifecycle import again, audit, watch
from backlog_worker.store import migrate, opened
from backlog_worker.testing import bench

CLAIMS = """\
version: 1
eligibility:
  - { id: ELIG-LABEL, check: "'ai-ok' in entry.labels" }
claims: { timeout: 2m, heartbeat: 30s, maxAttempts: 3, retryDelay: 0s }
admission: { maxInProgress: 100 }
"""


@pytest.fixture
def made():
    """Make a bench with these pipelines in memory."""
    return lambda *pipelines: bench(pipelines=pipelines, policy=CLAIMS)


@pytest.fixture(params=["memory", "postgres"])
def either(request):
    """Make a bench with these pipelines on either database."""

    def _made(*pipelines):
        url = "memory://"
        if request.param == "postgres":
            url = request.getfixturevalue("postgres_url")
            migrate.upgrade(opened(url))
        return bench(pipelines=pipelines, policy=CLAIMS, url=url)

    return _made


def pipeline(jobs, **top):
    head = "".join(f"{name}: {value}\n" for name, value in top.items())
    return f"name: spec\n{head}jobs:\n{jobs}"


def go(table, rounds=6):
    """Tick and answer until nothing moves any more."""
    for _ in range(rounds):
        with table.kit.store.begin() as unit:
            if unit.dialect.name == "postgresql":
                unit.count("UPDATE leases SET until = {now}")  # its clock is not ours to move
        table.tick()
        table.ring()
        table.sweep()
        table.ring()
    assert watch.verify(table.kit) == []
    assert list(audit.verify(table.kit)) == []


def run(table, *results, **fields):
    """File one entry, let it run, and return it."""
    (filed,) = table.file(fields)
    assert not filed.bars, filed.reason
    for job, listed in results:
        table.executor.results[job] = list(listed)
    table.executor.performed.clear()
    go(table)
    return entry(table, filed.entry_id)


def resume(table, found, *results, by=again.resume):
    """Go on with an entry that stopped, and return what was performed."""
    for job, listed in results:
        table.executor.results[job] = list(listed)
    table.executor.performed.clear()
    by(table.kit, last_run(table, found)["id"], actor="ana", reason="again")
    go(table)
    return performed(table)


def entry(table, entry_id):
    with table.kit.store.read() as unit:
        return unit.entry(entry_id)


def stages(table, found):
    with table.kit.store.read() as unit:
        return unit.stages({found.id: found.pipeline_hash})[found.id]


def statuses(table, found):
    return {job_id: str(stage.status) for job_id, stage in stages(table, found).items()}


def performed(table):
    return [job for _, job in table.executor.performed]


def last_run(table, found):
    with table.kit.store.read() as unit:
        return unit.runs(found.id)[0]


def record(table, found):
    with table.kit.store.read() as unit:
        return unit.wishes(found.id)[0]["body"]
