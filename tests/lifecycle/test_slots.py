"""Schedules over downtime: what was missed is made up for or skipped as `catchUp` says, and said."""

import threading
from datetime import UTC, datetime, timedelta

import pytest

from backlog_worker.domain.search import parsed
from backlog_worker.domain.slots import Slots
from backlog_worker.integrations import DefinitionFile
from backlog_worker.lifecycle import slots, triggers
from backlog_worker.lifecycle.slots import MISSED, Schedule
from backlog_worker.testing import PIPELINE, bench

START = datetime(2026, 10, 20, 12, tzinfo=UTC)  # the clocks of Berlin are changed on the 25th


def nightly(catch_up="", cron="30 2 * * *", zone="Europe/Berlin", version=1):
    more = f", catchUp: {catch_up}" if catch_up else ""
    trigger = f'triggers:\n  - {{ type: schedule, cron: "{cron}", timezone: {zone}, labels: [ai-ok]{more} }}\njobs:'
    return (
        PIPELINE.replace("name: spec", "name: nightly")
        .replace("version: 1", f"version: {version}")
        .replace("jobs:", trigger)
    )


def made(*pipelines):
    table = bench(pipelines=[PIPELINE, *pipelines])
    table.clock.now = START.timestamp()
    with table.kit.store.begin() as unit:  # the definitions of a bench are in force since its own beginning
        unit.run("UPDATE definitions SET at = :at", at=START.timestamp())
    triggers.scheduled(table.kit)
    return table


def keys(table):
    with table.kit.store.read() as unit:
        return [each.dedupe_key.partition(":0:")[2] for each in unit.search("prod", parsed(""), most=100)]


def said(table):
    with table.kit.store.read() as unit:
        return [(row["result"], row["reason"], row["detail"]) for row in unit.acts("prod", action=MISSED)]


def test_e_a_slot_on_time_is_filed_once_and_nothing_is_missed():
    table = made(nightly())
    table.clock.now = datetime(2026, 10, 21, 0, 30, 20, tzinfo=UTC).timestamp()
    assert len(triggers.scheduled(table.kit)) == 1
    assert triggers.scheduled(table.kit) == []
    assert keys(table) == ["2026-10-21T02:30:00+02:00"]
    assert said(table) == []


@pytest.mark.parametrize(("catch_up", "filed"), [
    ("", ["2026-10-25T02:30:00+02:00"]),
    ("once", ["2026-10-25T02:30:00+02:00"]),
    ("none", []),
    ("all", [f"2026-10-{day}T02:30:00+02:00" for day in range(21, 26)]),
])  # fmt: skip
def test_e_what_fell_into_downtime_is_made_up_for_as_catch_up_says_and_said(catch_up, filed):
    table = made(nightly(catch_up))
    table.clock.now = datetime(2026, 10, 25, 4, tzinfo=UTC).timestamp()  # nobody looked for five nights
    triggers.scheduled(table.kit)
    triggers.scheduled(table.kit)
    assert sorted(keys(table)) == filed
    ((_, words, detail),) = said(table)
    assert detail["count"] == 5
    assert words.startswith("5 missed, the first at 2026-10-21 00:30Z: ")
    assert detail["missed"][-1] == "2026-10-25 02:30+02:00"
    assert len(detail["made_up"]) == len(filed)


def test_e_downtime_of_two_hours_loses_no_daily_slot_also_when_the_file_was_changed_meanwhile():
    table = made(nightly())
    table.clock.now = datetime(2026, 10, 21, 2, tzinfo=UTC).timestamp()
    table.texts.texts = [
        *table.texts.texts[:-1],
        DefinitionFile(kind="pipeline", file="1.yml", body=nightly(version=2)),
    ]
    table.tick()  # the new version is in force after the slot, before anybody looked
    triggers.scheduled(table.kit)
    assert keys(table) == ["2026-10-21T02:30:00+02:00"]


def test_e_a_slot_before_the_definition_or_of_a_line_that_was_taken_out_is_not_made_up_for():
    table = made(nightly("all"))
    other = DefinitionFile(kind="pipeline", file="1.yml", body=nightly("all", cron="0 1 * * *", version=2))
    first = table.texts.texts[-1]
    table.clock.now = datetime(2026, 10, 21, 23, 30, tzinfo=UTC).timestamp()
    table.texts.texts = [*table.texts.texts[:-1], other]
    table.tick()
    triggers.scheduled(table.kit)
    assert keys(table) == [], "01:00 in Berlin passed half an hour before the new line was there"
    table.clock.now = datetime(2026, 10, 24, 20, tzinfo=UTC).timestamp()
    table.texts.texts = [
        *table.texts.texts[:-1],
        DefinitionFile(kind="pipeline", file="1.yml", body=first.body + "# again\n"),
    ]
    table.tick()
    triggers.scheduled(table.kit)
    assert keys(table) == [], "the first line came back: what it would have done meanwhile was not missed"


def test_e_two_that_look_at_once_file_and_say_it_once():
    table = made(nightly("all"))
    table.clock.now = datetime(2026, 10, 25, 4, tzinfo=UTC).timestamp()
    both = [threading.Thread(target=triggers.scheduled, args=(table.kit,)) for _ in range(2)]
    for each in both:
        each.start()
    for each in both:
        each.join()
    assert len(keys(table)) == 5
    assert len(said(table)) == 1


@pytest.mark.parametrize("step", [600, 1700])
@pytest.mark.parametrize(
    ("cron", "zone", "wanted"),
    [
        ("0 * * * *", "Europe/Berlin", 49),
        ("30 2 * * *", "Europe/Berlin", 2),
        ("0 0 * * *", "Asia/Beirut", 2),
        ("15 2 * * *", "Australia/Lord_Howe", 2),
    ],
)
def test_e_a_fleet_that_looks_every_so_often_files_each_slot_of_a_night_once(cron, zone, wanted, step):
    table = made(nightly("all", cron=cron, zone=zone))
    begin = (
        datetime(2026, 10, 24, 0, 10, tzinfo=UTC)
        if zone != "Australia/Lord_Howe"
        else datetime(2026, 10, 2, 20, tzinfo=UTC)
    )
    with table.kit.store.begin() as unit:
        (only,) = triggers.schedules(table.kit, unit)
        unit.leave_slot(only.name, unit.slot(only.name), begin)
        unit.run("UPDATE leases SET until = :at WHERE name = :name", at=begin.timestamp(), name=only.name)
    table.clock.now = begin.timestamp()
    for _ in range(49 * 3600 // step + 1):
        table.clock.forward(step)
        triggers.scheduled(table.kit)
    assert len(set(keys(table))) == len(keys(table)) == wanted


def beat(name="beat:daily_seal", catch_up="once", cron="0 3 * * *"):
    return Schedule(env="prod", name=name, slots=Slots.of(cron), catch_up=catch_up)


def taken(table, schedule):
    with table.kit.store.begin(actor="beat") as unit:
        found = slots.take(unit, schedule, table.kit.new_id)
    return list(found.due.run) if found else None


def test_e_a_job_of_the_clock_is_taken_by_one_beat_and_its_first_look_has_missed_nothing():
    table = made()
    assert taken(table, beat()) == []
    assert taken(table, beat()) is None
    table.clock.now = datetime(2026, 10, 21, 3, 0, 1, tzinfo=UTC).timestamp()
    assert taken(table, beat()) == [datetime(2026, 10, 21, 3, tzinfo=UTC)]
    assert taken(table, beat()) is None
    table.clock.forward(7200)
    assert taken(table, beat()) is None
    assert said(table) == []


@pytest.mark.parametrize(("catch_up", "runs"), [("once", 1), ("none", 0), ("all", 3)])
def test_e_what_a_job_of_the_clock_missed_is_done_as_the_schedule_says(catch_up, runs):
    table = made()
    taken(table, beat(catch_up=catch_up))
    table.clock.now = datetime(2026, 10, 23, 9, tzinfo=UTC).timestamp()
    assert len(taken(table, beat(catch_up=catch_up))) == runs
    assert [row[1] for row in said(table)] == [
        f"3 missed, the first at 2026-10-21 03:00Z: {f'{runs} made up for, {3 - runs} skipped' if runs else 'skipped'}"
    ]


def test_e_a_slot_whose_message_could_not_be_sent_is_found_again():
    table = made()
    taken(table, beat())
    table.clock.now = datetime(2026, 10, 21, 3, 0, 1, tzinfo=UTC).timestamp()
    with table.kit.store.begin(actor="beat") as unit:
        found = slots.take(unit, beat(), table.kit.new_id)
    with table.kit.store.begin(actor="beat") as unit:
        assert unit.leave_slot("beat:daily_seal", found.until, found.before)
        assert not unit.leave_slot("beat:daily_seal", found.until, found.before - timedelta(days=1)), (
            "only what is ours"
        )
    table.clock.forward(1)
    assert len(taken(table, beat())) == 1
