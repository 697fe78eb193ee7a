"""Slots and windows where clocks are changed: intervals go on in real time, times of day are once, windows are true."""

import os
import subprocess
import sys
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from itertools import islice, pairwise, takewhile
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from backlog_worker.domain import trigger
from backlog_worker.domain.admission import _closed
from backlog_worker.domain.slots import Slots, local, moment
from backlog_worker.domain.window import Window
from tests.domain.test_decisions import entry

# Each rule of the world that is a rule of its own: 02:00/03:00, 24:00, 00:00, half an hour, a day's end in the evening,
# a change that goes back in the month of fasting, the other half of the year, offsets of no full hour, and none at all.
ZONES = (
    *("Europe/Berlin", "America/Santiago", "Asia/Beirut", "Australia/Lord_Howe", "America/Nuuk", "Africa/Casablanca"),
    *("America/New_York", "America/Havana", "Africa/Cairo", "Asia/Gaza", "Pacific/Auckland", "Pacific/Chatham"),
    *("America/St_Johns", "Europe/Dublin", "Antarctica/Troll", "America/Asuncion", "Asia/Tehran", "Europe/Volgograd"),
    *("Asia/Kolkata", "Asia/Kathmandu", "Pacific/Kiritimati", "Etc/GMT+5", "UTC"),
)
FIRST, LAST = datetime(2020, 1, 1, tzinfo=UTC), datetime(2031, 1, 1, tzinfo=UTC)
zones = st.sampled_from(ZONES)
moments = st.datetimes(datetime(2020, 1, 1), datetime(2030, 12, 1), timezones=st.just(UTC))  # noqa: DTZ001 - in UTC


def between(slots, first, last):
    return list(takewhile(lambda each: each <= last, slots.after(first)))


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("at", [(0, 0), (0, 30), (1, 30), (2, 15), (3, 0), (23, 30)])
def test_e_a_time_of_day_is_due_exactly_once_for_every_day_of_eleven_years(zone, at):
    hour, minute = at
    where = ZoneInfo(zone)
    found = between(Slots.of(f"{minute} {hour} * * *", zone), FIRST - timedelta(days=2), LAST + timedelta(days=2))
    days = [date(2020, 1, 1) + timedelta(days=n) for n in range((date(2031, 1, 1) - date(2020, 1, 1)).days)]
    wanted = [first_shown(datetime.combine(day, time(hour, minute)), where) for day in days]
    assert [each for each in found if wanted[0] <= each <= wanted[-1]] == wanted
    assert len(set(wanted)) == len(days)


def first_shown(wall, where):
    """Find the first moment whose clock shows *wall*, or stands after it; near a change by looking at every minute."""
    around = {(wall + timedelta(days=n)).replace(tzinfo=where).utcoffset() for n in (-1, 0, 1)}
    if len(around) == 1:
        return wall.replace(tzinfo=UTC) - around.pop()
    at = wall.replace(tzinfo=UTC) - where.utcoffset(wall.replace(tzinfo=None)) - timedelta(hours=2)
    while at.astimezone(where).replace(tzinfo=None) < wall:
        at += timedelta(minutes=1)
    return at


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize(
    ("cron", "minutes"), [("*/5 * * * *", 5), ("0 * * * *", 60), ("17 */1 * * *", 60), ("*/30 0-23 * * *", 30)]
)
def test_e_an_interval_has_the_same_gap_in_every_night(zone, cron, minutes):
    slots = Slots.of(cron, zone)
    for change in changes(zone):
        found = between(slots, change - timedelta(hours=5), change + timedelta(hours=5))
        assert {later - earlier for earlier, later in pairwise(found)} == {timedelta(minutes=minutes)}
        back = list(islice(slots.until(change + timedelta(hours=5)), len(found)))
        assert back[::-1] == found


@lru_cache
def changes(zone):
    """Return the moments of eleven years at which the clocks of a zone are changed, or the first day of all where none are."""
    where, found, at = ZoneInfo(zone), [], FIRST
    while at < LAST:
        if at.astimezone(where).utcoffset() != (at + timedelta(days=1)).astimezone(where).utcoffset():
            minute = at
            while minute.astimezone(where).utcoffset() == (minute + timedelta(minutes=1)).astimezone(where).utcoffset():
                minute += timedelta(minutes=1)
            found.append(minute + timedelta(minutes=1))
        at += timedelta(days=1)
    return found or [FIRST]


@pytest.mark.parametrize(
    ("zone", "cron", "day", "shown"),
    [
        ("Europe/Berlin", "30 2 * * *", "2026-03-29", ["2026-03-29 03:00+02:00"]),
        ("Europe/Berlin", "30 2 * * *", "2026-10-25", ["2026-10-25 02:30+02:00"]),
        ("Europe/Berlin", "0,30 2,3 * * *", "2026-03-29", ["2026-03-29 03:00+02:00", "2026-03-29 03:30+02:00"]),
        ("Europe/Berlin", "0 1-3 * * *", "2026-10-25", ["2026-10-25 01:00+02:00", "2026-10-25 02:00+02:00", "2026-10-25 03:00+01:00"]),
        ("America/Santiago", "0 0 * * *", "2026-09-06", ["2026-09-06 01:00-03:00"]),
        ("America/Santiago", "30 23 * * *", "2026-04-04", ["2026-04-04 23:30-03:00"]),
        ("Asia/Beirut", "0 0 * * *", "2026-03-29", ["2026-03-29 01:00+03:00"]),
        ("Asia/Beirut", "15 23 * * *", "2026-10-24", ["2026-10-24 23:15+03:00"]),
        ("Australia/Lord_Howe", "15 2 * * *", "2026-10-04", ["2026-10-04 02:30+11:00"]),
        ("Australia/Lord_Howe", "45 1 * * *", "2026-04-05", ["2026-04-05 01:45+11:00"]),
        ("UTC", "30 2 * * *", "2026-03-29", ["2026-03-29 02:30+00:00"]),
        ("Etc/GMT+5", "30 2 * * *", "2026-03-29", ["2026-03-29 02:30-05:00"]),
    ],
)  # fmt: skip
def test_e_each_rule_of_a_zone_by_the_clock_on_the_wall(zone, cron, day, shown):
    slots, where = Slots.of(cron, zone), ZoneInfo(zone)
    begin = moment(datetime.fromisoformat(day), where)
    end = moment(datetime.fromisoformat(day) + timedelta(days=1), where)
    found = between(slots, begin - timedelta(seconds=1), end - timedelta(seconds=1))
    assert [local(each, where) for each in found] == shown


@given(
    zones,
    moments,
    st.sampled_from(
        ["30 2 * * *", "0 */6 * * *", "0 * * * *", "*/7 * * * 1-5", "0 0 1 * *", "0 12 * * MON#1", "10 * 29 2 *"]
    ),
)
@settings(max_examples=150, deadline=None)
def test_e_slots_forward_and_back_are_the_same_and_next_to_each_other(zone, now, cron):
    slots = Slots.of(cron, zone)
    last, after = slots.last(now), slots.next(now)
    assert last <= now < after
    assert slots.next(last) == after
    assert slots.last(after - timedelta(seconds=1)) == last
    assert slots.last(after) == after


@pytest.mark.parametrize(("cron", "zone", "words"), [
    ("* * * * * *", "UTC", "6 fields"), ("0 0 * *", "UTC", "4 fields"), ("", "UTC", "0 fields"), ("61 * * * *", "UTC", "not a cron line"),
    ("0 0 30 2 *", "UTC", "cron line"), ("0 3 * * *", "Europe/Berln", "not a time zone"), ("0 3 * * *", "", "not a time zone"),
    ("@daily", "UTC", "1 fields"), ("0 3 * * *", "../etc/passwd", "not a time zone"), ("0 3 * * *", "/etc/localtime", "not a time zone"),
])  # fmt: skip
def test_e_what_is_no_cron_line_or_no_zone_says_so(cron, zone, words):
    with pytest.raises(ValueError, match=words):
        Slots.of(cron, zone)


DAYS = ("mon-sun", "sun", "sat", "mon-fri", "sat-mon", "wed,sun")
HOURS = (
    "00:00-24:00",
    "22:00-06:00",
    "02:00-03:00",
    "02:15-02:45",
    "00:00-01:00",
    "23:30-00:30",
    "08:00-20:00",
    "23:00-23:59",
    "01:00-01:00",
)


@given(zones, st.sampled_from(DAYS), st.sampled_from(HOURS), st.data())
@settings(max_examples=150, deadline=None)
@example("Europe/Berlin", "sun", "02:00-03:00", None)
def test_e_a_window_opens_when_it_says_and_not_a_minute_before(zone, days, hours, data):
    near = changes(zone) if data else [datetime(2026, 3, 29, 1, tzinfo=UTC)]
    at = data.draw(st.sampled_from(near)) if data else near[0]
    now = at + timedelta(minutes=data.draw(st.integers(-3000, 3000)) if data else -60)
    window = Window(days=days, hours=hours, timezone=zone)
    opening = window.opens(now)
    if opening is None:
        assert open_by_hand(window, now)
        return
    assert opening > now
    assert window.opens(opening) is None
    assert open_by_hand(window, opening)
    for step in islice(minutes(now, opening), 6000):
        assert window.opens(step) is not None
        assert not open_by_hand(window, step)


def minutes(now, opening):
    step = now
    while step < opening:
        yield step
        step += timedelta(minutes=17)
    yield opening - timedelta(minutes=1)


def open_by_hand(window, now):
    """Ask each day by a walk over its minutes, which knows nothing of how the window finds its ends."""
    where = ZoneInfo(window.timezone)
    first, last = window.hours.split("-")
    begin = timedelta(hours=int(first[:2]), minutes=int(first[3:]))
    end = timedelta(hours=int(last[:2]), minutes=int(last[3:]))
    end += timedelta(days=1) if end <= begin else timedelta()
    chosen = [spread(part) for part in window.days.split(",")]
    for offset in (-1, 0):
        day = now.astimezone(where).date() + timedelta(days=offset)
        if not any(day.weekday() in each for each in chosen):
            continue
        midnight = datetime.combine(day, time())
        if first_shown(midnight + begin, where) <= now < first_shown(midnight + end, where):
            return True
    return False


def spread(part):
    names = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
    first, _, last = part.partition("-")
    begin, end = names.index(first), names.index(last or first)
    return {(begin + n) % 7 for n in range((end - begin) % 7 + 1)}


@pytest.mark.parametrize(("zone", "night"), [
    ("Europe/Berlin", "2026-03-28"), ("Europe/Berlin", "2026-10-24"), ("America/Santiago", "2026-09-05"), ("America/Santiago", "2026-04-04"),
    ("Asia/Beirut", "2026-03-28"), ("Asia/Beirut", "2026-10-24"), ("Australia/Lord_Howe", "2026-10-03"), ("Australia/Lord_Howe", "2026-04-04"),
    ("UTC", "2026-03-28"), ("Etc/GMT+5", "2026-03-28"),
])  # fmt: skip
def test_e_a_night_ends_at_six_by_the_clock_whatever_was_changed(zone, night):
    where, window = ZoneInfo(zone), Window(hours="22:00-06:00", timezone=zone)
    morning = datetime.fromisoformat(night) + timedelta(days=1, hours=6)
    six = morning.replace(tzinfo=where).astimezone(UTC)
    assert window.opens(six - timedelta(minutes=1)) is None
    assert window.opens(six) == morning.replace(hour=22, tzinfo=where)


@pytest.mark.parametrize(("zone", "hours", "now", "said"), [
    ("Europe/Berlin", "02:30-05:00", "2026-03-29T00:00:00+00:00", "opens 2026-03-29 03:00+02:00"),
    ("Europe/Berlin", "08:00-20:00", "2026-10-24T22:00:00+00:00", "opens 2026-10-25 08:00+01:00"),
    ("America/Santiago", "00:00-05:00", "2026-09-06T03:30:00+00:00", "opens 2026-09-06 01:00-03:00"),
    ("Australia/Lord_Howe", "02:10-05:00", "2026-10-03T15:00:00+00:00", "opens 2026-10-04 02:30+11:00"),
])  # fmt: skip
def test_e_a_window_is_announced_with_the_hour_of_its_zone_and_the_offset(zone, hours, now, said):
    waiting = _closed(
        entry("a", constraints={"windows": [{"hours": hours, "timezone": zone}]}), datetime.fromisoformat(now)
    )
    if zone == "America/Santiago":  # 23:30 on the day before: it opens where the first hour is skipped
        assert waiting.until == datetime(2026, 9, 6, 4, tzinfo=UTC)
    assert said in waiting.text
    assert waiting.until.utcoffset() == timedelta()


@pytest.mark.parametrize(
    "hours", ["08:00", "8:00-20:00", "24:00-08:00", "08:00+02:00-20:00", "08:00:30-20:00", "08-20", "25:00-26:00", ""]
)
def test_e_hours_that_are_none_are_refused(hours):
    with pytest.raises(ValueError, match="does not name hours"):
        Window(hours=hours)


@given(st.sampled_from(["none", "once", "all"]), st.integers(0, 40), st.integers(0, 3000), zones)
@settings(max_examples=200, deadline=None)
def test_e_each_slot_since_the_last_look_is_run_or_said_to_be_missed(catch_up, days, seconds, zone):
    now = datetime(2026, 11, 2, 12, tzinfo=UTC)
    slots = Slots.of("0 3 * * *", zone)
    since = now - timedelta(days=days, seconds=seconds)
    due = trigger.due(slots, since, now, catch_up)
    all_of_them = between(slots, since, now)
    prompt = [each for each in all_of_them if each >= now - trigger.LATE]
    made = [each for each in due.run if each not in prompt]
    assert sorted({*due.run, *due.skipped}) == all_of_them
    assert not set(due.run) & set(due.skipped)
    assert list(due.missed) == [each for each in all_of_them if each not in prompt]
    assert bool(due.words) == bool(due.missed)
    most = {"none": 0, "once": 0 if prompt else 1, "all": trigger.MADE_UP_MAX}[catch_up]
    assert made == list(due.missed)[max(0, len(due.missed) - most) :]


def test_e_a_minute_line_that_stood_still_for_a_year_is_counted_up_to_a_limit():
    now = datetime(2026, 11, 2, 12, tzinfo=UTC)
    due = trigger.due(Slots.of("* * * * *"), now - timedelta(days=365), now, "all")
    assert len(due.missed) + len(due.run) - trigger.MADE_UP_MAX == trigger.COUNTED_MAX
    assert len(due.run) < 40
    assert "at least" in due.words or len(due.missed) < trigger.COUNTED_MAX


def test_e_zones_are_known_also_on_a_machine_that_has_no_rules_of_its_own():
    code = "from backlog_worker.domain.slots import Slots; print(Slots.of('0 3 * * *', 'Australia/Lord_Howe').where)"
    given = {"PYTHONTZPATH": "", "PATH": os.environ["PATH"]}
    done = subprocess.run([sys.executable, "-c", code], env=given, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "Australia/Lord_Howe"
