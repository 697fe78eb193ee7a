"""The record of a run as a person reads it."""

from collections.abc import Mapping
from typing import Any

from backlog_worker.cli.output import facts, following, ids, plain, say, table
from backlog_worker.cli.views.outputs import gate_words


def show_record(record: Mapping[str, Any]) -> None:
    """Print a record: what it is about, what was decided, what each stage did, and what came of it."""
    entry, run, decision = record["entry"], record.get("run") or {}, record.get("decision") or {}
    short = ids(entry.get("id"), run.get("id"))
    say(f"{short[entry.get('id')]}  {record.get('status', '')}", plain(entry.get("title", "")), "")
    reason = record.get("reason") or {}
    facts(
        ("source", str(entry.get("source") or "")),
        ("run", f"{short[run.get('id')]}, attempt {run.get('attempt')} by {run.get('worker')}" if run else ""),
        ("pipeline", f"{run.get('pipeline')} {run.get('pipeline_version')}" if run else ""),
        ("decided", f"policy {decision.get('policy_version')}, score {decision.get('score')}" if decision else ""),
        ("why", str(reason.get("text") or "")),
        ("cost", record.get("cost_usd")),
    )
    say("")
    rows = [
        (each["job"], each["status"], each["attempts"], (each.get("reason") or {}).get("text", ""))
        for each in record.get("stages", ())
    ]
    table("", ("job", "status", "attempts", "why"), rows)
    facts(*((f"gate {gate['id']}", gate_words(gate)) for each in record.get("stages", ()) for gate in each["gates"]))
    output = (record.get("output") or {}).get("artifacts", [])
    facts(*(("output", f"{each['name']} {each['sha256'][:12]}") for each in output))
    facts(*(("people", ", ".join(str(said) for said in each.values() if said)) for each in record.get("people", ())))
    following(f"backlog-worker audit export {short[entry.get('id')]} --format markdown")
