from __future__ import annotations

from datetime import date

import pytest

from accounting.ids import ObjectId
from accounting.pricing.rules import (
    PriceAlreadyEnds,
    PriceEndsInThePast,
    PriceNeverInEffect,
    PricesOverlap,
    PriceWindow,
    check_no_overlap,
    end_of_window,
)

CONFIG = ObjectId("cccccccccccccccccccccccc")
JAN, FEB, MAR = (date(2026, month, 10) for month in (1, 2, 3))
TODAY = date(2026, 2, 1)


def open_window(effective_from: date = JAN) -> PriceWindow:
    return PriceWindow(CONFIG, effective_from, None)


def ended_window() -> PriceWindow:
    return PriceWindow(CONFIG, JAN, MAR)


@pytest.mark.parametrize(
    ("window", "day", "is_held"),
    [
        (ended_window(), date(2026, 1, 9), False),
        (ended_window(), date(2026, 1, 10), True),
        (ended_window(), date(2026, 3, 9), True),
        (ended_window(), date(2026, 3, 10), False),
        (open_window(), date(2026, 1, 9), False),
        (open_window(), date(2026, 1, 10), True),
        (open_window(), date(2999, 12, 31), True),
    ],
)
def test_a_window_holds_its_first_day_and_not_its_end(
    window: PriceWindow, day: date, is_held: bool
) -> None:
    assert window.holds(day) is is_held


@pytest.mark.parametrize(
    ("last", "effective_from"),
    [
        (None, JAN),
        (open_window(), date(2026, 1, 11)),
        (open_window(), MAR),
        (ended_window(), MAR),
        (ended_window(), date(2026, 7, 1)),
    ],
)
def test_a_new_price_may_follow(last: PriceWindow | None, effective_from: date) -> None:
    check_no_overlap(last, effective_from)


@pytest.mark.parametrize(
    ("last", "effective_from", "next_start"),
    [
        (open_window(), date(2026, 1, 10), "2026-01-11"),
        (open_window(), date(2026, 1, 9), "2026-01-11"),
        (ended_window(), date(2026, 3, 9), "2026-03-10"),
        (ended_window(), date(2025, 1, 1), "2026-03-10"),
    ],
)
def test_an_overlap_is_refused_with_the_row_and_what_would_do(
    last: PriceWindow, effective_from: date, next_start: str
) -> None:
    with pytest.raises(PricesOverlap, match=f"can start on {next_start} or later") as refused:
        check_no_overlap(last, effective_from)

    assert refused.value.code == "prices_overlap"
    assert refused.value.facts == {
        "conflictingId": str(CONFIG),
        "effectiveFrom": "2026-01-10",
        "effectiveTo": last.effective_to and last.effective_to.isoformat(),
    }


@pytest.mark.parametrize(
    ("window", "asked", "end"),
    [
        (open_window(), None, TODAY),
        (open_window(), TODAY, TODAY),
        (open_window(), MAR, MAR),
        # A price of one day, and a future one that is given its end in advance.
        (open_window(TODAY), date(2026, 2, 2), date(2026, 2, 2)),
        (open_window(FEB), MAR, MAR),
    ],
)
def test_an_open_window_ends_today_or_later(
    window: PriceWindow, asked: date | None, end: date
) -> None:
    assert end_of_window(window, asked, TODAY) == end


@pytest.mark.parametrize(
    ("start", "asked"), [(TODAY, None), (TODAY, TODAY), (FEB, None), (FEB, FEB)]
)
def test_a_window_without_a_day_is_refused(start: date, asked: date | None) -> None:
    with pytest.raises(PriceNeverInEffect, match="give an effectiveTo of"):
        end_of_window(open_window(start), asked, TODAY)


def test_an_end_in_the_past_is_refused_with_its_field() -> None:
    with pytest.raises(PriceEndsInThePast) as refused:
        end_of_window(open_window(), date(2026, 1, 31), TODAY)

    assert [field for field, _ in refused.value.errors] == ["effectiveTo"]


def test_a_window_that_has_its_end_keeps_it() -> None:
    with pytest.raises(PriceAlreadyEnds, match="until before 2026-03-10"):
        end_of_window(ended_window(), date(2026, 6, 1), TODAY)
