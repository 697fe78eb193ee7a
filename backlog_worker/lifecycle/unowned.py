"""Verify rows without an entry: tokens, definitions, receipts and remainders of retired entries.

Seals bind them; until the next seal they must at least agree with the recorded operations.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from backlog_worker.domain.errors import StoreError
from backlog_worker.domain.events import digest
from backlog_worker.lifecycle import Kit
from backlog_worker.lifecycle.audit import Proved
from backlog_worker.lifecycle.evidence import pinned
from backlog_worker.store import PIPELINE, POLICY, Violation

MOST = 1_000_000
NEAR = timedelta(seconds=1)  # an older release read the clock twice
Acts = Sequence[Mapping[str, Any]]


def verify(kit: Kit, proved: Proved | None = None) -> Iterator[Violation]:
    """Compare tokens, definitions, receipts and legal holds with their operations and decisions.

    *proved* counts the rows examined, and those older than the operations.
    """
    try:
        yield from _verify(kit, proved or Proved())
    except (ValueError, StoreError) as error:  # a row was written by something else
        yield Violation(invariant="I8", subject=kit.env, text=f"a row that belongs to no entry cannot be read: {error}")


def _verify(kit: Kit, counted: Proved) -> Iterator[Violation]:
    with kit.store.read() as unit:
        unit.snapshot()
        tokens, left, wishes = unit.tokens(kit.env), unit.all_retired(kit.env), unit.wishes("", most=MOST)
        retired = unit.retirements(kit.env, PIPELINE)
        definitions = [row for kind in (POLICY, PIPELINE) for row in unit.definitions(kit.env, kind)]
        names = ("token.create", "token.revoke", "audit.hold", "audit.release")
        acts = {name: unit.acts(kit.env, action=name, result="done", most=MOST)[::-1] for name in names}
        wrong, bound, unbound = unit.wrong_receipts(kit.env)
    counted.rows += bound + len(tokens) + len(left) + len(definitions)
    counted.loose("receipts", unbound)
    for decision, entry_id in wrong:
        text = f"the receipt of decision {decision} does not match the decision"
        yield Violation(invariant="I8", subject=entry_id, text=text)
    for row in (each for each in wishes if digest(each["body"]) != each["sha256"]):
        yield Violation(invariant="I8", subject=row["id"], text="the body of a message does not match its digest")
    there = {row["id"] for row in tokens}
    for act in (each for each in acts["token.create"] if each["subject"] not in there):
        yield Violation(invariant="I8", subject=act["subject"], text="a created token is missing")
    for row in tokens:
        yield from _named("token", row["id"], _token(row, acts["token.create"], acts["token.revoke"]))
    for row in definitions:
        yield from _named(row["kind"], f"{row['name']} {row['hash'][:12]}", _definition(row, definitions, retired))
    holds = sorted([*acts["audit.hold"], *acts["audit.release"]], key=lambda act: act["at"])
    for row in left:
        yield from _named("retired entry", row["entry_id"], _hold(row, holds))


def _named(what: str, name: str, wrong: Sequence[str]) -> Iterator[Violation]:
    if wrong:
        text = f"{what}: differs from the recorded operations: {', '.join(wrong)}"
        yield Violation(invariant="I8", subject=name, text=text)


def _token(row: Mapping[str, Any], made: Acts, revoked: Acts) -> list[str]:
    created = _last(made, row["id"])
    if created is None:
        return ["no operation created it"]
    gone = _last(revoked, row["id"])
    wanted = {
        "created_by": created["actor"],
        "created_at": created["at"],
        "name": created["detail"].get("name"),
        "role": created["detail"].get("role"),
        "revoked_by": gone["actor"] if gone else None,
    }
    found = [name for name, value in wanted.items() if row[name] != value]
    when = row["revoked_at"]
    same = when is None if gone is None else when is not None and abs(when - gone["at"]) <= NEAR
    return found if same else [*found, "revoked_at"]


def _definition(
    row: Mapping[str, Any], others: Sequence[Mapping[str, Any]], retired: Mapping[str, datetime]
) -> list[str]:
    read = pinned(row)
    wrong = [name for name in ("hash", "name", "version", "contracts") if read.get(name) != row[name]]
    newest = max(each["at"] for each in others if (each["kind"], each["name"]) == (row["kind"], row["name"]))
    gone = row["kind"] == PIPELINE and row["name"] in retired and retired[row["name"]] >= newest
    return wrong + (["live"] if bool(row["live"]) != (row["at"] == newest and not gone) else [])


def _hold(row: Mapping[str, Any], holds: Acts) -> list[str]:
    last = _last([act for act in holds if act["at"] >= row["at"]], row["entry_id"])
    held = last is not None and last["action"] == "audit.hold"
    words = f"{last['actor']}: {last['reason']}"[:500] if last is not None and held else ""
    return [] if row["legal_hold"] == words else ["legal_hold"]


def _last(acts: Acts, subject: str) -> Mapping[str, Any] | None:
    return next((act for act in reversed(acts) if act["subject"] == subject), None)
