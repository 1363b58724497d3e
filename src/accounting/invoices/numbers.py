"""Invoice numbers: an atomic counter per day (spec section 3, "Invoice number")."""

from __future__ import annotations

from datetime import date
from typing import Final

from accounting.db.database import DuplicateKey
from accounting.invoices.documents import AccountingCounter, Invoice
from accounting.invoices.rules import invoice_number

# Two first increments of a day can meet; the loser finds the winner's document.
_UPSERT_ATTEMPTS_MAX: Final = 5
_DATE_DIGITS: Final = 8


async def take_numbers(day: date, count: int, width: int) -> list[str]:
    """Take the next `count` numbers of a business day, in one increment; none is given out twice.

    Outside any transaction: a counter inside it would make every creation wait for every other.
    A number whose invoice is then not written is never used again.
    """
    last = await _raise_counter(day, {"$inc": {"value": count}})
    return [invoice_number(day, serial, width) for serial in range(last - count + 1, last + 1)]


async def take_free_numbers(day: date, count: int, width: int) -> list[str]:
    """As `take_numbers`, for a block: none of them is in use, also when the counter was behind."""
    numbers = await take_numbers(day, count, width)
    if await Invoice.get_motor_collection().find_one(
        {"invoiceNumber": {"$in": numbers}}, {"_id": 1}
    ):
        await catch_up_counter(day)
        numbers = await take_numbers(day, count, width)
    return numbers


async def catch_up_counter(day: date) -> None:
    """Move the day's counter past every number in use, as after a restore without the counters."""
    prefix = f"{day:%Y%m%d}"
    used = Invoice.get_motor_collection().find(
        {"invoiceNumber": {"$gte": prefix, "$lt": f"{int(prefix) + 1}"}}, {"invoiceNumber": 1}
    )
    serials = [int(raw["invoiceNumber"][_DATE_DIGITS:]) async for raw in used]
    await _raise_counter(day, {"$max": {"value": max(serials, default=0)}})


async def _raise_counter(day: date, update: dict[str, dict[str, int]]) -> int:
    counters = AccountingCounter.get_motor_collection()
    for attempt in range(1, _UPSERT_ATTEMPTS_MAX + 1):
        try:
            raw = await counters.find_one_and_update(
                {"_id": f"invoiceNumber:{day:%Y%m%d}"}, update, upsert=True, return_document=True
            )
            return int(raw["value"])
        except DuplicateKey:
            if attempt == _UPSERT_ATTEMPTS_MAX:
                raise
    raise AssertionError("the loop returns or raises")
