from __future__ import annotations

from datetime import UTC, date, datetime, time
from zoneinfo import ZoneInfo

import pytest

from accounting.clock import business_day, instant_at, start_of_day, utc_now


@pytest.mark.parametrize(
    ("zone", "instant", "day"),
    [
        ("UTC", datetime(2026, 1, 12, 23, 59, 59, 999000, UTC), date(2026, 1, 12)),
        ("UTC", datetime(2026, 1, 13, tzinfo=UTC), date(2026, 1, 13)),
        ("Pacific/Kiritimati", datetime(2026, 1, 12, 10, 0, tzinfo=UTC), date(2026, 1, 13)),
        ("Pacific/Kiritimati", datetime(2026, 1, 12, 9, 59, tzinfo=UTC), date(2026, 1, 12)),
        ("Etc/GMT+12", datetime(2026, 1, 13, 11, 59, tzinfo=UTC), date(2026, 1, 12)),
        ("Etc/GMT+12", datetime(2026, 1, 13, 12, 0, tzinfo=UTC), date(2026, 1, 13)),
    ],
)
def test_the_day_changes_at_midnight_of_the_zone(zone: str, instant: datetime, day: date) -> None:
    assert business_day(instant, ZoneInfo(zone)) == day


def test_start_of_day_is_midnight_of_the_zone_in_utc() -> None:
    berlin = ZoneInfo("Europe/Berlin")

    assert start_of_day(date(2026, 1, 12), berlin) == datetime(2026, 1, 11, 23, tzinfo=UTC)
    assert start_of_day(date(2026, 7, 12), berlin) == datetime(2026, 7, 11, 22, tzinfo=UTC)


@pytest.mark.parametrize(
    ("zone", "day", "instant"),
    [
        ("Europe/Berlin", date(2026, 1, 12), datetime(2026, 1, 12, 7, 0, tzinfo=UTC)),
        ("Europe/Berlin", date(2026, 7, 12), datetime(2026, 7, 12, 6, 0, tzinfo=UTC)),
        ("Pacific/Kiritimati", date(2026, 1, 12), datetime(2026, 1, 11, 18, 0, tzinfo=UTC)),
    ],
)
def test_a_time_of_a_day_is_that_of_the_zone(zone: str, day: date, instant: datetime) -> None:
    assert instant_at(day, time(8, 0), ZoneInfo(zone)) == instant


def test_a_time_that_the_clocks_leave_out_is_on_the_same_day() -> None:
    # In Santiago midnight was left out on this day.
    santiago, day = ZoneInfo("America/Santiago"), date(2025, 9, 7)

    assert business_day(instant_at(day, time(0, 10), santiago), santiago) == day


def test_now_has_whole_milliseconds() -> None:
    assert utc_now().microsecond % 1000 == 0
    assert utc_now().tzinfo is UTC
