"""A customer's prices: set a new one, end one, read them. Spec: section 3, "Pricing".

Windows are history: a write inserts one or gives the open one its end, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from decimal import Decimal
from typing import Any, Final
from zoneinfo import ZoneInfo

from accounting.audit.rules import AuditAction, EntityType
from accounting.audit.service import record
from accounting.clock import business_day
from accounting.db.database import Session, Transaction
from accounting.db.paging import Order, Page, Window, list_page
from accounting.ids import new_id
from accounting.platform.reader import Platform, get_customer
from accounting.platform.rules import UserId
from accounting.pricing.documents import (
    CustomerPricingConfig,
    find_last_price,
    get_price,
    in_effect_between,
    in_effect_on,
)
from accounting.pricing.rules import (
    CustomerHasNoPrice,
    PricingConfigId,
    check_no_overlap,
    end_of_window,
)

NEWEST_FIRST: Final = Order("effectiveFrom")


async def create_price(
    tx: Transaction,
    platform: Platform,
    user_id: UserId,
    unit_price: Decimal,
    effective_from: date,
) -> CustomerPricingConfig:
    """Set a customer's price from a business day on, also a past or future one.

    The open window ends where the new one starts. Two writers for one customer always collide, and
    the loser looks again: each enters the unique index of open windows, also when there was none
    before and when one was opened and ended meanwhile; the last window itself is not enough.
    Spec: section 3, "Pricing". Raises CustomerNotFound, PricesOverlap.
    """
    await get_customer(platform, user_id)
    last = await find_last_price(user_id, session=tx.session)
    check_no_overlap(last.window if last else None, effective_from)

    if last is not None and last.effective_to is None:
        ended = await _end(tx, last, effective_from)
        what = f"ends: another price starts on {effective_from}"
        await _record(tx, AuditAction.PRICING_CONFIG_UPDATED, last, ended, what)
    price = CustomerPricingConfig(
        id=new_id(),
        user_id=user_id,
        default_unit_price=unit_price,
        effective_from=effective_from,
        created_by=tx.actor.user_id,
        created_at=tx.now,
        updated_at=tx.now,
    )
    await price.add(tx)
    await _record(tx, AuditAction.PRICING_CONFIG_CREATED, None, price, f"from {effective_from} on")
    return price


async def archive_price(
    tx: Transaction,
    config_id: PricingConfigId,
    zone: ZoneInfo,
    *,
    effective_to: date | None = None,
) -> CustomerPricingConfig:
    """End the open window without another price: from `effective_to` on the customer has none.

    Today in the business zone unless a later day is given; that day itself is without the price.
    Spec: section 3, "Pricing".
    Raises PricingConfigNotFound, PriceAlreadyEnds, PriceEndsInThePast, PriceNeverInEffect.
    """
    price = await get_price(config_id, session=tx.session)
    end = end_of_window(price.window, effective_to, business_day(tx.now, zone))
    archived = await _end(tx, price, end)
    what = f"archived: no longer in effect from {end} on"
    await _record(tx, AuditAction.PRICING_CONFIG_ARCHIVED, price, archived, what)
    return archived


async def find_price_in_effect(
    user_id: UserId, day: date, *, session: Session | None = None
) -> CustomerPricingConfig | None:
    """The customer's price on a business day, effectiveFrom <= day < effectiveTo."""
    return await CustomerPricingConfig.find_one(
        {"userId": user_id, **in_effect_on(day)}, session=session
    )


async def find_prices_in_effect_between(
    user_ids: Iterable[UserId], first_day: date, last_day: date, *, session: Session | None = None
) -> dict[UserId, list[CustomerPricingConfig]]:
    """Each of these customers' windows that hold any of the business days, oldest first.

    Both days are included. A customer without a price then has an empty list.
    """
    prices: dict[UserId, list[CustomerPricingConfig]] = {user_id: [] for user_id in user_ids}
    query = {"userId": {"$in": list(prices)}, **in_effect_between(first_day, last_day)}
    found = CustomerPricingConfig.find(query, session=session).sort("effectiveFrom")
    async for price in found:
        prices[price.user_id].append(price)
    return prices


async def get_price_in_effect(
    platform: Platform, user_id: UserId, day: date
) -> CustomerPricingConfig:
    """The customer's price on a business day. Raises CustomerNotFound, CustomerHasNoPrice."""
    await get_customer(platform, user_id)
    price = await find_price_in_effect(user_id, day)
    if price is None:
        raise CustomerHasNoPrice(user_id, day)
    return price


async def list_prices(
    window: Window, *, user_id: UserId | None = None, on: date | None = None
) -> Page[CustomerPricingConfig]:
    """Prices of one customer or all, on a business day or ever; those that start last first.

    Raises CursorNotValid.
    """
    query: dict[str, Any] = {} if user_id is None else {"userId": user_id}
    if on is not None:
        query |= in_effect_on(on)
    return await list_page(CustomerPricingConfig, query, NEWEST_FIRST, window)


async def _end(
    tx: Transaction, price: CustomerPricingConfig, effective_to: date
) -> CustomerPricingConfig:
    return await price.change(tx, expect={"effectiveTo": None}, effective_to=effective_to)


async def _record(
    tx: Transaction,
    action: AuditAction,
    before: CustomerPricingConfig | None,
    after: CustomerPricingConfig,
    what: str,
) -> None:
    await record(
        tx,
        action,
        (EntityType.CUSTOMER_PRICING_CONFIG, PricingConfigId(after.id)),
        f"Price {after.default_unit_price} of customer {after.user_id} {what}",
        before=before.snapshot() if before else None,
        after=after.snapshot(),
    )
