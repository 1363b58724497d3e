"""What differs between a planned bill and the last one of its template."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Final

from accounting.clock import as_stored_day
from accounting.db.document import EmbeddedDocument
from accounting.db.fields import Amount, BillingPeriod, UnitPrice
from accounting.ids import ObjectId
from accounting.invoices.documents import Invoice
from accounting.platform.reader import Platform
from accounting.platform.rules import PlatformUser, UserId
from accounting.recurring.billing import NO_MINERS_CODE, NO_PRICE_CODE, Charge, Decision
from accounting.recurring.documents import RecurringInvoice, readable
from accounting.recurring.rules import period_of

# A total that moved by so much is worth a look before it is sent.
JUMP_PERCENT: Final = 50
GONE_SHOWN_MAX: Final = 1_000


class PlanFlag(StrEnum):
    """What a person should look at in a plan, compared with the last bill of the template."""

    NEW = "NEW"
    PRICE_CHANGED = "PRICE_CHANGED"
    MINERS_CHANGED = "MINERS_CHANGED"
    UNUSUAL_JUMP = "UNUSUAL_JUMP"
    NO_EMAIL = "NO_EMAIL"
    NO_PRICE = "NO_PRICE"
    NO_MINERS = "NO_MINERS"


@dataclass(frozen=True, slots=True)
class Bill:
    """What was billed before, or is planned to be; amounts in USD."""

    billing_period: str
    total_miners: int
    unit_price: Decimal
    total_amount: Decimal
    invoice_number: str | None = None


class _BilledInvoice(EmbeddedDocument):
    """What is read of an invoice that a template has generated."""

    recurring_invoice_id: ObjectId
    billing_period: BillingPeriod
    invoice_number: str
    total_miners: int
    unit_price: UnitPrice
    total_amount: Amount

    @property
    def bill(self) -> Bill:
        return Bill(**self.model_dump(exclude={"recurring_invoice_id"}))


@dataclass(frozen=True, slots=True)
class GoneBill:
    """A template that billed the month before and does not bill this one: it was ended."""

    template_id: ObjectId
    customer_id: UserId
    customer: PlatformUser | None
    previous: Bill


def flags_of(
    decision: Decision, customer: PlatformUser | None, previous: Bill | None
) -> Iterable[PlanFlag]:
    """What is to be looked at in a decision, compared with the bill before it."""
    if not isinstance(decision, Charge):
        if decision.code == NO_PRICE_CODE:
            yield PlanFlag.NO_PRICE
        if decision.code == NO_MINERS_CODE:
            yield PlanFlag.NO_MINERS
        return
    if customer is not None and not customer.email:
        yield PlanFlag.NO_EMAIL
    if previous is None:
        yield PlanFlag.NEW
        return
    if decision.unit_price != previous.unit_price:
        yield PlanFlag.PRICE_CHANGED
    if decision.total_miners != previous.total_miners:
        yield PlanFlag.MINERS_CHANGED
    moved = abs(decision.total_amount - previous.total_amount)
    if moved * 100 >= previous.total_amount * JUMP_PERCENT:
        yield PlanFlag.UNUSUAL_JUMP


async def find_last_bills(templates: Iterable[RecurringInvoice]) -> dict[ObjectId, Bill]:
    """The invoice that each template generated last, by the template's id."""
    last = {
        ObjectId(template.id): period_of(template.last_generated_date)
        for template in templates
        if template.last_generated_date is not None
    }
    found = Invoice.find(
        {
            "recurringInvoiceId": {"$in": list(last)},
            "billingPeriod": {"$in": sorted(set(last.values()))},
        }
    ).project(_BilledInvoice)
    return {
        invoice.recurring_invoice_id: invoice.bill
        async for invoice in found
        if last[invoice.recurring_invoice_id] == invoice.billing_period
    }


async def find_gone(platform: Platform, as_of: date) -> list[GoneBill]:
    """The first GONE_SHOWN_MAX templates that billed the month before and are ended or paused."""
    first = as_of.replace(day=1)
    before = (first - timedelta(days=1)).replace(day=1)
    found = RecurringInvoice.get_motor_collection().find(
        {
            "lastGeneratedDate": {"$gte": as_stored_day(before), "$lt": as_stored_day(first)},
            "$or": [{"isActive": False}, {"endDate": {"$lt": as_stored_day(as_of)}}],
        }
    )
    templates = [
        template
        async for raw in found.sort("_id", 1).limit(GONE_SHOWN_MAX)
        if (template := readable(raw)) is not None and not _bills_this_month(template, as_of)
    ]
    bills = await find_last_bills(templates)
    customers = await platform.find_users({template.user_id for template in templates})
    return [
        GoneBill(
            ObjectId(template.id),
            template.user_id,
            customers.get(template.user_id),
            bills[ObjectId(template.id)],
        )
        for template in templates
        if ObjectId(template.id) in bills
    ]


def _bills_this_month(template: RecurringInvoice, as_of: date) -> bool:
    """Whether an ended template still has this month's bill to come or to be caught up."""
    day = as_of.replace(day=template.day_of_month)
    return template.is_active and (template.end_date is None or template.end_date >= day)
