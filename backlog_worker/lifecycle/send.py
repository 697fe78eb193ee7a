"""Deliver the outbox: each message is taken in one transaction, sent outside of any, and marked in another."""

from collections.abc import Mapping
from typing import Any

from backlog_worker.domain.entry import Note
from backlog_worker.domain.masking import cut
from backlog_worker.domain.writeback import markdown
from backlog_worker.lifecycle import Kit
from backlog_worker.lifecycle.alerts import NOTIFY
from backlog_worker.lifecycle.loops import attempt
from backlog_worker.store import Unit
from backlog_worker.telemetry import emit

LEASE = 60.0  # longer than the time limit of a batch
BATCH = 20
ATTEMPTS_MAX = 20
WAIT_MAX = 3600.0


def send(kit: Kit) -> int:
    """Deliver due messages, and record the deliveries in the histories.

    Failed deliveries are retried at doubling intervals, and finally given up with a report.
    """
    delivered = 0
    while True:
        with kit.store.begin(actor="send") as unit:
            wishes = unit.take_wishes(LEASE, BATCH)
        if not wishes:
            return delivered
        ended = [(wish, *_deliver(kit, wish)) for wish in wishes]
        with kit.store.begin(actor="send") as unit:
            unit.hold([wish["entry_id"] for wish, _, _ in ended if wish["entry_id"]])  # entries are locked first
            for wish, remote, error in ended:
                if error:
                    _failed(unit, wish, error)
                elif unit.sent(wish, remote) and wish["entry_id"] in unit.held:
                    said = {"target": wish["target"], "sha256": wish["sha256"], "remote_id": remote}
                    unit.note(wish["entry_id"], Note.SENT, said)
        delivered += sum(not error for _, _, error in ended)


def _deliver(kit: Kit, wish: Mapping[str, Any]) -> tuple[str, str]:
    """Deliver one message; an error fails this message only."""
    tried = attempt("send", lambda: _write(kit, wish), entry=wish["entry_id"])
    return tried.value or ("", cut(f"{type(tried.error).__name__}: {tried.error}", 400))


def _write(kit: Kit, wish: Mapping[str, Any]) -> tuple[str, str]:
    try:
        if wish["target"].startswith(NOTIFY):
            name, body = wish["target"].removeprefix(NOTIFY), wish["body"]
            title = f"{body['kind'].replace('.', ' ')}: {body['rule']} ({body['env']})"
            return kit.notifier.tell(name, title, body["words"], body), ""
        return kit.tracker.write(wish["topic"], wish["body"], markdown(wish["body"])), ""
    except OSError as error:
        return "", str(error) or type(error).__name__


def _failed(unit: Unit, wish: Mapping[str, Any], error: str) -> None:
    give_up = wish["attempts"] >= ATTEMPTS_MAX
    unit.unsent(wish, error, min(WAIT_MAX, 2.0 ** wish["attempts"]), give_up=give_up)
    emit("writeback_given_up" if give_up else "writeback_failed", entry=wish["entry_id"], error=error)
