"""Invoices, payments and cost payments: do the three tell the same story?

The service may go on writing: what is compared is read at one moment.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Any, Final
from zoneinfo import ZoneInfo

from accounting.audit.rules import EntityType
from accounting.db.client import MongoDatabase
from accounting.db.found import Found, Snapshot, read_as_found, snapshot
from accounting.ids import ObjectId
from accounting.integrity.findings import Finding, FindingKind, Repair
from accounting.integrity.repairs import mend_allocation, mend_invoice, mend_issued_day
from accounting.invoices.rules import InvoiceStatus, day_of_issue
from accounting.money import ZERO, cents
from accounting.platform.reader import Platform
from accounting.platform.rules import CostPayment, CostPaymentUnusable

INVOICE: Final = EntityType.INVOICE.value
COST_PAYMENT: Final = "CostPayment"
PAYMENT: Final = "InvoicePayment"

_INVOICE_FIELDS: Final = (
    *("_id", "invoiceNumber", "status", "totalMiners", "unitPrice"),
    *("totalAmount", "amountPaid", "userId", "issuedDate", "issuedDay"),
)
_LIVE: Final = {"refundedDate": None}


async def check_invoices(mongo: MongoDatabase, zone: ZoneInfo) -> AsyncIterator[Finding | int]:
    """Each invoice against its payments; yields findings, and how many invoices were looked at."""
    async for batch in read_as_found(mongo, "invoices", {}, sort=["_id"], fields=["_id"]):
        ids = [row["_id"] for row in batch]
        async with snapshot(mongo) as moment:
            invoices = await moment.find("invoices", {"_id": {"$in": ids}}, _INVOICE_FIELDS)
            paid = await _sum_payments(moment, "invoiceId", ids)
        for invoice in invoices:
            for finding in _wrong_invoice(invoice, paid.get(invoice["_id"], ZERO), zone):
                yield finding
        yield len(batch)


def _wrong_invoice(invoice: Found, paid: Decimal, zone: ZoneInfo) -> list[Finding]:
    number, status = invoice["invoiceNumber"], invoice["status"]
    total, recorded = _amount(invoice["totalAmount"]), _amount(invoice["amountPaid"])
    entity_id = str(invoice["_id"])
    wrong: list[Finding] = []
    expected = cents(_amount(invoice["unitPrice"]) * int(invoice["totalMiners"]))
    if total != expected:
        sentence = f"Invoice {number} says {total}; miners times price is {expected}."
        wrong.append(Finding(FindingKind.TOTAL_WRONG, INVOICE, entity_id, sentence))
    wrong += _wrong_day(invoice)
    repair = Repair(
        f"set amountPaid of {number} to {paid}, and the status that follows",
        partial(mend_invoice, invoice_id=ObjectId(invoice["_id"]), zone=zone),
    )
    can_mend = paid <= total
    if recorded != paid:
        sentence = f"Invoice {number} says {recorded} is paid; its payments add up to {paid}."
        wrong.append(
            Finding(
                *(FindingKind.AMOUNT_PAID_WRONG, INVOICE, entity_id, sentence),
                repair if can_mend else None,
            )
        )
    elif (status == InvoiceStatus.PAID) != (paid == total) and status in _STATUSES_BY_AMOUNT:
        sentence = f"Invoice {number} is {status}, and {paid} of {total} is paid."
        wrong.append(Finding(FindingKind.STATUS_WRONG, INVOICE, entity_id, sentence, repair))
    return wrong


def _wrong_day(invoice: Found) -> list[Finding]:
    issued, day, number = invoice["issuedDate"], invoice.get("issuedDay"), invoice["invoiceNumber"]
    expected = day_of_issue(issued) if isinstance(issued, datetime) else None
    if (day.date() if isinstance(day, datetime) else day) == expected:
        return []
    repair = Repair(
        f"set issuedDay of {number} to {expected}",
        partial(mend_issued_day, invoice_id=ObjectId(invoice["_id"])),
    )
    sentence = f"Invoice {number} was issued at {issued}, and is listed under {day}."
    kind = FindingKind.ISSUED_DAY_WRONG
    return [Finding(kind, INVOICE, str(invoice["_id"]), sentence, repair)]


_STATUSES_BY_AMOUNT: Final = frozenset(
    {InvoiceStatus.ISSUED, InvoiceStatus.OVERDUE, InvoiceStatus.PAID}
)


async def check_payments(mongo: MongoDatabase, platform: Platform) -> AsyncIterator[Finding | int]:
    """Each payment's invoice, and each cost payment's guard and row of the ledger."""
    async for batch in read_as_found(
        mongo, "invoice_payments", {}, sort=["_id"], fields=["_id", "invoiceId", "costPaymentId"]
    ):
        ids = {row["invoiceId"] for row in batch}
        async with snapshot(mongo) as moment:
            there = await moment.find("invoices", {"_id": {"$in": list(ids)}}, ["_id"])
            still = await moment.find(
                "invoice_payments", {"_id": {"$in": [row["_id"] for row in batch]}}, ["_id"]
            )
        gone = ids - {row["_id"] for row in there}
        present = {row["_id"] for row in still}
        for row in batch:
            if row["invoiceId"] in gone and row["_id"] in present:
                sentence = (
                    f"Payment {row['_id']} belongs to no invoice: {row['invoiceId']} is gone."
                )
                yield Finding(FindingKind.ORPHAN_PAYMENT, PAYMENT, str(row["_id"]), sentence)
        for finding in await _check_cost_payments(
            mongo, platform, sorted({row["costPaymentId"] for row in batch})
        ):
            yield finding
        yield len(batch)
    # Guards of which no payment is left.
    async for batch in read_as_found(
        mongo, "payment_allocations", {"allocated": {"$gt": 0}}, sort=["_id"], fields=["_id"]
    ):
        ids = {row["_id"] for row in batch}
        linked = await mongo["invoice_payments"].distinct(
            "costPaymentId", {"costPaymentId": {"$in": list(ids)}}
        )
        for finding in await _check_cost_payments(mongo, platform, sorted(ids - set(linked))):
            yield finding


async def _check_cost_payments(
    mongo: MongoDatabase, platform: Platform, ids: Sequence[ObjectId]
) -> list[Finding]:
    async with snapshot(mongo) as moment:
        applied = await _sum_payments(moment, "costPaymentId", ids)
        guards = await moment.find("payment_allocations", {"_id": {"$in": list(ids)}}, ())
        links = await moment.find(
            "invoice_payments",
            {"costPaymentId": {"$in": list(ids)}, **_LIVE},
            ["costPaymentId", "invoiceId"],
        )
        owners = await moment.find(
            "invoices", {"_id": {"$in": [link["invoiceId"] for link in links]}}, ["userId"]
        )
    allocated = {guard["_id"]: _amount(guard["allocated"]) for guard in guards}
    archived = {guard["_id"]: _amount(guard.get("archived")) for guard in guards}
    rows = await platform.find_cost_payments(ids)
    owner_of = {invoice["_id"]: invoice["userId"] for invoice in owners}
    customers: dict[ObjectId, set[ObjectId]] = {}
    for link in links:
        if link["invoiceId"] in owner_of:
            customers.setdefault(link["costPaymentId"], set()).add(owner_of[link["invoiceId"]])
    wrong: list[Finding] = []
    for cost_payment_id in ids:
        gone = archived.get(cost_payment_id, ZERO)
        used = applied.get(cost_payment_id, ZERO) + gone
        recorded = allocated.get(cost_payment_id, ZERO)
        if recorded != used:
            with_archived = f", with {gone} that are archived" if gone else ""
            sentence = (
                f"Cost payment {cost_payment_id} is recorded as {recorded} allocated; "
                f"its payments add up to {used}{with_archived}."
            )
            repair = Repair(
                f"record {used} of cost payment {cost_payment_id} as allocated",
                partial(mend_allocation, cost_payment_id=cost_payment_id),
            )
            kind = FindingKind.ALLOCATION_WRONG
            wrong.append(Finding(kind, COST_PAYMENT, str(cost_payment_id), sentence, repair))
        # What only pays archived invoices may vanish from the ledger as well.
        if used > gone:
            row = rows.get(cost_payment_id)
            wrong += _wrong_row(cost_payment_id, row, used, customers.get(cost_payment_id, set()))
    return wrong


def _wrong_row(
    cost_payment_id: ObjectId, row: CostPayment | None, used: Decimal, customers: set[ObjectId]
) -> list[Finding]:
    """What the platform did to a row of its ledger after it was applied; only it can mend that."""
    name, entity_id = f"Cost payment {cost_payment_id}", str(cost_payment_id)
    if row is None or row.is_deleted:
        sentence = f"{name} is gone from the ledger, and {used} of it pays invoices."
        return [Finding(FindingKind.LEDGER_ROW_VANISHED, COST_PAYMENT, entity_id, sentence)]
    kind = FindingKind.LEDGER_ROW_CHANGED
    try:
        row.check_can_pay()
    except CostPaymentUnusable as error:
        sentence = f"{error.sentence} Of it, {used} pays invoices."
        return [Finding(kind, COST_PAYMENT, entity_id, sentence)]
    wrong: list[Finding] = []
    if customers - {row.user_id}:
        sentence = f"{name} pays invoices of another customer than its own, {row.user_id}."
        wrong.append(Finding(kind, COST_PAYMENT, entity_id, sentence))
    if used > row.amount:
        sentence = f"{name} has {row.amount}, and {used} of it pays invoices."
        wrong.append(Finding(FindingKind.OVERSPENT, COST_PAYMENT, entity_id, sentence))
    return wrong


async def _sum_payments(
    moment: Snapshot, field: str, ids: Sequence[Any]
) -> dict[ObjectId, Decimal]:
    sums = await moment.aggregate(
        "invoice_payments",
        [
            {"$match": {field: {"$in": list(ids)}, **_LIVE}},
            {"$group": {"_id": f"${field}", "sum": {"$sum": "$amountPaid"}}},
        ],
    )
    return {row["_id"]: _amount(row["sum"]) for row in sums}


def _amount(value: object) -> Decimal:
    return cents(value) if isinstance(value, Decimal) else ZERO
