"""Reading what the bills of some templates depend on, in few round trips."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from accounting.db.database import Session
from accounting.ids import ObjectId
from accounting.invoices.documents import Invoice
from accounting.invoices.rules import BillingTerms
from accounting.platform.reader import Platform
from accounting.pricing.service import find_prices_in_effect_between
from accounting.recurring.billing import Facts, Month
from accounting.recurring.rules import scheduled_date


async def read_facts(
    platform: Platform,
    terms: BillingTerms,
    months: Sequence[Month],
    *,
    session: Session | None = None,
) -> Facts:
    """What the bills of these months depend on: customers, miners, prices, invoices made before."""
    user_ids = {month.template.user_id for month in months}
    if not user_ids:
        return Facts()
    days = [scheduled_date(month.period, month.template.day_of_month) for month in months]
    customers, active_miners = await asyncio.gather(
        platform.find_users(user_ids),
        platform.count_active_miners_of(user_ids, terms.active_miner_statuses),
    )
    # One after the other: a session is one conversation.
    return Facts(
        customers=customers,
        active_miners=active_miners,
        prices=await find_prices_in_effect_between(user_ids, min(days), max(days), session=session),
        generated=await find_generated(
            {ObjectId(month.template.id) for month in months},
            {month.period for month in months},
            session=session,
        ),
    )


async def find_generated(
    template_ids: Iterable[ObjectId], periods: Iterable[str], *, session: Session | None = None
) -> dict[tuple[ObjectId, str], str]:
    """The numbers of the invoices generated for these templates and periods."""
    found = Invoice.get_motor_collection().find(
        {
            "recurringInvoiceId": {"$in": list(template_ids)},
            "billingPeriod": {"$in": sorted(periods)},
        },
        {"_id": 0, "recurringInvoiceId": 1, "billingPeriod": 1, "invoiceNumber": 1},
        session=session,
    )
    return {
        (raw["recurringInvoiceId"], raw["billingPeriod"]): raw["invoiceNumber"]
        async for raw in found
    }
