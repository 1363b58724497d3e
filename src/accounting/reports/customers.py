"""What a list of customers shows beside each: his miners, his price today, what he owes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any, Final

from accounting.clock import as_stored_day
from accounting.invoices.documents import Invoice
from accounting.invoices.rules import OPEN_STATUSES, InvoiceStatus
from accounting.money import ZERO, cents
from accounting.platform.reader import Platform
from accounting.platform.rules import UserId
from accounting.pricing.service import find_prices_in_effect_between

_BY_CUSTOMER_AND_STATUS: Final = "userId_1_status_1__id_1"


@dataclass(frozen=True, slots=True)
class CustomerFigures:
    """Active miners, the price for each in effect, or None, and open invoices; amounts in USD."""

    active_miners: int = 0
    unit_price: Decimal | None = None
    outstanding: Decimal = ZERO
    overdue: Decimal = ZERO
    open_invoices: int = 0


async def read_figures(
    platform: Platform, customer_ids: Sequence[UserId], today: date, miner_statuses: Sequence[str]
) -> dict[UserId, CustomerFigures]:
    """The figures of each of a page's customers on a business day, with one query for each kind.

    Outstanding is that of section 4, as in `account.read_balance`.
    """
    miners, prices, owed = await asyncio.gather(
        platform.count_active_miners_of(customer_ids, miner_statuses),
        find_prices_in_effect_between(customer_ids, today, today),
        _owed(customer_ids, today),
    )
    figures = {}
    for customer_id in customer_ids:
        price = prices[customer_id][-1].default_unit_price if prices[customer_id] else None
        owes = owed.get(customer_id, {})
        figures[customer_id] = CustomerFigures(miners.get(customer_id, 0), price, **owes)
    return figures


async def _owed(customer_ids: Sequence[UserId], today: date) -> dict[UserId, dict[str, Any]]:
    balance = {"$subtract": ["$totalAmount", "$amountPaid"]}
    # `rules.is_overdue`, for the server.
    is_overdue = {
        "$or": [
            {"$eq": ["$status", InvoiceStatus.OVERDUE.value]},
            {"$lt": ["$dueDate", as_stored_day(today)]},
        ]
    }
    open_ones = {"userId": {"$in": list(customer_ids)}, "status": {"$in": sorted(OPEN_STATUSES)}}
    sums = {
        "_id": "$userId",
        "outstanding": {"$sum": balance},
        "overdue": {"$sum": {"$cond": [is_overdue, balance, ZERO]}},
        "open_invoices": {"$sum": 1},
    }
    found = Invoice.get_motor_collection().aggregate(
        [{"$match": open_ones}, {"$group": sums}], hint=_BY_CUSTOMER_AND_STATUS
    )
    return {
        UserId(raw["_id"]): {
            "outstanding": cents(raw["outstanding"]),
            "overdue": cents(raw["overdue"]),
            "open_invoices": raw["open_invoices"],
        }
        async for raw in found
    }
