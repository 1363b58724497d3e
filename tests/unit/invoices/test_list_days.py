"""The days that hold every invoice of a range."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounting.clock import as_stored_day
from accounting.invoices.list_days import MERGED_DAYS_MAX, DayRange


def days_of_numbers(start: str) -> tuple[date | None, date | None]:
    days = DayRange.of("invoiceNumber", {"$gte": start, "$lt": f"{start}:"})
    assert days is not None
    return days.first, days.last


@pytest.mark.parametrize(
    ("start", "first", "last"),
    [
        ("2023", date(2023, 1, 1), date(2023, 12, 31)),
        ("20230", date(2023, 1, 1), date(2023, 9, 30)),
        ("20231", date(2023, 10, 1), date(2023, 12, 31)),
        ("202302", date(2023, 2, 1), date(2023, 2, 28)),
        ("2023022", date(2023, 2, 20), date(2023, 2, 28)),
        ("20230228", date(2023, 2, 28), date(2023, 2, 28)),
        ("202302281", date(2023, 2, 28), date(2023, 2, 28)),
        ("20231231", date(2023, 12, 31), date(2023, 12, 31)),
        ("202", date(2020, 1, 1), date(2029, 12, 31)),
        ("2", date(2000, 1, 1), date(2999, 12, 31)),
        ("0", None, date(999, 12, 31)),
        ("9999", date(9999, 1, 1), None),
    ],
)
def test_numbers_begin_with_their_days(start: str, first: date | None, last: date | None) -> None:
    assert days_of_numbers(start) == (first, last)


@given(st.dates(date(2000, 1, 1), date(2999, 12, 31)), st.integers(1, 99_999), st.integers(1, 13))
def test_the_days_of_a_number_s_beginning_hold_its_day(day: date, serial: int, length: int) -> None:
    number = f"{day:%Y%m%d}{serial:02d}"

    first, last = days_of_numbers(number[:length])

    assert (first or date.min) <= day <= (last or date.max)


@pytest.mark.parametrize("start", ["20239", "20230230", "2023023", "20231301"])
def test_no_day_is_written_so(start: str) -> None:
    first, last = days_of_numbers(start)

    assert first is not None
    assert last is not None
    assert first > last


def test_instants_lie_on_days_in_utc() -> None:
    start, end = datetime(2024, 3, 1, 5, tzinfo=UTC), datetime(2024, 4, 1, tzinfo=UTC)

    days = DayRange.of("issuedDate", {"$gte": start, "$lt": end})

    assert days == DayRange("issuedDay", date(2024, 3, 1), date(2024, 3, 31))


def test_an_amount_has_no_days() -> None:
    assert DayRange.of("totalAmount", {"$gte": 1}) is None


@pytest.mark.parametrize(("more", "is_merged"), [(0, True), (1, False)])
def test_so_many_days_are_merged(more: int, is_merged: bool) -> None:
    first = date(2024, 1, 1)
    last = first + timedelta(days=MERGED_DAYS_MAX - 1 + more)
    bounds: dict[str, Any] = {"$gte": as_stored_day(first), "$lte": as_stored_day(last)}

    days = DayRange.of("dueDate", bounds)

    assert days is not None
    assert (days.merged is not None) is is_merged
    if days.merged:
        assert days.merged["dueDate"]["$in"][-1] == as_stored_day(last)


def test_an_open_end_is_not_merged() -> None:
    days = DayRange.of("dueDate", {"$lte": as_stored_day(date(2024, 1, 1))})

    assert days is not None
    assert days.merged is None
    assert days.condition == {"dueDate": {"$lte": as_stored_day(date(2024, 1, 1))}}
