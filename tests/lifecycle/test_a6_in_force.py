"""Reading never changes what is in force; the fleet of the project, a person, or the first entry does."""

from dataclasses import replace

import pytest

from backlog_worker.domain.errors import ConflictError, InvalidFileError, NotFoundError, UsageError
from backlog_worker.lifecycle import again, alerts, audit, dispatch, enact, explain, standing, triggers, watch
from backlog_worker.lifecycle.definitions import Book
from backlog_worker.testing import PIPELINE, POLICY, Texts, bench

STRICT = POLICY.replace("version: 1", "version: 2").replace("'ai-ok' in", "'robot' in")
CLOCKED = """\
name: nightly
version: 1
triggers: [{ type: schedule, cron: "* * * * *" }]
jobs: [{ id: one, python: "fake:one" }]
"""
HOOKED = """\
name: hooked
version: 1
triggers: [{ type: webhook, secret: "${{ secrets.HOOK }}" }]
jobs: [{ id: one, python: "fake:one" }]
"""
FALLING = """\
priority:
  terms: [{ id: age, value: "0.0 - entry.age_days" }]
"""
FAILING = """\
priority:
  tests:
    - name: low first
      entries: { a: { priority: high }, b: { priority: low, age_days: 1 } }
      order: [b, a]
"""
UNKNOWN = FAILING.replace("priority: high", "riskiness: 1").replace("order: [b, a]", "order: [a, b]")


def text(table, place, body):
    """Change a file."""
    table.texts.texts[place] = replace(table.texts.texts[place], body=body)


def process(table, *, fleet=False, bodies=None, place="texts"):
    """Another process over the same database, with files of its own."""
    texts = table.texts if bodies is None else Elsewhere(list(map(replace, table.texts.texts)), place=place)
    for at, body in enumerate(bodies or ()):
        texts.texts[at] = replace(texts.texts[at], body=body)
    return replace(table.kit, fleet=fleet, book=Book(env=table.kit.env), definitions=texts)


class Elsewhere(Texts):
    """Files of another folder."""

    def __init__(self, texts, place):
        super().__init__(texts)
        self._place = place

    @property
    def place(self):
        return self._place


def go(table, most=5):
    """Tick and answer; a real database's clock does not move for us, so the lease of the tick is given back."""
    for _ in range(most):
        with table.kit.store.begin() as unit:
            unit.run("DELETE FROM leases WHERE name LIKE 'dispatch%'")
        table.tick()
        table.ring()


def version(table):
    with table.kit.store.read() as unit:
        return Book(env=table.kit.env).policy(unit).version


@pytest.mark.parametrize("database_url", ["sqlite", "postgres"], indirect=True)
def test_a6_every_reader_leaves_what_is_in_force_and_says_that_its_files_differ(database_url):
    table = bench(url=database_url)
    (filed,) = table.file({})
    table.tick()
    other = process(table, bodies=[STRICT], place="/elsewhere")
    with table.kit.store.read() as unit:
        before = unit.definitions("prod", "policy"), unit.acts("prod")
    report = watch.report(other)
    explain.explain(other, filed.entry_id)
    explain.next_up(other, 10)
    dispatch.tick(other)
    with table.kit.store.read() as unit:
        assert (unit.definitions("prod", "policy"), unit.acts("prod")) == before
    assert report.policy.startswith("1 ")
    said = " ".join(report.findings)
    assert "policy policy 2" in said
    assert "policy apply --reason" in said


def test_a6_the_fleet_follows_one_folder_and_a_worker_in_another_changes_nothing():
    table = bench()
    enact.follow(table.kit, first=True)  # the fleet says which folder it follows
    stray = process(table, fleet=True, bodies=[STRICT], place="/tmp/elsewhere")
    assert not enact.follow(stray, first=True)
    assert version(table) == 1
    assert any("the fleet follows texts" in each for each in standing.standing(stray).differs)
    changed = enact.apply(stray, stray.definitions.files()[:1], actor="ana", reason="we moved", follows=True)
    assert len(changed) == 1
    assert version(table) == 2
    stray.definitions.texts[0] = replace(stray.definitions.texts[0], body=STRICT.replace("version: 2", "version: 3"))
    assert enact.follow(stray)
    assert version(table) == 3


def test_a6_what_a_person_applied_is_not_put_back_by_a_fleet_whose_file_is_older():
    table = bench()
    second = process(table, fleet=True)
    enact.follow(second, first=True)
    text(table, 0, STRICT)
    table.tick()
    assert version(table) == 2
    newer = process(table, bodies=[STRICT.replace("version: 2", "version: 3")])
    enact.apply(newer, newer.definitions.files()[:1], actor="ana", reason="now")
    table.tick()
    text(table, 1, PIPELINE + "description: of another file\n")
    table.tick()
    enact.follow(second)  # it sees the change to version 2 only now
    assert version(table) == 3
    text(table, 0, STRICT.replace("version: 2", "version: 4"))
    table.tick()
    assert version(table) == 4


def test_a6_an_apply_is_on_record_with_actor_and_reason_and_needs_both():
    table = bench()
    files = [replace(table.texts.texts[0], body=STRICT)]
    with pytest.raises(UsageError):
        enact.apply(table.kit, files, actor="ana", reason=" ")
    assert enact.apply(table.kit, files, actor="ana", reason="only robots", dry_run=True)
    assert version(table) == 1
    table.clock.forward(1)
    enact.apply(table.kit, files, actor="ana", reason="only robots")
    with table.kit.store.read() as unit:
        (act,) = unit.acts("prod", action="policy.apply", most=1)
        assert [(each["hash"], each["author"]) for each in unit.enactments("prod", "policy", "policy")][1:] == [
            (act["detail"]["sha256"], "ana")
        ]
    assert (act["actor"], act["reason"]) == ("ana", "only robots")
    assert list(audit.verify(table.kit)) == []


@pytest.mark.parametrize(("more", "code"), [(FALLING, "BW308"), (FAILING, "BW321"), (UNKNOWN, "BW303")])
def test_a6_a_policy_that_fails_its_tests_keeps_the_last_good_one_and_raises_the_alert(more, code):
    table = bench()
    text(table, 0, STRICT + more)
    table.tick()
    assert version(table) == 1
    report = watch.report(table.kit)
    assert code in " ".join(report.findings)
    assert "definition-invalid" in report.alerts
    assert "definition-invalid" in alerts.holding(watch.report(process(table)).shown, rules(table))
    with pytest.raises(InvalidFileError) as raised:
        enact.apply(table.kit, table.texts.files()[:1], actor="ana", reason="try")
    assert code in str(raised.value)
    text(table, 0, STRICT)
    table.tick()
    assert version(table) == 2
    assert "definition-invalid" not in watch.report(table.kit).alerts


def rules(table):
    with table.kit.store.read() as unit:
        return table.kit.book.policy(unit).alerts


def retired(table, name):
    with table.kit.store.read() as unit:
        return unit.retired_by("prod", "pipeline", name)


@pytest.mark.parametrize("database_url", ["sqlite", "postgres"], indirect=True)
def test_a6_a_retired_pipeline_starts_nothing_its_entries_wait_and_it_can_come_back(database_url):
    table = bench(url=database_url, pipelines=[PIPELINE, CLOCKED, HOOKED], secrets={"HOOK": "s" * 32})
    (filed,) = table.file({})
    table.clock.forward(1)
    assert enact.withdraw(table.kit, "spec", actor="ana", reason="wrong") == 1
    for name in ("nightly", "hooked"):
        enact.withdraw(table.kit, name, actor="ana", reason="no longer")
    table.tick()
    found = explain.explain(table.kit, filed.entry_id)
    assert [code for code, _ in found.reasons] == ["PIPELINE_RETIRED"]
    assert found.entry.status == "queued"
    assert "pipeline apply" in found.remedies[0]
    assert watch.report(table.kit).waiting == {"PIPELINE_RETIRED": 1}
    with pytest.raises(ConflictError, match="retired"):
        again.start(table.kit, "spec", {}, actor="ana")
    with pytest.raises(ConflictError, match="retired"):
        triggers.receive(table.kit, "hooked", b"{}", {})
    with table.kit.store.read() as unit:
        assert triggers.schedules(table.kit, unit) == []
    (barred,) = table.file({})
    assert barred.bars == ("DEFINITION_MISSING",)
    text(table, 0, POLICY + "defaults: { retention_days: 90 }\n")
    table.tick()
    assert retired(table, "spec") == "ana", "a change of another file brings nothing back"
    with pytest.raises(NotFoundError):
        enact.withdraw(table.kit, "unheard", actor="ana", reason="x")
    assert list(audit.verify(table.kit)) == []
    assert enact.apply(table.kit, table.texts.files()[1:2], actor="li", reason="mended")
    go(table)
    assert table.statuses() == {"completed": 2}
    assert list(audit.verify(table.kit)) == []


def test_a6_an_entry_that_was_chosen_as_its_pipeline_went_is_not_run():
    table = bench()
    table.file({})
    table.tick()
    enact.withdraw(table.kit, "spec", actor="ana", reason="wrong")
    table.ring()
    assert table.executor.performed == []
    assert table.statuses() == {"blocked": 1}
    enact.apply(table.kit, table.texts.files()[1:], actor="li", reason="mended")
    go(table)
    assert table.statuses() == {"completed": 1}


def test_a6_a_file_that_goes_while_the_fleet_runs_retires_its_pipeline_and_brings_it_back():
    table = bench(pipelines=[PIPELINE, CLOCKED])
    table.tick()
    gone = table.texts.texts.pop()
    table.tick()
    assert retired(table, "nightly") == "file"
    with table.kit.store.read() as unit:
        assert triggers.schedules(table.kit, unit) == []
        (act,) = unit.acts("prod", action="pipeline.retire")
    assert (act["subject"], act["reason"]) == ("nightly", "its file is gone")
    table.texts.texts.append(gone)
    table.tick()
    assert not retired(table, "nightly")
    with table.kit.store.read() as unit:
        assert [each.pipeline for each in triggers.schedules(table.kit, unit)] == ["nightly"]


def test_a6_while_any_file_is_wrong_nothing_is_retired_by_itself():
    table = bench(pipelines=[PIPELINE, CLOCKED])
    table.tick()
    table.texts.texts.pop()
    text(table, 1, "name: [")
    table.tick()
    table.tick()
    assert not retired(table, "nightly")
    text(table, 1, PIPELINE)
    table.tick()
    assert retired(table, "nightly") == "file", "now it is known that it is gone"


def test_a6_a_fleet_that_starts_with_a_file_less_retires_its_pipeline_where_no_other_worker_lives():
    table = bench(pipelines=[PIPELINE, CLOCKED])
    table.tick()
    table.texts.texts.pop()
    enact.follow(process(table, fleet=True), first=True)
    assert not retired(table, "nightly"), "the other workers may have newer files"
    with table.kit.store.begin() as unit:
        unit.lose_worker("w")
    enact.follow(process(table, fleet=True), first=True)
    assert retired(table, "nightly") == "file"
