"""The use cases on a finished invoice: issue, cancel, mark overdue (spec section 4)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, datetime
from typing import Any, Final

from accounting.actor import SYSTEM
from accounting.audit.rules import AuditAction
from accounting.audit.service import record_all
from accounting.clock import as_stored_day, business_day
from accounting.db.database import Database, Transaction
from accounting.invoices.documents import CustomerSnapshot, Invoice, get_invoice
from accounting.invoices.mailing import tell_of_cancellation
from accounting.invoices.papers import FREEZE_JOB
from accounting.invoices.rules import (
    BillingTerms,
    HasPayments,
    InvoiceAction,
    InvoiceId,
    InvoiceStatus,
    check_allowed,
    day_of_issue,
    due_date_at_issue,
)
from accounting.invoices.trail import change_entry, record_change
from accounting.money import ZERO
from accounting.notifications.rules import NotificationType, dedupe_key
from accounting.notifications.service import NewNotification, queue_notifications
from accounting.platform.reader import Platform, get_customer
from accounting.platform.rules import PlatformUser

# Small enough that one transaction stays short, large enough to be near a bulk write.
OVERDUE_BATCH_INVOICES: Final = 100


async def issue_invoice(
    tx: Transaction,
    platform: Platform,
    terms: BillingTerms,
    invoice_id: InvoiceId,
    *,
    issued_date: datetime | None = None,
    skip_email: bool = False,
    expected_version: int | None = None,
) -> Invoice:
    """Make a draft final: freeze customer and PDF, and queue the e-mail that carries it.

    Spec: section 4, "issue".
    Raises InvoiceNotFound, StaleVersion, InvalidTransition, CustomerNotFound.
    """
    draft = await get_invoice(invoice_id, session=tx.session)
    draft.check_version(expected_version)
    check_allowed(InvoiceAction.ISSUE, draft.status, draft.invoice_number)
    customer = await get_customer(platform, draft.user_id)
    issued_at = issued_date or tx.now

    issued = await draft.change(
        tx,
        expect={"status": draft.status},
        **changes_at_issue(draft, customer, terms, issued_at),
    )
    what = f"issued to {customer.name}"
    await record_change(tx, AuditAction.INVOICE_ISSUED, draft, issued, what)
    tx.enqueue(FREEZE_JOB, str(invoice_id))
    if customer.email and not skip_email:
        await queue_notifications(tx, [mail_of_issue(invoice_id, customer.email, terms)])
    return issued


def changes_at_issue(
    draft: Invoice, customer: PlatformUser, terms: BillingTerms, issued_at: datetime
) -> dict[str, Any]:
    """What the issue of a draft changes in it, by Python names."""
    return {
        "status": InvoiceStatus.ISSUED,
        "issued_date": issued_at,
        "issued_day": day_of_issue(issued_at),
        "due_date": due_date_at_issue(
            draft.due_date,
            generated=draft.invoice_generated_date,
            issued=business_day(issued_at, terms.zone),
            due_days=terms.due_days,
        ),
        "customer": CustomerSnapshot(
            name=customer.name, email=customer.email, company_name=customer.company_name
        ),
    }


def mail_of_issue(invoice_id: InvoiceId, to: str, terms: BillingTerms) -> NewNotification:
    """The e-mail that carries an issued invoice to its customer."""
    return NewNotification(
        NotificationType.INVOICE_ISSUED,
        invoice_id,
        to=to,
        cc=terms.mail_cc,
        dedupe_key=dedupe_key(NotificationType.INVOICE_ISSUED, invoice_id),
    )


async def cancel_invoice(
    tx: Transaction, invoice_id: InvoiceId, reason: str, *, expected_version: int | None = None
) -> Invoice:
    """End an unpaid invoice for good; it keeps its number. Who got it by e-mail is told so.

    Spec: section 4, "cancel". Raises InvoiceNotFound, StaleVersion, InvalidTransition, HasPayments.
    """
    invoice = await get_invoice(invoice_id, session=tx.session)
    invoice.check_version(expected_version)
    check_allowed(InvoiceAction.CANCEL, invoice.status, invoice.invoice_number)
    if invoice.amount_paid > ZERO:
        raise HasPayments(invoice.invoice_number, invoice.amount_paid)

    cancelled = await invoice.change(
        tx,
        expect={"status": invoice.status},
        status=InvoiceStatus.CANCELLED,
        cancelled_date=tx.now,
        cancel_reason=reason,
    )
    what = f"cancelled: {reason}"
    await record_change(tx, AuditAction.INVOICE_CANCELLED, invoice, cancelled, what)
    await tell_of_cancellation(tx, cancelled)
    return cancelled


async def mark_overdue(
    db: Database,
    today: date,
    *,
    on_progress: Callable[[int], None] = lambda marked: None,
) -> int:
    """Mark every ISSUED invoice whose due date is before `today` as OVERDUE; returns how many.

    The daily job: idempotent, in batches of one transaction each, with an entry per invoice.
    Spec: section 4, "due date passed". `on_progress` gets the number marked so far.
    """
    marked = 0
    while invoice_ids := await _list_past_due(today):
        marked += await db.run(SYSTEM, _mark_batch_overdue, invoice_ids, today)
        on_progress(marked)
    return marked


async def _list_past_due(today: date) -> list[InvoiceId]:
    found = Invoice.get_motor_collection().find(
        {"status": InvoiceStatus.ISSUED, "dueDate": {"$lt": as_stored_day(today)}}, {"_id": 1}
    )
    return [raw["_id"] async for raw in found.limit(OVERDUE_BATCH_INVOICES)]


async def _mark_batch_overdue(
    tx: Transaction, invoice_ids: Sequence[InvoiceId], today: date
) -> int:
    # Read again inside the transaction: some may have been paid or cancelled meanwhile.
    invoices = await Invoice.find(
        {
            "_id": {"$in": list(invoice_ids)},
            "status": InvoiceStatus.ISSUED,
            "dueDate": {"$lt": as_stored_day(today)},
        },
        session=tx.session,
    ).to_list()
    marked = await Invoice.change_many(
        tx, [(invoice, {"status": InvoiceStatus.OVERDUE}) for invoice in invoices]
    )
    entries = [
        change_entry(
            AuditAction.INVOICE_OVERDUE, invoice, overdue, f"overdue since {invoice.due_date}"
        )
        for invoice, overdue in zip(invoices, marked, strict=True)
    ]
    await record_all(tx, entries)
    return len(invoices)
