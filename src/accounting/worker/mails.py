"""Writing the e-mail of a row: what each kind needs to know, and when it must not go out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import date
from email.message import EmailMessage
from typing import Final, TypeAlias

from accounting.bootstrap import Services
from accounting.clock import business_day
from accounting.ids import ObjectId
from accounting.invoices.documents import Invoice, get_invoice
from accounting.invoices.dunning import step_named
from accounting.invoices.mail import (
    PAYMENT_GONE,
    cost_payment_in,
    invoice_facts,
    why_not_today,
    why_withheld,
)
from accounting.links import public_invoice_url, unsubscribe_url
from accounting.notifications import contents
from accounting.notifications.contents import InvoiceFacts
from accounting.notifications.documents import InvoiceNotification
from accounting.notifications.message import (
    Content,
    Envelope,
    Links,
    Pdf,
    compose_mail,
    parse_mailbox,
)
from accounting.notifications.notes import UNSUBSCRIBED_REASON
from accounting.notifications.rules import (
    REMINDERS,
    NotificationStatus,
    NotificationType,
    step_of,
)
from accounting.notifications.sending import MailWithheld
from accounting.optouts.service import is_opted_out
from accounting.payments.service import list_payments
from accounting.worker.papers import frozen_pdf
from accounting.worker.statements import write_statement

Write: TypeAlias = Callable[[Services, InvoiceNotification, Invoice], Awaitable[Content]]


async def compose(services: Services, notification: InvoiceNotification) -> EmailMessage:
    """Write the e-mail of this row from the invoice, or the whole account, as it is now.

    Raises InvoiceNotFound, UndeliverableAddress; MailWithheld when it has nothing to say any more;
    for a statement CustomerNotFound, RangeArchived, StatementTooLong.
    """
    invoice = await get_invoice(notification.invoice_id)
    kind, tone = notification.notification_type, notification.statement_tone
    if tone is None and (reason := why_withheld(kind, invoice.status)):
        raise MailWithheld(reason)
    if kind in REMINDERS and await is_opted_out(invoice.user_id):
        raise MailWithheld(UNSUBSCRIBED_REASON, NotificationStatus.UNSUBSCRIBED)
    if tone is None:
        content = await CONTENTS[kind](services, notification, invoice)
        pdf = await _paper(services, invoice) if kind in _WITH_PDF else None
    else:
        content, pdf = await write_statement(services, notification, invoice, tone)
    sender = services.settings.mail_from
    envelope = Envelope(
        sender=sender,
        to=notification.sent_to,
        cc=notification.cc_emails,
        message_id=f"<{notification.id}@{parse_mailbox(sender).domain}>",
        date=services.db.clock(),
    )
    return compose_mail(content, envelope, _links(services, notification), pdf)


async def _invoice_issued(
    services: Services, notification: InvoiceNotification, invoice: Invoice
) -> Content:
    return contents.invoice_issued(_facts(services, invoice))


async def _payment_reminder(
    services: Services, notification: InvoiceNotification, invoice: Invoice
) -> Content:
    if reason := why_not_today(notification.notification_type, invoice.due_date, _today(services)):
        raise MailWithheld(reason)
    return contents.payment_reminder(_facts(services, invoice))


async def _overdue_reminder(
    services: Services, notification: InvoiceNotification, invoice: Invoice
) -> Content:
    days_overdue = (_today(services) - invoice.due_date).days
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
    cost_payment_id = cost_payment_in(notification.dedupe_key)
    for payment in await list_payments([ObjectId(invoice.id)]):
        if str(payment.cost_payment_id) == cost_payment_id:
            return contents.payment_received(_facts(services, invoice), payment.amount_paid)
    raise MailWithheld(PAYMENT_GONE)


async def _invoice_cancelled(
    services: Services, notification: InvoiceNotification, invoice: Invoice
) -> Content:
    return contents.invoice_cancelled(_facts(services, invoice), invoice.cancel_reason or "")


CONTENTS: Final[Mapping[NotificationType, Write]] = {
    NotificationType.INVOICE_ISSUED: _invoice_issued,
    NotificationType.PAYMENT_REMINDER: _payment_reminder,
    NotificationType.OVERDUE_REMINDER: _overdue_reminder,
    NotificationType.PAYMENT_RECEIVED: _payment_received,
    NotificationType.INVOICE_CANCELLED: _invoice_cancelled,
}
# Who asks for money shows the bill.
_WITH_PDF: Final = frozenset({NotificationType.INVOICE_ISSUED, *REMINDERS})


async def _paper(services: Services, invoice: Invoice) -> Pdf:
    content = await frozen_pdf(services, invoice)
    return Pdf(f"invoice-{invoice.invoice_number}.pdf", content)


def _links(services: Services, notification: InvoiceNotification) -> Links:
    """The invoice's page; and how to stop reminders, in reminders alone.

    Whoever pressed such a button on an invoice would go on getting invoices, and call them spam.
    """
    public_url, token = services.settings.public_url, notification.view_token
    is_reminder = notification.notification_type in REMINDERS
    return Links(
        invoice=public_invoice_url(public_url, token),
        unsubscribe=unsubscribe_url(public_url, token) if is_reminder else None,
    )


def _today(services: Services) -> date:
    return business_day(services.db.clock(), services.terms.zone)


def _facts(services: Services, invoice: Invoice) -> InvoiceFacts:
    return invoice_facts(invoice, services.terms.zone)
