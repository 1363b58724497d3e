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


def pieces(low: Any, high: Any) -> list[tuple[Any, Any]]:
    return [(start, end) for start, end, is_whole in split(low, high) if is_whole]


def is_joined(low: Any, high: Any) -> bool:
    """Whether the parts follow each other from one end to the other."""
    at = low
    for start, end, _ in split(low, high):
        if start != at or end <= start:
            return False
        at = end
    return bool(at == high)


@given(INSTANTS, INSTANTS)
def test_a_range_of_time_is_its_parts(one: datetime, other: datetime) -> None:
    low, high = sorted([one, other])

    assert is_joined(low, high)
    found = pieces(low, high)
    assert found == [(start, end) for start, end, _ in split(low, high)]
    for start, end in found:
        assert start == low or (start.day, start.hour, start.minute, start.second) == (1, 0, 0, 0)
        assert end - start <= timedelta(days=31)


@given(AMOUNTS, AMOUNTS)
def test_a_range_of_amounts_is_its_parts(one: Decimal, other: Decimal) -> None:
    low, high = sorted([one, other])

    assert is_joined(low, high)
    assert len(list(split(low, high))) <= 2 * 9 * 7
    for start, end, is_whole in split(low, high):
        size = end - start
        if is_whole:
            assert size.log10() % 1 == 0
            assert start % size == 0
        else:
            assert size < 10


def test_years_are_months_and_the_rests_of_months_at_both_ends() -> None:
    low, high = datetime(2023, 1, 30, tzinfo=UTC), datetime(2025, 3, 3, 6, tzinfo=UTC)

    found = pieces(low, high)

    assert len(found) == 1 + 25 + 1
    assert found[0] == (low, datetime(2023, 2, 1, tzinfo=UTC))
    assert found[1] == (datetime(2023, 2, 1, tzinfo=UTC), datetime(2023, 3, 1, tzinfo=UTC))
    assert found[-1] == (datetime(2025, 3, 1, tzinfo=UTC), high)


def test_what_is_settled_is_a_piece_by_itself() -> None:
    low, high = datetime(2025, 2, 5, tzinfo=UTC), datetime(2025, 3, 3, 6, tzinfo=UTC)
    month, today = datetime(2025, 3, 1, tzinfo=UTC), datetime(2025, 3, 3, tzinfo=UTC)

    found = [(start, end) for start, end, _ in split(low, high, today)]

    assert found == [(low, month), (month, today), (today, high)]


def test_ranges_that_overlap_share_their_pieces() -> None:
    first = pieces(datetime(2021, 1, 5, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC))
    second = pieces(datetime(2021, 2, 9, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC))
    cheap = pieces(Decimal("60.00"), Decimal(100_000))
    cheaper = pieces(Decimal("45.50"), Decimal(100_000))

    assert len(set(second) - set(first)) == 1
    assert set(cheap) < set(cheaper)
