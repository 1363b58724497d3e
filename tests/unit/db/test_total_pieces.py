"""Ranges in pieces: together they are the range, and ranges that overlap share most of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from accounting.db.totals import split

# Until 2040, to the second.
INSTANTS = st.integers(0, 2_208_988_800).map(lambda second: datetime.fromtimestamp(second, UTC))
AMOUNTS = st.integers(0, 99_999_999).map(lambda cents: Decimal(cents) / 100)


def is_joined(low: Any, high: Any) -> bool:
    """Whether the pieces follow each other from one end to the other."""
    at = low
    for start, end in split(low, high):
        if start != at or end <= start:
            return False
        at = end
    return bool(at == high)


@given(INSTANTS, INSTANTS)
def test_a_range_of_time_is_its_pieces(one: datetime, other: datetime) -> None:
    low, high = sorted([one, other])

    assert is_joined(low, high)
    for start, end in split(low, high):
        is_month = start.day == end.day == 1
        assert start == low or (start.hour, start.minute, start.second) == (0, 0, 0)
        assert start == low or start.day in (1, 11, 21)
        assert end - start <= timedelta(days=31 if is_month else 11)


@given(AMOUNTS, AMOUNTS)
def test_a_range_of_amounts_is_its_pieces(one: Decimal, other: Decimal) -> None:
    low, high = sorted([one, other])

    assert is_joined(low, high)
    assert len(list(split(low, high))) <= 2 * 9 * 5 + 2
    for start, end in split(low, high):
        size = end - start
        if start != low and end != high:
            assert size >= 10
            assert size.log10() % 1 == 0
            assert start % size == 0


def test_years_are_months_thirds_and_the_rests_at_both_ends() -> None:
    low, high = datetime(2023, 1, 9, tzinfo=UTC), datetime(2025, 3, 13, 6, tzinfo=UTC)

    found = list(split(low, high))

    assert len(found) == 3 + 25 + 2
    assert [start.day for start, _ in found[:3]] == [9, 11, 21]
    assert found[3] == (datetime(2023, 2, 1, tzinfo=UTC), datetime(2023, 3, 1, tzinfo=UTC))
    assert [start.day for start, _ in found[-2:]] == [1, 11]


def test_what_is_settled_is_a_piece_by_itself() -> None:
    low, high = datetime(2025, 2, 5, tzinfo=UTC), datetime(2025, 4, 1, tzinfo=UTC)
    today = datetime(2025, 3, 3, tzinfo=UTC)

    assert today in [end for _, end in split(low, high, today)]
    assert list(split(today, high, today)) == list(split(today, high))


def test_ranges_that_overlap_share_their_pieces() -> None:
    first = split(datetime(2021, 1, 5, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC))
    second = split(datetime(2021, 2, 9, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC))
    cheap = split(Decimal("160.00"), Decimal(100_000))
    cheaper = split(Decimal("45.50"), Decimal(100_000))

    assert len(set(second) - set(first)) == 3
    # Those up to two hundred are a whole hundred for the other one.
    assert len(set(cheap) - set(cheaper)) == 4
