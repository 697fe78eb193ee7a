"""The invariants: each has a query that finds a violation, and no row means that it holds."""

from collections.abc import Mapping
from dataclasses import dataclass

from backlog_worker.domain.entry import Change
from backlog_worker.store.sql.finding import Finding

_CHANGES = ", ".join(f"'{change}'" for change in Change)
# Most name an entry or a run, which is of this environment or none of our business.
_OURS = (
    "WITH v(subject) AS ({query}) SELECT subject FROM v WHERE subject IN (SELECT id FROM entries WHERE env = :env"
    " UNION ALL SELECT entry_id FROM retired WHERE env = :env UNION ALL SELECT id FROM runs WHERE env = :env)"
)
_RUN_CHANGES = (
    "'taken', 'attempted', 'checkpointed', 'returned', 'retried', 'completed', 'failed', 'escalated', 'blocked'"
)
INVARIANTS: Mapping[str, tuple[str, str]] = {
    "I1": (
        "An entry is in progress exactly when one live run holds it.",
        "SELECT e.id FROM entries e LEFT JOIN runs r ON r.id = e.run_id AND r.entry_id = e.id AND r.ended_at IS NULL"
        " WHERE e.status = 'in_progress' AND r.id IS NULL UNION SELECT r.entry_id FROM runs r"
        " JOIN entries e ON e.id = r.entry_id WHERE r.ended_at IS NULL AND coalesce(e.run_id, '') <> r.id",
    ),
    "I2": (
        "A write of a run that lost its claim is refused.",
        f"SELECT v.entry_id FROM events v WHERE v.run_id IS NOT NULL AND v.change IN ({_RUN_CHANGES}) AND v.run_id <>"
        " (SELECT c.run_id FROM events c WHERE c.entry_id = v.entry_id AND c.change = 'claimed' AND c.seq < v.seq"
        " ORDER BY c.seq DESC LIMIT 1)",
    ),
    "I3": (
        "A run ends once.",
        "SELECT run_id FROM events WHERE run_id IS NOT NULL AND change IN ('blocked', 'returned', 'expired', 'retried',"
        " 'completed', 'failed', 'escalated', 'canceled') GROUP BY run_id HAVING count(*) > 1",
    ),
    "I4": (
        "A take of a stage is started once, and a void take writes nothing.",
        "SELECT entry_id FROM events WHERE change = 'taken' GROUP BY entry_id, data ->> 'job_id', data ->> 'take'"
        ", data ->> 'pipeline_hash', data ->> 'round' HAVING count(*) > 1 UNION SELECT c.entry_id FROM events c"
        " WHERE c.change = 'checkpointed' AND NOT EXISTS (SELECT 1 FROM events t WHERE t.entry_id = c.entry_id"
        " AND t.change = 'taken' AND t.seq < c.seq AND t.run_id = c.run_id"
        " AND t.data ->> 'job_id' = c.data ->> 'job_id'"
        " AND t.data ->> 'take' = c.data ->> 'take')",
    ),
    "I5": (
        "Nothing waits without something that wakes it.",
        "SELECT id FROM entries e WHERE (status IN ('ready', 'in_progress') AND leased_until < {grace})"
        " OR (status = 'escalated' AND NOT EXISTS (SELECT 1 FROM reviews r WHERE r.entry_id = e.id"
        " AND r.kind = 'dead_letter' AND r.answer IS NULL))",
    ),
    "I6": (
        "Each history is complete, numbered 1 to n without gap, in time order.",
        "SELECT e.id FROM entries e LEFT JOIN events v ON v.entry_id = e.id GROUP BY e.id, e.seq"
        " HAVING count(v.seq) <> e.seq OR coalesce(max(v.seq), 0) <> e.seq UNION SELECT v.entry_id FROM events v"
        " JOIN events p ON p.entry_id = v.entry_id AND p.seq = v.seq - 1 WHERE p.at > v.at",
    ),
    "I9": (
        "Every run that completed, failed or escalated has one record.",
        "SELECT r.entry_id FROM runs r WHERE r.ended_by IN ('completed', 'failed', 'escalated') AND NOT EXISTS"
        " (SELECT 1 FROM events v WHERE v.run_id = r.id AND v.change = 'recorded')",
    ),
    "I10": (
        "An escalated entry has one open dead letter with owner and due time.",
        "SELECT e.id FROM entries e WHERE e.status = 'escalated' AND (SELECT count(*) FROM reviews r"
        " WHERE r.entry_id = e.id AND r.kind = 'dead_letter' AND r.answer IS NULL AND r.owner <> '') <> 1"
        " UNION SELECT r.entry_id FROM reviews r JOIN entries e ON e.id = r.entry_id WHERE r.kind = 'dead_letter'"
        " AND r.answer IS NULL AND e.status <> 'escalated'",
    ),
    "I12": (
        "An answer is applied once.",
        "SELECT r.entry_id FROM reviews r LEFT JOIN events v ON v.entry_id = r.entry_id AND v.change = 'answered'"
        " AND v.data ->> 'review_id' = r.id WHERE r.answer IS NOT NULL GROUP BY r.id, r.entry_id"
        " HAVING count(v.seq) <> 1",
    ),
    "I13": (
        "No claim without eligibility under the policy of that moment.",
        "SELECT v.entry_id FROM events v WHERE v.change = 'claimed' AND (v.data -> 'eligibility' IS NULL"
        " OR CAST(v.data -> 'eligibility' AS text) LIKE '%false%')",
    ),
    "I14": (
        "Within a tick, positions follow scores.",
        "SELECT b.entry_id FROM receipts a JOIN receipts b ON b.decision_id = a.decision_id"
        " AND b.position = a.position + 1 WHERE a.score IS NOT NULL AND b.score > a.score",
    ),
    "I19": (
        "One entry per environment and dedupe key.",
        "SELECT dedupe_key FROM entries WHERE env = :env GROUP BY env, dedupe_key HAVING count(*) > 1",
    ),
    "I21": (
        "A stored output has its artifacts.",
        "SELECT s.entry_id FROM stages s WHERE s.status = 'completed' AND s.sha256 IS NULL AND s.output IS NOT NULL",
    ),
    "I22": (
        "A run in progress has a stage that runs, or was rung for.",
        "SELECT e.id FROM entries e WHERE e.status = 'in_progress' AND e.claimed_at < {grace} AND NOT EXISTS (SELECT 1"
        " FROM stages s WHERE s.entry_id = e.id AND s.run_id = e.run_id AND (s.status = 'running'"
        " OR (s.status = 'pending' AND s.rung_at IS NOT NULL)))",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """One broken invariant, and the entry or key where it was seen."""

    invariant: str
    subject: str
    text: str


class Verify(Finding):
    """Verbs that look for what must never be."""

    def violations(self, *, grace: float = 10.0, limits: Mapping[str, int] | None = None) -> list[Violation]:
        """Run every invariant query over this environment.

        *grace* is two sweeps in seconds, *limits* the caps of the live policy.
        """
        self.plan_freely()
        found = []
        for name, (text, query) in {**INVARIANTS, **_capped(limits or {})}.items():
            values: dict[str, object] = {"grace": grace} if "{grace}" in query else {}
            if ":cap" in query:
                values["cap"] = (limits or {})[name]
            ours = query if ":env" in query else _OURS.replace("{query}", query)
            rows = self.run(ours.replace("{grace}", self.past("grace")) + " LIMIT 20", env=self.env, **values)
            found += [Violation(invariant=name, subject=str(row[0]), text=text) for row in rows]
        return found


def _capped(limits: Mapping[str, int]) -> dict[str, tuple[str, str]]:
    known = {
        "I11": (
            "An entry that kills its workers stops after a bounded number of expiries.",
            "SELECT id FROM entries WHERE env = :env AND expiries >= :cap"
            " AND status IN ('queued', 'ready', 'in_progress', 'retrying')",
        ),
        "I16": (
            "Ready and in progress together stay within admission.maxInProgress.",
            "SELECT env FROM entries WHERE env = :env AND status IN ('ready', 'in_progress') GROUP BY env"
            " HAVING count(*) > :cap",
        ),
    }
    return {name: known[name] for name in limits}
