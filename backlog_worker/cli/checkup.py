"""The checks of `doctor`; each finding names the value and the command that repairs it."""

import os
from collections.abc import Iterator
from dataclasses import dataclass

from backlog_worker import settings, telemetry, wiring
from backlog_worker.domain.errors import BacklogError
from backlog_worker.domain.governing import ALERTS
from backlog_worker.domain.masking import cut, masked
from backlog_worker.executors import isolation
from backlog_worker.executors.isolation import Isolation
from backlog_worker.integrations import broker, notify
from backlog_worker.integrations.project import Project, policies
from backlog_worker.lifecycle import Kit, journal, standing, watch
from backlog_worker.lifecycle.book import STORED, Book
from backlog_worker.lifecycle.watch import GONE_SECONDS, Report
from backlog_worker.settings import Settings
from backlog_worker.store import Store, migrate

LATE_SECONDS = 30.0
ASKED_SECONDS = 300.0  # the clock evaluates the rules every minute
SEAL_SECONDS = 2 * 86_400.0  # a day, plus a day to notice


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The result of one check."""

    check: str
    found: str
    repair: str = ""
    bad: bool = False

    @property
    def mark(self) -> str:
        """Return `ok`, or `BAD`."""
        return "BAD" if self.bad else "ok"


def findings() -> list[Finding]:
    """Run all checks; a check that cannot run is a finding itself."""
    given = settings.load()
    telemetry.configure(level="WARNING")
    return [*_files(given), _isolation(given), *_notified(), *_broker(given), *_database(given)]


def _files(given: Settings) -> Iterator[Finding]:
    """Check every file of the project, also without the database; an invalid file hides no other."""
    if not policies(given.folder):
        yield Finding(check="files", found=f"no policy in {given.folder}", repair="backlog-worker init", bad=True)
        return
    book = Book(env=given.env)
    book.look(Project(given.folder, given.env))
    right = f"{given.folder}: {len(book.files)} files are valid"
    yield Finding(check="files", found=right)
    for each in (finding for error in book.findings.values() for finding in error.findings):
        kind = "policy" if each.code.startswith("BW3") else "pipeline"
        found = f"{each.file}:{each.line}:{each.column}: {each.code} {each.text}"
        yield Finding(check="definition", found=found, repair=f"backlog-worker {kind} validate", bad=True)


def _isolation(given: Settings) -> Finding:
    isolation.choose(given.isolation)
    weaker = isolation.in_force() is not Isolation.NAMESPACES
    repair = "install bubblewrap and allow user namespaces; until then `strict` jobs are refused" if weaker else ""
    return Finding(check="isolation", found=isolation.words(), repair=repair)


def _notified() -> Iterator[Finding]:
    """Check every address of notifications without sending any."""
    for name in sorted(each for each in os.environ if each.startswith(notify.PREFIX)):
        wrong = notify.fault(os.environ[name])
        repair = f"set {name} to log:, https://..., or an address of apprise such as mailto://" if wrong else ""
        yield Finding(check="notify", found=f"{name}: {wrong or 'can be an address'}", repair=repair, bad=bool(wrong))


def _broker(given: Settings) -> Iterator[Finding]:
    answer = broker.ask(given.broker)
    if not answer.answers:
        repair = "start it, correct BACKLOG_BROKER_URL, or backlog-worker up for an embedded one"
        yield Finding(check="broker", found=f"{answer.address}: {answer.error}", repair=repair, bad=True)
        return
    yield Finding(check="broker", found=answer.address)
    if given.broker.startswith("redis"):
        yield from _redis(given)


def _redis(given: Settings) -> Iterator[Finding]:
    import redis

    url = given.broker.replace("redis+socket://", "unix://")
    policy = redis.Redis.from_url(url, socket_timeout=2).config_get("maxmemory-policy").get("maxmemory-policy")
    evicts = policy not in {"noeviction", None}
    repair = "CONFIG SET maxmemory-policy noeviction" if evicts else ""
    yield Finding(check="broker eviction", found=str(policy), repair=repair, bad=evicts)


def _database(given: Settings) -> Iterator[Finding]:
    try:
        store = wiring.store_of(given)
        revision = migrate.revision(store)
    except BacklogError as error:
        text = f"{masked(given.database)}: {cut(str(error).splitlines()[0], 160)}"
        yield Finding(check="database", found=text, repair=error.hint or "correct BACKLOG_DATABASE_URL", bad=True)
        return
    newest = migrate.head()
    behind = revision != newest
    repair = "backlog-worker db migrate" if behind else ""
    yield Finding(
        check="database", found=f"{masked(given.database)}, revision {revision} of {newest}", repair=repair, bad=behind
    )
    if behind:
        return
    yield from _durable(store)
    try:
        kit = wiring.kit_of(given)
        yield from _backlog(kit)
        yield from _invariants(kit)
        yield from _proof(kit, given)
    except BacklogError as error:
        yield Finding(check="policy", found=str(error), repair=error.hint, bad=True)


def _durable(store: Store) -> Iterator[Finding]:
    with store.read() as unit:
        if store.dialect.name == "postgresql":
            for name in ("fsync", "full_page_writes", "synchronous_commit"):
                value = str(unit.value(f"SHOW {name}"))
                off = value == "off"
                repair = f"ALTER SYSTEM SET {name} = on" if off else ""
                yield Finding(check=f"database {name}", found=value, repair=repair, bad=off)
            standby = bool(unit.value("SELECT pg_is_in_recovery()"))
            repair = "name the primary in BACKLOG_DATABASE_URL" if standby else ""
            yield Finding(check="database role", found="replica" if standby else "primary", repair=repair, bad=standby)
        else:
            mode, sync = unit.value("PRAGMA journal_mode"), unit.value("PRAGMA synchronous")
            wrong = mode != "wal" or int(sync) < 2  # noqa: PLR2004 - FULL is 2
            yield Finding(check="database durability", found=f"{mode}, synchronous {sync}", bad=wrong)


def _proof(kit: Kit, given: Settings) -> Iterator[Finding]:
    """Check the journal and the last seal."""
    held = journal.waiting(kit)
    if held is not None:
        repair = "backlog-worker db merge, or let a worker's sweep do it" if held.count else ""
        found = f"{held.count} entries wait to be merged" + (f", in {held.folder}" if held.count else "")
        yield Finding(check="journal", found=found, repair=repair, bad=bool(held.count))
    with kit.store.read() as unit:
        last, now, old = unit.last_seal(), unit.now(), unit.first_event_at()
    since = last["at"] if last else old or now
    late = (now - since).total_seconds() > SEAL_SECONDS
    found = f"{last['at']:%Y-%m-%d %H:%MZ}" if last else "none yet"
    repair = "backlog-worker audit seal; is beat running?" if late else ""
    yield Finding(check="last seal", found=found, repair=repair, bad=late)
    pepper = given.folder / "state" / "token_pepper"
    if pepper.exists() and pepper.stat().st_mode & 0o077:
        yield Finding(check="token pepper", found="others can read it", repair=f"chmod 600 {pepper}", bad=True)


def _backlog(kit: Kit) -> Iterator[Finding]:
    report = watch.report(kit)
    yield Finding(check="policy", found=report.policy)
    for text in standing.standing(kit).differs:
        found, _, repair = text.partition("; ")
        yield Finding(check="in force", found=found, repair=repair, bad=True)
    for error in (each for file, each in kit.book.findings.items() if file.endswith(STORED)):
        text = f"{error.findings[0].file}: {error.findings[0].text}"
        yield Finding(check="definition", found=text, repair="put a newer version in force", bad=True)
    moving = any(report.counts.by_status.get(status) for status in ("queued", "ready", "in_progress", "retrying"))
    idle = not report.slots and moving
    found = f"{len(report.workers)} seen, {report.slots} slots for stages"
    yield Finding(
        check="workers",
        found=found,
        repair="backlog-worker up, or celery -A backlog_worker worker" if idle else "",
        bad=idle,
    )
    for name, seconds in report.silent.items():
        repair = f"look at its log and restart it; it is no longer named after {GONE_SECONDS / 3600:g} h"
        yield Finding(check="worker", found=f"{name} was not seen for {seconds:.0f} s", repair=repair, bad=True)
    late = moving and (report.last_tick is None or report.last_tick > LATE_SECONDS)
    tick = "never" if report.last_tick is None else f"{report.last_tick:.0f} s after its lease"
    yield Finding(check="dispatch tick", found=tick, repair="celery -A backlog_worker beat" if late else "", bad=late)
    with kit.store.read() as unit:
        asked = unit.late_by(f"alerts:{kit.env}")
    unasked = moving and (asked is None or asked > ASKED_SECONDS)
    words = "never" if asked is None else f"{asked:.0f} s late" if asked > 0 else f"again in {-asked:.0f} s"
    repair = "backlog-worker tool run --tool alert_tool --action evaluate; is beat running?" if unasked else ""
    yield Finding(check="alerts asked", found=words, repair=repair, bad=unasked)
    yield from _waiting(report)


def _waiting(report: Report) -> Iterator[Finding]:
    """Return the alert rules that hold now, notified or not, and why entries wait."""
    remedies = {str(each["id"]): str(each["remedy"]) for each in ALERTS}
    for rule, words in report.alerts.items():
        yield Finding(check=f"alert {rule}", found=words, repair=remedies.get(rule, "alerts of the policy"), bad=True)
    waits = ", ".join(f"{number} {code}" for code, number in report.waiting.items()) or "nothing"
    yield Finding(check="waiting", found=f"{waits}; {report.next} go next; as of {report.waiting_at}")


def _invariants(kit: Kit) -> Iterator[Finding]:
    broken = watch.verify(kit)
    repair = "backlog-worker db verify" if broken else ""
    yield Finding(check="invariants", found=f"{len(broken)} broken", repair=repair, bad=bool(broken))
