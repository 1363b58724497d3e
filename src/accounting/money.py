"""Money: the one place where amounts are made and rounded (spec section 3, "Money")."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from math import isfinite
from typing import Final

from accounting.errors import Invalid

CENT: Final = Decimal("0.01")
ZERO: Final = Decimal("0.00")
UNIT_PRICE_MAX: Final = Decimal("99999999.99")  # Decimal(10,2)
AMOUNT_MAX: Final = Decimal("9999999999.99")  # Decimal(12,2)


class AmountTooLarge(Invalid):
    """An amount does not fit Decimal(12,2); it is refused, never cut or rounded into range."""

    def __init__(self, field: str, amount: Decimal) -> None:
        sentence = f"{field} would be {amount}, more than the largest amount {AMOUNT_MAX}."
        super().__init__(sentence, errors=[(field, f"must be at most {AMOUNT_MAX}")])


def cents(amount: Decimal) -> Decimal:
    """Round to whole cents, half away from zero (12.345 becomes 12.35)."""
    return amount.quantize(CENT, rounding=ROUND_HALF_UP)


def from_double(amount: float) -> Decimal:
    """Turn a ledger double into cents, through its shortest decimal form.

    `Decimal(0.1 + 0.2)` would carry binary noise into the books; `repr` gives the digits that a
    person typed. Raises Invalid for a double that is no number.
    """
    if not isfinite(amount):
        raise Invalid(f"The ledger holds {amount!r}, which is not an amount of money.")
    return cents(Decimal(repr(amount)))


def line_total(quantity: int, unit_price: Decimal, *, field: str = "totalAmount") -> Decimal:
    """Quantity times unit price in cents. Raises AmountTooLarge beyond Decimal(12,2)."""
    total = cents(quantity * unit_price)
    if total > AMOUNT_MAX:
        raise AmountTooLarge(field, total)
    return total
