"""Reading prices. Spec: section 3, "Pricing"."""

from __future__ import annotations

from datetime import date

from accounting.clock import as_stored_day
from accounting.platform.rules import UserId
from accounting.pricing.documents import CustomerPricingConfig


async def find_price_in_effect(user_id: UserId, day: date) -> CustomerPricingConfig | None:
    """The customer's price on a business day, effectiveFrom <= day < effectiveTo."""
    stored_day = as_stored_day(day)
    return await CustomerPricingConfig.find_one(
        {
            "userId": user_id,
            "effectiveFrom": {"$lte": stored_day},
            "$or": [{"effectiveTo": None}, {"effectiveTo": {"$gt": stored_day}}],
        }
    )
