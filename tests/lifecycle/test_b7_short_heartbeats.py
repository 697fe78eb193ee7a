"""A heartbeat that is shorter than the pause between two sweeps gives no lease more time than it has."""

import pytest

from backlog_worker.testing import POLICY, bench

SHORT = POLICY.replace("timeout: 2m, heartbeat: 30s", "timeout: 3s, heartbeat: 500ms")


class EndedError(BaseException):
    """Stands for the end of a whole process."""


def ends(_job, _work):
    raise EndedError


def test_the_lease_of_a_lost_worker_expires_with_a_short_heartbeat_too():
    table = bench(policy=SHORT)
    table.executor.results["only"] = table.executor.results["draft"] = [ends]
    (filed,) = table.file({})
    table.sweep()
    with pytest.raises(EndedError):
        table.run(2)
    table.kit.heart.rest(list(table.kit.heart._takes))
    for _ in range(6):
        table.sweep()  # each two seconds after the one before
    with table.kit.store.read() as unit:
        assert unit.entry(filed.entry_id).attempt == 1
        assert unit.entry(filed.entry_id).status == "queued"
