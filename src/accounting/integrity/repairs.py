"""Putting right what can be: each looks again in its transaction, and leaves an entry."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from zoneinfo import ZoneInfo

from accounting.audit.rules import AuditAction, EntityType
from accounting.audit.service import record
from accounting.clock import business_day
from accounting.db.database import Transaction
from accounting.invoices.documents import Invoice, get_invoice
from accounting.invoices.numbers import catch_up_counter
from accounting.invoices.rules import InvoiceId, InvoiceStatus, day_of_issue, is_overdue
from accounting.invoices.trail import record_change
from accounting.money import ZERO
from accounting.payments.documents import InvoicePayment, PaymentAllocation
from accounting.payments.service import list_payments
from accounting.platform.rules import CostPaymentId
from accounting.recurring.documents import get_recurring_invoice
from accounting.recurring.rules import RecurringInvoiceId, scheduled_date
from accounting.recurring.trail import template_entry


async def mend_invoice(tx: Transaction, *, invoice_id: InvoiceId, zone: ZoneInfo) -> None:
    """Let an invoice's paid amount be the sum of its payments, and its status what follows.

    Does nothing where that is so already, or where more is paid than the total.
    """
    invoice = await get_invoice(invoice_id, session=tx.session)
    live = [
        payment
        for payment in await list_payments([invoice_id], session=tx.session)
        if payment.refunded_date is None
    ]
    paid = sum((payment.amount_paid for payment in live), ZERO)
    changes: dict[str, object] = {"amount_paid": paid} | _status(invoice, paid, live, tx, zone)
    if paid > invoice.total_amount or all(
        getattr(invoice, name) == value for name, value in changes.items()
    ):
        return
    mended = await invoice.change(tx, expect={"status": invoice.status}, **changes)
    await record_change(
        tx, AuditAction.INVOICE_UPDATED, invoice, mended, "repaired: it did not match its payments"
    )


def _status(
    invoice: Invoice,
    paid: Decimal,
    live: list[InvoicePayment],
    tx: Transaction,
    zone: ZoneInfo,
) -> dict[str, object]:
    if invoice.status in (InvoiceStatus.ISSUED, InvoiceStatus.OVERDUE):
        if paid == invoice.total_amount and live:
            last = max(payment.paid_date for payment in live)
            return {"status": InvoiceStatus.PAID, "paid_date": last}
    elif invoice.status is InvoiceStatus.PAID and paid < invoice.total_amount:
        today = business_day(tx.now, zone)
        is_late = is_overdue(InvoiceStatus.ISSUED, invoice.due_date, today)
        status = InvoiceStatus.OVERDUE if is_late else InvoiceStatus.ISSUED
        return {"status": status, "paid_date": None}
    return {}


async def mend_issued_day(tx: Transaction, *, invoice_id: InvoiceId) -> None:
    """Let the day by which an invoice is found be that of its issue."""
    invoice = await get_invoice(invoice_id, session=tx.session)
    day = day_of_issue(invoice.issued_date) if invoice.issued_date else None
    if invoice.issued_day == day:
        return
    mended = await invoice.change(tx, expect={"status": invoice.status}, issued_day=day)
    what = f"repaired: found by the day of its issue, {day}"
    await record_change(tx, AuditAction.INVOICE_UPDATED, invoice, mended, what)


async def mend_allocation(tx: Transaction, *, cost_payment_id: CostPaymentId) -> None:
    """Let what is recorded of a cost payment be the sum of its live and its archived payments."""
    links = await InvoicePayment.find(
        {"costPaymentId": cost_payment_id, "refundedDate": None}, session=tx.session
    ).to_list()
    guard = await PaymentAllocation.find_one({"_id": cost_payment_id}, session=tx.session)
    archived = (guard.archived if guard else None) or ZERO
    used = sum((link.amount_paid for link in links), archived)
    recorded = guard.allocated if guard else ZERO
    if recorded == used:
        return
    if guard is None:
        await PaymentAllocation(id=cost_payment_id, allocated=used, updated_at=tx.now).add(tx)
    else:
        await guard.change(
            tx,
            expect={"version": guard.version},
            allocated=used,
            updated_at=tx.now,
            version=guard.version + 1,
        )
    # An entry of each invoice that it pays; of the cost payment itself where there is none.
    entities = {(EntityType.INVOICE, link.invoice_id) for link in links}
    for entity in sorted(entities) or [(EntityType.COST_PAYMENT, cost_payment_id)]:
        await record(
            tx,
            AuditAction.INVOICE_UPDATED,
            entity,
            f"Cost payment {cost_payment_id} repaired: allocated is what its payments add up to",
            before={"allocated": recorded},
            after={"allocated": used},
        )


async def mend_schedule(tx: Transaction, *, template_id: RecurringInvoiceId, period: str) -> None:
    """Let a template know the last month that was generated from it."""
    template = await get_recurring_invoice(template_id, session=tx.session)
    last = scheduled_date(period, template.day_of_month)
    if template.last_generated_date is not None and template.last_generated_date >= last:
        return
    mended = await template.change(tx, expect=None, last_generated_date=last)
    entry = template_entry(
        AuditAction.RECURRING_INVOICE_UPDATED, template, mended, f"repaired: {period} was generated"
    )
    await record(
        tx, entry.action, entry.entity, entry.description, before=entry.before, after=entry.after
    )


async def mend_counter(tx: Transaction, *, day: date) -> None:
    """Move a day's counter past every number in use; a counter has no entries of its own.

    Outside the transaction, as every change of a counter is.
    """
    await catch_up_counter(day)
