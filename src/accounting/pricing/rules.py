"""Where an invoice's unit price came from, and when a price is in effect (spec section 3)."""

from __future__ import annotations

from datetime import date
from enum import StrEnum

from accounting.errors import Invalid
from accounting.ids import ObjectId


class PriceSource(StrEnum):
    """Where the unit price of an invoice came from."""

    EXPLICIT = "EXPLICIT"
    TEMPLATE = "TEMPLATE"
    PRICING_CONFIG = "PRICING_CONFIG"


class NoPriceInEffect(Invalid):
    """No price was given and the customer has none on that day."""

    def __init__(self, customer_id: ObjectId, day: date) -> None:
        super().__init__(
            f"Customer {customer_id} has no price in effect on {day}; give unitPrice.",
            errors=[("unitPrice", f"is required: the customer has no price in effect on {day}")],
        )
