"""Statements by e-mail (spec section 5): who may be sent which, and what it hangs on.

Every e-mail of the outbox belongs to an invoice and has one of the seed's types. So a statement is
a reminder of the invoice that was due first, with a step of its own in its dedupeKey.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

from accounting.audit.service import record_all
from accounting.clock import after, business_day
from accounting.db.database import Session, Transaction
from accounting.errors import Conflict
from accounting.ids import new_id
from accounting.invoices.documents import Invoice, get_invoice, list_invoice_ids
from accounting.invoices.mail import address_of, deliverable_address_of
from accounting.invoices.mailing import retry_email
from accounting.invoices.rules import BillingTerms, InvoiceId
from accounting.invoices.trail import mail_entry
from accounting.money import ZERO
from accounting.notifications.documents import InvoiceNotification, get_notification
from accounting.notifications.rules import (
    NotificationId,
    NotificationStatus,
    StatementTone,
    dedupe_key,
    statement_step,
)
from accounting.notifications.service import (
    NewNotification,
    check_not_sent,
    queue_notifications,
    requeue_notification,
)
from accounting.platform.reader import Platform, get_customer
from accounting.platform.rules import UserId
from accounting.reports.open_invoices import OpenInvoice, list_open_invoices, overdue_of

# Whoever presses the button twice finds the first one queued, or just sent.
SAME_WISH_SECONDS: Final = 60


class NothingToState(Conflict):
    """The customer has no invoice that was ever issued, so there is no account to tell of."""

    def __init__(self, customer_id: UserId) -> None:
        super().__init__(
            f"Customer {customer_id} has no issued invoice; there is nothing to state.",
            customerId=str(customer_id),
        )


class NothingOverdue(Conflict):
    """A firm or final statement asks for what is overdue."""

    def __init__(self, customer_id: UserId, tone: StatementTone) -> None:
        super().__init__(
            f"Nothing of customer {customer_id} is overdue; a {tone} statement cannot be sent, "
            f"a {StatementTone.FRIENDLY} one can.",
            customerId=str(customer_id),
            tone=tone.value,
        )


class StatementQueued(Conflict):
    """A customer gets one statement of a tone at a time."""

    def __init__(self, queued: InvoiceNotification, tone: StatementTone) -> None:
        super().__init__(
            f"Another {tone} statement to {queued.sent_to} is on its way already.",
            notificationId=str(queued.id),
            tone=tone.value,
        )


def why_statement_withheld(tone: StatementTone, overdue: Decimal) -> str | None:
    """Why a statement must not go out in this tone; None when it may."""
    is_asking = tone is not StatementTone.FRIENDLY
    return "nothing is overdue any more" if is_asking and overdue <= ZERO else None


async def send_statement(
    tx: Transaction,
    platform: Platform,
    terms: BillingTerms,
    customer_id: UserId,
    tone: StatementTone,
) -> InvoiceNotification:
    """Queue the e-mail with a customer's statement; the one that waits, if one of this tone does.

    Spec: section 5, "statement/send-email".
    Raises CustomerNotFound, NothingToState, NothingOverdue, NoEmailAddress.
    """
    customer = await get_customer(platform, customer_id)
    today = business_day(tx.now, terms.zone)
    owed = await list_open_invoices(customer_id, today, session=tx.session)
    anchor = await _find_anchor(customer_id, owed, tx.session)
    if anchor is None:
        raise NothingToState(customer_id)
    if why_statement_withheld(tone, overdue_of(owed)):
        raise NothingOverdue(customer_id, tone)
    same = await _find_same(tx, customer_id, tone)
    if same is not None:
        return same

    kind = tone.notification_type
    mail = NewNotification(
        kind,
        InvoiceId(anchor.id),
        to=deliverable_address_of(anchor, customer),
        cc=terms.mail_cc,
        dedupe_key=dedupe_key(kind, InvoiceId(anchor.id), statement_step(tone, new_id())),
    )
    [queued] = await queue_notifications(tx, [mail])
    # The entry is also where two that ask at once meet: both continue the chain of the same
    # invoice, so that one of them runs again and finds what the other has queued.
    await record_all(tx, [mail_entry(anchor, queued)])
    return queued


async def retry_mail(
    tx: Transaction, platform: Platform, terms: BillingTerms, notification_id: NotificationId
) -> InvoiceNotification:
    """Queue anew what failed or bounced, be it about an invoice or about the whole account.

    Raises what `retry_email` does; NothingOverdue, StatementQueued.
    """
    failed = await get_notification(notification_id, session=tx.session)
    tone = failed.statement_tone
    if tone is None:
        return await retry_email(tx, platform, terms, notification_id)
    check_not_sent(failed)
    anchor = await get_invoice(failed.invoice_id, session=tx.session)
    today = business_day(tx.now, terms.zone)
    owed = await list_open_invoices(anchor.user_id, today, session=tx.session)
    if why_statement_withheld(tone, overdue_of(owed)):
        raise NothingOverdue(anchor.user_id, tone)
    same = await _find_same(tx, anchor.user_id, tone)
    if same is not None:
        raise StatementQueued(same, tone)
    customer = await platform.find_user(anchor.user_id)
    return await requeue_notification(tx, failed, to=address_of(anchor, customer) or failed.sent_to)


async def _find_anchor(
    customer_id: UserId, owed: Sequence[OpenInvoice], session: Session | None
) -> Invoice | None:
    """The invoice that a statement hangs on: the open one due first, else the last one issued."""
    if owed:
        return await get_invoice(owed[0].id, session=session)
    issued = {"userId": customer_id, "issuedDate": {"$ne": None}}
    found = Invoice.find(issued, session=session).sort("-issuedDate", "-_id")
    last: Invoice | None = await found.first_or_none()
    return last


async def _find_same(
    tx: Transaction, customer_id: UserId, tone: StatementTone
) -> InvoiceNotification | None:
    """The statement of this tone that waits, or was queued a moment ago and did not fail."""
    moment_ago = after(tx.now, seconds=-SAME_WISH_SECONDS)
    done = [NotificationStatus.SENT, NotificationStatus.UNSUBSCRIBED]
    wanted: dict[str, Any] = {
        "invoiceId": {"$in": await list_invoice_ids(customer_id, session=tx.session)},
        "notificationType": tone.notification_type,
        "$or": [
            {"status": NotificationStatus.PENDING},
            {"status": {"$in": done}, "createdAt": {"$gte": moment_ago}},
        ],
    }
    rows = await InvoiceNotification.find(wanted, session=tx.session).to_list()
    return next((row for row in rows if row.statement_tone is tone), None)
