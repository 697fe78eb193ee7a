"""Alert rules over the dashboard: a rule fires once when its condition has held long enough, notifies, and resolves."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from backlog_worker.domain import alert
from backlog_worker.domain.alert import MEASURES, Alert
from backlog_worker.domain.errors import NotFoundError
from backlog_worker.domain.expression import ExpressionError
from backlog_worker.domain.masking import cut
from backlog_worker.lifecycle import Kit, operation
from backlog_worker.lifecycle.dashboard import dashboard
from backlog_worker.store import AutoStore, Unit
from backlog_worker.telemetry import emit

NOTIFY = "notify:"
LEASE_SECONDS = 20.0
UNWATCHED_SECONDS = 150.0  # the clock evaluates the rules every minute


def evaluate(kit: Kit) -> dict[str, Any]:
    """Evaluate every rule and return what fired and what resolved; does nothing while another process evaluates
    them.
    """
    shown = _seen(kit, fresh=True)
    fired, ended = [], []
    with kit.store.begin(actor="alerts") as unit:
        if not unit.take_lease(f"alerts:{kit.env}", kit.new_id("tick"), LEASE_SECONDS):
            return {"fired": [], "resolved": []}
        rules, now = kit.book.policy(unit).alerts, unit.now()
        standing = unit.open_alerts(kit.env)
        for rule in rules:
            holds, words = _evaluated(rule, shown)
            row = standing.pop(rule.id, None)
            if holds and _fire(kit, unit, rule, row, words, now):
                fired.append(rule.id)
            elif not holds and row is not None and _resolve(kit, unit, row):
                ended.append(rule.id)
        for row in standing.values():  # its rule was removed
            unit.resolve_alert(row["id"])
    for rule_id in fired:
        emit("alert_fired", rule=rule_id, env=kit.env)
    for rule_id in ended:
        emit("alert_resolved", rule=rule_id, env=kit.env)
    return {"fired": fired, "resolved": ended}


def away(kit: Kit) -> bool:
    """Notify `oncall` that PostgreSQL is unavailable, once per outage and process, because no rule can be evaluated."""
    store = kit.store
    if not isinstance(store, AutoStore) or store.away_since is None or store.away_since == store.away_told:
        return False
    store.away_told = store.away_since
    words = "PostgreSQL is unavailable: the journal stores new work, and no entry is processed"
    body = {"kind": "alert.fired", "env": kit.env, "alert": store.away_since.isoformat(), "rule": "store-fallback"}
    try:
        kit.notifier.tell("oncall", f"alert store-fallback ({kit.env})", words, {**body, "words": words})
    except OSError as error:
        emit("writeback_failed", entry="store-fallback", error=str(error))
    return True


def acknowledge(kit: Kit, name: str, *, actor: str, reason: str) -> None:
    """Acknowledge an open alert by its rule or id; raises NotFoundError if no unacknowledged alert matches."""
    operation.reasoned(reason)
    with kit.store.begin(actor=actor) as unit:
        if not unit.ack_alert(kit.env, name, actor, reason):
            message = f"no alert {name} is open and unacknowledged"
            raise NotFoundError(message, hint="backlog-worker alert list")
        operation.record(kit, unit, "alert.ack", subject=name, reason=reason)


def rehearse(kit: Kit, rule_id: str = "") -> list[dict[str, Any]]:
    """Return for every rule whether it holds now and who would be notified; nothing is stored or sent."""
    shown = _seen(kit)
    with kit.store.read() as unit:
        rules = kit.book.policy(unit).alerts
    chosen = [rule for rule in rules if rule_id in {"", rule.id}]
    if not chosen:
        message = f"there is no alert rule {rule_id}"
        raise NotFoundError(message, hint=f"one of: {', '.join(rule.id for rule in rules)}")
    found = []
    for rule in chosen:
        holds, words = _evaluated(rule, shown)
        routes = {name: kit.notifier.route(name) for name in rule.notify}
        found.append({"rule": rule.id, "when": rule.source, "holds": holds, "words": words, "routes": routes})
    return found


def told(kit: Kit, rule_id: str) -> dict[str, str]:
    """Send a test message over every route of a rule and return the result of each."""
    (rule,) = rehearse(kit, rule_id)
    body = {
        "kind": "alert.test",
        "env": kit.env,
        "rule": rule_id,
        "words": "this is a test; no alert is active",
    }
    said = {}
    for name in rule["routes"]:
        try:
            said[name] = kit.notifier.tell(name, f"test of alert {rule_id}", body["words"], body)
        except OSError as error:
            said[name] = f"failed: {error}"
    return said


def watched(kit: Kit) -> bool:
    """Evaluate the rules if no process did so recently (no beat is running); the caller sends the messages."""
    with kit.store.read() as unit:
        late = unit.late_by(f"alerts:{kit.env}")
        born = (unit.now() - unit.born_at(kit.env)).total_seconds()
    if (born if late is None else late) < UNWATCHED_SECONDS:
        return False
    evaluate(kit)
    return True


def holding(shown: Mapping[str, Any], rules: Sequence[Alert]) -> dict[str, str]:
    """Return the text of each rule that holds on a dashboard, by rule id, whether or not it was notified."""
    asked = {rule.id: _evaluated(rule, shown) for rule in rules}
    return {rule_id: words for rule_id, (holds, words) in asked.items() if holds}


def measured(rules: Sequence[Alert]) -> bool:
    """Return whether any rule uses measures, which read whole tables."""
    return bool({name for rule in rules for name in rule.reads} & set(MEASURES))


def _seen(kit: Kit, *, fresh: bool = False) -> dict[str, Any]:
    with kit.store.read() as unit:
        rules = kit.book.policy(unit).alerts
    return dashboard(kit, measures=measured(rules), fresh=fresh)


def _evaluated(rule: Alert, shown: Mapping[str, Any]) -> tuple[bool, str]:
    if rule.when is None:
        return True, f"the rule cannot be evaluated: {rule.source} reads a field that the dashboard does not have"
    try:
        holds = rule.when.truth(alert.values(shown, rule.threshold))
    except ExpressionError as error:  # a rule that cannot be evaluated must not look resolved
        return True, f"the rule cannot be evaluated: {error}"
    numbers = ", ".join(f"{name} {shown[name]}" for name in rule.reads if isinstance(shown.get(name), int | float))
    threshold = f", threshold {rule.threshold:g}" if "threshold" in rule.source else ""
    named = [words for name in rule.reads for words in shown["details"].get(name, ())]
    return holds, cut("; ".join([f"{rule.source} ({numbers}{threshold})", *named]), 500)


def _fire(kit: Kit, unit: Unit, rule: Alert, row: Mapping[str, Any] | None, words: str, now: datetime) -> bool:
    if row is None:
        alert = {"id": kit.new_id("alert"), "env": kit.env, "rule": rule.id, "notify": list(rule.notify)}
        unit.begin_alert({**alert, "words": words})
        row = unit.open_alerts(kit.env)[rule.id]
    if row["fired_at"] is not None or now - row["since"] < rule.lasts:
        return False
    if not unit.fire_alert(row["id"], words):
        return False
    _enqueue_messages(kit, unit, row, "alert.fired", words, rule.notify)
    return True


def _resolve(kit: Kit, unit: Unit, row: Mapping[str, Any]) -> bool:
    unit.resolve_alert(row["id"])
    if row["fired_at"] is None:
        return False
    _enqueue_messages(kit, unit, row, "alert.resolved", row["words"], row["notify"])
    return True


def _enqueue_messages(
    kit: Kit, unit: Unit, row: Mapping[str, Any], kind: str, words: str, names: Sequence[str]
) -> None:
    """Add a message to the outbox for each recipient; the outbox retries delivery."""
    body = {"kind": kind, "env": kit.env, "alert": row["id"], "rule": row["rule"], "words": words}
    for name in names:
        wish = {"id": kit.new_id("wb"), "target": f"{NOTIFY}{name}", "topic": f"{row['id']}:{kind}", "entry_id": ""}
        unit.put({**wish, "run_id": None, "seq": 1, "body": body, "put_at": unit.now()})
