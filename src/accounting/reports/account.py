"""Reading a customer's account: what he was billed and has paid, his balance, his statement."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final
from zoneinfo import ZoneInfo

from accounting.clock import business_day
from accounting.db.found import Found
from accounting.ids import ObjectId
from accounting.invoices.documents import Invoice
from accounting.invoices.rules import OPEN_STATUSES, InvoiceStatus, is_overdue
from accounting.money import ZERO
from accounting.payments.documents import InvoicePayment
from accounting.platform.reader import Platform, get_customer
from accounting.platform.rules import UserId
from accounting.reports.archived import check_not_archived, find_archived
from accounting.reports.rules import EntryKind, Movement, Statement, age, check_range, draw_up

# So many payments are looked up at once.
BATCH_INVOICES: Final = 1_000

MOVEMENT_FIELDS: Final = (
    *("invoiceNumber", "status", "totalAmount", "amountPaid", "issuedDate", "dueDate"),
    *("cancelledDate", "refundedDate"),
)


@dataclass(frozen=True, slots=True)
class Balance:
    """Where a customer stands; the wallet is the platform's ledger and no part of what he owes."""

    outstanding: Decimal
    overdue: Decimal
    open_invoices: int
    aging: dict[str, Decimal]
    next_due_date: date | None
    wallet_balance: Decimal


async def read_balance(platform: Platform, customer_id: UserId, today: date) -> Balance:
    """A customer's balance on a business day, from his open invoices. Raises CustomerNotFound.

    Spec: section 4, "Outstanding", and section 5, `/customers/{id}/balance`.
    """
    await get_customer(platform, customer_id)
    found = Invoice.get_motor_collection().find(
        {"userId": customer_id, "status": {"$in": sorted(OPEN_STATUSES)}},
        {"_id": 0, "status": 1, "totalAmount": 1, "amountPaid": 1, "dueDate": 1},
    )
    owed: list[tuple[Decimal, date]] = []
    overdue = ZERO
    async for raw in found:
        amount, due = raw["totalAmount"] - raw["amountPaid"], raw["dueDate"].date()
        owed.append((amount, due))
        if is_overdue(InvoiceStatus(raw["status"]), due, today):
            overdue += amount
    return Balance(
        outstanding=sum((amount for amount, _ in owed), ZERO),
        overdue=overdue,
        open_invoices=len(owed),
        aging=age(owed, today),
        next_due_date=min((due for _, due in owed if due >= today), default=None),
        wallet_balance=await platform.sum_ledger(customer_id),
    )


async def read_statement(
    platform: Platform, customer_id: UserId, first: date, last: date, zone: ZoneInfo
) -> Statement:
    """A customer's statement over business days, both included.

    Raises CustomerNotFound, RangeNotValid, RangeArchived.
    """
    await get_customer(platform, customer_id)
    check_range(first, last)
    archived = await find_archived(customer_id)
    while True:
        check_not_archived(archived, customer_id, first)
        movements = [movement async for movement in _movements(customer_id, zone)]
        before, archived = archived, await find_archived(customer_id)
        # Else an invoice may have been read before it was archived, and its payments after that.
        if archived == before:
            return draw_up(movements, first, last)


async def _movements(customer_id: UserId, zone: ZoneInfo) -> AsyncIterator[Movement]:
    """Everything that ever moved the account, except what was taken back as if never done."""
    found = Invoice.get_motor_collection().find(
        {"userId": customer_id, "issuedDate": {"$ne": None}}, dict.fromkeys(MOVEMENT_FIELDS, 1)
    )
    while invoices := await found.to_list(BATCH_INVOICES):
        links = await find_links(raw["_id"] for raw in invoices)
        for raw in invoices:
            for movement in movements_of(raw, links[raw["_id"]], zone):
                yield movement


async def find_links(invoice_ids: Iterable[ObjectId]) -> defaultdict[ObjectId, list[Found]]:
    """The payments of these invoices as they are stored, by invoice."""
    links: defaultdict[ObjectId, list[Found]] = defaultdict(list)
    found = InvoicePayment.get_motor_collection().find({"invoiceId": {"$in": list(invoice_ids)}})
    async for link in found:
        links[link["invoiceId"]].append(link)
    return links


def movements_of(
    invoice: Mapping[str, Any], links: Iterable[Mapping[str, Any]], zone: ZoneInfo
) -> list[Movement]:
    """What an issued invoice, as it is stored with MOVEMENT_FIELDS, did to its account."""
    movements = _of_invoice(invoice, zone)
    for link in links:
        movements += _of_payment(link, invoice, zone)
    return movements


def _of_invoice(raw: Mapping[str, Any], zone: ZoneInfo) -> list[Movement]:
    total = raw["totalAmount"]
    movements = [_movement(raw, EntryKind.INVOICE, raw["issuedDate"], total, zone)]
    # A refund gives the payments back and ends the invoice, so both of its sides are undone.
    for name, kind in (
        ("cancelledDate", EntryKind.CANCELLATION),
        ("refundedDate", EntryKind.REFUND),
    ):
        if raw.get(name) is not None:
            movements.append(_movement(raw, kind, raw[name], -total, zone))
    return movements


def _of_payment(
    link: Mapping[str, Any], invoice: Mapping[str, Any], zone: ZoneInfo
) -> list[Movement]:
    amount, reference = link["amountPaid"], ObjectId(link["costPaymentId"])
    paid = _movement(invoice, EntryKind.PAYMENT, link["paidDate"], -amount, zone, reference)
    if link.get("refundedDate") is None:
        return [paid]
    given_back = _movement(invoice, EntryKind.REFUND, link["refundedDate"], amount, zone, reference)
    return [paid, given_back]


def _movement(
    invoice: Mapping[str, Any],
    kind: EntryKind,
    at: datetime,
    amount: Decimal,
    zone: ZoneInfo,
    reference: ObjectId | None = None,
) -> Movement:
    return Movement(
        day=business_day(at, zone),
        kind=kind,
        amount=amount,
        invoice_id=ObjectId(invoice["_id"]),
        invoice_number=invoice["invoiceNumber"],
        due_date=invoice["dueDate"].date(),
        reference=str(reference) if reference else None,
    )
