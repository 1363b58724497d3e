"""Which e-mails about an invoice are queued, and which are taken back (spec sections 4 to 6).

An invoice about which no e-mail was ever queued, as one that was issued with `skipEmail`, stays
without: only reminders, and an admin who asks for one, begin to write about it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import date
from typing import Final

from accounting.audit.service import record_all
from accounting.clock import business_day
from accounting.db.database import Session, Transaction
from accounting.ids import ObjectId, new_id
from accounting.invoices.documents import Invoice, get_invoice
from accounting.invoices.mail import (
    PAYMENT_GONE,
    EmailNotApplicable,
    address_of,
    check_applicable,
    cost_payment_in,
    deliverable_address_of,
    fitting_kind,
    payment_step,
)
from accounting.invoices.rules import BillingTerms, InvoiceId
from accounting.invoices.trail import mail_entry
from accounting.notifications.documents import (
    InvoiceNotification,
    get_notification,
    list_notifications,
)
from accounting.notifications.rules import (
    NotificationId,
    NotificationStatus,
    NotificationType,
    dedupe_key,
)
from accounting.notifications.service import (
    NewNotification,
    check_not_sent,
    queue_notifications,
    requeue_notification,
    withdraw_notifications,
)
from accounting.payments.documents import InvoicePayment
from accounting.payments.service import list_payments
from accounting.platform.reader import Platform
from accounting.platform.rules import PlatformUser

CANCELLED_BEFORE: Final = "the invoice was cancelled before"


async def send_email(
    tx: Transaction,
    platform: Platform,
    terms: BillingTerms,
    invoice_id: InvoiceId,
    kind: NotificationType | None = None,
) -> InvoiceNotification:
    """Queue an e-mail that an admin asks for; without a kind, the one that fits the status.

    Each call is an e-mail of its own. Spec: section 5, "send-email".
    Raises InvoiceNotFound, EmailNotApplicable, NoEmailAddress.
    """
    invoice = await get_invoice(invoice_id, session=tx.session)
    customer = await platform.find_user(invoice.user_id)
    payments = await list_payments([invoice_id], session=tx.session)
    today = business_day(tx.now, terms.zone)
    mail = mail_on_demand(invoice, customer, payments, terms, today, kind, asked=new_id())
    queued = await queue_notifications(tx, [mail])
    # The entry is also where this meets a cancellation at the same time: both continue the chain of
    # the invoice, so that one of them runs again and sees the other.
    await record_all(tx, [mail_entry(invoice, queued[0])])
    return queued[0]


def mail_on_demand(
    invoice: Invoice,
    customer: PlatformUser | None,
    payments: Sequence[InvoicePayment],
    terms: BillingTerms,
    today: date,
    kind: NotificationType | None,
    *,
    asked: ObjectId,
    run_id: ObjectId | None = None,
) -> NewNotification:
    """The e-mail that somebody asks for; `asked` tells one wish from another in its dedupeKey.

    `payments` are those of the invoice, oldest first; the last one is confirmed.
    Raises EmailNotApplicable, NoEmailAddress.
    """
    kind = kind or fitting_kind(invoice)
    check_applicable(kind, invoice, today)
    step = str(asked)
    if kind is NotificationType.PAYMENT_RECEIVED:
        if not payments:
            raise EmailNotApplicable(invoice, kind, "no payment was applied to it")
        step = payment_step(payments[-1].cost_payment_id, again=asked)
    return NewNotification(
        kind,
        InvoiceId(invoice.id),
        to=deliverable_address_of(invoice, customer),
        cc=terms.mail_cc,
        dedupe_key=dedupe_key(kind, InvoiceId(invoice.id), step),
        run_id=run_id,
    )


async def retry_email(
    tx: Transaction, platform: Platform, terms: BillingTerms, notification_id: NotificationId
) -> InvoiceNotification:
    """Queue an e-mail anew that failed or bounced, to the address that the customer has now.

    Raises NotificationNotFound, EmailNotFailed, EmailNotApplicable.
    """
    failed = await get_notification(notification_id, session=tx.session)
    check_not_sent(failed)
    invoice = await get_invoice(failed.invoice_id, session=tx.session)
    check_applicable(failed.notification_type, invoice, business_day(tx.now, terms.zone))
    if failed.notification_type is NotificationType.PAYMENT_RECEIVED:
        payments = await list_payments([InvoiceId(invoice.id)], session=tx.session)
        if cost_payment_in(failed.dedupe_key) not in {str(x.cost_payment_id) for x in payments}:
            raise EmailNotApplicable(invoice, failed.notification_type, PAYMENT_GONE)
    customer = await platform.find_user(invoice.user_id)
    return await requeue_notification(
        tx, failed, to=address_of(invoice, customer) or failed.sent_to
    )


async def confirm_payments(
    tx: Transaction, platform: Platform, applied: Sequence[tuple[Invoice, InvoicePayment]]
) -> None:
    """Queue the e-mail that confirms each of these payments to its customer.

    One for each invoice and cost payment, however often they are parted and joined again; with the
    copies of the e-mail before it.
    """
    earlier = await _mails_about([invoice for invoice, _ in applied], tx.session)
    told_of = [(invoice, payment) for invoice, payment in applied if invoice.id in earlier]
    if not told_of:
        return
    customers = await platform.find_users({invoice.user_id for invoice, _ in told_of})
    mails: list[NewNotification] = []
    for invoice, payment in told_of:
        to = address_of(invoice, customers.get(invoice.user_id))
        rows = earlier[InvoiceId(invoice.id)]
        mail = _confirmation(invoice, payment, to or rows[-1].sent_to, rows[-1].cc_emails)
        before = next((row for row in rows if row.dedupe_key == mail.dedupe_key), None)
        if before is None:
            mails.append(mail)
        elif before.status is NotificationStatus.FAILED and not before.may_have_arrived:
            # Withheld, since the payment had been removed; now it is there again.
            await requeue_notification(tx, before, to=mail.to)
    await queue_notifications(tx, mails)


async def tell_of_cancellation(tx: Transaction, cancelled: Invoice) -> None:
    """Take back what has not gone out, and tell those who know the invoice from an e-mail.

    To the reader of the last e-mail about it, with its copies: whoever got none never learns of it.
    """
    invoice_id, kind = InvoiceId(cancelled.id), NotificationType.INVOICE_CANCELLED
    rows = (await _mails_about([cancelled], tx.session)).get(invoice_id, [])
    await withdraw_notifications(tx, rows, CANCELLED_BEFORE)
    arrived = [row for row in rows if row.may_have_arrived]
    if arrived:
        last, key = arrived[-1], dedupe_key(kind, invoice_id)
        mail = NewNotification(kind, invoice_id, last.sent_to, last.cc_emails, key)
        await queue_notifications(tx, [mail])


async def _mails_about(
    invoices: Sequence[Invoice], session: Session | None
) -> dict[InvoiceId, list[InvoiceNotification]]:
    """The e-mails about these invoices, oldest first, for each about which there is one.

    Neither what was noted and never sent, nor a statement: that is not about the one invoice that
    it hangs on.
    """
    found: defaultdict[InvoiceId, list[InvoiceNotification]] = defaultdict(list)
    ids = {InvoiceId(invoice.id) for invoice in invoices}
    for row in await list_notifications(ids, session=session):
        is_note = (
            row.notification_type is NotificationType.INVOICE_VIEWED
            or row.status is NotificationStatus.UNSUBSCRIBED
        )
        if not is_note and row.statement_tone is None:
            found[row.invoice_id].append(row)
    return dict(found)


def _confirmation(
    invoice: Invoice, payment: InvoicePayment, to: str, cc: Sequence[str]
) -> NewNotification:
    kind, invoice_id = NotificationType.PAYMENT_RECEIVED, InvoiceId(invoice.id)
    key = dedupe_key(kind, invoice_id, payment_step(payment.cost_payment_id))
    return NewNotification(kind, invoice_id, to, cc, key)
