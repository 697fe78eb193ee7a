"""Empty the outbox: each wish is taken in a transaction of its own, sent outside of any, and marked in another."""

from backlog_worker.domain.writeback import markdown
from backlog_worker.lifecycle import Kit
from backlog_worker.telemetry import emit

LEASE = 60.0  # longer than any delivery may take
ATTEMPTS_MAX = 20
WAIT_MAX = 3600.0
AT_ONCE = 200


def send(kit: Kit) -> int:
    """Deliver what is due; what fails is tried again later, twice as late each time, and at last given up loudly."""
    delivered = 0
    for _ in range(AT_ONCE):
        with kit.store.begin(actor="send") as unit:
            wish = unit.take_wish(LEASE)
        if wish is None:
            break
        try:
            remote = kit.tracker.write(wish["topic"], wish["body"], markdown(wish["body"]))
        except OSError as error:
            give_up = wish["attempts"] >= ATTEMPTS_MAX
            wait = min(WAIT_MAX, 2.0 ** wish["attempts"])
            with kit.store.begin(actor="send") as unit:
                unit.unsent(wish, str(error), wait, give_up=give_up)
            emit("writeback_given_up" if give_up else "writeback_failed", entry=wish["entry_id"], error=str(error))
            continue
        with kit.store.begin(actor="send") as unit:
            unit.sent(wish, remote)
        delivered += 1
    return delivered
