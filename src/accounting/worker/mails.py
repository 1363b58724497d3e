"""Writing the e-mail of a row: what each kind needs to know, and when it must not go out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from email.message import EmailMessage
from typing import Final, TypeAlias

from accounting.bootstrap import Services
from accounting.clock import business_day
from accounting.ids import ObjectId
from accounting.invoices.documents import Invoice, get_invoice
from accounting.invoices.dunning import step_named, why_withheld
from accounting.invoices.mail import invoice_facts
from accounting.invoices.rules import InvoiceStatus
from accounting.notifications import contents
from accounting.notifications.contents import InvoiceFacts
from accounting.notifications.documents import InvoiceNotification
from accounting.notifications.message import Content, Envelope, compose_mail, parse_mailbox
from accounting.notifications.rules import NotificationType, step_of
from accounting.notifications.service import MailWithheld
from accounting.payments.service import list_payments

Write: TypeAlias = Callable[[Services, InvoiceNotification, Invoice], Awaitable[Content]]


async def compose(services: Services, notification: InvoiceNotification) -> EmailMessage:
    """Write the e-mail of this row from the invoice as it is now.

    Raises InvoiceNotFound, UndeliverableAddress; MailWithheld when it has nothing to say any more.
    """
    invoice = await get_invoice(notification.invoice_id)
    write = CONTENTS.get(notification.notification_type)
    if write is None:
        raise MailWithheld(f"no e-mail tells of {notification.notification_type}")
    sender = services.settings.mail_from
    envelope = Envelope(
        sender=sender,
        to=notification.sent_to,
        cc=notification.cc_emails,
        message_id=f"<{notification.id}@{parse_mailbox(sender).domain}>",
        date=services.db.clock(),
    )
    return compose_mail(await write(services, notification, invoice), envelope)


async def _invoice_issued(
    services: Services, notification: InvoiceNotification, invoice: Invoice
) -> Content:
    return contents.invoice_issued(_facts(services, invoice))


async def _payment_reminder(
    services: Services, notification: InvoiceNotification, invoice: Invoice
) -> Content:
    _check_reminder(invoice)
    return contents.payment_reminder(_facts(services, invoice))


async def _overdue_reminder(
    services: Services, notification: InvoiceNotification, invoice: Invoice
) -> Content:
    _check_reminder(invoice)
    today = business_day(services.db.clock(), services.terms.zone)
    days_overdue = (today - invoice.due_date).days
    step = step_named(step_of(notification.dedupe_key), days_overdue=days_overdue)
    if step is None:
        raise MailWithheld("the invoice is not overdue")
    return contents.overdue_reminder(
        _facts(services, invoice),
        # Queued for a day that is still to come (`--as-of`), it speaks as of that day.
        days_overdue=max(days_overdue, step),
        tone=step.tone,
    )


async def _payment_received(
    services: Services, notification: InvoiceNotification, invoice: Invoice
) -> Content:
    """The step of the row's dedupeKey is the id of the payment."""
    payment_id = step_of(notification.dedupe_key)
    for payment in await list_payments([ObjectId(invoice.id)]):
        if str(payment.id) == payment_id and payment.refunded_date is None:
            return contents.payment_received(_facts(services, invoice), payment.amount_paid)
    raise MailWithheld("the payment was removed or refunded before")


async def _invoice_cancelled(
    services: Services, notification: InvoiceNotification, invoice: Invoice
) -> Content:
    if invoice.status is not InvoiceStatus.CANCELLED:
        raise MailWithheld("the invoice is not cancelled")
    return contents.invoice_cancelled(_facts(services, invoice), invoice.cancel_reason or "")


# INVOICE_VIEWED notes what the customer did, and nobody is written to about it.
CONTENTS: Final[Mapping[NotificationType, Write]] = {
    NotificationType.INVOICE_ISSUED: _invoice_issued,
    NotificationType.PAYMENT_REMINDER: _payment_reminder,
    NotificationType.OVERDUE_REMINDER: _overdue_reminder,
    NotificationType.PAYMENT_RECEIVED: _payment_received,
    NotificationType.INVOICE_CANCELLED: _invoice_cancelled,
}


def _check_reminder(invoice: Invoice) -> None:
    """Raises MailWithheld when the invoice was settled or ended after its reminder was queued.

    Whoever unsubscribed after that is to be refused here as well, with UNSUBSCRIBED.
    """
    if reason := why_withheld(invoice.status):
        raise MailWithheld(reason)


def _facts(services: Services, invoice: Invoice) -> InvoiceFacts:
    return invoice_facts(invoice, services.terms.zone)
