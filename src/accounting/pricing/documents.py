"""The price of a customer from a day on (spec: Model 3)."""

from __future__ import annotations

from datetime import date
from typing import Any

from accounting.clock import as_stored_day
from accounting.db.database import Session
from accounting.db.document import StampedDocument, index
from accounting.db.fields import Day, UnitPrice
from accounting.platform.rules import UserId
from accounting.pricing.rules import PriceWindow, PricingConfigId, PricingConfigNotFound


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
            # Also what two writers of one customer's prices meet at, see `service.create_price`.
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

    @property
    def window(self) -> PriceWindow:
        return PriceWindow(PricingConfigId(self.id), self.effective_from, self.effective_to)


def in_effect_on(day: date) -> dict[str, Any]:
    """The condition for prices in effect on a business day, over stored names."""
    return in_effect_between(day, day)


def in_effect_between(first_day: date, last_day: date) -> dict[str, Any]:
    """The condition for prices in effect on at least one of these days, both ends included."""
    return {
        "effectiveFrom": {"$lte": as_stored_day(last_day)},
        "$or": [{"effectiveTo": None}, {"effectiveTo": {"$gt": as_stored_day(first_day)}}],
    }


async def get_price(
    config_id: PricingConfigId, *, session: Session | None = None
) -> CustomerPricingConfig:
    """Raises PricingConfigNotFound."""
    config = await CustomerPricingConfig.find_one({"_id": config_id}, session=session)
    if config is None:
        raise PricingConfigNotFound(config_id)
    return config


async def find_last_price(
    user_id: UserId, *, session: Session | None = None
) -> CustomerPricingConfig | None:
    """The customer's price that starts last; the open one, if there is an open one."""
    return (
        await CustomerPricingConfig.find({"userId": user_id}, session=session)
        .sort("-effectiveFrom")
        .first_or_none()
    )
