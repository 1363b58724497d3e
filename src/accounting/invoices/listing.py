"""Lists of invoices: filters, order, pages (spec section 5, "Lists")."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any
from zoneinfo import ZoneInfo

from accounting.clock import as_stored_day, start_of_day
from accounting.invoices.documents import Invoice
from accounting.invoices.rules import InvoiceStatus
from accounting.platform.rules import UserId


class InvoiceSort(StrEnum):
    """What a list of invoices can be ordered by."""

    CREATED_AT = "createdAt"
    INVOICE_NUMBER = "invoiceNumber"
    TOTAL_AMOUNT = "totalAmount"
    STATUS = "status"
    DUE_DATE = "dueDate"
    ISSUED_DATE = "issuedDate"
    PAID_DATE = "paidDate"


@dataclass(frozen=True, slots=True)
class InvoiceFilter:
    """Which invoices; None does not narrow. Days are inclusive and in the business zone."""

    customer_id: UserId | None = None
    statuses: Sequence[InvoiceStatus] = ()
    billing_period: str | None = None
    issued_from: date | None = None
    issued_to: date | None = None
    due_from: date | None = None
    due_to: date | None = None
    amount_min: Decimal | None = None
    amount_max: Decimal | None = None
    overdue_on: date | None = None
    hides_drafts: bool = False


async def list_invoices(
    wanted: InvoiceFilter,
    zone: ZoneInfo,
    *,
    sort_by: InvoiceSort,
    descending: bool,
    page: int,
    limit: int,
) -> tuple[list[Invoice], int]:
    """A page of invoices (the first is 1) and how many there are in all; ties by id."""
    query = _query(wanted, zone)
    sign = "-" if descending else "+"
    found = Invoice.find(query).sort(f"{sign}{sort_by}", f"{sign}_id")
    invoices = await found.skip((page - 1) * limit).limit(limit).to_list()
    total = await Invoice.get_motor_collection().count_documents(query)
    return invoices, total


def _query(wanted: InvoiceFilter, zone: ZoneInfo) -> dict[str, Any]:
    conditions: list[dict[str, Any]] = []
    if wanted.customer_id is not None:
        conditions.append({"userId": wanted.customer_id})
    if wanted.statuses:
        conditions.append({"status": {"$in": [str(status) for status in wanted.statuses]}})
    if wanted.hides_drafts:
        conditions.append({"status": {"$ne": InvoiceStatus.DRAFT.value}})
    if wanted.billing_period is not None:
        conditions.append({"billingPeriod": wanted.billing_period})
    if wanted.overdue_on is not None:
        past_due = {
            "status": InvoiceStatus.ISSUED.value,
            "dueDate": {"$lt": as_stored_day(wanted.overdue_on)},
        }
        conditions.append({"$or": [{"status": InvoiceStatus.OVERDUE.value}, past_due]})
    issued = {}
    if wanted.issued_from is not None:
        issued["$gte"] = start_of_day(wanted.issued_from, zone)
    if wanted.issued_to is not None:
        issued["$lt"] = start_of_day(wanted.issued_to + timedelta(days=1), zone)
    due = _range(wanted.due_from, wanted.due_to, as_stored_day)
    amount = _range(wanted.amount_min, wanted.amount_max, lambda value: value)
    for name, bounds in (("issuedDate", issued), ("dueDate", due), ("totalAmount", amount)):
        if bounds:
            conditions.append({name: bounds})
    return {"$and": conditions} if conditions else {}


def _range(least: Any, most: Any, stored: Any) -> dict[str, Any]:
    bounds = {}
    if least is not None:
        bounds["$gte"] = stored(least)
    if most is not None:
        bounds["$lte"] = stored(most)
    return bounds
