"""The account of one entry: its evidence bundle in readable form, with a statement of what is proved.

It covers who, what, when, why, by which rules, and who answered. Text written by others is treated as data, and every
format of `render` keeps it as data.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from backlog_worker.domain.entry import Change, Note
from backlog_worker.domain.events import REDACTED, WORDS, event_words, is_redacted, worded
from backlog_worker.domain.evidence import Checked, artifacts_of

SHORT = 12
Row = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One section of an account: a title, sentences, a table, and verbatim texts."""

    title: str
    lead: Sequence[str] = ()
    columns: Row = ()
    rows: Sequence[Row] = ()
    blocks: Sequence[tuple[str, str]] = ()

    @property
    def empty(self) -> bool:
        """Return whether the section has no content."""
        return not (self.lead or self.rows or self.blocks)


def account(value: Mapping[str, Any], checked: Checked) -> list[Section]:
    """Return the sections of a bundle: the entry, what is proved, why it ran, how, by whom, and the results."""
    sections = [
        _head(value),
        Section(title="What is proved", lead=proved(value, checked)),
        _decisions(value),
        _runs(value),
        _stages(value),
        _tries(value),
        _gates(value),
        _people(value),
        _writebacks(value),
        _values(value),
        _artifacts(value),
        _definitions(value),
        _history(value),
        _waits(value),
    ]
    return [section for section in sections if not section.empty]


def proved(value: Mapping[str, Any], checked: Checked) -> list[str]:
    """Return sentences on what the check of a bundle proved; "whole" is used only if everything is bound."""
    if checked.faults:
        return [f"This bundle proves nothing: {len(checked.faults)} faults.", *checked.faults]
    counts = f"{checked.events} events, {checked.rows} rows bound by them"
    if checked.whole:
        found = [f"The history is whole: {counts}."]
    else:
        parts = [f"{number} {table}" for table, number in sorted(checked.unbound.items())]
        found = [
            f"Every digest fits: {counts}.",
            f"Not evidence: {', '.join(parts)}; written before events told of them.",
        ]
    if value.get("waits"):
        found.append(f"Not evidence: {len(value['waits'])} receipts of ticks that passed it over.")
    if checked.included is None:
        found.append("No seal was given: without one, nobody finds a history of which everything was forged.")
    else:
        one = checked.included
        found.append(f"Included under seal {one.seal}: events 1 to {one.seq} stood so on {one.at[:19]}Z.")
        if one.seq < checked.events:
            found.append(f"Events {one.seq + 1} to {checked.events} came after that and are under no seal given here.")
    return found


def _head(value: Mapping[str, Any]) -> Section:
    entry, left = worded(value["entry"]), value.get("retired")
    provenance = _object(entry.get("provenance"))
    pairs = {
        "entry": entry["id"],
        "status": f"{entry['status']}: {entry['reason']}",
        "environment": entry["env"],
        "pipeline": entry["pipeline"],
        "priority": entry["priority"],
        "owner": _joined([entry["owner"], entry["team"]]),
        "service": _joined([entry["service"], entry["category"]]),
        "labels": _joined(entry["labels"] if isinstance(entry["labels"], list) else [WORDS]),
        "source": _joined([entry["url"], entry["source"], entry["external_ref"]]),
        "filed by": _joined([provenance.get("author"), provenance.get("channel")]),
        "eligible by": _joined([provenance.get("eligible_by"), _at(provenance.get("eligible_at"))]),
        "created": _at(entry["created_at"]),
        "due": _at(entry["due_date"]),
        "legal hold": entry["legal_hold"],
        "retired": f"{_at(left.get('at'))}, evidence until {_at(left.get('evidence_until'))}" if left else "",
    }
    links = {kind.replace("_", " "): _joined(listed) for kind, listed in value["lineage"].items()}
    rows = [(name, _text(each)) for name, each in {**pairs, **links}.items() if each]
    return Section(title=_text(entry["title"]), columns=("", ""), rows=rows)


def _decisions(value: Mapping[str, Any]) -> Section:
    said = _moments(value, Change.CLAIMED)
    rows = []
    for each in value["receipts"]:
        terms = _object(each.get("terms"))
        parts = ", ".join(f"{name} {points}" for name, number in terms.items() if (points := _number(number, "+.2f")))
        score = _number(each.get("score"), ".2f") or "-"
        rows.append((_at(each["at"]), _text(each.get("policy")), _text(each.get("position")), score, parts))
    lead = [
        f"{_at(event['at'])}: eligible under policy {_text(event['data'].get('policy'))} by"
        f" {_joined(rule for rule, yes in _object(event['data'].get('eligibility')).items() if yes) or 'no rule'}."
        for event in said
    ]
    return Section(
        title="Why it went",
        lead=list(dict.fromkeys(lead)),
        columns=("tick", "policy", "position", "score", "terms"),
        rows=rows,
    )


def _runs(value: Mapping[str, Any]) -> Section:
    rows = [
        (
            *(_text(row.get(name)) for name in ("attempt", "id", "worker")),
            _at(row.get("claimed_at")),
            _at(row.get("ended_at")),
            _joined([row.get("ended_by") or "under way", row.get("kind")]),
            _text(row.get("reason")),
        )
        for row in sorted(value["runs"], key=lambda row: int(row["attempt"]))
    ]
    return Section(title="Runs", columns=("attempt", "run", "worker", "claimed", "ended", "how", "why"), rows=rows)


def _stages(value: Mapping[str, Any]) -> Section:
    rows = []
    for row in _in_order(value["stages"]):
        cost = _object(worded(row.get("cost")))
        usd = _number(cost.get("usd"), ".4f") or ("not known" if cost else "")
        reason = worded(row.get("reason")) or {}
        why = reason.get("text", "") if isinstance(reason, Mapping) else reason
        done = (_text(row["job_id"]), _text(row.get("status")), _text(row.get("attempts", 0)), _text(row.get("worker")))
        times = (_at(row.get("started_at")), _at(row.get("ended_at")))
        rows.append((*done, *times, usd, _text(row.get("sha256"))[:SHORT], _text(why)))
    columns = ("job", "status", "attempts", "worker", "started", "ended", "usd", "output", "why")
    return Section(title="Stages", columns=columns, rows=rows)


def _tries(value: Mapping[str, Any]) -> Section:
    rows = []
    for row in _in_order(value["stages"]):
        for number, each in enumerate(_list(row.get("tries")), start=1):
            rows.append((_text(row["job_id"]), str(number), _text(each.get("kind")), _text(each.get("reason"))))
    return Section(title="Attempts that failed", columns=("job", "attempt", "kind", "why"), rows=rows)


def _gates(value: Mapping[str, Any]) -> Section:
    rows = []
    for row in _in_order(value["stages"]):
        for each in _list(row.get("gates")):
            rule = _text(each.get("rule_sha256"))[:SHORT]
            rows.append(
                (_text(row["job_id"]), _text(each.get("id")), _text(each.get("result")), rule, _text(each.get("why")))
            )
    return Section(title="Gates", columns=("job", "gate", "result", "rule", "why"), rows=rows)


def _people(value: Mapping[str, Any]) -> Section:
    rows = []
    for row in sorted(value["reviews"], key=lambda row: str(row.get("opened_at"))):
        given = row.get("value")
        answer = _joined([row.get("answer") or "not answered", _json(given) if given is not None else ""])
        asked = (
            _text(row.get("kind")),
            _text(row.get("job_id")),
            _text(row.get("question")),
            _at(row.get("opened_at")),
        )
        said = (answer, _text(row.get("answered_by")), _at(row.get("answered_at")), _text(row.get("reason")))
        rows.append((*asked, _text(row.get("role")), *said))
    columns = ("kind", "job", "question", "asked", "role", "answer", "by", "at", "why")
    comments = [
        f"{_at(event['at'])}: {_text(event['actor'])} commented: {_text(event['data'].get('comment'))}"
        for event in _moments(value, Note.COMMENTED)
    ]
    return Section(title="People", lead=comments, columns=columns, rows=rows)


def _writebacks(value: Mapping[str, Any]) -> Section:
    rows = []
    for row in value["writebacks"]:
        body = _object(worded(row.get("body")))
        said = _joined([body.get("status"), _text(body.get("schema"))])
        sent = _at(row.get("sent_at")) or _text(row.get("status"))
        where = _joined([row.get("target"), row.get("remote_id")])
        rows.append((where, said, _at(row.get("put_at")), sent, _text(row.get("sha256"))[:SHORT]))
    return Section(title="Write-backs", columns=("where", "record", "put", "sent", "digest"), rows=rows)


def _values(value: Mapping[str, Any]) -> Section:
    present = value["entry"]["input_sha256"]
    blocks = []
    for sha, given in value["inputs"].items():
        which = "the input" if sha == present else "an earlier input"
        blocks.append((f"{which}, {sha[:SHORT]}", _shown(given)))
    done = [row for row in _in_order(value["stages"]) if row.get("sha256")]
    blocks += [(f"output of {row['job_id']}, {row['sha256'][:SHORT]}", _shown(row.get("output"))) for row in done]
    return Section(title="Inputs and outputs", blocks=blocks)


def _artifacts(value: Mapping[str, Any]) -> Section:
    rows = []
    for row in _in_order(value["stages"]):
        for each in artifacts_of(row):
            kept = (value["artifacts"].get(each["sha256"]) or {}).get("base64") is not None
            size, inside = str(each["size"]), "yes" if kept else "no"
            rows.append((_text(row["job_id"]), _text(each["name"]), size, each["sha256"], inside))
    return Section(title="Artifacts", columns=("job", "name", "bytes", "sha256", "in the bundle"), rows=rows)


def _definitions(value: Mapping[str, Any]) -> Section:
    rows = [
        (_text(each["kind"]), _text(each["name"]), _text(each["version"]), name)
        for name, each in value["definitions"].items()
    ]
    return Section(title="Definitions", columns=("kind", "name", "version", "sha256"), rows=rows)


def _history(value: Mapping[str, Any]) -> Section:
    rows = [
        (str(each["seq"]), _at(each["at"]), _text(each["change"]), _text(each["actor"]), event_words(each["data"]))
        for each in value["events"]
    ]
    last = value["events"][-1]["hash"] if value["events"] else ""
    columns = ("seq", "at", "change", "actor", "why")
    return Section(title="History", lead=[f"Its last hash is {last}."], columns=columns, rows=rows)


def _waits(value: Mapping[str, Any]) -> Section:
    rows = [
        (_at(row["at"]), _text(row["position"]), _joined(wait["code"] for wait in row["waits"]))
        for row in value.get("waits", ())
    ]
    lead = ["No event tells of these."] if rows else []
    return Section(
        title="Ticks that passed it over (not evidence)", lead=lead, columns=("tick", "position", "why"), rows=rows
    )


def _moments(value: Mapping[str, Any], change: str) -> Iterator[Mapping[str, Any]]:
    return (event for event in value["events"] if event["change"] == change)


def _in_order(stages: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return sorted(stages, key=lambda row: (str(row.get("started_at") or row.get("ended_at") or "~"), row["job_id"]))


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _number(value: object, form: str) -> str:
    return format(float(value), form) if isinstance(value, int | float) else ""


def _list(value: object) -> list[Mapping[str, Any]]:
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, list) else []


def _shown(value: object) -> str:
    if value is None:
        return "no longer here: its digest is told of by the history"
    return WORDS if is_redacted(value) else _json(value, indent=1)


def _json(value: object, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent, sort_keys=True)


def _at(value: object) -> str:
    """Return a moment as people read it, in UTC."""
    text = str(value or "")
    return text[:19].replace("T", " ") + "Z" if len(text) >= len("2026-01-01T00:00:00") else _text(value)


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, Mapping):
        return WORDS if REDACTED in value else _json(value)
    return str(value)


def _joined(parts: Iterable[object]) -> str:
    return ", ".join(_text(part) for part in parts if part)
