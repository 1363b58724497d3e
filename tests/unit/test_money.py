from __future__ import annotations

from decimal import Decimal

import pytest

from accounting.errors import Invalid
from accounting.money import AMOUNT_MAX, AmountTooLarge, cents, from_double, line_total


@pytest.mark.parametrize(
    ("amount", "rounded"),
    [
        ("0.005", "0.01"),
        ("0.004999", "0.00"),
        ("-0.005", "-0.01"),
        ("12.345", "12.35"),
        ("1E+2", "100.00"),
    ],
)
def test_cents_are_rounded_half_away_from_zero(amount: str, rounded: str) -> None:
    assert str(cents(Decimal(amount))) == rounded


@pytest.mark.parametrize(
    ("double", "amount"),
    [(0.1 + 0.2, "0.30"), (1.005, "1.01"), (300.0, "300.00"), (-12.345, "-12.35"), (7, "7.00")],
)
def test_ledger_doubles_become_the_cents_that_a_person_typed(double: float, amount: str) -> None:
    assert str(from_double(double)) == amount


@pytest.mark.parametrize("double", [float("nan"), float("inf"), float("-inf")])
def test_a_double_that_is_no_number_is_refused(double: float) -> None:
    with pytest.raises(Invalid, match="not an amount"):
        from_double(double)


def test_line_total_is_exact_up_to_the_largest_amount() -> None:
    assert line_total(3, Decimal("33.33")) == Decimal("99.99")
    assert line_total(1, AMOUNT_MAX) == AMOUNT_MAX


def test_a_cent_beyond_the_largest_amount_is_refused_with_its_field() -> None:
    with pytest.raises(AmountTooLarge) as refused:
        line_total(1, AMOUNT_MAX + Decimal("0.01"))

    assert refused.value.errors == (("totalAmount", "must be at most 9999999999.99"),)
