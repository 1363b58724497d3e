from __future__ import annotations

from decimal import Decimal

import pytest

from accounting.ids import new_id
from accounting.payments.rules import (
    CostPaymentSpent,
    PaymentExceedsBalance,
    PaymentNotPositive,
    amount_to_apply,
)


def apply(asked: str | None, *, balance_due: str, unallocated: str) -> Decimal:
    return amount_to_apply(
        None if asked is None else Decimal(asked),
        balance_due=Decimal(balance_due),
        unallocated=Decimal(unallocated),
        invoice_number="2026011201",
        cost_payment_id=new_id(),
    )


@pytest.mark.parametrize(
    ("asked", "balance_due", "unallocated", "applied"),
    [
        (None, "500.00", "300.00", "300.00"),
        (None, "200.00", "300.00", "200.00"),
        ("0.01", "500.00", "300.00", "0.01"),
        ("300.00", "500.00", "300.00", "300.00"),
        ("500.00", "500.00", "500.00", "500.00"),
    ],
)
def test_the_amount_fits_both_sides(
    asked: str | None, balance_due: str, unallocated: str, applied: str
) -> None:
    amount = apply(asked, balance_due=balance_due, unallocated=unallocated)

    assert amount == Decimal(applied)


def test_a_cent_more_than_the_balance_is_refused() -> None:
    with pytest.raises(PaymentExceedsBalance, match=r"balance due of 500\.00; 500\.01"):
        apply("500.01", balance_due="500.00", unallocated="900.00")


def test_a_cent_more_than_the_cost_payment_has_left_is_refused() -> None:
    with pytest.raises(CostPaymentSpent, match=r"Only 300\.00 .* 300\.01"):
        apply("300.01", balance_due="500.00", unallocated="300.00")


def test_a_spent_cost_payment_is_refused_also_without_an_amount() -> None:
    with pytest.raises(CostPaymentSpent, match=r"Only 0\.00 .* 500\.00 cannot"):
        apply(None, balance_due="500.00", unallocated="0.00")


@pytest.mark.parametrize("asked", ["0.00", "-0.01"])
def test_nothing_and_less_cannot_be_paid(asked: str) -> None:
    with pytest.raises(PaymentNotPositive):
        apply(asked, balance_due="500.00", unallocated="300.00")
