"""The counts behind the measures, from present rows and from the remains of retired entries.

A whole history is read only for entries that were retired before tallies existed.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta

from backlog_worker.domain.measures import WINDOW, Counts, Standing, Tally, spread, stood, waited
from backlog_worker.store.sql.access import Access
from backlog_worker.store.sql.dialect import moment

_STOOD = "SELECT status, declared, outcome, count(*) FROM entries WHERE env = :env GROUP BY 1, 2, 3"
_OF_ENV = " JOIN entries e ON e.id = r.entry_id WHERE e.env = :env"
_ESCALATED = (
    "SELECT count(DISTINCT r.entry_id) FROM reviews r" + _OF_ENV + " AND r.kind = 'dead_letter'"
    " AND e.declared = 'eligible'"
)
_WAITS = (
    "SELECT e.priority, e.status, min(CASE WHEN v.change = 'cleared' THEN v.at END),"
    " min(CASE WHEN v.change = 'claimed' THEN v.at END) FROM entries e JOIN events v ON v.entry_id = e.id"
    " AND v.change IN ('cleared', 'claimed') WHERE e.env = :env AND e.cleared_at IS NOT NULL"
    " AND (e.cleared_at >= {edge} OR e.status IN ('queued', 'ready', 'retrying')) GROUP BY e.id, e.priority, e.status"
)
_LEFT_WAITS = (
    "SELECT tally, cleared_at, waited, status FROM retired WHERE env = :env AND cleared_at >= {edge}"
    " AND waited IS NOT NULL"
)
_DOUBLED = (
    "SELECT count(*) FROM (SELECT v.entry_id FROM events v WHERE v.change = 'completed' AND (EXISTS (SELECT 1"
    " FROM entries e WHERE e.id = v.entry_id AND e.env = :env) OR EXISTS (SELECT 1 FROM retired r"
    " WHERE r.entry_id = v.entry_id AND r.env = :env)) GROUP BY v.entry_id HAVING count(*) > 1) doubled"
)
_MARGIN = timedelta(minutes=1)  # a row's clearing time is read slightly before that of its event


class Counting(Access):
    """Methods that count."""

    def counts(self, env: str) -> Counts:
        """Return the counts for measures."""
        self.plan_freely()
        left = self._left(env)
        rows = [
            Standing(status=row[0], declared=row[1], outcome=row[2], number=row[3]) for row in self._of(_STOOD, env)
        ]
        bars: dict[str, int] = {}
        text = "SELECT bars, count(*) AS seq FROM entries WHERE env = :env AND status = 'blocked' GROUP BY bars"
        for each in self.select("entries", text, env=env):
            for bar in each["bars"]:
                bars[bar] = bars.get(bar, 0) + each["seq"]
        ended = "SELECT r.ended_by, count(*) FROM runs r" + _OF_ENV + " AND r.ended_by IS NOT NULL GROUP BY 1"
        failures = "SELECT r.kind, count(*) FROM runs r" + _OF_ENV + " AND r.kind IS NOT NULL GROUP BY 1"
        past = left.counts()
        return Counts(
            by_status=dict(sorted(self.standings(env).items())),
            by_priority=self.priorities(env),
            bars=bars,
            retired=past.retired,
            **stood([*rows, *left.alike()]),
            runs=past.runs + int(self.value("SELECT count(*) FROM runs r" + _OF_ENV, env=env)),
            ended=dict(Counter(past.ended) + Counter(self._pairs(ended, env))),
            failures=dict(Counter(past.failures) + Counter(self._pairs(failures, env))),
            escalated_ever=past.escalated_ever + int(self.value(_ESCALATED, env=env)),
            waits=spread([*self._waits(env), *left.waits]),
            reviews_open=int(self.value("SELECT count(*) FROM reviews WHERE env = :env AND answer IS NULL", env=env)),
        )

    def doubled(self, env: str) -> int:
        """Count the entries that completed more than once according to their history."""
        self.plan_freely()
        return int(self.value(_DOUBLED, env=env))

    def keep_tallies(self, env: str, most: int) -> int:
        """Store tallies for entries that were retired before tallies existed; returns their number."""
        text = "SELECT entry_id FROM retired r WHERE env = :env AND tally IS NULL AND EXISTS (SELECT 1 FROM events v"
        ids = [row[0] for row in self.run(f"{text} WHERE v.entry_id = r.entry_id) LIMIT :most", env=env, most=most)]
        self.keep_tally(ids)
        return len(ids)

    def _left(self, env: str) -> Tally:
        """Count retired entries by their tallies, or by their histories if they have none."""
        tally = Tally(self.now())
        text = "SELECT status, tally, count(*) AS seq FROM retired WHERE env = :env AND tally IS NOT NULL GROUP BY 1, 2"
        for row in self.select("retired", text, env=env):
            tally.add_left(row["status"], row["tally"], row["seq"])
        for row in self.select("retired", _LEFT_WAITS.replace("{edge}", self._edge()), env=env, edge=self._since()):
            tally.add_wait(str(row["tally"]["priority"]), row["cleared_at"], row["waited"])
        text = "SELECT entry_id, status FROM retired WHERE env = :env AND tally IS NULL"
        older = {row[0]: row[1] for row in self.run(text, env=env)}
        histories = self.histories(list(older)) if older else {}
        for entry_id, status in older.items():
            if entry_id in histories:
                tally.add(histories[entry_id])
            else:
                tally.add_left(status, None)
        return tally

    def _waits(self, env: str) -> list[tuple[str, tuple[float, bool]]]:
        found, now = [], self.now()
        for row in self.run(_WAITS.replace("{edge}", self._edge()), env=env, edge=self._since()):
            times = [None if each is None else moment(each) for each in (row[2], row[3])]
            wait = waited(times[0], times[1], row[1], now)
            if wait is not None:
                found.append((str(row[0]), wait))
        return found

    def _edge(self) -> str:
        return self._moment("edge")

    def _since(self) -> float:
        return (self.now() - WINDOW - _MARGIN).timestamp()

    def _of(self, text: str, env: str) -> Sequence[tuple[str, str, str, int]]:
        return [(str(row[0]), str(row[1]), str(row[2]), int(row[3])) for row in self.run(text, env=env)]
