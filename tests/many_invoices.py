"""Thousands of invoices at once, as raw documents: for explain, cursors and measurements.

The mix is that of a hosting company after some years: most are paid, a few of each other status,
and the numbers, periods and dates follow each other.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from accounting.ids import ObjectId
from accounting.invoices.rules import InvoiceStatus

FIRST_DAY: Final = datetime(2021, 1, 1, 8, tzinfo=UTC)
YEARS: Final = 5
STAFF: Final = ObjectId("aaaaaaaaaaaaaaaaaaaaaaaa")
STATUSES: Final = ("PAID", "ISSUED", "OVERDUE", "DRAFT", "CANCELLED", "REFUNDED")
# In percent, by the age in days that an invoice has at the end: only new ones are still open.
SHARES_BY_AGE: Final = (
    (30, (40, 45, 0, 11, 3, 1)),
    (60, (80, 4, 10, 2, 3, 1)),
    (200, (91, 0, 4, 1, 3, 1)),
    (10_000, (94.8, 0, 1, 0.2, 3, 1)),
)
PAID_ONCE: Final = (InvoiceStatus.PAID, InvoiceStatus.REFUNDED)


def many_invoices(
    number: int, customers: Sequence[ObjectId], *, seed: int = 7
) -> Iterator[dict[str, Any]]:
    """So many invoices of these customers, oldest first, spread evenly over the years."""
    dice = random.Random(seed)
    step = timedelta(days=365 * YEARS) / number
    serials: dict[str, int] = {}
    for position in range(number):
        created = FIRST_DAY + position * step
        created = created.replace(microsecond=created.microsecond // 1000 * 1000)
        day = f"{created:%Y%m%d}"
        serials[day] = serials.get(day, 0) + 1
        age = (number - position) * step / timedelta(days=1)
        shares = next(shares for days, shares in SHARES_BY_AGE if age <= days)
        [status] = dice.choices(STATUSES, shares)
        number_of_it = f"{day}{serials[day]:02d}"
        yield _an_invoice(dice, number_of_it, created, InvoiceStatus(status), customers)


def _an_invoice(
    dice: random.Random,
    number: str,
    created: datetime,
    status: InvoiceStatus,
    customers: Sequence[ObjectId],
) -> dict[str, Any]:
    miners, price = dice.randint(1, 60), Decimal(dice.randint(5000, 25000)) / 100
    total = (miners * price).quantize(Decimal("0.01"))
    generated = created.replace(hour=0, minute=0, second=0, microsecond=0)
    is_draft, is_paid = status is InvoiceStatus.DRAFT, status in PAID_ONCE
    issued = None if is_draft else created + timedelta(minutes=dice.randint(1, 2000))
    paid = created + timedelta(minutes=dice.randint(3000, 50000)) if is_paid else None
    customer = customers[int(len(customers) * dice.random() ** 1.5)]
    name = f"Customer {str(customer)[-6:]}"
    return {
        "_id": ObjectId(),
        "invoiceNumber": number,
        "userId": customer,
        "totalMiners": miners,
        "unitPrice": price,
        "totalAmount": total,
        "amountPaid": total if status is InvoiceStatus.PAID else Decimal("0.00"),
        "status": status.value,
        "invoiceGeneratedDate": generated,
        "issuedDate": issued,
        "issuedDay": issued and issued.replace(hour=0, minute=0, second=0, microsecond=0),
        "dueDate": generated + timedelta(days=dice.choice([14, 30, 30, 30, 60])),
        "paidDate": paid,
        "billingPeriod": f"{created:%Y-%m}",
        "recurringInvoiceId": None,
        "customer": None
        if is_draft
        else {"name": name, "email": f"{customer}@example.com", "companyName": None},
        "pricing": {"source": "EXPLICIT", "pricingConfigId": None, "minerIdsCount": None},
        "cancelledDate": created if status is InvoiceStatus.CANCELLED else None,
        "cancelReason": "asked for" if status is InvoiceStatus.CANCELLED else None,
        "refundedDate": paid if status is InvoiceStatus.REFUNDED else None,
        "refundReason": "asked for" if status is InvoiceStatus.REFUNDED else None,
        "createdBy": STAFF,
        "updatedBy": None,
        "createdAt": created,
        "updatedAt": created,
        "version": 1,
    }
