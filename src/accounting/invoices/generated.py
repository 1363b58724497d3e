"""Making many invoices at once, as generation does (spec section 6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from accounting.audit.rules import AuditAction
from accounting.audit.service import NewEntry, record_all
from accounting.db.database import Transaction
from accounting.ids import ObjectId
from accounting.invoices.documents import Invoice, PricingSnapshot
from accounting.invoices.drafts import new_draft
from accounting.invoices.papers import FREEZE_JOB
from accounting.invoices.rules import BillingTerms, InvoiceId, due_date
from accounting.invoices.service import changes_at_issue, mail_of_issue
from accounting.invoices.trail import change_entry
from accounting.notifications.service import NewNotification, queue_notifications
from accounting.platform.rules import PlatformUser


@dataclass(frozen=True, slots=True)
class GeneratedInvoice:
    """What one month of a template comes to; `is_issued` leaves out the review as a draft."""

    invoice_number: str
    customer: PlatformUser
    recurring_invoice_id: ObjectId
    billing_period: str
    total_miners: int
    unit_price: Decimal
    total_amount: Decimal
    pricing: PricingSnapshot
    is_issued: bool = False


async def create_generated_invoices(
    tx: Transaction, terms: BillingTerms, day: date, wanted: Sequence[GeneratedInvoice]
) -> list[Invoice]:
    """Insert these invoices of one business day, with their entries and e-mails.

    Each is what `create_invoice`, and `issue_invoice` if it is to be issued, would leave, written
    in few round trips. A duplicate number or month of a template ends the transaction.
    """
    invoices: list[Invoice] = []
    entries: list[NewEntry] = []
    mails: list[NewNotification] = []
    for order in wanted:
        invoice = _draft(tx, terms, day, order)
        entries.append(change_entry(AuditAction.INVOICE_CREATED, None, invoice, "created"))
        if order.is_issued:
            draft, invoice = invoice, _issued(tx, terms, invoice, order.customer)
            what = f"issued to {order.customer.name}"
            entries.append(change_entry(AuditAction.INVOICE_ISSUED, draft, invoice, what))
            tx.enqueue(FREEZE_JOB, str(invoice.id))
            if order.customer.email:
                mails.append(mail_of_issue(InvoiceId(invoice.id), order.customer.email, terms))
        invoices.append(invoice)
    await Invoice.add_many(tx, invoices)
    await record_all(tx, entries)
    await queue_notifications(tx, mails)
    return invoices


def _draft(tx: Transaction, terms: BillingTerms, day: date, order: GeneratedInvoice) -> Invoice:
    content = {
        "user_id": order.customer.id,
        "total_miners": order.total_miners,
        "unit_price": order.unit_price,
        "total_amount": order.total_amount,
        "invoice_generated_date": day,
        "due_date": due_date(day, terms.due_days),
        "billing_period": order.billing_period,
        "recurring_invoice_id": order.recurring_invoice_id,
        "pricing": order.pricing,
    }
    return new_draft(tx, order.invoice_number, content)


def _issued(
    tx: Transaction, terms: BillingTerms, draft: Invoice, customer: PlatformUser
) -> Invoice:
    changes = changes_at_issue(draft, customer, terms, tx.now)
    stamps = {"updated_by": tx.actor.user_id, "version": draft.version + 1}
    issued: Invoice = draft.model_copy(update=changes | stamps)
    return issued
