"""The calendar of a template: which months are due on which day, in every time zone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounting.clock import business_day, start_of_day
from accounting.recurring.rules import (
    DUE_PERIODS_MAX,
    Schedule,
    due_periods,
    next_run_date,
    period_of,
    scheduled_date,
    start_after_pause,
)

DAYS = range(1, 29)
MILLISECOND = timedelta(milliseconds=1)
WHOLE_HOURS = [f"Etc/GMT{offset:+d}" for offset in range(-14, 13)]  # UTC+14 to UTC-12
WITH_MINUTES = ["Asia/Kolkata", "Asia/Kathmandu", "Australia/Eucla", "Pacific/Chatham"]
# Clocks change at night, at midnight, by half an hour, and in the southern hemisphere.
WITH_SUMMER_TIME = [
    "America/New_York",
    "America/Santiago",
    "Africa/Cairo",
    "Asia/Beirut",
    "Australia/Lord_Howe",
    "Europe/Berlin",
    "Pacific/Auckland",
]


def day(text: str) -> date:
    return date.fromisoformat(text)


def a_schedule(day_of_month: int = 5, start: str = "2026-01-01", **changes: str) -> Schedule:
    others = {name: day(value) for name, value in changes.items()}
    return Schedule(day_of_month, day(start), **others)  # type: ignore[arg-type]


def periods(schedule: Schedule, today: str) -> list[str]:
    return [occurrence.period for occurrence in due_periods(schedule, day(today))]


@pytest.mark.parametrize("year", [2026, 2028, 2000, 2100])  # two leap years, two that look alike
@pytest.mark.parametrize("day_of_month", DAYS)
def test_every_month_of_a_year_is_due_once_on_its_day(day_of_month: int, year: int) -> None:
    schedule = Schedule(day_of_month, date(year, 1, 1))

    due = due_periods(schedule, date(year, 12, 31))

    assert [occurrence.period for occurrence in due] == [f"{year}-{m:02d}" for m in range(1, 13)]
    assert [occurrence.scheduled_date for occurrence in due] == [
        date(year, month, day_of_month) for month in range(1, 13)
    ]
    assert all(scheduled_date(o.period, day_of_month) == o.scheduled_date for o in due)
    assert all(period_of(o.scheduled_date) == o.period for o in due)


@pytest.mark.parametrize("day_of_month", DAYS)
def test_a_month_is_due_from_its_day_on_and_not_before(day_of_month: int) -> None:
    schedule = Schedule(day_of_month, date(2026, 2, 1))
    scheduled = date(2026, 2, day_of_month)

    assert due_periods(schedule, scheduled - timedelta(days=1)) == []
    assert due_periods(schedule, scheduled) == [("2026-02", scheduled)]
    assert due_periods(schedule, date(2026, 2, 28)) == [("2026-02", scheduled)]


@pytest.mark.parametrize(
    ("day_of_month", "today", "due"),
    [
        (28, "2026-02-27", ["2026-01"]),
        (28, "2026-02-28", ["2026-01", "2026-02"]),
        (28, "2026-03-01", ["2026-01", "2026-02"]),
        (1, "2026-01-31", ["2026-01"]),
        (1, "2026-02-01", ["2026-01", "2026-02"]),
        (28, "2026-12-31", [f"2026-{month:02d}" for month in range(1, 13)]),
        (1, "2027-01-01", [*(f"2026-{month:02d}" for month in range(1, 13)), "2027-01"]),
        (5, "2025-12-31", []),
    ],
)
def test_ends_of_months_and_years(day_of_month: int, today: str, due: list[str]) -> None:
    assert periods(a_schedule(day_of_month), today) == due


@pytest.mark.parametrize("today", ["2028-02-28", "2028-02-29", "2028-03-01"])
def test_the_leap_day_moves_nothing(today: str) -> None:
    assert periods(a_schedule(28, "2028-02-01"), today) == ["2028-02"]
    assert periods(a_schedule(1, "2028-02-02"), today) == (
        ["2028-03"] if today == "2028-03-01" else []
    )


@pytest.mark.parametrize(
    ("start", "end", "due"),
    [
        ("2026-03-15", "2026-03-15", ["2026-03"]),  # both ends inclusive: a template of one day
        ("2026-03-16", "2026-04-14", []),
        ("2026-03-15", "2026-04-14", ["2026-03"]),
        ("2026-03-16", "2026-04-15", ["2026-04"]),
        ("2026-03-15", "2026-05-15", ["2026-03", "2026-04", "2026-05"]),
        ("2026-12-15", "2027-01-15", ["2026-12", "2027-01"]),
        ("2026-03-15", "2026-03-14", []),  # deleted before it started
    ],
)
def test_start_and_end_date_are_billed(start: str, end: str, due: list[str]) -> None:
    assert periods(a_schedule(15, start, end_date=end), "2028-01-01") == due


@pytest.mark.parametrize(
    ("last", "today", "due"),
    [
        ("2026-01-05", "2026-01-05", []),
        ("2026-01-05", "2026-02-04", []),
        ("2026-01-05", "2026-02-05", ["2026-02"]),
        ("2026-01-05", "2026-04-30", ["2026-02", "2026-03", "2026-04"]),
        ("2026-12-05", "2027-01-05", ["2027-01"]),
        ("2027-01-05", "2026-06-01", []),  # a clock that went back
    ],
)
def test_what_follows_the_last_generated_month_is_due(
    last: str, today: str, due: list[str]
) -> None:
    assert periods(a_schedule(last_generated_date=last), today) == due


@pytest.mark.parametrize(("new_day", "next_due"), [(20, "2026-02-20"), (1, "2026-02-01")])
def test_a_changed_day_bills_no_month_twice(new_day: int, next_due: str) -> None:
    generated = a_schedule(5, last_generated_date="2026-01-05")

    changed = replace(generated, day_of_month=new_day)

    assert periods(changed, "2026-01-31") == []
    assert next_run_date(changed) == day(next_due)


def test_a_later_end_date_makes_the_months_since_due() -> None:
    ended = a_schedule(end_date="2026-02-28", last_generated_date="2026-02-05")

    assert periods(ended, "2026-05-31") == []
    assert periods(replace(ended, end_date=None), "2026-05-31") == ["2026-03", "2026-04", "2026-05"]


def test_a_run_takes_ten_years_at_most_and_the_next_one_the_rest() -> None:
    schedule = a_schedule(1, "2010-01-01")

    first = due_periods(schedule, day("2026-01-01"))
    rest = due_periods(
        replace(schedule, last_generated_date=first[-1].scheduled_date), day("2026-01-01")
    )

    assert (len(first), first[0].period, first[-1].period) == (
        DUE_PERIODS_MAX,
        "2010-01",
        "2019-12",
    )
    assert (len(rest), rest[0].period, rest[-1].period) == (73, "2020-01", "2026-01")


@pytest.mark.parametrize(
    ("schedule", "next_run"),
    [
        (a_schedule(5, "2026-01-05"), "2026-01-05"),
        (a_schedule(5, "2026-01-06"), "2026-02-05"),
        (a_schedule(28, "2026-12-29"), "2027-01-28"),
        (a_schedule(5, last_generated_date="2026-03-05"), "2026-04-05"),
        (a_schedule(5, last_generated_date="2026-12-05"), "2027-01-05"),
        (a_schedule(5, end_date="2026-04-05", last_generated_date="2026-03-05"), "2026-04-05"),
        (a_schedule(5, end_date="2026-04-04", last_generated_date="2026-03-05"), None),
        (a_schedule(5, end_date="2025-12-31"), None),
    ],
)
def test_the_next_run_is_the_first_month_not_done(schedule: Schedule, next_run: str | None) -> None:
    assert next_run_date(schedule) == (None if next_run is None else day(next_run))


@pytest.mark.parametrize(
    ("start", "resumed_on", "due"),
    [
        ("2026-01-01", "2026-05-04", ["2026-05"]),
        ("2026-01-01", "2026-05-05", ["2026-05"]),  # resumed on the day itself: it is billed
        ("2026-01-01", "2026-05-06", []),
        ("2026-07-01", "2026-05-04", []),  # not yet started: the pause changes nothing
    ],
)
def test_a_pause_is_never_billed(start: str, resumed_on: str, due: list[str]) -> None:
    paused = a_schedule(5, start, last_generated_date="2026-01-05")

    resumed = replace(paused, start_date=start_after_pause(day(start), day(resumed_on)))

    assert periods(resumed, "2026-05-31") == due


@pytest.mark.parametrize("zone", WHOLE_HOURS + WITH_MINUTES + WITH_SUMMER_TIME)
def test_a_month_is_due_at_midnight_of_the_business_zone(zone: str) -> None:
    here = ZoneInfo(zone)
    for month in range(1, 13):
        for day_of_month in (1, 8, 28):
            schedule = Schedule(day_of_month, date(2026, month, 1))
            midnight = start_of_day(date(2026, month, day_of_month), here)

            assert due_periods(schedule, business_day(midnight - MILLISECOND, here)) == []
            [due] = due_periods(schedule, business_day(midnight, here))
            assert due.period == f"2026-{month:02d}"


@pytest.mark.parametrize("zone", WHOLE_HOURS + WITH_MINUTES + WITH_SUMMER_TIME)
def test_a_year_of_hourly_runs_bills_twelve_months_in_every_zone(zone: str) -> None:
    here, generated = ZoneInfo(zone), []
    schedule = a_schedule(28, "2026-01-01")
    first_instant = datetime(2025, 12, 31, tzinfo=UTC)
    for hour in range(24 * 368):
        today = business_day(first_instant + timedelta(hours=hour), here)
        for due in due_periods(schedule, today):
            assert due.scheduled_date == today
            generated.append(due.period)
            schedule = replace(schedule, last_generated_date=due.scheduled_date)

    assert generated[:12] == [f"2026-{month:02d}" for month in range(1, 13)]
    assert len(generated) == 12


def test_a_day_that_a_zone_has_never_had_is_made_up_for_on_the_next() -> None:
    # Kwajalein crossed the date line: after 1993-08-20 came 1993-08-22.
    here, generated = ZoneInfo("Pacific/Kwajalein"), []
    schedule = a_schedule(21, "1993-08-01")
    for hour in range(24 * 5):
        today = business_day(datetime(1993, 8, 19, tzinfo=UTC) + timedelta(hours=hour), here)
        for due in due_periods(schedule, today):
            generated.append((due.period, today))
            schedule = replace(schedule, last_generated_date=due.scheduled_date)

    assert generated == [("1993-08", day("1993-08-22"))]


FIRST_DAY = day("2024-01-01")
SOME_DAY = st.dates(FIRST_DAY, day("2029-12-31"))


@st.composite
def schedules(draw: st.DrawFn) -> Schedule:
    """Any template, also one whose end is before its start, or that has generated before."""
    last_period = draw(st.none() | SOME_DAY.map(period_of))
    day_of_month = draw(st.integers(1, 28))
    return Schedule(
        day_of_month=day_of_month,
        start_date=draw(SOME_DAY),
        end_date=draw(st.none() | SOME_DAY),
        last_generated_date=last_period and scheduled_date(last_period, draw(st.integers(1, 28))),
    )


def generate_on(days: Iterable[date], schedule: Schedule) -> Iterator[tuple[str, date]]:
    """What runs on these days generate, each going on from the one before."""
    for today in days:
        for due in due_periods(schedule, today):
            yield due
            schedule = replace(schedule, last_generated_date=due.scheduled_date)


def every_day(until: date) -> Iterator[date]:
    return (FIRST_DAY + timedelta(days=n) for n in range((until - FIRST_DAY).days + 1))


@given(schedules(), SOME_DAY)
def test_due_months_ascend_and_lie_in_the_range(schedule: Schedule, today: date) -> None:
    due = due_periods(schedule, today)

    assert all(a.period < b.period for a, b in pairwise(due))
    for period, scheduled in due:
        assert scheduled == scheduled_date(period, schedule.day_of_month)
        assert schedule.start_date <= scheduled <= today
        assert schedule.end_date is None or scheduled <= schedule.end_date
        if schedule.last_generated_date is not None:
            assert period > period_of(schedule.last_generated_date)


@given(schedules(), SOME_DAY)
def test_no_month_of_the_range_is_left_out(schedule: Schedule, today: date) -> None:
    last = schedule.last_generated_date
    wanted = [
        some_day
        for some_day in every_day(today)
        if some_day.day == schedule.day_of_month
        and schedule.start_date <= some_day <= (schedule.end_date or today)
        and (last is None or period_of(some_day) > period_of(last))
    ]

    assert [due.scheduled_date for due in due_periods(schedule, today)] == wanted


@given(schedules(), SOME_DAY)
def test_a_run_each_day_generates_what_one_late_run_does(schedule: Schedule, today: date) -> None:
    day_by_day = list(generate_on(every_day(today), schedule))

    assert day_by_day == list(generate_on([today], schedule))
    assert list(generate_on([today, today], schedule)) == day_by_day


@given(schedules(), SOME_DAY, st.sets(SOME_DAY, max_size=5))
def test_days_without_a_run_change_nothing(
    schedule: Schedule, today: date, days: set[date]
) -> None:
    some_days = sorted(some_day for some_day in days if some_day < today)

    assert list(generate_on([*some_days, today], schedule)) == due_periods(schedule, today)


@given(schedules(), SOME_DAY)
def test_the_next_run_is_what_will_be_due_first(schedule: Schedule, today: date) -> None:
    due = due_periods(schedule, today)
    next_run = next_run_date(schedule)

    if due:
        assert next_run == due[0].scheduled_date
    else:
        assert next_run is None or next_run > today


@given(schedules(), SOME_DAY, SOME_DAY, st.integers(1, 28))
def test_whatever_is_changed_between_two_runs_no_month_comes_twice(
    schedule: Schedule, first_run: date, second_run: date, new_day: int
) -> None:
    first = due_periods(schedule, first_run)
    last = first[-1].scheduled_date if first else schedule.last_generated_date
    changed = replace(schedule, day_of_month=new_day, last_generated_date=last, end_date=None)
    second = due_periods(changed, second_run)

    both = [due.period for due in first + second]
    assert len(both) == len(set(both))


@given(schedules(), SOME_DAY, SOME_DAY, SOME_DAY)
def test_nothing_of_a_pause_is_ever_generated(
    schedule: Schedule, paused_on: date, resumed_on: date, today: date
) -> None:
    paused_on, resumed_on = sorted((paused_on, resumed_on))
    before = list(generate_on(every_day(paused_on - timedelta(days=1)), schedule))
    last = before[-1][1] if before else schedule.last_generated_date
    start_date = start_after_pause(schedule.start_date, resumed_on)

    resumed = replace(schedule, start_date=start_date, last_generated_date=last)

    scheduled = [due.scheduled_date for due in due_periods(resumed, today)]
    assert not any(paused_on <= some_day < resumed_on for some_day in scheduled)
