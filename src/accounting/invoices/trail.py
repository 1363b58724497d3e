"""The entries that a change of an invoice leaves in the audit trail."""

from __future__ import annotations

from decimal import Decimal

from accounting.audit.rules import AuditAction, EntityType
from accounting.audit.service import NewEntry, record, record_all
from accounting.db.database import Transaction
from accounting.invoices.documents import Invoice
from accounting.invoices.rules import InvoiceId
from accounting.notifications.documents import InvoiceNotification
from accounting.notifications.rules import NotificationStatus
from accounting.payments.documents import InvoicePayment


async def record_change(
    tx: Transaction,
    action: AuditAction,
    before: Invoice | None,
    after: Invoice | None,
    what: str,
) -> None:
    """Append the entry of `change_entry`."""
    await record_all(tx, [change_entry(action, before, after, what)])


def change_entry(
    action: AuditAction, before: Invoice | None, after: Invoice | None, what: str
) -> NewEntry:
    """An entry with the fields that differ; a creation has no `before`, a deletion no `after`."""
    invoice = after or before
    assert invoice is not None
    return NewEntry(
        action,
        (EntityType.INVOICE, InvoiceId(invoice.id)),
        f"Invoice {invoice.invoice_number} {what}",
        before=before.snapshot() if before else None,
        after=after.snapshot() if after else None,
    )


async def record_payment_change(
    tx: Transaction,
    action: AuditAction,
    amount_paid: tuple[Decimal, Decimal],
    invoice: Invoice,
    payment: InvoicePayment,
    what: str,
) -> None:
    """An entry about one payment of an invoice: the invoice's paid amount and the payment's own.

    `amount_paid` is the invoice's before and after.
    """
    facts = {
        "paymentId": payment.id,
        "costPaymentId": payment.cost_payment_id,
        "appliedAmount": payment.amount_paid,
        "paidDate": payment.paid_date,
    }
    is_added = action is AuditAction.PAYMENT_ADDED
    before, after = amount_paid
    await record(
        tx,
        action,
        (EntityType.INVOICE, InvoiceId(invoice.id)),
        f"Payment of {payment.amount_paid} {what} invoice {invoice.invoice_number}",
        before={"amountPaid": before} | ({} if is_added else facts),
        after={"amountPaid": after} | (facts if is_added else {}),
    )


def mail_entry(invoice: Invoice, queued: InvoiceNotification, step: str = "") -> NewEntry:
    """The entry of an e-mail that was queued, or left unsent for good, with no other change.

    INVOICE_SENT_TO_CUSTOMER is the action of the seed that comes nearest: the invoice was handed
    over for sending. Whether it arrived at the mail server, EMAIL_SENT or EMAIL_FAILED will tell.
    """
    what, tone = f"{queued.title} {step}".strip(), queued.statement_tone
    is_unwanted = queued.status is NotificationStatus.UNSUBSCRIBED
    how = "not sent, unsubscribed" if is_unwanted else f"queued to {queued.sent_to}"
    return NewEntry(
        AuditAction.INVOICE_SENT_TO_CUSTOMER,
        (EntityType.INVOICE, InvoiceId(invoice.id)),
        f"Invoice {invoice.invoice_number}: {what} {how}",
        after={
            "notificationId": queued.id,
            "notificationType": queued.notification_type,
            **({"step": step} if step else {}),
            **({"statementTone": tone} if tone else {}),
            "sentTo": queued.sent_to,
        },
    )
