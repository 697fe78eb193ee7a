"""Compare the records at their sources with the ledger: missing, altered, or foreign records."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from backlog_worker.domain.events import digest
from backlog_worker.lifecycle import Kit
from backlog_worker.lifecycle.settle import TARGET

MOST = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """One difference between a source and the ledger."""

    topic: str
    what: str
    text: str
    wish: str = ""


def verify(kit: Kit, *, repair: bool = False) -> list[Drift]:
    """Compare every delivered record with its source; raises OSError if a source cannot be read.

    With *repair*, missing and altered records are sent again. Foreign records are reported and left alone.
    """
    with kit.store.read() as unit:
        sent = [wish for wish in unit.wishes(most=MOST) if wish["target"] == TARGET and wish["status"] == "sent"]
    found = []
    for wish in sorted(sent, key=lambda each: str(each["topic"])):
        drift = _compared(wish, kit.tracker.read(wish["topic"]))
        if drift is not None:
            found.append(drift)
    known = {wish["topic"] for wish in sent}
    strange = [topic for topic in kit.tracker.topics() if topic not in known]
    with kit.store.read() as unit:
        retired = unit.retired_rows(strange)  # their ledger was removed with their rows; their records stay
    text = "the source shows a record that the ledger does not know"
    found += [Drift(topic=topic, what="unknown", text=text) for topic in strange if topic not in retired]
    if repair and (again := [drift.wish for drift in found if drift.wish]):
        with kit.store.begin(actor=kit.worker) as unit:
            unit.send_again(again)
    return found


def _compared(wish: Mapping[str, Any], shown: Mapping[str, Any] | None) -> Drift | None:
    if shown is None:
        return Drift(topic=wish["topic"], what="missing", text="the source shows no record", wish=wish["id"])
    if digest(shown) == wish["sha256"]:
        return None
    text = f"the source shows {digest(shown)[:12]}, the ledger has {wish['sha256'][:12]}"
    return Drift(topic=wish["topic"], what="altered", text=text, wish=wish["id"])
