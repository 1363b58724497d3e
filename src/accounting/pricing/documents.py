"""The price of a customer from a day on (spec: Model 3)."""

from __future__ import annotations

from accounting.db.document import StampedDocument, index
from accounting.db.fields import Day, UnitPrice
from accounting.platform.rules import UserId


class CustomerPricingConfig(StampedDocument):
    """A unit price in effect on the days effectiveFrom <= day < effectiveTo, or without an end."""

    user_id: UserId
    default_unit_price: UnitPrice
    effective_from: Day
    effective_to: Day | None = None

    class Settings:
        name = "customer_pricing_config"
        indexes = [
            index("userId", "effectiveFrom", unique=True),
            index(
                "userId",
                unique=True,
                only_if={"effectiveTo": None},
                name="userId_1_open_window",
            ),
            index("userId"),
            index("effectiveFrom"),
            index("effectiveTo"),
        ]
